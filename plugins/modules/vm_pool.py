#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ensure a pool of VMs that are made from one template."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_pool
short_description: Ensure a pool of VMs that are made from one template
version_added: 0.1.0
description:
  - Makes, grows, shrinks or removes a set of like VMs, in one call. The members are named C(<vm_pool>-<n>).
  - The members are not moved to another version; that is a rollout, see the playbook
    C(golden.libvirt.rollout).
options:
  vm_pool:
    description: The name of the pool.
    type: str
    required: true
  state:
    description: V(present) sees to it that the pool is as described, V(absent) removes it with all members.
    type: str
    choices: [present, absent]
    default: present
  template:
    description: The template. Required to make a pool; cannot be changed.
    type: str
  template_version:
    description:
      - The version that the members are to be on, by number, by version name, or V(latest). Members that
        are on another one are outdated; see the playbooks C(golden.libvirt.refresh_down), for those that are down, and
        C(golden.libvirt.rollout).
      - A stateless pool follows V(latest) by default. A pool that is not stateless cannot follow latest; by default it
        is on the version that is latest when it is made.
    type: str
  count:
    description:
      - The number of VMs. Required to make a pool.
      - A lower count removes free members, those with the highest numbers first, and never one that is taken.
    type: int
  stateless:
    description:
      - Whether the members lose the changes on their roots at each restore. V(true) by default; cannot be
        changed.
    type: bool
  prestarted:
    description:
      - The number of free VMs that are kept running. 0 by default. It is seen to by each run of this module and each
        take and return (M(golden.libvirt.vm_lease)), four members at a time.
      - One that was started for nothing three times is set aside, that is neither started nor handed out, until it is
        restored (M(golden.libvirt.vm_restore)) or O(retry_set_aside) is set. RV(not_started) tells what was wrong.
    type: int
  auto_refresh:
    description:
      - Whether members that follow latest and are down are moved to a new version as soon as there is one, by the
        playbook C(golden.libvirt.refresh_down) and the rulebook C(golden.libvirt.refresh_on_shutdown). V(true) by
        default.
    type: bool
  retry_set_aside:
    description: Try again to start members that were set aside.
    type: bool
    default: false
  vm_per_user:
    description: The number of VMs that one user can take. 1 by default.
    type: int
  wait_timeout:
    description: Seconds that the guest of a member has to shut down, before it is switched off to be removed.
    type: int
    default: 120
  networks:
    description: The network cards, in order. By default those of the template.
    type: list
    elements: dict
    suboptions:
      network:
        description: The libvirt network.
        type: str
        required: true
      model:
        description: The model of the network card.
        type: str
        default: virtio
extends_documentation_fragment:
  - golden.libvirt.health
  - golden.libvirt.connection
  - golden.libvirt.attributes
  - golden.libvirt.vm_hardware
  - golden.libvirt.payload.of_a_vm
notes:
  - O(size), O(networks) and O(storage_pools) are those of new members; the existing ones keep theirs.
  - O(health) is that of members that this run starts.
  - In the texts of O(payload), also in names of files, C(@vm@) stands for the name of the member, C(@vm_pool@) for that
    of the pool, and C(@number@) for the number of the member in it. Members that are taken get another payload when
    this task is run again after their return.
seealso:
  - module: golden.libvirt.vm_lease
  - module: golden.libvirt.vm_pool_info
  - module: golden.libvirt.vm
"""

EXAMPLES = r"""
- name: Have three VMs of a template, two of them running
  golden.libvirt.vm_pool:
    vm_pool: desk
    template: desktop
    count: 3
    prestarted: 2

- name: Have a pool whose members cloud-init gives their names
  golden.libvirt.vm_pool:
    vm_pool: desk
    template: desktop
    count: 3
    payload:
      cloud_init:
        user_data:
          hostname: "@vm@"
          write_files:
            - path: /etc/desk-number
              content: "@number@"

- name: Keep a pool on version 4
  golden.libvirt.vm_pool:
    vm_pool: desk
    template_version: "4"

- name: Remove the pool
  golden.libvirt.vm_pool:
    vm_pool: desk
    state: absent
"""

RETURN = r"""
vm_pool:
  description: The pool. Empty after a removal.
  returned: success
  type: dict
  sample:
    name: desk
    template: desktop
    wanted_version: 4
    use_latest_template_version: true
    stateless: true
    auto_refresh: true
    count: 3
    prestarted: 2
    vm_per_user: 1
    members:
      - {name: desk-1, state: running, template_version: 4, outdated: false, user: null, failed_starts: 0}
    free: [desk-1]
    taken: {}
    running: [desk-1]
    ready: [desk-1]
    outdated: []
    set_aside: []
created:
  description: The names of the members that were made.
  returned: when the pool is present
  type: list
  elements: str
removed:
  description: The names of the members that were removed because of a lower count.
  returned: when the pool is present
  type: list
  elements: str
not_started:
  description: Why members did not come up that this run has started, by name.
  returned: when the pool is present
  type: dict
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.vm_pool.vm_pool import VmPoolRequest, plan_vm_pool
from ..module_utils._options import health_of, health_options, network_options, networks_of, size_of, size_options
from ..module_utils._payload_options import member_payload_of, payload_options
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what brings the pool to what is wanted of it."""
    return plan_vm_pool(
        hv,
        VmPoolRequest(
            vm_pool=params["vm_pool"],
            state=params["state"],
            template=params["template"] or None,
            template_version=params["template_version"] or None,
            count=params["count"],
            stateless=params["stateless"],
            prestarted=params["prestarted"],
            vm_per_user=params["vm_per_user"],
            auto_refresh=params["auto_refresh"],
            retry_set_aside=params["retry_set_aside"],
            health=health_of(params["health"]),
            size=size_of(params["size"]),
            networks=networks_of(params["networks"]),
            storage_pools=tuple(params["storage_pools"] or ()),
            wait_timeout=params["wait_timeout"],
            payload=member_payload_of(params["payload"], params["vm_pool"]) if params["payload"] is not None else None,
        ),
    )


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="vm_pool",
        argument_spec=dict(
            vm_pool=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            template=dict(type="str"),
            template_version=dict(type="str"),
            count=dict(type="int"),
            stateless=dict(type="bool"),
            prestarted=dict(type="int"),
            vm_per_user=dict(type="int"),
            auto_refresh=dict(type="bool"),
            retry_set_aside=dict(type="bool", default=False),
            health=health_options(),
            size=size_options(),
            networks=network_options(mac=False),
            storage_pools=dict(type="list", elements="str"),
            wait_timeout=dict(type="int", default=120),
            payload=dict(type="dict", options=payload_options(), no_log=True),
        ),
    )


if __name__ == "__main__":
    main()
