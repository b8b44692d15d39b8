"""How many calls a task makes: what is the same for all VMs is asked for once, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.inventory import read_hosts
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_pools, list_vms
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_pool import VmPoolRequest, plan_vm_pool

from support.fake import FakeHypervisor
from unit.world import do, ensuring_pool, plan, restoring, with_template

FEW, MANY = 3, 30
FOR_EACH = 12
"""Calls that a task at a pool may make for each of its members, at most."""


class Counting:
    """A hypervisor that counts the calls that are made of it."""

    def __init__(self, hv: FakeHypervisor) -> None:
        self.hv = hv
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.hv, name)


def calls(members: int, task: Callable[[Any], object]) -> Counter[str]:
    """Return the calls that a task makes where there is a pool of so many members."""
    hv = with_template()
    do(hv, ensuring_pool(vm_pool="desk", count=members, template="web"))
    counting = Counting(hv)
    task(counting)
    return counting.calls


def removing(hv: Any) -> object:
    return plan_vm_pool(hv, VmPoolRequest("desk", state="absent"))


LOOKS: dict[str, Callable[[Any], object]] = {
    "vm_info": lambda hv: list_vms(hv, Filters()),
    "vm_pool_info": lambda hv: list_pools(hv, None),
    "inventory": lambda hv: read_hosts(hv, "qemu:///system", ()),
    "a pool that is as it is to be": lambda hv: plan_vm_pool(hv, VmPoolRequest("desk")),
    "one restore": lambda hv: do(hv, restoring(vm="desk-2", force=True)),
}


@pytest.mark.parametrize("name", LOOKS)
def test_as_many_calls_for_many_vms(name: str) -> None:
    few, many = calls(FEW, LOOKS[name]), calls(MANY, LOOKS[name])
    assert few
    assert many == few


def test_removing_a_pool_asks_once_for_what_is_the_same_for_all() -> None:
    few, many = calls(FEW, removing), calls(MANY, removing)
    for call in ("domains", "storage_pools", "volume_names"):
        assert few[call]
        assert many[call] == few[call]
    assert sum(many.values()) - sum(few.values()) <= FOR_EACH * (MANY - FEW)


def test_the_plan_of_a_restore_lists_a_storage_pool_once() -> None:
    made = calls(FEW, lambda hv: plan(hv, restoring(vm="desk-2", force=True)))
    assert made["volume_names"] == made["storage_pools"] == 1
