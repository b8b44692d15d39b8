"""Watching a rollout: from the events of a run to the report, the lines of a terminal and the time left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout import rollout_lines
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_report import (
    BROKEN_OFF,
    DONE,
    Report,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_watch import (
    FAIL,
    FAILED_TASK,
    OTHER,
    PLAN,
    RESTORE,
    SKIPPED,
    STATS,
    SUCCEEDED,
    VERSIONS,
    VMS,
    Place,
    Task,
    Watch,
    batch_count,
)

URI = "qemu:///system"
REPLACE = Task(RESTORE, "Replace its root")
PHASES = {"prepare": 0.5, "stop": 2.0, "switch": 0.5, "boot": 1.0, "verify": 4.0, "settle": 0.5}
ESCAPES = re.compile(r"\033\[[0-9;]*m")


def vm(name: str, version: int, lease: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "template": "web", "template_version": version, "wanted_version": 2, "lease": lease}


class Run:
    """A run of the playbook: its choosing, then what a test tells, second by second."""

    def __init__(self, count: int = 3, batch: int = 1, dry_run: bool = False) -> None:
        self.hosts = [f"desk-{number}" for number in range(1, count + 1)]
        self.watch = Watch("2026-11-20T09:30:00Z", 100.0, dry_run)
        self.watch.playbook("rollout.yml")
        self.places = {host: Place(host, URI) for host in self.hosts}
        self.watch.play("choose", "Choose", [], {**self.places, "desk-9": Place("desk-9", URI)}, batch=[])
        lease = {"user": "alice", "since": "today"}
        found = {"vms": [*(vm(host, 1) for host in self.hosts), vm("desk-8", 2), vm("desk-9", 1, lease)]}
        self.watch.item("desk-1", Task(VMS, "Look", loop=True, uri=URI), SUCCEEDED, found, 101.0)
        self.stats(failed={})
        self.batch = batch
        self.play()

    def play(self) -> None:
        self.watch.play("roll", "Roll out", [self.batch], self.places, batch=self.hosts[: self.batch])

    def stats(self, **more: Any) -> None:
        told = {"vm_pool": "desk", "state": "restored", "template_version": 2, "taken": ["desk-9"], **more}
        result = {"ansible_stats": {"data": {"golden_rollout": told}}}
        self.watch.end("desk-1", Task(STATS, "Record"), SUCCEEDED, result, 102.0)

    def restore(self, host: str, start: float, end: float, how: str = SUCCEEDED, **result: Any) -> None:
        self.watch.begin(host, REPLACE, start)
        done = {
            "changed": True,
            "vm": {"name": host, "template_version": 2},
            "previous": {"template_version": 1},
            "phases": PHASES,
            "downtime": 7.5,
            **result,
        }
        self.watch.end(host, REPLACE, how, done, end)

    def report(self, now: float = 150.0, outcome: str = DONE) -> Report:
        return self.watch.report(now, outcome)

    def results(self, now: float = 150.0, outcome: str = DONE) -> dict[str, str]:
        return {found.name: found.result for found in self.report(now, outcome).vms}

    def of(self, name: str) -> Any:
        return next(found for found in self.report().vms if found.name == name)

    def live(self, now: float, width: int = 100, height: int = 12) -> list[str]:
        lines = rollout_lines.live_lines(self.watch, now, width, height, rollout_lines.FINE)
        return [ESCAPES.sub("", line) for line in lines]


def test_a_rollout_that_goes_well() -> None:
    run = Run(count=2)
    run.restore("desk-1", 110.0, 120.0)
    run.play()
    run.restore("desk-2", 121.0, 131.0)
    report = run.report()
    assert run.results() == {"desk-1": "moved", "desk-2": "moved", "desk-8": "up_to_date", "desk-9": "left_alone"}
    assert (report.outcome, report.title, report.vm_pool, report.template, report.target) == (
        "done", "Roll out", "desk", "web", 2,
    )  # fmt: skip
    first = run.of("desk-1")
    assert (first.from_version, first.to_version, first.version, first.batch) == (1, 2, 2, 1)
    assert (first.start, first.seconds, first.downtime) == (10.0, 10.0, 7.5)
    assert run.of("desk-2").batch == 2
    assert run.of("desk-9").reason == "taken by alice since today"
    assert {version.number: (version.before, version.now) for version in report.versions} == {
        2: (("desk-8",), ("desk-1", "desk-2", "desk-8")),
        1: (("desk-1", "desk-2", "desk-9"), ("desk-9",)),
    }


def test_phases_end_when_the_task_ends_and_know_when_the_vm_was_down() -> None:
    run = Run()
    run.restore("desk-1", 110.0, 120.0)
    parts = run.of("desk-1").segments
    assert [part.phase for part in parts] == list(PHASES)
    assert parts[0].start == 11.5
    assert parts[-1].start + parts[-1].seconds == 20.0
    assert [part.phase for part in parts if part.down] == ["stop", "switch", "boot", "verify"]


def test_a_vm_that_was_off_has_no_downtime() -> None:
    run = Run()
    run.restore("desk-1", 110.0, 112.0, phases={"prepare": 0.5, "switch": 0.1, "settle": 0.2}, downtime=0.0)
    assert not [part for part in run.of("desk-1").segments if part.down]
    assert run.report().downtimes == ()


def test_a_vm_that_does_not_come_up_is_back_and_the_rest_was_not_reached() -> None:
    run = Run()
    until = {"prepare": 0.5, "stop": 2.0, "switch": 0.5, "boot": 1.0, "verify": 30.0}
    failure = {"msg": "it did not pass", "rolled_back": True, "console": "panic", "phases": until, "vm": None}
    run.restore("desk-1", 110.0, 147.0, FAILED_TASK, **failure)
    run.watch.end("desk-1", Task(OTHER, "Remember what went wrong"), SUCCEEDED, {}, 147.1)
    run.watch.end("desk-1", Task(FAIL, "Tell what went wrong"), FAILED_TASK, {"msg": "VM was not moved"}, 147.2)
    found = run.of("desk-1")
    assert (found.result, found.reason, found.task) == ("failed", "it did not pass", "Replace its root")
    assert (found.rolled_back, found.version, found.to_version, found.console) == (True, 1, 2, "panic")
    assert found.segments[-1].phase == "back"
    assert found.downtime == pytest.approx(36.5), "until it was started again, not only until the check gave up"
    assert run.results()["desk-2"] == "not_reached"
    assert run.report().outcome == "stopped"


def test_a_trial_boot_that_fails_tells_what_its_vm_wrote() -> None:
    run = Run()
    booted = {"msg": "it did not pass", "console": "panic"}
    run.watch.end("desk-1", Task(OTHER, "Boot it", once=True), FAILED_TASK, booted, 103.0)
    run.watch.end("desk-1", Task(FAIL, "Tell", once=True), FAILED_TASK, {"msg": "version 2 did not come up"}, 104.0)
    found = run.report()
    assert (found.outcome, found.lost, found.lost_console) == ("stopped", "it did not pass", "panic")


def test_a_restore_that_refuses_leaves_the_vm_as_it_was() -> None:
    run = Run(count=1)
    run.restore("desk-1", 110.0, 111.0, FAILED_TASK, msg="it has snapshots", phases=None, previous=None, downtime=None)
    found = run.of("desk-1")
    assert (found.result, found.rolled_back, found.version, found.segments) == ("failed", True, 1, ())
    assert run.report().outcome == "with_failures"


def test_a_vm_that_is_not_verified_is_put_back() -> None:
    run = Run(count=1)
    run.restore("desk-1", 110.0, 120.0)
    verify = Task(OTHER, "Ask it", hook="verify")
    run.watch.begin("desk-1", verify, 121.0)
    assert run.results(122.0, "under_way")["desk-1"] == "moving"
    run.watch.end("desk-1", verify, FAILED_TASK, {"msg": "it says no"}, 123.0)
    assert run.watch.report(123.0).vms[0].rolled_back is None, "nobody knows yet"
    run.watch.end("desk-1", Task(OTHER, "Remember"), SUCCEEDED, {}, 123.1)
    back = Task(RESTORE, "Put it back")
    run.watch.begin("desk-1", back, 124.0)
    assert run.watch.phase("desk-1", 126.0) == ("back", 2.0)
    result = {"changed": True, "vm": {"template_version": 1}, "phases": {"stop": 1.0, "boot": 1.0}, "downtime": 2.0}
    run.watch.end("desk-1", back, SUCCEEDED, result, 127.0)
    found = run.of("desk-1")
    assert (found.result, found.reason, found.rolled_back, found.version) == ("failed", "it says no", True, 1)
    assert [part.phase for part in found.segments][-2:] == ["verify", "back"]
    assert found.downtime == 9.5


def test_a_failure_that_a_hook_rescues_is_none() -> None:
    run = Run(count=1)
    drain = Task(OTHER, "Ask the balancer", hook="drain")
    run.watch.begin("desk-1", drain, 109.0)
    run.watch.end("desk-1", drain, FAILED_TASK, {"msg": "not now"}, 109.5)
    run.watch.begin("desk-1", drain, 109.6)
    run.watch.end("desk-1", drain, SUCCEEDED, {}, 110.0)
    run.restore("desk-1", 110.0, 120.0)
    found = run.of("desk-1")
    assert found.result == "moved"
    assert (found.segments[0].phase, found.segments[0].seconds) == ("drain", pytest.approx(1.0))


def test_vms_that_are_taken_back_with_the_others() -> None:
    run = Run(count=1)
    run.restore("desk-1", 110.0, 120.0)
    run.restore("desk-1", 130.0, 133.0, vm={"template_version": 1}, phases={"stop": 1.0, "boot": 1.0}, downtime=2.0)
    assert (run.of("desk-1").result, run.of("desk-1").version) == ("taken_back", 1)


def test_a_run_that_is_broken_off() -> None:
    run = Run()
    run.watch.begin("desk-1", REPLACE, 110.0)
    assert run.results(111.0, BROKEN_OFF) == {
        "desk-1": "interrupted", "desk-2": "not_reached", "desk-3": "not_reached", "desk-8": "up_to_date",
        "desk-9": "left_alone",
    }  # fmt: skip
    assert run.report(111.0, BROKEN_OFF).outcome == "interrupted"


def test_a_dry_run_moves_nothing() -> None:
    run = Run(count=1, dry_run=True)
    run.restore("desk-1", 110.0, 111.0, phases={}, downtime=0.0)
    found = run.of("desk-1")
    assert (found.result, found.version, found.to_version) == ("would_move", 1, 2)


def test_a_loop_on_one_host() -> None:
    """A playbook of somebody else, that loops over VMs instead of having them as hosts."""
    watch = Watch("now", 0.0, False)
    watch.play("all", "Mine", [], {"localhost": Place("localhost", "")}, batch=["localhost"])
    loop = Task(RESTORE, "Restore", loop=True)
    watch.begin("localhost", loop, 1.0)
    for name, end in (("a", 5.0), ("b", 9.0)):
        result = {
            "changed": True,
            "vm": {"name": name, "template_version": 2},
            "previous": {"template_version": 1},
            "phases": {"stop": 1.0, "boot": 1.0},
        }
        watch.item("localhost", Task(RESTORE, "Restore", loop=True, vm=name, uri=URI), SUCCEEDED, result, end)
    watch.item("localhost", loop, SKIPPED, {}, 9.0)
    watch.end("localhost", loop, SUCCEEDED, {"results": []}, 9.0)
    report = watch.report(10.0, DONE)
    assert [(found.name, found.result, found.start, found.seconds) for found in report.vms] == [
        ("a", "moved", 1.0, 4.0),
        ("b", "moved", 5.0, 4.0),
    ]
    assert (report.outcome, report.target, report.title) == ("done", 2, "Mine")


def test_tasks_on_one_host_for_several_vms() -> None:
    """A playbook of somebody else, that names the VMs in its tasks."""
    watch = Watch("now", 0.0, False)
    watch.play("all", "Mine", [], {"localhost": Place("localhost", "")}, batch=["localhost"])
    for name, start in (("a", 1.0), ("b", 5.0)):
        task = Task(RESTORE, "Restore", vm=name)
        watch.begin("localhost", task, start)
        result = {"changed": True, "vm": {"template_version": 2}, "previous": {"template_version": 1}, "phases": {}}
        watch.end("localhost", task, SUCCEEDED, result, start + 3)
    assert [(found.name, found.result) for found in watch.report(9.0, DONE).vms] == [("a", "moved"), ("b", "moved")]


def test_vms_of_one_name_on_two_hypervisors_are_told_apart() -> None:
    watch = Watch("now", 0.0, False)
    watch.play("p", "P", [], {"a.hv1": Place("a", "qemu+ssh://hv1"), "a.hv2": Place("a", "qemu+ssh://hv2")}, batch=[])
    for uri in ("qemu+ssh://hv1", "qemu+ssh://hv2"):
        watch.item("a.hv1", Task(VMS, "Look", loop=True, uri=uri), SUCCEEDED, {"vms": [vm("a", 1)]}, 1.0)
    assert {found.name for found in watch.report(1.0).vms} == {"a.hv1", "a.hv2"}


def test_other_runs_are_none_of_its_business() -> None:
    watch = Watch("now", 0.0, False)
    watch.play("p", "P", [], {"web": Place("web", "")}, batch=["web"])
    task = Task(OTHER, "Anything")
    watch.begin("web", task, 1.0)
    watch.end("web", task, FAILED_TASK, {"msg": "no"}, 2.0)
    watch.item("web", Task(VERSIONS, "Look", loop=True), SUCCEEDED, {"template_versions": [{"version": 1}]}, 3.0)
    assert not watch.is_rollout


def test_a_skipped_restore_is_none() -> None:
    run = Run(count=1)
    run.watch.begin("desk-1", REPLACE, 110.0)
    run.watch.end("desk-1", REPLACE, SKIPPED, {}, 110.1)
    assert run.results()["desk-1"] == "not_reached"


@pytest.mark.parametrize(
    ("serial", "hosts", "count"),
    [([], 5, 1), ([1], 5, 5), (["2"], 5, 3), (["25%"], 8, 4), (["1", "50%"], 5, 3), (["1", "100%"], 8, 2), ([], 0, 0),
     (["10%"], 5, 5), (["0"], 5, 1)],
)  # fmt: skip
def test_batches_are_counted_as_ansible_makes_them(serial: list[Any], hosts: int, count: int) -> None:
    assert batch_count(serial, hosts) == count


def test_the_time_left_follows_the_pace() -> None:
    run = Run(count=4, batch=2)
    assert run.watch.time_left(109.0) is None
    run.restore("desk-1", 110.0, 120.0)
    run.watch.begin("desk-2", REPLACE, 110.0)
    left = run.watch.time_left(120.0)
    # two are waiting and one is nearly there; with two at a time, two took ten seconds
    assert left == pytest.approx(10.5, abs=0.5)
    run.restore("desk-2", 110.0, 120.0)
    assert run.watch.time_left(120.0) == pytest.approx(10.0)


def test_live_lines() -> None:
    run = Run()
    run.restore("desk-1", 110.0, 120.0)
    run.watch.begin("desk-2", REPLACE, 121.0)
    lines = run.live(125.0)
    assert [" ".join(line.split()) for line in lines[1:4]] == [
        "✓ desk-1 1 → 2 moved 10 s down 7.5 s",
        "● desk-2 1 → 2 ≈verify 4 s",
        "○ desk-3 1 → 2 waiting",
    ]
    assert "1/3" in lines[-1]
    assert "about" in lines[-1]


def test_live_lines_show_the_phase_that_a_task_tells() -> None:
    run = Run()
    run.restore("desk-1", 110.0, 120.0)
    run.watch.phase_begins("desk-2", REPLACE, "prepare", 121.2)  # over its own pipe, it may be the first to be heard
    run.watch.begin("desk-2", REPLACE, 121.5)
    run.watch.phase_begins("desk-2", REPLACE, "stop", 122.0)
    assert " ".join(run.live(125.0)[2].split()) == "● desk-2 1 → 2 stop 3 s"
    run.restore("desk-2", 121.5, 130.0)
    assert run.watch.phase("desk-2", 131.0) is None
    run.watch.begin("desk-2", REPLACE, 132.0)
    assert run.watch.phase("desk-2", 133.0) == ("back", 1.0), "what was told before is forgotten"


def test_live_lines_before_anything_is_known() -> None:
    run = Run()
    run.watch.begin("desk-1", REPLACE, 110.0)
    assert "restore" in run.live(113.0)[1]
    assert "0/3" in run.live(113.0)[-1]


@pytest.mark.parametrize("width", [10, 40, 80, 200])
@pytest.mark.parametrize("height", [5, 8, 30])
def test_live_lines_fit_into_any_terminal(width: int, height: int) -> None:
    run = Run(count=20, batch=20)
    for number in range(1, 10):
        run.restore(f"desk-{number}", 110.0, 120.0 + number)
    run.watch.begin("desk-15", REPLACE, 121.0)
    run.restore("desk-16", 110.0, 111.0, FAILED_TASK, msg="it\n\033[2Jsays " + "no " * 100)
    lines = run.live(130.0, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "\n" not in "".join(lines)
    assert "\033" not in "".join(lines)
    if width >= 40:
        assert any("desk-15" in line for line in lines), "the one that is worked on is always shown"


def test_plain_lines_and_the_table() -> None:
    run = Run()
    run.restore("desk-1", 110.0, 120.0)
    report = run.watch.report(120.0)
    assert rollout_lines.plain_begin(run.watch) == "rollout: batch 1 of 3: desk-1"
    assert rollout_lines.plain_end(run.watch, run.of("desk-1"), report, 120.0) == (
        "rollout: desk-1 moved 1 -> 2 in 10 s, down 7.5 s (1 of 3, about 20 s left)"
    )
    run.restore("desk-2", 121.0, 122.0, FAILED_TASK, msg="no\033[31m way", phases={})
    lines = rollout_lines.table(run.report())
    assert [result for result, _line in lines] == ["moved", "failed", "not_reached", "left_alone", ""]
    assert "no�[31m way" in lines[1][1]
    assert lines[-1][1] == "1 failed, 1 moved, 1 not reached, 1 left alone, 1 up to date in 50 s"


def recorded() -> Watch:
    """Return what was watched in a real run: hooks, batches of two, one VM taken, one that is not verified."""
    events = json.loads((Path(__file__).parent / "data" / "rollout_events.json").read_text())
    watch = Watch("2026-11-20T14:35:00Z", 0.0, False)
    for name, arguments, options in events:
        found = [_value(value) for value in arguments]
        getattr(watch, name)(*found, **options)
    return watch


def _value(value: Any) -> Any:
    """Return a value of a recorded event as it was: tasks and places are mappings in the record."""
    if isinstance(value, dict) and "kind" in value:
        return Task(**value)
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(one, dict) and set(one) == {"vm", "uri"} for one in value.values())
    ):
        return {host: Place(**place) for host, place in value.items()}
    return value


def test_a_recorded_run() -> None:
    report = recorded().report(100.0, DONE)
    assert (report.outcome, report.title, report.vm_pool, report.template, report.target, report.batch_count) == (
        "with_failures", "Roll out", "desk", "web", 2, 3,
    )  # fmt: skip
    assert {found.name: (found.result, found.batch, found.version) for found in report.vms} == {
        "desk-1": ("moved", 1, 2), "desk-2": ("moved", 2, 2), "desk-4": ("moved", 2, 2), "desk-5": ("moved", 3, 2),
        "desk-6": ("failed", 3, 1), "desk-3": ("left_alone", None, 1),
    }  # fmt: skip
    ways = {found.name: [part.phase for part in found.segments] for found in report.vms}
    assert [phase for phase in ways["desk-1"] if phase != "switch"][:4] == ["drain", "prepare", "stop", "boot"]
    assert ways["desk-6"][-1] == "back"
    failed = next(found for found in report.vms if found.result == "failed")
    assert (failed.reason, failed.rolled_back, failed.downtime) == ("the guest <b>says</b> no", True, 0.0)
    for found in report.vms:
        ends = [part.start + part.seconds for part in found.segments]
        starts = [part.start for part in found.segments]
        assert all(end <= start + 0.01 for end, start in zip(ends, starts[1:])), "phases do not overlap"
    assert [(version.number, version.name, len(version.now)) for version in report.versions] == [
        (2, "2026-11", 4), (1, "2026-10", 2),
    ]  # fmt: skip


def test_the_plan_tells_who_does_not_move_and_why() -> None:
    watch = Watch("2026-11-20T09:30:00Z", 100.0, False)
    places = {host: Place(host, URI) for host in ("desk-1", "desk-2", "desk-3", "desk-4")}
    watch.play("plan", "Plan", [], places, batch=[])

    def turn(name: str, action: str, reason: str = "") -> dict[str, Any]:
        return {"name": name, "from_version": 1, "to_version": 2, "action": action, "reason": reason}

    turns = [
        turn("desk-1", "move"),
        turn("desk-2", "later", "after the checkpoint at 25 %"),
        turn("desk-3", "left_alone", "taken by alice"),
        {**turn("desk-4", "up_to_date"), "from_version": 2},
    ]
    plan = {"rollout_plan": {"template": "web", "vms": turns}}
    watch.end("desk-1", Task(PLAN, "Make the plan", once=True), SUCCEEDED, plan, 101.0)
    stats = {"ansible_stats": {"data": {"golden_rollout": {"vm_pool": "desk", "template_version": 2}}}}
    watch.end("desk-1", Task(STATS, "Record", once=True), SUCCEEDED, stats, 102.0)
    watch.play("roll", "Roll out", [1], {"desk-1": places["desk-1"]}, batch=["desk-1"])
    watch.begin("desk-1", REPLACE, 103.0)
    done = {"changed": True, "vm": {"name": "desk-1", "template_version": 2}, "phases": PHASES, "downtime": 7.5}
    watch.end("desk-1", REPLACE, SUCCEEDED, done, 113.0)
    # the end of the rollout fails for one host in the name of all: that host is well
    watch.end("desk-1", Task(FAIL, "Fail when a VM has failed", once=True), FAILED_TASK, {"msg": "desk-9"}, 114.0)
    report = watch.report(120.0, DONE)
    assert {vm.name: (vm.result, vm.reason, vm.from_version) for vm in report.vms} == {
        "desk-1": ("moved", "", 1),
        "desk-2": ("not_reached", "after the checkpoint at 25 %", 1),
        "desk-3": ("left_alone", "taken by alice", 1),
        "desk-4": ("up_to_date", "it is there already", 2),
    }
    assert report.template == "web"
