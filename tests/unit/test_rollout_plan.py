"""The plan of a rollout: who goes where, in which order and batches, and who does not."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Shutdown
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout import rollout_strategy as strategies
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_plan import (
    Host,
    RolloutPlan,
    plan_rollout,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_strategy import Amount, Strategy
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_table import (
    describe_plan,
    seconds_per_vm,
    table,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import (
    CREATE,
    REMOVE,
    SETTLE,
    Lease,
    Pending,
    Root,
)
from hypothesis import given
from hypothesis import strategies as st

from support.fake import FakeHypervisor
from unit.world import (
    damage,
    do,
    ensuring_pool,
    publishing,
    qcow2,
    record,
    relabelling,
    restoring,
    set_record,
    with_template,
)

HERE = "qemu:///system"
FORWARD = Strategy("desk", "restored")
BACK = Strategy("desk", "rolled_back")


def pool(count: int = 4, running: int | None = None) -> FakeHypervisor:
    """Return a hypervisor with the pool ``desk`` on version 2, version 3 being there."""
    hv = with_template(2)
    do(hv, ensuring_pool(template="web", count=count, prestarted=count if running is None else running))
    hv.files["/images/web-3.qcow2"] = qcow2("system 3")
    do(hv, publishing(path="/images/web-3.qcow2", labels={"version_name": "r3"}))
    return hv


def planned(
    hv: FakeHypervisor, strategy: Strategy = FORWARD, hosts: list[Host] | None = None, **how: Any
) -> RolloutPlan:
    """Return the plan for the one hypervisor; planning must not change anything."""
    before = hv.state()
    plan = plan_rollout({HERE: hv}, hosts, replace(strategy, **how))
    assert hv.state() == before
    return plan


def batches(plan: RolloutPlan) -> list[str]:
    """Return the numbers of the VMs of each batch, as one text each."""
    found: dict[int, list[str]] = {}
    for turn in plan.with_action("move"):
        found.setdefault(turn.batch, []).append(turn.found.host.vm.rpartition("-")[2])
    assert tuple(len(batch) for batch in found.values()) == plan.sizes
    return ["".join(batch) for batch in found.values()]


def reasons(plan: RolloutPlan, action: str = "left_alone") -> dict[str, str]:
    """Return why VMs are left alone."""
    return {turn.found.host.vm: turn.reason for turn in plan.with_action(action)}


def lease(hv: FakeHypervisor, number: int, user: str = "anna") -> None:
    """Hand a VM to a user."""
    set_record(hv, f"desk-{number}", lease=Lease(user, "2026-11-20T07:00:00Z"))


def lose_agent(hv: FakeHypervisor, number: int) -> None:
    """Let the guest agent of a running VM be away."""
    vm = hv.vms[f"desk-{number}"]
    assert vm.live is not None
    name = "name='org.qemu.guest_agent.0'"
    live = vm.live.replace('"', "'")
    assert name in live
    vm.live = live.replace(name, f"{name} state='disconnected'")


# --- which version ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["", "latest", "3", "r3"])
def test_the_version_is_a_number(selector: str) -> None:
    plan = planned(pool(), template_version=selector)
    assert (plan.version, plan.version_name, plan.template) == (3, "r3", "web")
    assert {turn.to_version for turn in plan.turns} == {3}


def test_versions_that_cannot_be_meant() -> None:
    hv = pool()
    with pytest.raises(NotFoundError, match="no version '9'"):
        planned(hv, template_version="9")
    do(hv, relabelling("3", lifecycle="revoked"))
    with pytest.raises(RefusedError, match="revoked"):
        planned(hv, template_version="3")
    assert planned(hv).version == 2
    set_record(hv, "desk-1", follows="1")
    with pytest.raises(RefusedError, match=r"different versions \(1, 2\)"):
        planned(hv)
    with pytest.raises(NotFoundError, match="no VM of pool 'lab'"):
        planned(hv, vm_pool="lab")


def test_the_version_is_one_on_all_hypervisors() -> None:
    here, there = pool(2), pool(2)
    plan = plan_rollout({HERE: here, "qemu+ssh://hv2/system": there}, None, FORWARD)
    assert (plan.version, len(plan.turns)) == (3, 4)
    do(there, relabelling("3", lifecycle="candidate"))
    with pytest.raises(RefusedError, match=r"different versions \(2, 3\)"):
        plan_rollout({HERE: here, "qemu+ssh://hv2/system": there}, None, FORWARD)


# --- who -------------------------------------------------------------------------------------------------------------


def test_who_is_left_alone_and_why() -> None:
    hv = pool(9, running=9)
    do(hv, restoring("desk-1", template_version="3"))
    lease(hv, 2)
    set_record(hv, "desk-3", pending=Pending(REMOVE, was_running=False))
    set_record(hv, "desk-4", detached_disk="<disk/>")
    set_record(hv, "desk-5", pending=Pending(CREATE, was_running=False))
    hv.vms["desk-6"].snapshots = ["before"]
    plan = planned(hv)
    assert reasons(plan) == {
        "desk-2": "taken by anna since 2026-11-20T07:00:00Z",
        "desk-3": "it is being removed",
        "desk-4": "its root is detached",
        "desk-5": "it is not complete; run the task that makes it again",
        "desk-6": "it has snapshots or checkpoints (before)",
    }
    assert list(reasons(plan, "up_to_date")) == ["desk-1"]
    assert batches(plan) == ["7", "8", "9"]


def test_vms_that_are_down() -> None:
    hv = pool(4, running=2)
    assert batches(planned(hv)) == ["1", "2", "3", "4"]
    plan = planned(hv, down="skip")
    assert batches(plan) == ["1", "2"]
    assert reasons(plan) == {"desk-3": "down", "desk-4": "down"}


@pytest.mark.parametrize(("policy", "how"), [("wait", "waited for"), ("force", "moved all the same")])
def test_taken_vms_come_last_where_they_are_not_skipped(policy: str, how: str) -> None:
    hv = pool(4, running=3)
    lease(hv, 1)
    plan = planned(hv, in_use=policy)
    assert batches(plan) == ["2", "3", "4", "1"]
    assert plan.turns[3].reason == f"taken by anna since 2026-11-20T07:00:00Z, {how}"


def test_an_unfinished_restore_is_due_even_on_the_version() -> None:
    hv = pool(2)
    do(hv, restoring("desk-1", template_version="3", keep_previous=True))
    set_record(hv, "desk-1", pending=Pending(SETTLE, was_running=True))
    plan = planned(hv)
    assert batches(plan) == ["2", "1"]
    assert plan.turns[1].found.unhealthy == "a settle of it is not finished"


def test_only_the_hosts_given() -> None:
    hv = pool()
    hosts = [
        Host("second", "desk-2", HERE),
        Host("gone", "desk-77", HERE),
        Host("far", "desk-1", "qemu+ssh://hv2/system"),
    ]
    plan = planned(hv, hosts=hosts)
    assert [(turn.found.host.name, turn.action) for turn in plan.turns] == [("second", "move"), ("gone", "left_alone")]
    assert reasons(plan) == {"desk-77": "no VM of pool desk any more"}


# --- in which order and batches --------------------------------------------------------------------------------------


def test_orders() -> None:
    hv = pool(4)
    do(hv, restoring("desk-3", template_version="1"))
    lose_agent(hv, 4)
    hv.stop("desk-2", Shutdown("force"))
    assert batches(planned(hv)) == ["3", "1", "4", "2"]
    assert batches(planned(hv, order="name")) == ["1", "3", "4", "2"]
    assert batches(planned(hv, order="unhealthy_first")) == ["4", "3", "1", "2"]
    plan = planned(hv, order="unhealthy_first", ask_agent=False)
    assert batches(plan) == ["3", "1", "4", "2"]


@pytest.mark.parametrize(
    ("serial", "sizes"),
    [
        ("1", (1, 1, 1, 1, 1, 1, 1)),
        ("", (1, 1, 1, 1, 1, 1, 1)),
        ("3", (3, 3, 1)),
        ("25%", (1, 1, 1, 1, 1, 1, 1)),
        ("1,50%", (1, 3, 3)),
        ("['1', '100%']", (1, 6)),
        ("100%", (7,)),
        ("1,2,4", (1, 2, 4)),
    ],
)
def test_batches(serial: str, sizes: tuple[int, ...]) -> None:
    assert planned(pool(7), serial=strategies.parse_serial(serial)).sizes == sizes


def test_canaries() -> None:
    hv = pool(10, running=10)
    half = strategies.parse_serial("50%")
    assert batches(planned(hv, serial=half, canary=Amount(2))) == ["12", "34567", "8910"]
    assert batches(planned(hv, serial=half, canary=Amount(10, True))) == ["1", "23456", "78910"]
    assert batches(planned(hv, serial=half, canary=("desk-7", "desk-3")))[0] == "37"
    with pytest.raises(InvalidError, match="no VM desk-77"):
        planned(hv, canary=("desk-77",))
    do(hv, restoring("desk-1", template_version="3"))
    assert batches(planned(hv, serial=half, canary=Amount(2)))[0] == "2", "one has been a canary already"
    do(hv, restoring("desk-2", template_version="3"))
    assert not [turn for turn in planned(hv, serial=half, canary=Amount(2)).turns if turn.canary]


def test_no_more_are_down_than_may_be() -> None:
    hv = pool(6, running=5)
    all_at_once = strategies.parse_serial("100%")
    assert batches(planned(hv, serial=all_at_once, max_unavailable=Amount(2))) == ["12", "34", "56"], "6 is down anyway"
    lose_agent(hv, 5)
    assert batches(planned(hv, serial=all_at_once, max_unavailable=Amount(2))) == ["1", "2", "3", "456"]
    first = planned(hv, serial=all_at_once, max_unavailable=Amount(2), order="unhealthy_first")
    assert batches(first) == ["51", "23", "46"]
    with pytest.raises(RefusedError, match=r"1 are unhealthy before this rollout \(desk-5\).*unhealthy_first"):
        planned(hv, max_unavailable=Amount(1))


def test_the_budget() -> None:
    hv = pool(4)
    assert planned(hv).failures_allowed == 0
    assert planned(hv, max_failures=Amount(50, True)).failures_allowed == 2
    lose_agent(hv, 4)
    assert planned(hv).failures_allowed == 0, "by default those that are unhealthy do not count"
    assert planned(hv, max_failures=Amount(50, True)).failures_allowed == 1
    with pytest.raises(RefusedError, match=r"max_failures: 0 VMs .* 1 are unhealthy before this rollout \(desk-4\)"):
        planned(hv, max_failures=Amount(0))


def test_checkpoints() -> None:
    hv = pool(8, running=8)
    points = strategies.parse_checkpoints("25, 50%")
    plan = planned(hv, checkpoints=points)
    assert (batches(plan), plan.checkpoint) == (["1", "2"], 25)
    assert reasons(plan, "later")["desk-3"] == "after the checkpoint at 25 %"
    for number in (1, 2):
        do(hv, restoring(f"desk-{number}", template_version="3"))
    plan = planned(hv, checkpoints=points)
    assert (batches(plan), plan.checkpoint) == (["3", "4"], 50)
    do(hv, restoring("desk-3", template_version="3"))
    assert batches(planned(hv, checkpoints=points)) == ["4"], "a run that was killed goes on to the same checkpoint"
    do(hv, restoring("desk-4", template_version="3"))
    plan = planned(hv, checkpoints=points)
    assert (batches(plan), plan.checkpoint) == (["5", "6", "7", "8"], None)


# --- the way back ----------------------------------------------------------------------------------------------------


def test_the_way_back() -> None:
    hv = pool(4)
    for number, keep in ((1, True), (2, False), (3, True)):
        do(hv, restoring(f"desk-{number}", template_version="3", keep_previous=keep))
    plan = planned(hv, BACK)
    assert (batches(plan), plan.version) == (["1", "3"], 3)
    assert {turn.to_version for turn in plan.with_action("move")} == {2}
    assert reasons(plan) == {"desk-2": "it has kept no previous root"}
    assert reasons(plan, "up_to_date") == {"desk-4": "not on version 3"}
    assert batches(planned(hv, BACK, template_version="2")) == []
    for text in ("r3", "9" * 5000):
        with pytest.raises(InvalidError, match="is no number"):
            planned(hv, BACK, template_version=text)
    assert planned(pool(1), BACK).version is None


# --- what is told ----------------------------------------------------------------------------------------------------


def test_the_plan_as_data_and_table() -> None:
    hv = pool(3, running=2)
    lease(hv, 1, "anna\u202e {{ evil }}")
    ends = datetime(2026, 11, 21, 5, 30, tzinfo=timezone.utc)
    plan = planned(hv, canary=Amount(1), window_ends=ends, checkpoints=(50,))
    described = describe_plan(plan, 12.5)
    assert json.loads(json.dumps(described)) == described
    assert described["batches"] == [1]
    assert described["estimated_seconds"] == 12
    assert described["window_ends_epoch"] == int(ends.timestamp())
    assert [(vm["name"], vm["action"], vm["batch"], vm["canary"]) for vm in described["vms"]] == [
        ("desk-2", "move", 1, True),
        ("desk-3", "later", 0, False),
        ("desk-1", "left_alone", 0, False),
    ]
    assert described["space"][0]["needed"] == 64 * 1024**2
    lines = table(plan, 12)
    assert lines[0] == "Rollout of VM pool desk to version 3 (r3) of template web: 1 of 3 VMs"
    assert lines[2].split() == ["1", "desk-2", "running", "2", "->", "3", "canary"]
    assert "left alone: taken by anna" in lines[4]
    assert all(line.isprintable() for line in lines)
    assert "It pauses at 50 %; run it again to go on." in lines
    assert "No batch begins after 2026-11-21 05:30+00:00." in lines
    assert "It takes about 12 s, as former rollouts of this VM pool did for each batch." in lines


def test_what_former_rollouts_took() -> None:
    def report(*seconds: float, **other: Any) -> str:
        vms = [{"result": "moved", "seconds": taken} for taken in seconds] + [{"result": "failed", "seconds": 300}]
        known = {"format": "golden.libvirt/rollout-report/1", "vm_pool": "desk", "state": "restored", "vms": vms}
        return json.dumps({**known, **other})

    assert seconds_per_vm([], "desk", "restored") is None
    assert seconds_per_vm([report(10, 12), report(20)], "desk", "restored") == 12
    others = [report(1, vm_pool="lab"), report(1, state="rolled_back"), report(1, check_mode=True), "{", "[]", "{}"]
    assert seconds_per_vm([*others, report(9, vms=[5]), report(8, format="x")], "desk", "restored") is None
    assert seconds_per_vm([*others, report(7)], "desk", "restored") == 7


# --- texts of people -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "101%", "%", "1%%", "1 2", "9999999"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(InvalidError, match="max_failures"):
        strategies.parse_amount(text, "max_failures")


@pytest.mark.parametrize("text", ["0", "1,0", "0%", "a", "1;2"])
def test_batches_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidError, match="serial"):
        strategies.parse_serial(text)


@pytest.mark.parametrize("text", ["0", "100", "a", "-5", "5.5"])
def test_checkpoints_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidError, match="checkpoints"):
        strategies.parse_checkpoints(text)


def test_windows() -> None:
    now = datetime(2026, 11, 20, 22, 0, tzinfo=timezone(timedelta(hours=1)))
    assert strategies.parse_window("", now.isoformat()) is None
    assert strategies.parse_window("90", now.isoformat()) == now + timedelta(minutes=90)
    assert strategies.parse_window("23:15", now.isoformat()) == now + timedelta(minutes=75)
    assert strategies.parse_window("5:30", now.isoformat()) == now + timedelta(hours=7, minutes=30)
    assert strategies.parse_window("22:00", now.isoformat()) == now + timedelta(days=1)
    assert strategies.parse_window("2026-11-20T23:00:00Z", now.isoformat()) == now + timedelta(hours=2)
    assert strategies.parse_window("2026-11-20T23:00", now.isoformat()) == now + timedelta(hours=1)
    for text in ("soon", "25:00", "12:60", "-5", "2026-13-01T00:00:00"):
        with pytest.raises(InvalidError, match="window_ends"):
            strategies.parse_window(text, now.isoformat())


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    now = "2026-11-20T00:00:00+00:00"
    parsers = (
        strategies.parse_serial,
        strategies.parse_canary,
        strategies.parse_checkpoints,
        lambda given: strategies.parse_amount(given, "max_failures"),
        lambda given: strategies.parse_window(given, now),
    )
    for parse in parsers:
        with suppress(InvalidError):
            parse(text)


def test_a_damaged_vm_of_another_pool_is_no_matter_of_this_one() -> None:
    hv = pool(2)
    do(hv, ensuring_pool(vm_pool="lab", template="web", count=1))
    damage(hv, "lab-1")
    damage(hv, "desk-2")
    assert list(reasons(planned(hv))) == ["desk-2"]


def test_a_member_with_a_damaged_record_is_left_alone() -> None:
    hv = pool(2)
    damage(hv, "desk-2")
    hosts = [Host("desk-1", "desk-1", HERE), Host("desk-2", "desk-2", HERE)]
    plan = planned(hv, hosts=hosts)
    assert "damaged" in reasons(plan)["desk-2"]
    assert batches(plan) == ["1"]
    assert record(hv, "desk-1").root == Root("desk-1.root.1.qcow2", "default", "web", "default", 2)
