"""Every call of every task that attaches or detaches a volume fails, or is the last before the process is killed.

- An error leaves everything as it was before.
- After a death the same task, run again, comes to the end that an undisturbed run comes to.
- No volume is at two VMs, and none is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError, HypervisorError

from support.fake import FakeHypervisor
from unit.test_kill_anywhere import Scenario, assert_holds, die, named
from unit.world import Task, attaching, detaching, do, ensuring, plan, with_data

ROOT = "web-1.root.1.qcow2"
FOREIGN = "web-2.root.1.qcow2"


def _prepared(state: str, *tasks: Task) -> Callable[[], FakeHypervisor]:
    """Return what makes a world in which these tasks are done; then the VMs are started, if that is wanted."""

    def make() -> FakeHypervisor:
        hv = with_data("present", "data", "logs")
        for task in tasks:
            do(hv, task)
        if state == "started":
            for vm in ("web-1", "web-2"):
                do(hv, ensuring(vm, state="started"))
        return hv

    return make


def _only_stored(state: str) -> Callable[[], FakeHypervisor]:
    def make() -> FakeHypervisor:
        hv = _prepared(state)()
        for bus, target, name in (("virtio", "vdb", "data"), ("scsi", "sdc", "logs")):
            hv.attach_device(
                "web-1",
                f"<disk type='file' device='disk'><source file='/pools/default/{name}'/>"
                f"<target dev='{target}' bus='{bus}'/></disk>",
                live=False,
                stored=True,
            )
        return hv

    return make


SCENARIOS = [
    Scenario("attached, stopped", _prepared("present"), attaching()),
    Scenario("attached, running", _prepared("started"), attaching()),
    Scenario("attached, scsi, stopped", _prepared("present"), attaching(bus="scsi")),
    Scenario("attached, scsi, running", _prepared("started"), attaching(bus="scsi")),
    Scenario("attached in the running instance, too", _only_stored("started"), attaching()),
    Scenario("attached in the running instance, too, scsi", _only_stored("started"), attaching("logs")),
    Scenario("detached, stopped", _prepared("present", attaching()), detaching("data")),
    Scenario("detached, running", _prepared("started", attaching()), detaching("data")),
    Scenario("detached, running, by id", _prepared("started", attaching()), detaching(device_id=1)),
    Scenario("root detached", _prepared("present"), detaching(ROOT)),
    Scenario("root attached", _prepared("present", detaching(ROOT)), attaching(ROOT, device_id=0)),
    Scenario(
        "root on scsi attached", _prepared("present", detaching(ROOT)), attaching(ROOT, device_id=0, bus="scsi")
    ),
    Scenario(
        "root attached elsewhere", _prepared("started", ensuring(state="stopped"), detaching(ROOT)),
        attaching(ROOT, vm="web-2"),
    ),
    Scenario("root replaced", _prepared("present", detaching(ROOT)), attaching("data", device_id=0)),
    Scenario(
        "root replaced by the root of another",
        _prepared("present", detaching(ROOT), detaching(FOREIGN, vm="web-2")),
        attaching(FOREIGN, device_id=0),
    ),
    Scenario(
        "stand-in detached",
        _prepared("present", detaching(ROOT), attaching("data", device_id=0)),
        detaching(device_id=0),
    ),
    Scenario(
        "own root as data detached",
        _prepared("present", detaching(ROOT), attaching("data", device_id=0), attaching(ROOT)),
        detaching(ROOT),
    ),
]  # fmt: skip


def without_claims(hv: FakeHypervisor) -> dict[str, Any]:
    """Return the state; a claim that is left must be one of the VM whose task it was."""
    state = hv.state()
    assert set(state.pop("claims").values()) <= {"web-1", "web-2"}
    return state


def end(scenario: Scenario) -> dict[str, Any]:
    """Return the end that a scenario comes to undisturbed, without a claim left."""
    hv = scenario.prepare()
    do(hv, scenario.task)
    assert hv.state()["claims"] == {}
    return without_claims(hv)


def holders(hv: FakeHypervisor, name: str) -> list[str]:
    """Return the VMs that have a volume in one of their definitions."""
    path = f"/pools/default/{name}"
    return [vm for vm in hv.vms if path in hv.disk_paths(vm) + hv.disk_paths(vm, live=True)]


def assert_whole(hv: FakeHypervisor) -> None:
    """All volumes are there, and each is at one VM at most."""
    for name in (ROOT, FOREIGN, "data", "logs"):
        assert name in hv.names()
        assert len(holders(hv, name)) <= 1


@named(SCENARIOS)
@pytest.mark.parametrize("after", [False, True], ids=["refused", "carried out"])
def test_an_error_at_any_call_is_undone(scenario: Scenario, after: bool) -> None:
    expected, before = end(scenario), without_claims(scenario.prepare())

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        planned = plan(hv, scenario.task)
        hv.fail_at(number, after)
        rolled_back = False
        try:
            planned.apply(lambda: 0.0)
        except HypervisorError as error:
            rolled_back = error.facts["rolled_back"]
        hv.revive()
        # Only a claim that is not released is no error.
        assert without_claims(hv) == (before if rolled_back else expected)
        do(hv, scenario.task)
        assert without_claims(hv) == expected

    assert_holds(scenario.calls(), attempt)


@named(SCENARIOS)
def test_a_task_that_was_killed_at_any_call_is_finished_by_its_rerun(scenario: Scenario) -> None:
    expected = end(scenario)

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, number)
        assert_whole(hv)
        do(hv, scenario.task)
        assert without_claims(hv) == expected

    assert_holds([-1, *scenario.calls()], attempt)


@named(SCENARIOS)
def test_a_task_whose_rerun_was_killed_too_is_finished_by_the_next(scenario: Scenario) -> None:
    expected = end(scenario)

    def attempt(points: tuple[int, int]) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, points[0])
        die(hv, scenario.task, points[1])
        assert_whole(hv)
        do(hv, scenario.task)
        assert without_claims(hv) == expected

    assert_holds(scenario.pairs(), attempt)


RACES = [
    ("data and data, stopped", "present", attaching(), attaching(vm="web-2")),
    ("data and data, running", "started", attaching(), attaching(vm="web-2")),
    ("on different buses", "started", attaching(bus="scsi"), attaching(vm="web-2", bus="usb")),
    ("root and data", "present", attaching(device_id=0), attaching(vm="web-2", device_id=1)),
    ("data and root", "present", attaching(device_id=1), attaching(vm="web-2", device_id=0)),
    ("root and root", "present", attaching(device_id=0), attaching(vm="web-2", device_id=0)),
]


@pytest.mark.parametrize("early", [True, False], ids=["planned before", "planned meanwhile"])
@pytest.mark.parametrize(("name", "state", "ours", "theirs"), RACES, ids=[race[0] for race in RACES])
def test_of_two_vms_that_take_one_volume_exactly_one_gets_it(
    name: str, state: str, ours: Task, theirs: Task, early: bool
) -> None:
    rootless = () if state == "started" else (detaching(ROOT), detaching(FOREIGN, vm="web-2"))
    scenario = Scenario(f"race: {name}", _prepared(state, *rootless), ours)

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        their_plan = plan(hv, theirs) if early else None
        our_plan = plan(hv, ours)
        done: list[str] = []

        def them() -> None:
            with contextlib.suppress(GoldenError):
                (their_plan or theirs(hv)).apply(lambda: 0.0)
                done.append("web-2")

        hv.interrupt_at(number, them)
        with contextlib.suppress(GoldenError):
            our_plan.apply(lambda: 0.0)
            done.append("web-1")
        hv.revive()
        assert len(done) == 1, "both or none say that they have it"
        assert holders(hv, "data") == done
        assert hv.state()["claims"] == {}

    assert_holds(scenario.calls(), attempt)


@named([scenario for scenario in SCENARIOS if "attached in" not in scenario.name])
def test_the_same_task_by_another_at_any_call_breaks_nothing(scenario: Scenario) -> None:
    expected = end(scenario)

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        theirs, ours = plan(hv, scenario.task), plan(hv, scenario.task)

        def them() -> None:
            with contextlib.suppress(GoldenError):
                theirs.apply(lambda: 0.0)

        hv.interrupt_at(number, them)
        with contextlib.suppress(GoldenError):
            ours.apply(lambda: 0.0)
        hv.revive()
        assert_whole(hv)
        do(hv, scenario.task)
        assert without_claims(hv) == expected

    assert_holds(scenario.calls(), attempt)
