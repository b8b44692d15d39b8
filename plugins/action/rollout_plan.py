# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action plugin of the module rollout_plan."""

from __future__ import annotations

from ..modules import rollout_plan
from ..plugin_utils.in_process import ModuleInProcess


class ActionModule(ModuleInProcess):
    """Runs the module in Ansible's own process where it can."""

    module = rollout_plan
