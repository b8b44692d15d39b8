"""Every call of every changing task is made to fail, or is the last that the process makes before it is killed.

- An error leaves everything as it was before, with ``rolled_back``; once the old has begun to go, it leaves the new,
  whole, without.
- After a death the same task, run again, comes to the end that an undisturbed run comes to.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import record_of
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import CREATE

from support.fake import Died, FakeHypervisor
from unit.world import (
    Task,
    deleting,
    do,
    ensuring,
    ensuring_pool,
    plan,
    pruning,
    publishing,
    qcow2,
    record,
    relabelling,
    restoring,
    returning,
    rolling_back,
    settling,
    taking,
    with_template,
    with_vm,
    write_on_root,
)

AGENT = Health("agent")
_WORLDS: dict[str, FakeHypervisor] = {}


@dataclass(frozen=True)
class Scenario:
    """A task in a world; ``make`` makes that world."""

    name: str
    make: Callable[[], FakeHypervisor]
    task: Task

    def prepare(self) -> FakeHypervisor:
        """Return its world as it is before the task; each is made once and copied."""
        if self.name not in _WORLDS:
            _WORLDS[self.name] = self.make()
        return copy.deepcopy(_WORLDS[self.name])

    @functools.cache  # noqa: B019 - the scenarios are there as long as the tests
    def calls(self) -> range:
        """Return the numbers of the calls that carrying it out takes."""
        hv = self.prepare()
        planned = plan(hv, self.task)
        first = hv.calls
        planned.apply(lambda: 0.0)
        return range(hv.calls - first)

    @functools.cache  # noqa: B019
    def pairs(self) -> list[tuple[int, int]]:
        """Return the numbers of its calls, each with those of the run that follows its death after that call."""
        found = []
        for first in self.calls():
            hv = self.prepare()
            die(hv, self.task, first)
            rerun = plan(hv, self.task)
            begin = hv.calls
            rerun.apply(lambda: 0.0)
            found += [(first, second) for second in range(hv.calls - begin)]
        return found

    @functools.cache  # noqa: B019
    def undisturbed(self) -> dict[str, Any]:
        """Return the end that it comes to."""
        hv = self.prepare()
        do(hv, self.task)
        return end(hv)


def _kept() -> FakeHypervisor:
    hv = with_vm()
    do(hv, restoring(template_version="2", keep_previous=True))
    write_on_root(hv)
    return hv


def _kept_by_member() -> FakeHypervisor:
    hv = _pool_of_three()
    do(hv, restoring("desk-1", template_version="1", keep_previous=True))
    return hv


def _saved() -> FakeHypervisor:
    hv = with_vm(state="present", stateless=True)
    hv.vms["web-1"].managed_save = True
    return hv


def _pool_of_three() -> FakeHypervisor:
    hv = with_template()
    do(hv, ensuring_pool(template="web", count=3, prestarted=1))
    return hv


def _used() -> FakeHypervisor:
    return with_vm(state="present", stateless=True, use_latest_template_version=True)


def _used_pool() -> FakeHypervisor:
    hv = _pool_of_three()
    do(hv, ensuring_pool(count=2, prestarted=0))
    hv.vms["desk-1"].live = None
    write_on_root(hv, "desk-1")
    return hv


def _taken() -> FakeHypervisor:
    hv = _pool_of_three()
    do(hv, taking())
    write_on_root(hv, "desk-1")
    return hv


def _source_vm() -> FakeHypervisor:
    return with_vm(versions=1, state="present")


def _raw_file() -> FakeHypervisor:
    hv = with_template(1)
    hv.files["/images/new.raw"] = (b"raw system".ljust(510, b"\0") + b"\x55\xaa").ljust(4096, b"\0")
    return hv


def _new_file() -> FakeHypervisor:
    hv = with_template(1)
    hv.files["/images/new.qcow2"] = qcow2("a newer system")
    return hv


RESTORES = [
    Scenario("running", with_vm, restoring(template_version="2", health=AGENT)),
    Scenario("stopped", lambda: with_vm(state="present"), restoring(template_version="2")),
    Scenario("keep previous", with_vm, restoring(template_version="2", keep_previous=True, health=AGENT)),
    Scenario("forced", with_vm, restoring(force=True, health=AGENT)),
    Scenario("forced, stopped", lambda: with_vm(state="present"), restoring(force=True)),
    Scenario("over a kept previous", _kept, restoring(template_version="1", keep_previous=True)),
    Scenario("managed save", _saved, restoring(template_version="2")),
    Scenario("start: yes", lambda: with_vm(state="present"), restoring(template_version="2", start="yes")),
    Scenario("start: no", with_vm, restoring(template_version="2", start="no")),
    Scenario("stateless, started", _used, ensuring(state="started")),
    Scenario("rollback", _kept, rolling_back(health=AGENT)),
]
TWICE = [
    scenario for scenario in RESTORES if scenario.name in ("running", "forced", "over a kept previous", "rollback")
]
RACES = ("running", "stopped", "keep previous", "rollback", "vm", "pool", "kept previous deleted")
MAKINGS = [
    Scenario("vm", with_template, ensuring(template="web", state="started", autostart=True)),
    Scenario("vm, left off", with_template, ensuring(template="web")),
    Scenario("pool", with_template, ensuring_pool(template="web", count=3, prestarted=2)),
    Scenario("pool grows", _pool_of_three, ensuring_pool(count=5, prestarted=3)),
]
PRESTARTS = [scenario for scenario in MAKINGS if "pool" in scenario.name]
"""What ends with starting VMs, of which one that does not start holds up no other and undoes nothing."""
LEASES = [
    Scenario("taken", _pool_of_three, taking()),
    Scenario("taken by name", _pool_of_three, taking(vm="desk-3")),
    Scenario("taken, restored and started", _used_pool, taking(health=AGENT)),
    Scenario("returned", _taken, returning()),
]
REMOVALS = [
    Scenario("vm removed", with_vm, ensuring(state="absent")),
    Scenario("vm with a kept previous removed", _kept, ensuring(state="absent")),
    Scenario("kept previous deleted", _kept, settling()),
    Scenario("kept previous of a member deleted", _kept_by_member, settling("desk-1")),
    Scenario("pool shrinks", _pool_of_three, ensuring_pool(count=1)),
    Scenario("pool removed", _pool_of_three, ensuring_pool(state="absent")),
    Scenario("version deleted", lambda: with_template(3), deleting("2")),
    Scenario("version deleted by its name", lambda: with_template(3), deleting("r2")),
    Scenario("old versions deleted", lambda: with_template(4), pruning(keep=2)),
    Scenario("template deleted", with_template, deleting()),
]
CHANGES = [
    Scenario("relabelled", with_template, relabelling("1", description="old", lifecycle="revoked")),
    Scenario("vm changed", with_vm, ensuring(description="new", autostart=True, state="stopped")),
    Scenario(
        "version saved as another", lambda: with_template(1), publishing(version="1", labels={"description": "x"})
    ),
]
PUBLICATIONS = [
    Scenario("from a file", _new_file, publishing(path="/images/new.qcow2")),
    Scenario("from a raw file", _raw_file, publishing(path="/images/new.raw")),
    Scenario("from a VM", _source_vm, publishing(vm="web-1")),
    Scenario("from a volume", _source_vm, publishing(volume="web-1.root.1.qcow2", storage_pool="default")),
]


def end(hv: FakeHypervisor) -> dict[str, Any]:
    """Return what counts of an end; numbers of root volumes do not."""
    vms = {}
    for domain in hv.domains():
        found = record_of(domain)
        assert found is not None
        vms[domain.name] = {
            "version": found.root.version,
            "root": [volume.name for volume in hv.chain(hv.disk_paths(domain.name)[0])][1:],
            "content": hv.chain(hv.disk_paths(domain.name)[0])[0].content,
            "state": domain.state,
            "persistent": domain.persistent,
            "autostart": domain.autostart,
            "managed_save": domain.managed_save,
            "previous": found.previous.version if found.previous else None,
            "pending": found.pending,
            "rolled_back": found.rolled_back,
            "follows": found.follows,
            "vm_pool": found.vm_pool,
            "lease": found.lease,
        }
    for vm in vms.values():
        if vm["vm_pool"] is not None:
            vm["state"] = "any"  # which members of a pool run does not matter, how many do
    running = sum(domain.state == "running" for domain in hv.domains())
    volumes = sorted(re.sub(r"\.root\.[0-9]+\.", ".root.N.", name) for name in hv.names())
    return {"vms": vms, "running": running, "volumes": volumes, "versions": _entries(hv)}


def _entries(hv: FakeHypervisor) -> list[Any]:
    """Return number, name, status and lifecycle of each version that is stored."""
    entries = read_template(hv, "default", "web").entries
    found = [entry.manifest for entry in entries if entry.manifest is not None]
    return [(m.version, m.version_name, m.status, m.lifecycle, m.description) for m in found]


def assert_complete(hv: FakeHypervisor) -> None:
    """Every VM is on a root that is there, with all that lies below it, unless it is known to be unfinished."""
    for domain in hv.domains():
        found = record_of(domain)
        assert found is not None
        if found.pending is not None and found.pending.job == CREATE:
            continue
        chain = [volume.name for volume in hv.chain(hv.disk_paths(domain.name)[0])]
        assert chain[0] == found.root.volume, "the metadata tell of another root than the definition"
        assert chain[1] == f"web.v{found.root.version}.qcow2"


def die(hv: FakeHypervisor, task: Task, number: int) -> None:
    """Carry a task out and be killed after one of its calls, which is before the next; -1: before the first."""
    planned = plan(hv, task)
    hv.die_at(max(number, 0), after=number >= 0)
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()


def fail(hv: FakeHypervisor, task: Task, number: int, after: bool = False) -> GoldenError | None:
    """Carry a task out with one of its calls failing, and return the error, or None if it got through all the same."""
    planned = plan(hv, task)
    hv.fail_at(number, after)
    try:
        planned.apply(lambda: 0.0)
    except GoldenError as error:
        return error
    finally:
        hv.revive()
    return None


def assert_holds(points: Iterable[Any], attempt: Callable[[Any], None]) -> None:
    """Try every point and name all those that do not hold."""
    broken = {}
    for point in points:
        try:
            attempt(point)
        except (AssertionError, GoldenError) as error:
            broken[point] = str(error)
    assert not broken, "\n".join(f"call {point}: {problem[:600]}" for point, problem in broken.items())


def named(scenarios: list[Scenario]) -> Any:
    """Return the decorator that runs a test with each of these."""
    return pytest.mark.parametrize("scenario", scenarios, ids=lambda scenario: scenario.name)


# --- errors ----------------------------------------------------------------------------------------------------------


@named(RESTORES + MAKINGS + PUBLICATIONS + REMOVALS + CHANGES)
def test_an_error_at_any_call_is_undone_or_leaves_the_new_whole(scenario: Scenario) -> None:
    expected = scenario.undisturbed()

    def attempt(number: int) -> None:
        before_hv = scenario.prepare()
        before = without_saved_memory(before_hv)
        hv = scenario.prepare()
        error = fail(hv, scenario.task, number)
        if error is None:
            assert scenario in PRESTARTS, "an error was swallowed"
        elif error.facts["rolled_back"]:
            assert without_saved_memory(hv) == before
        else:
            assert scenario in RESTORES + REMOVALS + PRESTARTS, "nothing is lost, so it could have been taken back"
        if scenario in RESTORES:
            assert error is not None
            assert_complete(hv)
            moved = record(hv).root != record(before_hv).root
            assert moved != error.facts["rolled_back"], "neither as it was nor on the new root"
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds(scenario.calls(), attempt)


def without_saved_memory(hv: FakeHypervisor) -> dict[str, Any]:
    """Return the state; a saved memory counts as dropped: that has no way back, and was asked for."""
    state = hv.state()
    state["domains"] = {name: (*parts[:-1], False) for name, parts in state["domains"].items()}
    return state


@named(RESTORES + MAKINGS + REMOVALS + CHANGES)
def test_a_call_that_was_carried_out_and_yet_reported_as_failed_does_no_harm(scenario: Scenario) -> None:
    expected = scenario.undisturbed()

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        fail(hv, scenario.task, number, after=True)
        if scenario in RESTORES:
            assert_complete(hv)
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds(scenario.calls(), attempt)


# --- deaths ----------------------------------------------------------------------------------------------------------


@named(RESTORES + MAKINGS + REMOVALS + CHANGES + LEASES)
def test_a_task_that_was_killed_at_any_call_is_finished_by_its_rerun(scenario: Scenario) -> None:
    expected = scenario.undisturbed()

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, number)
        if scenario in RESTORES:
            assert_complete(hv)
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds([-1, *scenario.calls()], attempt)


@named(TWICE)
def test_a_restore_whose_rerun_was_killed_too_is_finished_by_the_next(scenario: Scenario) -> None:
    expected = scenario.undisturbed()

    def attempt(points: tuple[int, int]) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, points[0])
        die(hv, scenario.task, points[1])
        assert_complete(hv)
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds(scenario.pairs(), attempt)


@named(TWICE)
def test_an_error_in_the_rerun_after_a_death_loses_nothing(scenario: Scenario) -> None:
    expected = scenario.undisturbed()

    def attempt(points: tuple[int, int]) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, points[0])
        fail(hv, scenario.task, points[1])
        assert_complete(hv)
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds(scenario.pairs(), attempt)


@named(PUBLICATIONS)
def test_the_claim_of_a_killed_publisher_stays_and_the_rerun_publishes(scenario: Scenario) -> None:
    def attempt(number: int) -> None:
        hv = scenario.prepare()
        die(hv, scenario.task, number)
        published = do(hv, scenario.task)["version"]
        template = read_template(hv, "default", "web")
        assert template.latest is not None
        assert template.latest.version == published
        dead = [entry.version for entry in template.entries if not entry.ready]
        assert dead == list(range(2, published)), "a dead claim is not shown, or its number was used again"
        for version in dead:
            do(hv, deleting(str(version)))
        assert not plan(hv, scenario.task).changed
        whole = {f"web.v{version}.{kind}" for version in (1, published) for kind in ("json", "qcow2")}
        markers = {f"web.v{version}.json" for version in dead}
        assert set(hv.names()) - {"web-1.root.1.qcow2"} == whole | markers

    assert_holds([-1, *scenario.calls()], attempt)


def test_a_restore_that_was_killed_after_its_stop_starts_the_vm_again() -> None:
    hv = with_vm()
    hv.meanwhile("stop", lambda: hv.die_at(1))  # the call after the stop
    with pytest.raises(Died):
        plan(hv, restoring(template_version="2")).apply(lambda: 0.0)
    hv.revive()
    assert (hv.vms["web-1"].state, record(hv).root.version) == ("shut off", 1)
    do(hv, restoring(template_version="2"))
    assert (hv.vms["web-1"].state, record(hv).root.version) == ("running", 2)


def test_a_restore_that_was_killed_after_its_stop_can_be_left_and_the_vm_started_by_hand() -> None:
    hv = with_vm()
    hv.meanwhile("stop", lambda: hv.die_at(1))
    with pytest.raises(Died):
        plan(hv, restoring(template_version="2")).apply(lambda: 0.0)
    hv.revive()
    hv.start("web-1")
    do(hv, restoring(template_version="1"))
    assert (hv.vms["web-1"].state, record(hv).root.version, record(hv).pending) == ("running", 1, None)


# --- others at the same time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [True, False], ids=["planned before", "planned meanwhile"])
@named([scenario for scenario in RESTORES + MAKINGS + REMOVALS if scenario.name in RACES])
def test_the_same_task_by_another_at_any_call_breaks_nothing(scenario: Scenario, early: bool) -> None:
    """At most one of the two gets through; the VM is whole all the same, and the next run comes to the same end.

    Not tried directly before a write of the definition: libvirt has no write that needs the state of the last look.
    """
    expected = scenario.undisturbed()

    def attempt(number: int) -> None:
        hv = scenario.prepare()
        theirs = plan(hv, scenario.task) if early else None
        ours = plan(hv, scenario.task)

        def them() -> None:
            with contextlib.suppress(GoldenError):
                (theirs or scenario.task(hv)).apply(lambda: 0.0)

        hv.interrupt_at(number, them, but_not=("define", "set_metadata"))
        with contextlib.suppress(GoldenError):
            ours.apply(lambda: 0.0)
        hv.revive()
        assert_complete(hv)
        do(hv, scenario.task)
        assert end(hv) == expected

    assert_holds(scenario.calls(), attempt)


@pytest.mark.parametrize(
    "ours", [rolling_back(), settling(), restoring(template_version="1"), ensuring(state="absent")]
)
@pytest.mark.parametrize("theirs", [rolling_back(), settling()])
def test_who_goes_back_and_who_deletes_the_way_back_do_not_meet(ours: Task, theirs: Task) -> None:
    """The VM is whole whoever comes first, and what one of them has begun comes to its end."""
    world = Scenario("kept", _kept, ours)

    def attempt(number: int) -> None:
        hv = world.prepare()
        planned = plan(hv, ours)

        def them() -> None:
            with contextlib.suppress(GoldenError):
                theirs(hv).apply(lambda: 0.0)

        hv.interrupt_at(number, them, but_not=("define", "set_metadata"))
        with contextlib.suppress(GoldenError):
            planned.apply(lambda: 0.0)
        hv.revive()
        assert_complete(hv)
        if hv.domain("web-1") is not None:
            do(hv, restoring(template_version=str(record(hv).root.version)))
            do(hv, settling())
            assert [name for name in hv.names() if ".root." in name] == [record(hv).root.volume]

    assert_holds(world.calls(), attempt)
