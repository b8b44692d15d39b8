"""Pools of VMs."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    GoldenError,
    InvalidError,
    NotFoundError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Lease
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_pools, list_vms
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import Size

from support.fake import Died, FakeHypervisor
from unit.world import (
    GIB,
    changes,
    do,
    ensuring,
    ensuring_pool,
    plan,
    publishing,
    qcow2,
    record,
    refused,
    restoring,
    roots,
    set_record,
    taking,
    with_template,
    write_on_root,
)


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with two versions of the template ``web``."""
    return with_template()


@pytest.fixture
def desk(hv: FakeHypervisor) -> FakeHypervisor:
    """A hypervisor with the pool ``desk`` of three, one of them running."""
    do(hv, ensuring_pool(template="web", count=3, prestarted=1))
    return hv


def running(hv: FakeHypervisor) -> list[str]:
    """Return the VMs that run."""
    return [name for name in sorted(hv.vms) if hv.vms[name].state == "running"]


def take(hv: FakeHypervisor, *names: str) -> None:
    """Let a user have these VMs."""
    for name in names:
        set_record(hv, name, lease=Lease("anna", "today"))


# --- making ----------------------------------------------------------------------------------------------------------


def test_a_new_pool(hv: FakeHypervisor) -> None:
    returned = do(hv, ensuring_pool(template="web", count=3, prestarted=2, vm_per_user=2))
    assert sorted(hv.vms) == ["desk-1", "desk-2", "desk-3"]
    assert returned["running"] == running(hv) == ["desk-1", "desk-2"]
    assert returned["free"] == ["desk-1", "desk-2", "desk-3"]
    assert (returned["count"], returned["prestarted"], returned["vm_per_user"]) == (3, 2, 2)
    assert (returned["stateless"], returned["use_latest_template_version"]) == (True, True)
    assert [member["template_version"] for member in returned["members"]] == [2, 2, 2]
    assert not changes(hv, ensuring_pool(template="web", count=3, prestarted=2, vm_per_user=2))
    assert not changes(hv, ensuring_pool())


def test_what_was_made_is_told(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring_pool(template="web", count=2))
    assert planned.facts({}) == {"created": ["desk-1", "desk-2"], "removed": [], "not_started": {}}


def test_names_of_other_vms_are_left_out(hv: FakeHypervisor) -> None:
    do(hv, ensuring("desk-2", template="web"))
    do(hv, ensuring_pool(template="web", count=2))
    assert sorted(hv.vms) == ["desk-1", "desk-2", "desk-3"]
    assert record(hv, "desk-2").vm_pool is None


def test_members_have_the_size_that_was_asked_for(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=1, size=Size(cpus=4, memory=2097152, storage=8 * GIB)))
    assert "<vcpu>4</vcpu>" in hv.vms["desk-1"].stored
    assert hv.chain(hv.disk_paths("desk-1")[0])[0].capacity == 8 * GIB


@pytest.mark.parametrize(
    ("wanted", "follows", "version"),
    [
        ({}, "latest", 2),
        ({"template_version": "latest"}, "latest", 2),
        ({"template_version": "1"}, "1", 1),
        ({"template_version": "r1"}, "1", 1),
        ({"stateless": False}, "2", 2),
        ({"template_version": ""}, "latest", 2),
    ],
)
def test_what_members_follow(hv: FakeHypervisor, wanted: dict[str, Any], follows: str, version: int) -> None:
    do(hv, ensuring_pool(template="web", count=1, **wanted))
    assert (record(hv, "desk-1").follows, record(hv, "desk-1").root.version) == (follows, version)


@pytest.mark.parametrize(
    ("wanted", "said", "kind"),
    [
        ({"template": "web"}, "there is no VM pool 'desk'; to make it, give 'template' and 'count'", NotFoundError),
        ({"count": 2}, "there is no VM pool 'desk'; to make it, give 'template' and 'count'", NotFoundError),
        ({"template": "none", "count": 2}, "there is no template 'none'", NotFoundError),
        ({"template": "web", "count": 0}, "count: a VM pool has members; use 'state: absent'", InvalidError),
        ({"template": "web", "count": -1}, "count: -1 is less than 0", InvalidError),
        ({"template": "web", "count": 1, "prestarted": -1}, "prestarted: -1 is less than 0", InvalidError),
        ({"template": "web", "count": 1, "prestarted": 2}, "prestarted: 2 is more than the 1 VMs", InvalidError),
        ({"template": "web", "count": 1, "vm_per_user": 0}, "vm_per_user: 0 is less than 1", InvalidError),
        (
            {"template": "web", "count": 1, "stateless": False, "template_version": "latest"},
            "VM pool 'desk' is not stateless, so it cannot follow the latest version",
            InvalidError,
        ),
    ],
)
def test_a_pool_that_cannot_be_made(hv: FakeHypervisor, wanted: Any, said: str, kind: type[GoldenError]) -> None:
    refused(hv, ensuring_pool(**wanted), said, kind)


def test_one_that_does_not_start_holds_up_nobody(hv: FakeHypervisor) -> None:
    hv.unstartable.add("desk-2.root.1.qcow2")
    planned = plan(hv, ensuring_pool(template="web", count=4, prestarted=2))
    planned.apply(lambda: 0.0)
    assert running(hv) == ["desk-1", "desk-3"]
    told = planned.facts({})["not_started"]
    assert list(told) == ["desk-2"]
    assert told["desk-2"].endswith("(1 of 3 tries; then it is set aside)")
    assert not changes(hv, ensuring_pool())


def test_one_that_does_not_come_up_is_set_aside_after_three_tries(hv: FakeHypervisor) -> None:
    hv.unhealthy.add("web.v2.qcow2")
    wanted: dict[str, Any] = {"template": "web", "count": 1, "prestarted": 1, "health": Health("agent")}
    for number in (1, 2, 3):
        planned = plan(hv, ensuring_pool(**wanted))
        planned.apply(lambda: 0.0)
        assert record(hv, "desk-1").failed_starts == number
        assert running(hv) == [], "it would be taken for one that is up"
    planned = plan(hv, ensuring_pool(**wanted))
    assert not planned.changed
    assert planned.warnings[0].startswith("VM pool 'desk': desk-1 did not come up again and again, and is set aside")
    assert (planned.after["set_aside"], planned.after["free"]) == (["desk-1"], [])
    hv.unhealthy.clear()
    do(hv, ensuring_pool(**wanted, retry_set_aside=True))
    assert (running(hv), record(hv, "desk-1").failed_starts) == (["desk-1"], 0)
    assert not changes(hv, ensuring_pool(**wanted, retry_set_aside=True))


def test_a_failed_start_is_forgotten_once_it_comes_up(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=1))
    set_record(hv, "desk-1", failed_starts=2)
    plan(hv, ensuring_pool(prestarted=1)).apply(lambda: 0.0)
    assert record(hv, "desk-1").failed_starts == 0


def test_many_are_started_some_at_a_time(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=9, prestarted=9, health=Health("agent")))
    assert len(running(hv)) == 9


def test_what_is_started_is_on_the_newest_version_and_fresh(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=2))
    write_on_root(hv, "desk-2")
    hv.files["/images/new"] = qcow2("new")
    do(hv, publishing(path="/images/new"))
    plan(hv, ensuring_pool(prestarted=2)).apply(lambda: 0.0)
    assert [record(hv, name).root.version for name in ("desk-1", "desk-2")] == [3, 3]
    assert [len(roots(hv, name)) for name in ("desk-1", "desk-2")] == [1, 1]


def test_a_member_that_a_user_takes_meanwhile_is_not_stopped(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=1))
    hv.unhealthy.add("desk-1.root.1.qcow2")
    planned = plan(hv, ensuring_pool(prestarted=1, health=Health("agent")))
    hv.meanwhile("wait_healthy", lambda: do(hv, taking()))
    planned.apply(lambda: 0.0)
    assert running(hv) == ["desk-1"]
    assert "'anna' has taken it meanwhile" in planned.facts({})["not_started"]["desk-1"]


def test_following_latest_at_once_can_be_opted_out_of(hv: FakeHypervisor) -> None:
    assert do(hv, ensuring_pool(template="web", count=1))["auto_refresh"] is True
    assert do(hv, ensuring_pool(auto_refresh=False))["auto_refresh"] is False
    assert not changes(hv, ensuring_pool())
    assert list_vms(hv, Filters())[0]["auto_refresh"] is False


def test_members_that_do_not_come_up_go_first(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=3))
    set_record(hv, "desk-1", failed_starts=3)
    do(hv, ensuring_pool(count=2))
    assert sorted(hv.vms) == ["desk-2", "desk-3"]


def test_a_removal_that_was_killed_is_finished_by_whatever_comes_next(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=3))
    planned = plan(hv, ensuring_pool(count=2))
    hv.meanwhile("delete_volume", lambda: hv.die_at(0, after=True))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    refused(hv, taking(vm="desk-3"), "cannot be taken")
    refused(hv, restoring("desk-3"), "VM 'desk-3' is being removed; run the task that removes it again")
    do(hv, ensuring_pool(count=3))
    assert sorted(hv.vms) == ["desk-1", "desk-2", "desk-4"]


def test_a_maker_that_died_is_followed_by_one_with_another_count(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring_pool(template="web", count=3))
    hv.meanwhile("create_volume", lambda: hv.die_at(0))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    do(hv, ensuring_pool(template="web", count=2, vm_per_user=2))
    assert sorted(hv.vms) == ["desk-1", "desk-2"]
    assert not changes(hv, ensuring_pool(template="web", count=2, vm_per_user=2))


# --- growing and shrinking -------------------------------------------------------------------------------------------


def test_it_grows(desk: FakeHypervisor) -> None:
    returned = do(desk, ensuring_pool(count=5))
    assert [member["name"] for member in returned["members"]] == [f"desk-{n}" for n in range(1, 6)]
    assert {record(desk, name).vm_pool.count for name in desk.vms} == {5}  # type: ignore[union-attr]


def test_it_grows_past_ten_in_the_order_of_numbers(hv: FakeHypervisor) -> None:
    do(hv, ensuring_pool(template="web", count=9))
    returned = do(hv, ensuring_pool(count=11))
    assert [member["name"] for member in returned["members"]] == [f"desk-{n}" for n in range(1, 12)]


def test_new_members_are_on_the_version_that_the_pool_follows(desk: FakeHypervisor) -> None:
    desk.files["/images/new"] = qcow2("new")
    do(desk, publishing(path="/images/new"))
    returned = do(desk, ensuring_pool(count=4))
    assert [member["template_version"] for member in returned["members"]] == [2, 2, 2, 3]
    assert returned["outdated"] == ["desk-1", "desk-2", "desk-3"]


def test_gaps_are_filled(desk: FakeHypervisor) -> None:
    do(desk, ensuring("desk-2", state="absent"))
    do(desk, ensuring_pool(count=3))
    assert sorted(desk.vms) == ["desk-1", "desk-2", "desk-3"]


def test_it_shrinks_from_its_end(desk: FakeHypervisor) -> None:
    planned = plan(desk, ensuring_pool(count=2))
    assert planned.facts({}) == {"created": [], "removed": ["desk-3"], "not_started": {}}
    do(desk, ensuring_pool(count=2))
    assert sorted(desk.vms) == ["desk-1", "desk-2"]
    assert not [name for name in desk.names() if name.startswith("desk-3")]


def test_a_taken_member_is_never_removed(desk: FakeHypervisor) -> None:
    take(desk, "desk-3")
    do(desk, ensuring_pool(count=2))
    assert sorted(desk.vms) == ["desk-1", "desk-3"]
    take(desk, "desk-1")
    refused(
        desk, ensuring_pool(count=1), "is to lose 1 of its 2 VMs, and only 0 are free; wait until more are returned"
    )
    refused(desk, ensuring_pool(state="absent"), r"has members that are taken \(desk-1 by 'anna', desk-3 by 'anna'\)")


def test_it_is_removed(desk: FakeHypervisor) -> None:
    do(desk, ensuring("other", template="web"))
    do(desk, ensuring_pool(state="absent"))
    assert sorted(desk.vms) == ["other"]
    assert not [name for name in desk.names() if name.startswith("desk")]
    assert not changes(desk, ensuring_pool(state="absent"))


# --- changing --------------------------------------------------------------------------------------------------------


def test_it_is_pinned_and_follows_latest_again(desk: FakeHypervisor) -> None:
    returned = do(desk, ensuring_pool(template_version="r1"))
    assert (returned["wanted_version"], returned["use_latest_template_version"]) == (1, False)
    assert returned["outdated"] == ["desk-1", "desk-2", "desk-3"]
    assert {record(desk, name).root.version for name in desk.vms} == {2}
    assert not changes(desk, ensuring_pool())
    do(desk, restoring("desk-1", template_version="1"))
    assert (record(desk, "desk-1").root.version, record(desk, "desk-1").follows) == (1, "1")
    returned = do(desk, ensuring_pool(template_version="latest"))
    assert (returned["use_latest_template_version"], returned["outdated"]) == (True, ["desk-1"])


def test_a_member_that_was_moved_still_follows_its_pool(desk: FakeHypervisor) -> None:
    do(desk, restoring("desk-1", template_version="1"))
    assert record(desk, "desk-1").follows == "latest"
    assert list_pools(desk, "desk")[0]["outdated"] == ["desk-1"]


def test_free_members_are_kept_running(desk: FakeHypervisor) -> None:
    take(desk, "desk-1")
    returned = do(desk, ensuring_pool())
    assert returned["running"] == running(desk) == ["desk-1", "desk-2"]
    assert not changes(desk, ensuring_pool())
    do(desk, ensuring_pool(prestarted=2))
    assert running(desk) == ["desk-1", "desk-2", "desk-3"]


def test_fewer_prestarted_stop_nobody(desk: FakeHypervisor) -> None:
    do(desk, ensuring_pool(prestarted=0))
    assert running(desk) == ["desk-1"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"template": "db"}, "is made from template 'web', not 'db'; make another pool, or move its members"),
        ({"stateless": False}, "the members of VM pool 'desk' are stateless; that is decided when a pool is made"),
    ],
)
def test_what_a_pool_is_stays(desk: FakeHypervisor, wanted: dict[str, Any], said: str) -> None:
    refused(desk, ensuring_pool(**wanted), said)


def test_the_list_of_pools(desk: FakeHypervisor) -> None:
    do(desk, ensuring_pool("lab", template="web", count=1))
    take(desk, "desk-2")
    listed = list_pools(desk, None)
    assert [pool["name"] for pool in listed] == ["desk", "lab"]
    assert listed[0]["taken"] == {"desk-2": "anna"}
    assert listed[0]["free"] == ["desk-1", "desk-3"]
    assert [member["user"] for member in listed[0]["members"]] == [None, "anna", None]
    assert list_pools(desk, "none") == []
