"""Taking and returning VMs of pools."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    GoldenError,
    InvalidError,
    NotFoundError,
    UnhealthyError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import SETTLE, SWITCH, Lease, Pending
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import list_pools

from support.fake import NOW, Died, FakeHypervisor
from unit.world import (
    Task,
    changes,
    damage,
    do,
    ensuring,
    ensuring_pool,
    plan,
    publishing,
    qcow2,
    record,
    refused,
    restoring,
    returning,
    root_chain,
    roots,
    set_record,
    taking,
    with_template,
    write_on_root,
)

AGENT = Health("agent")


def desk(count: int = 3, prestarted: int = 1, **wanted: Any) -> FakeHypervisor:
    """Return a hypervisor with the pool ``desk``."""
    hv = with_template()
    do(hv, ensuring_pool(template="web", count=count, prestarted=prestarted, **wanted))
    return hv


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with the pool ``desk`` of three, one of them running."""
    return desk()


def publish(hv: FakeHypervisor, number: int = 3) -> None:
    """Publish one more version."""
    hv.files[f"/images/{number}"] = qcow2(f"system {number}")
    do(hv, publishing(path=f"/images/{number}"))


def running(hv: FakeHypervisor) -> list[str]:
    """Return the VMs that run."""
    return [name for name in sorted(hv.vms) if hv.vms[name].state == "running"]


def holders(hv: FakeHypervisor) -> dict[str, str]:
    """Return who has which VM."""
    return {name: lease.user for name in sorted(hv.vms) if (lease := record(hv, name).lease) is not None}


def fail_to(hv: FakeHypervisor, task: Task) -> GoldenError:
    """Carry out a task that must fail, and return its error."""
    with pytest.raises(GoldenError) as caught:
        plan(hv, task).apply(lambda: 0.0)
    return caught.value


# --- taking ----------------------------------------------------------------------------------------------------------


def test_a_running_vm_is_taken_and_the_next_one_started(hv: FakeHypervisor) -> None:
    lease = do(hv, taking())
    assert (lease["vm"], lease["vm_pool"], lease["user"], lease["since"]) == ("desk-1", "desk", "anna", NOW)
    assert lease["addresses"]
    assert holders(hv) == {"desk-1": "anna"}
    assert running(hv) == ["desk-1", "desk-2"]
    assert hv.claims == {}


def test_the_vm_is_told(hv: FakeHypervisor) -> None:
    planned = plan(hv, taking())
    predicted = planned.facts({})["vm"]
    assert (predicted["name"], predicted["state"], predicted["lease"]["user"]) == ("desk-1", "running", "anna")
    planned.apply(lambda: 0.0)
    assert planned.look is not None
    planned.look()
    assert planned.facts({}) == {"vm": predicted, "not_started": {}}


def test_the_user_is_warned_when_the_next_one_does_not_come_up(hv: FakeHypervisor) -> None:
    planned = plan(hv, taking())
    hv.unstartable.add("desk-2.root.1.qcow2")
    planned.apply(lambda: 0.0)
    assert running(hv)[0] == "desk-1"
    assert [warning for warning in planned.tells() if "VM 'desk-2' did not come up" in warning]


def test_the_user_is_warned_of_members_that_cannot_be_read(hv: FakeHypervisor) -> None:
    damage(hv, "desk-3")
    for task in (taking(), returning(), returning()):
        planned = plan(hv, task)
        assert [warning for warning in planned.warnings if "'desk-3'" in warning]
        planned.apply(lambda: 0.0)


def test_who_has_one_gets_that_one(hv: FakeHypervisor) -> None:
    first = do(hv, taking())
    assert not changes(hv, taking())
    assert do(hv, taking()) == first
    assert not changes(hv, taking(vm="desk-1"))


def test_each_user_gets_another_one_and_the_last_is_refused(hv: FakeHypervisor) -> None:
    for user in ("anna", "bert", "carl"):
        do(hv, taking(user))
    assert holders(hv) == {"desk-1": "anna", "desk-2": "bert", "desk-3": "carl"}
    refused(
        hv,
        taking("dora"),
        "VM pool 'desk' has no free VM for 'dora': 3 of 3 are taken; return one .* or let the pool have more",
    )


def test_a_running_one_comes_before_one_that_is_up_to_date(hv: FakeHypervisor) -> None:
    hv.start("desk-3")
    publish(hv)
    do(hv, restoring("desk-3"))
    assert do(hv, taking())["vm"] == "desk-3", "of the running ones the one that is up to date"
    assert do(hv, taking("bert"))["vm"] == "desk-1"


def test_one_that_is_down_and_outdated_is_restored_first() -> None:
    hv = desk(prestarted=0)
    publish(hv)
    lease = do(hv, taking())
    assert lease["vm"] == "desk-1"
    assert root_chain(hv, "desk-1") == ["desk-1.root.2.qcow2", "web.v3.qcow2"]
    assert running(hv) == ["desk-1"]


def test_one_that_is_down_and_was_used_is_restored_first_whoever_started_it() -> None:
    hv = desk(prestarted=0)
    write_on_root(hv, "desk-1")
    planned = plan(hv, taking())
    assert [step.say for step in planned.steps] == ["take VM 'desk-1' for 'anna', with a fresh root"]
    do(hv, taking())
    assert root_chain(hv, "desk-1")[0] == "desk-1.root.2.qcow2"
    assert roots(hv, "desk-1") == ["desk-1.root.2.qcow2"]


def test_one_that_was_never_written_on_is_only_started() -> None:
    hv = desk(prestarted=0)
    do(hv, taking())
    assert root_chain(hv, "desk-1")[0] == "desk-1.root.1.qcow2"


def test_a_saved_memory_is_of_another_user() -> None:
    hv = desk(prestarted=0)
    hv.vms["desk-1"].managed_save = True
    do(hv, taking())
    assert root_chain(hv, "desk-1")[0] == "desk-1.root.2.qcow2"


def test_a_stateful_one_is_started_as_it_is() -> None:
    hv = desk(prestarted=0, stateless=False)
    write_on_root(hv, "desk-1")
    do(hv, taking())
    assert root_chain(hv, "desk-1")[0] == "desk-1.root.1.qcow2"


def test_who_finds_their_vm_down_gets_it_started_afresh(hv: FakeHypervisor) -> None:
    do(hv, taking())
    write_on_root(hv, "desk-1")
    hv.vms["desk-1"].live = None
    publish(hv)
    assert do(hv, taking())["vm"] == "desk-1"
    assert "desk-1" in running(hv)
    assert root_chain(hv, "desk-1") == ["desk-1.root.2.qcow2", "web.v3.qcow2"]
    assert holders(hv) == {"desk-1": "anna"}


def test_one_by_name(hv: FakeHypervisor) -> None:
    assert do(hv, taking(vm="desk-3"))["vm"] == "desk-3"
    refused(hv, taking("bert", vm="desk-3"), f"VM 'desk-3' is taken by 'anna' since {NOW}; take another one")
    refused(hv, taking(vm="desk-2"), r"user 'anna' holds desk-3 of VM pool 'desk', and may hold 1 of .* return one")
    refused(hv, taking("bert", vm="desk-9"), "VM pool 'desk' has no VM 'desk-9'; it has desk-1, desk-2, desk-3",
            NotFoundError)  # fmt: skip


def test_more_than_one_by_name() -> None:
    hv = desk(vm_per_user=2)
    do(hv, taking())
    do(hv, taking(vm="desk-3"))
    assert holders(hv) == {"desk-1": "anna", "desk-3": "anna"}
    assert not changes(hv, taking(vm="desk-3"))
    refused(hv, taking(vm="desk-2"), "holds desk-1, desk-3 of VM pool 'desk', and may hold 2")


def test_what_is_being_restored_or_removed_is_not_handed_out(hv: FakeHypervisor) -> None:
    set_record(hv, "desk-1", pending=Pending(SWITCH, was_running=True))
    assert do(hv, taking())["vm"] != "desk-1"
    refused(hv, taking("bert", vm="desk-1"), r"VM 'desk-1' cannot be taken: a task is at it, .* \(switch\)")


@pytest.mark.parametrize(
    ("task", "said", "kind"),
    [
        (taking(vm_pool="none"), "there is no VM pool 'none'; make it with vm_pool", NotFoundError),
        (taking(" "), "user ' ' is no valid name", InvalidError),
        (taking("a\nb"), "user 'a.nb' is no valid name", InvalidError),
        (returning(vm_pool="none"), "there is no VM pool 'none'", NotFoundError),
    ],
)
def test_what_cannot_be(hv: FakeHypervisor, task: Task, said: str, kind: type[GoldenError]) -> None:
    refused(hv, task, said, kind)


# --- others at the same time -----------------------------------------------------------------------------------------


def test_what_another_one_takes_meanwhile_is_left_to_them(hv: FakeHypervisor) -> None:
    planned = plan(hv, taking())
    do(hv, taking("bert"))
    planned.apply(lambda: 0.0)
    assert holders(hv) == {"desk-1": "bert", "desk-2": "anna"}


def test_two_tasks_of_one_user_take_one_vm(hv: FakeHypervisor) -> None:
    planned = plan(hv, taking())
    hv.meanwhile("claim", lambda: do(hv, taking()))
    planned.apply(lambda: 0.0)
    assert holders(hv) == {"desk-1": "anna"}


def test_the_last_one_goes_to_one_of_two() -> None:
    hv = desk(count=1, prestarted=0)
    planned = plan(hv, taking())
    do(hv, taking("bert"))
    assert "no free VM for 'anna'" in fail_to(hv, planned_as_task(planned)).message
    assert holders(hv) == {"desk-1": "bert"}


def planned_as_task(planned: Any) -> Task:
    """Return a task that was planned already."""
    return lambda _hv: planned


def test_a_claim_of_another_user_is_respected(hv: FakeHypervisor) -> None:
    hv.claims[f"lease:{hv.vms['desk-1'].uuid}"] = "user bert"
    assert do_unforeseen(hv, taking()) == {"desk-2": "anna"}
    assert do_unforeseen(hv, taking("bert")) == {"desk-1": "bert", "desk-2": "anna"}
    assert hv.claims == {}


def test_a_vm_that_another_task_is_changing_is_passed_over(hv: FakeHypervisor) -> None:
    claim = f"vm {hv.vms['desk-1'].uuid}"
    hv.claims[claim] = "task of somebody"
    assert do_unforeseen(hv, taking()) == {"desk-2": "anna"}
    assert hv.claims == {claim: "task of somebody"}


def do_unforeseen(hv: FakeHypervisor, task: Task) -> dict[str, str]:
    """Carry out a task that meets what it could not see before, and return who has what."""
    plan(hv, task).apply(lambda: 0.0)
    return holders(hv)


@pytest.mark.parametrize("user", ["anna", "bert"])
def test_a_killed_taker_leaves_a_vm_that_is_theirs_or_free(user: str) -> None:
    def attempt(number: int) -> bool:
        hv = desk()
        planned = plan(hv, taking())
        hv.die_at(number, after=True)
        try:
            planned.apply(lambda: 0.0)
        except Died:
            hv.revive()
            plan(hv, taking(user)).apply(lambda: 0.0)
            has = holders(hv)
            assert list(has.values()).count(user) == 1
            assert set(has.values()) <= {"anna", user}
            hv.claims.clear()  # two minutes later
            do(hv, taking("carl"))
            assert len(holders(hv)) == len(has) + 1
            return True
        return False

    number = 0
    while attempt(number):
        number += 1
    assert number > 5


# --- those that do not come up ---------------------------------------------------------------------------------------


def test_one_that_does_not_come_up_is_given_back_and_the_next_taken() -> None:
    hv = desk(prestarted=0)
    hv.unstartable.add("desk-1.root.1.qcow2")
    plan(hv, taking()).apply(lambda: 0.0)
    assert holders(hv) == {"desk-2": "anna"}
    assert record(hv, "desk-1").failed_starts == 1
    assert running(hv) == ["desk-2"]


def test_a_running_one_that_is_not_healthy_is_not_handed_out(hv: FakeHypervisor) -> None:
    hv.unhealthy.add("desk-1.root.1.qcow2")
    plan(hv, taking(health=AGENT)).apply(lambda: 0.0)
    assert holders(hv) == {"desk-2": "anna"}
    assert record(hv, "desk-1").failed_starts == 1
    assert running(hv) == ["desk-2", "desk-3"], "it was stopped, and another one started in its place"


def test_none_comes_up() -> None:
    hv = desk(count=4, prestarted=0)
    hv.unhealthy.add("web.v2.qcow2")
    error = fail_to(hv, taking(health=AGENT))
    assert isinstance(error, UnhealthyError)
    assert "VM 'desk-1' did not pass" in error.message
    assert error.facts["rolled_back"] is True
    assert (holders(hv), running(hv), hv.claims) == ({}, [], {})
    assert [record(hv, f"desk-{n}").failed_starts for n in (1, 2, 3, 4)] == [1, 1, 1, 0], "no more than three are tried"


def test_what_did_not_come_up_three_times_is_handed_out_to_nobody() -> None:
    hv = desk(count=1, prestarted=0)
    hv.unhealthy.add("web.v2.qcow2")
    for _ in range(3):
        fail_to(hv, taking(health=AGENT))
    refused(
        hv, taking(), r"0 of 1 are taken, and of the others none can be \(desk-1: it is set aside, as it did not come"
    )
    (listed,) = list_pools(hv, "desk")
    assert (listed["set_aside"], listed["free"]) == (["desk-1"], [])
    hv.unhealthy.clear()
    do(hv, restoring("desk-1", force=True))
    assert record(hv, "desk-1").failed_starts == 0
    do(hv, taking(health=AGENT))
    assert holders(hv) == {"desk-1": "anna"}


def test_a_vm_that_was_theirs_stays_theirs_when_it_does_not_come_up() -> None:
    hv = desk(count=2, prestarted=0)
    do(hv, taking())
    hv.vms["desk-1"].live = None
    hv.unstartable.add("desk-1.root.1.qcow2")
    fail_to(hv, taking())
    assert holders(hv) == {"desk-1": "anna"}


# --- returning -------------------------------------------------------------------------------------------------------


def test_it_is_stopped_restored_and_freed(hv: FakeHypervisor) -> None:
    do(hv, taking())
    write_on_root(hv, "desk-1")
    assert do(hv, returning()) == {}
    assert holders(hv) == {}
    assert running(hv) == ["desk-2"], "one that runs and is free is enough"
    assert roots(hv, "desk-1") == ["desk-1.root.2.qcow2"]
    assert hv.chain(hv.disk_paths("desk-1")[0])[0].content == b""
    assert hv.claims == {}
    assert not changes(hv, returning())
    assert do(hv, returning()) == {}


def test_it_moves_to_the_newest_version_that_it_follows(hv: FakeHypervisor) -> None:
    do(hv, taking())
    publish(hv)
    planned = plan(hv, returning())
    assert planned.facts({})["vm"]["template_version"] == 3
    do(hv, returning())
    assert record(hv, "desk-1").root.version == 3


def test_a_pinned_one_stays_on_its_version() -> None:
    hv = desk(template_version="1")
    do(hv, taking())
    publish(hv)
    do(hv, returning())
    assert record(hv, "desk-1").root.version == 1
    assert roots(hv, "desk-1") == ["desk-1.root.2.qcow2"]


def test_a_stateful_one_keeps_what_is_on_it_unless_its_pool_has_moved() -> None:
    hv = desk(prestarted=0, stateless=False)
    do(hv, taking())
    write_on_root(hv, "desk-1")
    do(hv, returning())
    assert (running(hv), holders(hv)) == ([], {})
    assert hv.chain(hv.disk_paths("desk-1")[0])[0].content == b"the guest's own"
    do(hv, taking())
    do(hv, ensuring_pool(template_version="1"))
    do(hv, returning())
    assert root_chain(hv, "desk-1")[1] == "web.v1.qcow2"


def test_it_is_started_again_where_prestart_wants_it() -> None:
    hv = desk(count=1, prestarted=1)
    do(hv, taking())
    planned = plan(hv, returning())
    assert planned.facts({})["vm"]["state"] == "running"
    do(hv, returning())
    assert running(hv) == ["desk-1"]
    assert root_chain(hv, "desk-1")[0] == "desk-1.root.2.qcow2"


def test_one_that_went_down_and_was_never_written_on_is_only_freed(hv: FakeHypervisor) -> None:
    do(hv, taking())
    hv.vms["desk-1"].live = None
    do(hv, returning())
    assert (holders(hv), roots(hv, "desk-1")) == ({}, ["desk-1.root.1.qcow2"])


def test_who_may_return_what() -> None:
    hv = desk(vm_per_user=2)
    do(hv, taking())
    do(hv, taking(vm="desk-3"))
    refused(hv, returning(), "user 'anna' holds desk-1, desk-3; say which one is returned")
    refused(hv, returning("bert", vm="desk-1"), "VM 'desk-1' is taken by 'anna' since .*, not by 'bert'")
    assert not changes(hv, returning("bert", vm="desk-2"))
    do(hv, returning(vm="desk-3"))
    do(hv, returning(None, vm="desk-1"))
    assert holders(hv) == {}


def test_what_cannot_be_restored_stays_theirs(hv: FakeHypervisor) -> None:
    do(hv, taking())
    hv.vms["desk-1"].snapshots.append("s1")
    refused(hv, returning(), "VM 'desk-1' has snapshots")
    assert holders(hv) == {"desk-1": "anna"}


def test_a_half_returned_one_can_be_taken_again(hv: FakeHypervisor) -> None:
    do(hv, taking())
    write_on_root(hv, "desk-1")
    hv.meanwhile("stop", lambda: hv.die_at(1))
    with pytest.raises(Died):
        plan(hv, returning()).apply(lambda: 0.0)
    hv.revive()
    assert (holders(hv), hv.vms["desk-1"].state) == ({"desk-1": "anna"}, "shut off")
    do(hv, taking())
    assert record(hv, "desk-1").pending is None
    assert "desk-1" in running(hv)


# --- what others must not do to a taken VM ---------------------------------------------------------------------------


def test_a_taken_vm_is_left_alone(hv: FakeHypervisor) -> None:
    do(hv, taking())
    publish(hv)
    refused(hv, restoring("desk-1"), "is taken by 'anna' .*; it is restored when it is returned .* 'force_taken: true'")
    refused(hv, ensuring("desk-1", state="absent"), "is taken by 'anna'")
    refused(hv, ensuring("desk-1", state="stopped"), "is taken by 'anna' .*; it is stopped when it is returned")
    refused(hv, ensuring_pool(state="absent"), "has members that are taken")
    do(hv, ensuring_pool(count=1))
    assert sorted(hv.vms) == ["desk-1"]
    write_on_root(hv, "desk-1")
    hv.vms["desk-1"].live = None
    refused(hv, ensuring("desk-1", state="started"), "is taken by 'anna' .*, and would be restored")
    assert record(hv, "desk-1").root.version == 2


def test_a_rollout_that_is_told_so_restores_it_and_it_stays_taken(hv: FakeHypervisor) -> None:
    do(hv, taking())
    publish(hv)
    do(hv, restoring("desk-1", force_taken=True))
    assert (record(hv, "desk-1").root.version, holders(hv)) == (3, {"desk-1": "anna"})
    assert "desk-1" in running(hv)


def test_a_restore_that_was_planned_before_the_vm_was_taken_stops_nobody(hv: FakeHypervisor) -> None:
    publish(hv)
    planned = plan(hv, restoring("desk-1"))
    do(hv, taking())
    with pytest.raises(GoldenError, match="VM 'desk-1' was taken or returned in the meantime"):
        planned.apply(lambda: 0.0)
    assert (holders(hv), record(hv, "desk-1").root.version) == ({"desk-1": "anna"}, 2)
    assert "desk-1" in running(hv)
    assert roots(hv, "desk-1") == ["desk-1.root.1.qcow2"]


def test_a_vm_that_is_taken_before_it_would_go_stays(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring_pool(count=2))
    do(hv, taking(vm="desk-3"))
    with pytest.raises(GoldenError, match="VM 'desk-3' was taken by 'anna' meanwhile"):
        planned.apply(lambda: 0.0)
    assert sorted(hv.vms) == ["desk-1", "desk-2", "desk-3"]
    assert record(hv, "desk-3").pending is None


def test_settings_that_are_written_later_keep_the_lease(hv: FakeHypervisor) -> None:
    planned = plan(hv, ensuring_pool(vm_per_user=2))
    do(hv, taking())
    planned.apply(lambda: 0.0)
    assert holders(hv) == {"desk-1": "anna"}


def test_what_a_dead_restore_has_left_can_be_taken_once_it_is_finished(hv: FakeHypervisor) -> None:
    set_record(hv, "desk-1", pending=Pending(SETTLE, was_running=True), lease=None)
    refused(hv, taking(vm="desk-1"), "cannot be taken")
    do(hv, restoring("desk-1"))
    assert do(hv, taking(vm="desk-1"))["vm"] == "desk-1"


def test_a_lease_is_shown(hv: FakeHypervisor) -> None:
    do(hv, taking())
    (listed,) = list_pools(hv, "desk")
    assert listed["taken"] == {"desk-1": "anna"}
    assert record(hv, "desk-1").lease == Lease("anna", NOW)
