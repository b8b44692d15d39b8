#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List the VMs that are made from templates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: List the VMs that are made from templates
version_added: 0.1.0
description:
  - Lists the VMs of a hypervisor that this collection manages, all of them or those that pass all given
    filters.
  - A VM whose metadata cannot be read is left out with a warning.
options:
  name:
    description: Only the VM of this name. One that does not exist gives an empty list.
    type: str
  vm_pool:
    description: Only members of this pool.
    type: str
  template:
    description: Only VMs of this template.
    type: str
  template_version:
    description: Only VMs on the version of this number.
    type: int
  outdated:
    description:
      - Only VMs that are on another version than the one that they follow, or only those that are not.
    type: bool
  taken:
    description: Only VMs that a user has taken, or only those that are free.
    type: bool
  state:
    description: Only VMs in this state.
    type: str
    choices: [running, paused, shut off]
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes.info
seealso:
  - module: golden.libvirt.vm
"""

EXAMPLES = r"""
- name: Look which VMs of a pool a rollout would restore
  golden.libvirt.vm_info:
    vm_pool: desk
    outdated: true
  register: outdated
"""

RETURN = r"""
vms:
  description: The VMs by name, each as RV(golden.libvirt.vm#module:vm), with its addresses.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the VM.
      type: str
    outdated:
      description: Whether it is on another version than the one that it follows.
      type: bool
    taken:
      description: Whether a user has it.
      type: bool
    lease_user:
      description: The user who has it.
      type: str
    prestarted:
      description: Whether it is of a pool, runs, and can be taken at once.
      type: bool
    set_aside:
      description: Whether it was started for nothing so often that nobody gets it; see M(golden.libvirt.vm_pool).
      type: bool
    auto_refresh:
      description: Whether it is moved to the version that it follows as soon as it is down.
      type: bool
    addresses:
      description:
        - The IP addresses of a running VM by MAC address, from the leases of libvirt's networks or the
          guest agent.
      type: dict
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.vm.vm_list import Filters, list_vms
from ..module_utils._runner import Params, run_info


def gather(hv: Hypervisor, params: Params) -> list[Params]:
    """Return the VMs that were asked for."""
    return list_vms(hv, Filters(**{name: value for name, value in params.items() if name != "uri"}))


def main() -> None:
    """Run the module."""
    run_info(
        gather,
        returns="vms",
        argument_spec=dict(
            name=dict(type="str"),
            vm_pool=dict(type="str"),
            template=dict(type="str"),
            template_version=dict(type="int"),
            outdated=dict(type="bool"),
            taken=dict(type="bool"),
            state=dict(type="str", choices=["running", "paused", "shut off"]),
        ),
    )


if __name__ == "__main__":
    main()
