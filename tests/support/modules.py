"""Running the modules as Ansible does, in this process: real arguments, real exit_json, nothing replaced."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from typing import Any

from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

Result = dict[str, Any]


class ModuleFailed(Exception):
    """A module called fail_json; ``result`` is what it printed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result["msg"])
        self.result = result


def run_module(name: str, /, *, check: bool = False, diff: bool = False, **options: Any) -> Result:
    """Run one module of the collection and return its result; a failed one raises ModuleFailed."""
    module = importlib.import_module(f"ansible_collections.golden.libvirt.plugins.modules.{name}")
    printed = io.StringIO()
    warnings._global_warnings.clear()  # Ansible keeps them as long as the process lives, which is one module for it
    arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": "/tmp"}
    with patch_module_args(arguments), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        module.main()
    result: Result = json.loads(printed.getvalue())
    if result.get("failed"):
        raise ModuleFailed(result)
    return result
