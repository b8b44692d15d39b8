# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs a module in Ansible's own process, where it would else start the same Python anew on the same machine.

Most of what a task costs is to start Python and to load Ansible's code, not what it does with libvirt. The module is
the same, with the same arguments and the same result; anywhere else it is run as any module is.

Each module has an action plugin, in ``plugins/action``, that is nothing but this class.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from functools import partial
from types import ModuleType
from typing import Any

from ansible.module_utils.common.json import Direction, get_module_decoder
from ansible.module_utils.testing import patch_module_args  # what AnsibleModule takes arguments from: there is no other
from ansible.plugins.action import ActionBase
from ansible.plugins.action.normal import ActionModule as Normal

from ..module_utils._runner import phase_begins
from .phase_pipe import opened_pipe


class ModuleInProcess(Normal):
    """The action plugin of the ``module`` that a subclass names.

    The subclass imports it: Ansible copies the process that loads action plugins for each task, so it is loaded once.
    """

    module: ModuleType

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module here, or as Ansible does without this plugin."""
        variables = task_vars or {}
        if not self._is_at_home(variables):
            return dict(super().run(tmp, task_vars))
        return {**ActionBase.run(self, tmp, task_vars), **self._run_here(variables)}

    def _is_at_home(self, variables: dict[str, Any]) -> bool:
        """Whether the module would be run on this machine, as this user, by this Python, and be waited for."""
        delegate = self._task.delegate_to
        of_host = variables["ansible_delegated_vars"][delegate] if delegate else variables
        return (
            self._connection.transport == "local"
            and not self._connection.become
            and not self._task.async_val
            and not any(self._task.environment or ())
            and self._templar.template(of_host.get("ansible_python_interpreter")) == sys.executable
        )

    def _run_here(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Call the module as if it had been started; what it prints is its result."""
        arguments = dict(self._task.args)
        self._update_module_args(self._task.action, arguments, variables)
        pipe = opened_pipe()
        if pipe is not None:
            vm, uri = (str(arguments.get(key) or "") for key in ("vm", "uri"))
            host, action = variables["inventory_hostname"], str(self._task.resolved_action)
            phase_begins.set(partial(pipe.tell, host, action, vm, uri))
        printed = io.StringIO()
        os.chdir(self._loader.get_basedir())  # where modules begin; this process ends with the task
        with patch_module_args(arguments), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            self.module.main()
        decoder = get_module_decoder("legacy", Direction.MODULE_TO_CONTROLLER)
        return dict(json.loads(printed.getvalue(), cls=decoder))
