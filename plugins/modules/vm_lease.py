#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hand a VM of a pool to a user, and take it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_lease
short_description: Hand a VM of a pool to a user, and take it back
version_added: 0.1.0
description:
  - Taking hands out a free VM of the pool. One that runs comes first, of those one that is up to date; else one that is
    down is started, after a restore if it needs a fresh root. Of many who take at once, each gets another VM.
  - Returning stops the VM and frees it. A stateless one gets a fresh root of the version that its pool follows first;
    another one is restored only when it is on another version than that, and keeps what is on its root otherwise.
  - A VM that is taken is never stopped, restored or removed by anything but its return, unless
    M(golden.libvirt.vm_restore) is told so.
  - Then as many free VMs are started as the pool keeps running (O(golden.libvirt.vm_pool#module:prestarted)).
options:
  vm_pool:
    description: The VM pool.
    type: str
    required: true
  state:
    description:
      - V(taken) sees to it that the user has a VM of the pool and that it runs. A user who has one gets that one.
      - V(returned) sees to it that the user does not have the VM any more.
    type: str
    choices: [taken, returned]
    default: taken
  user:
    description:
      - The user, by any name that the caller knows. Required to take a VM.
      - A VM that another user has is not returned. Without a user, O(vm) is returned whoever has it.
    type: str
  vm:
    description:
      - The VM. By default the best one is taken, and the one that the user has is returned.
      - A user can have more than one, up to O(golden.libvirt.vm_pool#module:vm_per_user) of the pool, each further one
        by its name.
    type: str
extends_documentation_fragment:
  - golden.libvirt.shutdown
  - golden.libvirt.health
  - golden.libvirt.connection
  - golden.libvirt.attributes
notes:
  - A VM that does not come up is counted and given back, and the next one is tried, up to three. One that failed three
    times is set aside; see O(golden.libvirt.vm_pool#module:prestarted).
  - A user whose VM went down loses what is on its root when they take it again, if it is stateless.
  - A task that was killed leaves the VM to its user, or free. What it had claimed and not taken yet, nobody but the
    same user gets in the next two minutes.
seealso:
  - module: golden.libvirt.vm_pool
  - module: golden.libvirt.vm_pool_info
"""

EXAMPLES = r"""
- name: Have a desktop
  golden.libvirt.vm_lease:
    vm_pool: desk
    user: ada
    health:
      check: agent
  register: desktop

- name: Tell where it is
  ansible.builtin.debug:
    msg: "{{ desktop.lease.vm }}: {{ desktop.lease.addresses }}"

- name: Give it back
  golden.libvirt.vm_lease:
    vm_pool: desk
    user: ada
    state: returned
"""

RETURN = r"""
lease:
  description: Who has which VM. Empty after a return.
  returned: success
  type: dict
  contains:
    vm:
      description: The VM.
      type: str
    vm_pool:
      description: The pool.
      type: str
    user:
      description: The user.
      type: str
    since:
      description: Since when, in UTC.
      type: str
    addresses:
      description: The IP addresses of the VM by MAC address, as far as they are known already.
      type: dict
vm:
  description: The VM, as RV(golden.libvirt.vm#module:vm). Empty where nothing was to be returned.
  returned: success
  type: dict
not_started:
  description: Why free VMs did not come up that were started to be ready for others, by name.
  returned: success
  type: dict
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.vm_pool.vm_lease import LeaseRequest, plan_taken
from ..module_utils._core.vm_pool.vm_return import plan_returned
from ..module_utils._options import health_of, health_options, shutdown_of, shutdown_options
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what gives the user a VM, or takes it back."""
    request = LeaseRequest(
        vm_pool=params["vm_pool"],
        user=params["user"] or None,
        vm=params["vm"] or None,
        shutdown=shutdown_of(params["shutdown"]),
        health=health_of(params["health"]),
    )
    return plan_returned(hv, request) if params["state"] == "returned" else plan_taken(hv, request)


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="lease",
        argument_spec=dict(
            vm_pool=dict(type="str", required=True),
            state=dict(type="str", choices=["taken", "returned"], default="taken"),
            user=dict(type="str"),
            vm=dict(type="str"),
            shutdown=shutdown_options(),
            health=health_options(),
        ),
        required_if=[("state", "taken", ["user"]), ("state", "returned", ["user", "vm"], True)],
    )


if __name__ == "__main__":
    main()
