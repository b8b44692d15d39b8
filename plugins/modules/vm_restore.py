#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restore a VM to a template version: replace its root volume, keep everything else."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_restore
short_description: Replace the root volume of a VM by a fresh one of a template version
version_added: 0.1.0
description:
  - Gives a VM a fresh root volume of a template version. What was on the old root is gone afterwards, unless
    O(keep_previous) is set.
  - Name, UUID, MAC addresses (and so the IP addresses), description, data volumes, CPUs, memory, devices,
    nvram, autostart, pool and lease stay.
  - Everything that can be checked is checked, and the new root is made, before the VM is stopped. When
    the VM does not come up with the new root, it is put back onto the old one and started again.
  - A run that was killed leaves the VM on its old or on its new root, complete. The same task run again
    finishes the job.
options:
  vm:
    description: The VM.
    type: str
    required: true
  state:
    description:
      - V(restored) gives the VM a fresh root.
      - V(rolled_back) puts the VM back onto the root that its last restore kept (O(keep_previous)). That
        is as quick as a reboot.
      - V(settled) deletes that root, and so ends the way back to it. The VM goes on running, and may be taken. It is
        refused while a restore of the VM is unfinished, and while another VM uses the root. Of the other options only
        O(vm) and O(uri) matter.
    type: str
    choices: [restored, rolled_back, settled]
    default: restored
  template:
    description: The template. By default the one that the VM is made from.
    type: str
  template_version:
    description:
      - The version, by number, by version name, or V(latest).
      - By default V(latest) if the VM follows it, or with another O(template); else the version that the
        VM has.
    type: str
  root_size:
    description:
      - The size of the new root volume, such as V(40GiB), at least that of the version's image. It is
        used only when a new root is made.
      - By default the size that the root has, or that of the image if that is larger.
    type: str
  force:
    description: Restore the VM although it is on that version already, and drop a managed save image.
    type: bool
    default: false
  on_failure:
    description:
      - V(rollback) puts a VM that does not come up back onto its old root. V(keep) leaves it as it is, to
        be looked at; the old root is kept until the VM is restored again, or rolled back.
    type: str
    choices: [rollback, keep]
    default: rollback
  keep_previous:
    description:
      - Keep the old root volume after success, for O(state=rolled_back). One old root is kept, the last.
    type: bool
    default: false
  start:
    description: Whether the VM runs afterwards. V(as_before) starts it if it ran.
    type: str
    choices: [as_before, "yes", "no"]
    default: as_before
  force_taken:
    description:
      - Restore the VM although a user holds it, and so throw away what the user has on its root. The user keeps the VM.
    type: bool
    default: false
extends_documentation_fragment:
  - golden.libvirt.shutdown
  - golden.libvirt.health
  - golden.libvirt.connection
  - golden.libvirt.attributes
seealso:
  - module: golden.libvirt.vm
  - module: golden.libvirt.template_version
"""

EXAMPLES = r"""
- name: Bring a VM to the latest version of its template
  golden.libvirt.vm_restore:
    vm: web-1
    template_version: latest
    health:
      check: agent

- name: Reset a stateless VM
  golden.libvirt.vm_restore:
    vm: lab-7
    force: true

- name: Bring a VM to a version, and be able to go back
  golden.libvirt.vm_restore:
    vm: web-1
    template_version: "4"
    keep_previous: true
    health:
      check: command
      command: curl --fail http://localhost/health

- name: Go back
  golden.libvirt.vm_restore:
    vm: web-1
    state: rolled_back

- name: Delete the old root, as all is well
  golden.libvirt.vm_restore:
    vm: web-1
    state: settled
"""

RETURN = r"""
vm:
  description: The VM, as RV(golden.libvirt.vm#module:vm).
  returned: success
  type: dict
previous:
  description:
    - The root that the VM had before, that is C(volume), C(storage_pool) and C(template_version).
    - With O(state=settled) the root that is deleted; null where none was kept.
  returned: success and failure
  type: dict
freed:
  description: The bytes that the deleted root took up.
  returned: with O(state=settled)
  type: int
phases:
  description:
    - The seconds that each phase took, of C(prepare), C(stop), C(switch), C(boot), C(verify), C(settle). Empty in
      check mode.
  returned: success and failure
  type: dict
downtime:
  description:
    - The seconds from asking the guest to shut down until it was up again. 0 for a VM that did not run.
  returned: success and failure
  type: float
console:
  description:
    - The last of what the guest wrote on its first serial port while O(health) was waited for, at most 4000 characters,
      without what would steer a terminal.
  returned: when the VM did not pass the health check, wrote something there, and nobody else had its console open
  type: str
rolled_back:
  description: Whether everything is as it was before the task.
  returned: failure of a step
  type: bool
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.units import parse_size
from ..module_utils._core.vm.restore import RestoreRequest, plan_restore, plan_rolled_back, plan_settled
from ..module_utils._options import health_of, health_options, shutdown_of, shutdown_options
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what puts the VM onto the wanted root, or ends the way back to the one before."""
    if params["state"] == "settled":
        return plan_settled(hv, params["vm"])
    request = RestoreRequest(
        vm=params["vm"],
        template=params["template"] or None,
        template_version=params["template_version"] or None,
        root_size=parse_size(params["root_size"], "root_size") if params["root_size"] else None,
        force=params["force"],
        shutdown=shutdown_of(params["shutdown"]),
        health=health_of(params["health"]),
        on_failure=params["on_failure"],
        keep_previous=params["keep_previous"],
        start=params["start"],
        force_taken=params["force_taken"],
    )
    return plan_rolled_back(hv, request) if params["state"] == "rolled_back" else plan_restore(hv, request)


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="vm",
        argument_spec=dict(
            vm=dict(type="str", required=True),
            state=dict(type="str", choices=["restored", "rolled_back", "settled"], default="restored"),
            template=dict(type="str"),
            template_version=dict(type="str"),
            root_size=dict(type="str"),
            force=dict(type="bool", default=False),
            shutdown=shutdown_options(),
            health=health_options(),
            on_failure=dict(type="str", choices=["rollback", "keep"], default="rollback"),
            keep_previous=dict(type="bool", default=False),
            start=dict(type="str", choices=["as_before", "yes", "no"], default="as_before"),
            force_taken=dict(type="bool", default=False),
        ),
    )


if __name__ == "__main__":
    main()
