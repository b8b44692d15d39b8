#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List pools of VMs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_pool_info
short_description: List pools of VMs
version_added: 0.1.0
description:
  - Lists the VM pools of a hypervisor with their members, that is which are free, taken (and by whom), running,
    outdated, set aside.
options:
  vm_pool:
    description: Only this pool. One that does not exist gives an empty list.
    type: str
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes.info
seealso:
  - module: golden.libvirt.vm_pool
  - module: golden.libvirt.vm_lease
"""

EXAMPLES = r"""
- name: Look at all pools
  golden.libvirt.vm_pool_info:
"""

RETURN = r"""
vm_pools:
  description: The pools by name, each as RV(golden.libvirt.vm_pool#module:vm_pool).
  returned: success
  type: list
  elements: dict
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.vm.vm_list import list_pools
from ..module_utils._runner import Params, run_info


def gather(hv: Hypervisor, params: Params) -> list[Params]:
    """Return the pools that were asked for."""
    return list_pools(hv, params["vm_pool"])


def main() -> None:
    """Run the module."""
    run_info(gather, returns="vm_pools", argument_spec=dict(vm_pool=dict(type="str")))


if __name__ == "__main__":
    main()
