#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan a rollout, or the way back, before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_plan
short_description: Plan a rollout of a VM pool, or the way back
version_added: 0.1.0
description:
  - Says which VMs of a pool are going to be moved to which version, in which batches, and which are not, and why. It
    changes nothing.
  - The version is made one number here, so that what is published later does not change a rollout that has begun.
  - The playbooks C(golden.libvirt.rollout) and C(golden.libvirt.rollback) begin with it and do what it says.
  - In all options, an empty text stands for the default, as an unanswered question of an AWX survey is one.
options:
  vm_pool:
    description: The VM pool.
    type: str
    required: true
  hosts:
    description:
      - Only these VMs are looked at, each at the hypervisor given. By default, all members of the pool at O(uri).
    type: list
    elements: dict
    suboptions:
      name:
        description: What the VM is called in the result, such as its name in the inventory. By default O(hosts[].vm).
        type: str
      vm:
        description: The VM.
        type: str
        required: true
      uri:
        description: The libvirt URI of its hypervisor. By default O(uri).
        type: str
  state:
    description:
      - V(restored) plans the move to a template version, V(rolled_back) the way back onto the roots that the VMs have
        kept.
    type: str
    choices: [restored, rolled_back, ""]
    default: restored
  template_version:
    description:
      - The version to move to, by number, by version name, or V(latest). By default the one that the VMs follow.
      - With O(state=rolled_back), the number of the version to leave. By default the highest that VMs with a kept root
        are on.
    type: str
    default: ""
  serial:
    description:
      - The sizes of the batches, as numbers or percentages of the VMs to move, with commas. The last one is that of all
        further batches.
    type: str
    default: "1"
  canary:
    description:
      - The VMs that go first, as a batch of their own. A number, a percentage of the pool, or names with commas.
      - VMs that are on the version already count as canaries that did well.
    type: str
    default: ""
  max_unavailable:
    description:
      - How many VMs of the pool may be down or unhealthy at once, as a number or a percentage of it. Those that are
        unhealthy before the rollout count. Batches are made smaller to keep to it.
    type: str
    default: ""
  max_failures:
    description:
      - How many VMs may fail before the rollout stops, as a number or a percentage of the pool. VMs that are unhealthy
        before the rollout count against it.
      - By default none may fail, and those that are unhealthy do not count.
    type: str
    default: ""
  order:
    description:
      - V(oldest_first) begins with the lowest version, V(unhealthy_first) with VMs that are set aside, stand still,
        have an unfinished task, or no answering guest agent; V(name) goes by name. VMs that are taken come last, and
        VMs that are down after those that run.
    type: str
    choices: [oldest_first, unhealthy_first, name, ""]
    default: oldest_first
  in_use:
    description: Whether VMs that are taken are skipped, waited for, or moved all the same (V(force)).
    type: str
    choices: [skip, wait, force, ""]
    default: skip
  down:
    description: Whether VMs that are down are restored too, without being started, or skipped.
    type: str
    choices: [restore, skip, ""]
    default: restore
  checkpoints:
    description:
      - Percentages of the pool at which the rollout pauses, with commas. The plan ends at the next one that is not
        reached yet, so that the next plan goes on from there.
    type: str
    default: ""
  window_ends:
    description:
      - When no batch is to begin any more. Minutes from now (V(90)), a time of the day where the module runs
        (V(05:30)), or a moment in ISO 8601.
    type: str
    default: ""
  ask_agent:
    description: Whether a running VM whose guest agent does not answer counts as unhealthy.
    type: bool
    default: true
  report_folder:
    description:
      - A folder with reports of former rollouts, as the callback P(golden.libvirt.rollout#callback) writes them. They
        tell how long a VM takes.
    type: path
    default: ~/.ansible/golden_rollouts
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes.info
seealso:
  - module: golden.libvirt.vm_restore
  - module: golden.libvirt.vm_pool_info
"""

EXAMPLES = r"""
- name: Look what a rollout would do
  golden.libvirt.rollout_plan:
    vm_pool: desk
    canary: "1"
    serial: 25%
  register: plan

- name: Show it
  ansible.builtin.debug:
    var: plan.rollout_plan.table
"""

RETURN = r"""
rollout_plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    template_version:
      description: The number of the version to move to, or to leave. Null when no VM has kept a previous root.
      type: int
    version_name:
      description: The name of the version to move to, or empty.
      type: str
    versions:
      description: All versions of the template, by number. Empty for the way back when they cannot be read.
      type: list
      elements: dict
      sample:
        - version: 3
          version_name: 2026-11
          lifecycle: active
          created: "2026-11-20T07:00:00Z"
    vms:
      description:
        - All VMs, in the order in which they move, those that do not move last.
        - C(action) is one of C(move), C(later) (behind a checkpoint), C(left_alone) and C(up_to_date), C(reason) says
          why, or what is remarkable. C(batch) counts from 1, and is 0 for a VM that does not move.
      type: list
      elements: dict
      sample:
        - name: desk-1
          vm: desk-1
          uri: qemu:///system
          state: running
          unhealthy: ""
          taken_by:
          from_version: 2
          to_version: 3
          action: move
          reason: ""
          batch: 1
          canary: true
    batches:
      description: The sizes of the batches, in VMs.
      type: list
      elements: int
    failures_allowed:
      description: How many VMs may fail in this run before it stops.
      type: int
    checkpoint:
      description: The percentage at which this run pauses, or null.
      type: int
    window_ends:
      description: When no batch begins any more, or null; C(window_ends_epoch) is the same in seconds since 1970.
      type: str
    space:
      description: What the storage pools have available for the new roots, and what they need to begin with, in bytes.
      type: list
      elements: dict
    seconds_per_vm:
      description: How long a VM took in former rollouts (the median), or null.
      type: float
    estimated_seconds:
      description: How long it is going to take by that, or null.
      type: int
    table:
      description: The plan in lines to be read.
      type: list
      elements: str
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.rollout.rollout_plan import Host, plan_rollout
from ..module_utils._core.rollout.rollout_strategy import (
    OLDEST_FIRST,
    ORDERS,
    RESTORE,
    RESTORED,
    SKIP,
    Strategy,
    parse_amount,
    parse_canary,
    parse_checkpoints,
    parse_serial,
    parse_window,
)
from ..module_utils._core.rollout.rollout_table import describe_plan, seconds_per_vm
from ..module_utils._runner import Params, run_info_of_many

REPORTS = 10
"""So many former rollouts are looked at."""


def gather(hypervisors: dict[str, Hypervisor], params: Params) -> Params:
    """Return the plan that was asked for."""
    here = next(iter(hypervisors.values()))  # any of them can ask the machine that this runs on
    hosts = [
        Host(host["name"] or host["vm"], host["vm"], host["uri"] or params["uri"]) for host in params["hosts"] or ()
    ]
    strategy = Strategy(
        vm_pool=params["vm_pool"],
        state=params["state"] or RESTORED,
        template_version=params["template_version"],
        serial=parse_serial(params["serial"]),
        canary=parse_canary(params["canary"]),
        max_unavailable=parse_amount(params["max_unavailable"], "max_unavailable"),
        max_failures=parse_amount(params["max_failures"], "max_failures"),
        order=params["order"] or OLDEST_FIRST,
        in_use=params["in_use"] or SKIP,
        down=params["down"] or RESTORE,
        checkpoints=parse_checkpoints(params["checkpoints"]),
        window_ends=parse_window(params["window_ends"], here.local_time()),
        ask_agent=params["ask_agent"],
    )
    plan = plan_rollout(hypervisors, None if params["hosts"] is None else hosts, strategy)
    reports = here.newest_files(params["report_folder"], ".json", REPORTS)
    return describe_plan(plan, seconds_per_vm(reports, strategy.vm_pool, strategy.state))


def uris(params: Params) -> list[str]:
    """Return the hypervisors to look at."""
    return list(dict.fromkeys(host["uri"] or params["uri"] for host in params["hosts"] or ())) or [params["uri"]]


def main() -> None:
    """Run the module."""
    host = dict(name=dict(type="str"), vm=dict(type="str", required=True), uri=dict(type="str"))
    run_info_of_many(
        gather,
        uris,
        returns="rollout_plan",
        argument_spec=dict(
            vm_pool=dict(type="str", required=True),
            hosts=dict(type="list", elements="dict", options=host),
            state=dict(type="str", choices=["restored", "rolled_back", ""], default="restored"),
            template_version=dict(type="str", default=""),
            serial=dict(type="str", default="1"),
            canary=dict(type="str", default=""),
            max_unavailable=dict(type="str", default=""),
            max_failures=dict(type="str", default=""),
            order=dict(type="str", choices=[*ORDERS, ""], default="oldest_first"),
            in_use=dict(type="str", choices=["skip", "wait", "force", ""], default="skip"),
            down=dict(type="str", choices=["restore", "skip", ""], default="restore"),
            checkpoints=dict(type="str", default=""),
            window_ends=dict(type="str", default=""),
            ask_agent=dict(type="bool", default=True),
            report_folder=dict(type="path", default="~/.ansible/golden_rollouts"),
        ),
    )


if __name__ == "__main__":
    main()
