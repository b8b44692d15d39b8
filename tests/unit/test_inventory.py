"""The hosts of the inventory, from a hypervisor in memory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.inventory import (
    groups_of,
    read_hosts,
    usable_addresses,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Lease

from .world import do, ensuring, ensuring_pool, set_record, with_template

URI = "qemu+ssh://hv1/system"


def hosts(*vm_pools: str) -> list[dict[str, Any]]:
    """Return the hosts of a hypervisor with a VM, a pool of eleven and another one of one."""
    hv = with_template()
    do(hv, ensuring("alone", template="web", state="started"))
    do(hv, ensuring_pool("desk", template="web", count=11, prestarted=1))
    do(hv, ensuring_pool("lab", template="web", template_version="1", count=1))
    set_record(hv, "desk-2", lease=Lease("alice", "2026-11-20T07:00:00Z"))
    set_record(hv, "desk-3", failed_starts=3)
    found, problems = read_hosts(hv, URI, vm_pools)
    assert problems == []
    return found


def test_all_managed_vms_in_their_natural_order() -> None:
    names = [variables["golden_vm"] for variables in hosts()]
    assert names == ["alone", *(f"desk-{number}" for number in range(1, 12)), "lab-1"]


def test_only_some_pools() -> None:
    assert [variables["golden_vm"] for variables in hosts("lab", "nothing")] == ["lab-1"]


def test_groups() -> None:
    groups = {variables["golden_vm"]: groups_of(variables) for variables in hosts()}
    assert groups["alone"] == ["template_web", "running"]
    assert groups["desk-1"] == ["vm_pool_desk", "template_web", "prestarted", "running"]
    assert groups["desk-2"] == ["vm_pool_desk", "template_web", "taken"]
    assert groups["desk-3"] == ["vm_pool_desk", "template_web", "set_aside"]
    assert groups["lab-1"] == ["vm_pool_lab", "template_web"]


def test_what_is_told_of_a_pool() -> None:
    told = {variables["golden_vm"]: variables for variables in hosts()}
    keys = ("golden_taken", "golden_lease_user", "golden_prestarted", "golden_set_aside", "golden_auto_refresh")
    assert [told["desk-1"][key] for key in keys] == [False, None, True, False, True]
    assert [told["desk-2"][key] for key in keys] == [True, "alice", False, False, True]
    assert [told["desk-3"][key] for key in keys] == [False, None, False, True, True]
    assert [told["alone"][key] for key in keys] == [False, None, False, False, True]


def test_a_running_vm_has_an_address() -> None:
    running, down = hosts("desk")[:2]
    assert running["ansible_host"] == running["golden_addresses"][0] == "192.0.2.10"
    assert "ansible_host" not in down


def test_outdated() -> None:
    hv = with_template(versions=1)
    do(hv, ensuring_pool("desk", template="web", count=1))
    set_record(hv, "desk-1", follows="7")
    (variables,), _problems = read_hosts(hv, URI, [])
    assert (variables["golden_wanted_version"], variables["golden_outdated"]) == (7, True)
    assert "outdated" in groups_of(variables)


def test_a_damaged_vm_is_told_and_left_out() -> None:
    hv = with_template()
    do(hv, ensuring_pool("desk", template="web", count=2))
    hv.set_metadata("desk-1", "<vm/>")
    found, (problem,) = read_hosts(hv, URI, [])
    assert [variables["golden_vm"] for variables in found] == ["desk-2"]
    assert "metadata of VM 'desk-1' is damaged" in problem


@pytest.mark.parametrize(
    ("told", "usable"),
    [
        ({"m1": ["192.0.2.7"]}, ["192.0.2.7"]),
        ({"m1": ["2001:db8::1", "192.0.2.7"], "m2": ["192.0.2.8"]}, ["192.0.2.7", "192.0.2.8", "2001:db8::1"]),
        ({"m2": ["192.0.2.8"], "m1": ["192.0.2.7"]}, ["192.0.2.7", "192.0.2.8"]),
        ({"docker0": ["172.17.0.1"]}, []),
        ({"m1": ["127.0.0.1", "::1", "fe80::1", "169.254.1.1", "0.0.0.0", "224.0.0.1"]}, []),
        ({"m1": ["{{ lookup('pipe', 'id') }}", "", "192.0.2.7/24", "192.0.2.300", "-oProxyCommand=x"]}, []),
        ({"m1": ["fe80::1%eth0", "2001:db8::1%{{ evil }}"]}, []),
    ],
)
def test_only_addresses_that_can_be_reached(told: dict[str, list[str]], usable: list[str]) -> None:
    assert usable_addresses(["m1", "m2"], told) == usable
