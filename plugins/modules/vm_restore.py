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
    type: str
    choices: [restored, rolled_back]
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
  shutdown:
    description: How a running VM is stopped.
    type: dict
    suboptions:
      mode:
        description:
          - V(graceful) asks the guest, and gives up after the timeout; the VM goes on running.
          - V(force) switches the VM off. V(graceful_then_force) does so after the timeout.
        type: str
        choices: [graceful, force, graceful_then_force]
        default: graceful_then_force
      timeout:
        description: Seconds that the guest has.
        type: int
        default: 120
  health:
    description: When the VM counts as up.
    type: dict
    suboptions:
      check:
        description:
          - V(none) is content when the VM was started; V(agent) when the guest agent answers; V(port)
            when a connection to O(health.port) is accepted; V(command) when O(health.command) ends with 0
            in the guest.
          - A port is tried from where the module runs, so that must reach the guest's network.
        type: str
        choices: [none, agent, port, command]
        default: none
      port:
        description: The TCP port for V(port).
        type: int
      command:
        description:
          - The command for V(command), run in the guest by its agent until it succeeds or the timeout is
            over.
          - A list is a program and its arguments; a string is given to C(/bin/sh -c).
        type: raw
      timeout:
        description: Seconds that the VM has to come up.
        type: int
        default: 300
      stable_for:
        description: Seconds that the VM must stay up after that.
        type: int
        default: 0
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
extends_documentation_fragment:
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
"""

RETURN = r"""
vm:
  description: The VM, as RV(golden.libvirt.vm#module:vm).
  returned: success
  type: dict
previous:
  description: The root that the VM had before, that is C(volume), C(storage_pool) and C(template_version).
  returned: success and failure
  type: dict
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
rolled_back:
  description: Whether everything is as it was before the task.
  returned: failure of a step
  type: bool
"""

from ..module_utils._core.errors import InvalidError
from ..module_utils._core.hypervisor import Health, Hypervisor, Shutdown
from ..module_utils._core.plan import Plan
from ..module_utils._core.restore import RestoreRequest, plan_restore, plan_rolled_back
from ..module_utils._core.units import parse_size
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what puts the VM onto the wanted root."""
    request = RestoreRequest(
        vm=params["vm"],
        template=params["template"] or None,
        template_version=params["template_version"] or None,
        root_size=parse_size(params["root_size"], "root_size") if params["root_size"] else None,
        force=params["force"],
        shutdown=Shutdown(**params["shutdown"]),
        health=_health(params["health"]),
        on_failure=params["on_failure"],
        keep_previous=params["keep_previous"],
        start=params["start"],
    )
    return plan_rolled_back(hv, request) if params["state"] == "rolled_back" else plan_restore(hv, request)


def _health(health: Params) -> Health:
    command = health["command"]
    if isinstance(command, str):
        command = ["/bin/sh", "-c", command]
    if command is not None and not (isinstance(command, list) and all(isinstance(word, str) for word in command)):
        raise InvalidError("health.command: it must be a string or a list of strings")
    for name in ("timeout", "stable_for"):
        if health[name] < 0:
            raise InvalidError(f"health.{name}: {health[name]} is less than 0")
    return Health(**{**health, "command": tuple(command or ())})


def main() -> None:
    """Run the module."""
    shutdown = dict(
        mode=dict(type="str", choices=["graceful", "force", "graceful_then_force"], default="graceful_then_force"),
        timeout=dict(type="int", default=120),
    )
    health = dict(
        check=dict(type="str", choices=["none", "agent", "port", "command"], default="none"),
        port=dict(type="int"),
        command=dict(type="raw"),
        timeout=dict(type="int", default=300),
        stable_for=dict(type="int", default=0),
    )
    needs = [("check", "port", ["port"]), ("check", "command", ["command"])]
    run(
        plan,
        returns="vm",
        argument_spec=dict(
            vm=dict(type="str", required=True),
            state=dict(type="str", choices=["restored", "rolled_back"], default="restored"),
            template=dict(type="str"),
            template_version=dict(type="str"),
            root_size=dict(type="str"),
            force=dict(type="bool", default=False),
            shutdown=dict(type="dict", options=shutdown, apply_defaults=True),
            health=dict(type="dict", options=health, apply_defaults=True, required_if=needs),
            on_failure=dict(type="str", choices=["rollback", "keep"], default="rollback"),
            keep_previous=dict(type="bool", default=False),
            start=dict(type="str", choices=["as_before", "yes", "no"], default="as_before"),
        ),
    )


if __name__ == "__main__":
    main()
