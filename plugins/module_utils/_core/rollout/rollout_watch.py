"""Watching a rollout: from what happens in a run of Ansible to the report at any moment.

Times are seconds of a clock that only goes forward; the watcher has none of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..names import natural
from .rollout_report import (
    BACK,
    DONE,
    FAILED,
    INTERRUPTED,
    LEFT_ALONE,
    MOVING,
    NOT_REACHED,
    STOPPED,
    UNDER_WAY,
    UP_TO_DATE,
    WITH_FAILURES,
    Report,
    Version,
    VmReport,
    in_order,
)
from .rollout_vm import Restore, Result, Track, likely_phase, mapping, message, number

RESTORE, PLAN, VMS, VERSIONS = "restore", "plan", "vms", "versions"
STATS, FAIL, OTHER = "stats", "fail", "other"
"""What a task is to us: it restores a VM, tells the plan, the VMs, the versions, the artifact, or says what failed."""
SUCCEEDED, FAILED_TASK, SKIPPED = "ok", "failed", "skipped"
"""How a task ends for a host."""
THERE = "it is there already"


@dataclass(frozen=True)
class Task:
    """A task of Ansible: ``hook`` is the phase whose hook it belongs to, or empty; ``loop`` whether it has one,
    ``once`` whether it is run for one host in the name of all.

    ``vm`` and ``uri`` are what it is asked for, as far as that is known; of a loop that is so for each item.
    """

    kind: str
    name: str
    hook: str = ""
    loop: bool = False
    once: bool = False
    vm: str = ""
    uri: str = ""


@dataclass(frozen=True)
class Place:
    """Which VM a host of the inventory is."""

    vm: str
    uri: str


@dataclass
class _Play:
    """The play that runs; ``batch`` and ``batches`` count those of the rollout's plays before it too."""

    key: str = ""
    name: str = ""
    hosts: Sequence[str] = ()
    batch_hosts: Sequence[str] = ()
    before: int = 0
    batches: int = 0
    batch: int = 0
    is_rollout: bool = False


class Watch:
    """A rollout as it goes on."""

    def __init__(self, began: str, now: float, dry_run: bool) -> None:
        self._began = began
        self._zero = now
        self._dry_run = dry_run
        self._playbook = ""
        self._title = ""
        self._play = _Play()
        self._item_since = now
        self._hosts: dict[tuple[str, str], str] = {}
        self._vm_of: dict[str, str] = {}
        self._known: dict[str, Result] = {}
        self._versions: dict[int, Result] = {}
        self._stats: Result = {}
        self._planned: dict[str, None] = {}
        self._tracks: dict[str, Track] = {}
        self._phases: dict[str, tuple[str, float]] = {}
        self._lost = self._lost_console = ""

    # --- what happens ----------------------------------------------------------------------------------------------

    def playbook(self, name: str) -> None:
        """Note the name of the playbook."""
        self._playbook = name

    def play(
        self, key: str, name: str, serial: Sequence[object], places: Mapping[str, Place], *, batch: Sequence[str]
    ) -> None:
        """Note that a batch of a play begins; ``key`` and ``places`` are those of the whole play."""
        self._hosts.update({(place.uri, place.vm): host for host, place in places.items()})
        self._vm_of.update({host: place.vm for host, place in places.items()})
        if key != self._play.key:
            before = self._play.batch if self._play.is_rollout else self._play.before
            batches = before + batch_count(serial, len(places))
            self._play = _Play(key, name, tuple(places), (), before, batches, before)
        self._play.batch += 1
        self._play.batch_hosts = batch

    def begin(self, host: str, task: Task, now: float) -> None:
        """Note that a task begins for a host."""
        if task.kind != RESTORE and not task.hook:
            return
        self._title = self._title or self._play.name
        self._play.is_rollout = True
        if task.kind == RESTORE and task.loop:
            self._item_since = now
            return
        label = self._label(host, task)
        self._planned.update(dict.fromkeys(self._play.hosts if label == host else [label]))
        track = self._track(label)
        if task.hook:
            track.begin_hook(task.hook, now)
        else:
            track.begin_restore(now)

    def phase_begins(self, host: str, task: Task, phase: str, now: float) -> None:
        """Note what a task that restores a VM tells while it runs: that a phase begins."""
        self._phases[self._label(host, task)] = (phase, now)

    def item(self, host: str, task: Task, how: str, result: Result, now: float) -> None:
        """Note that a task in a loop ends for one item."""
        if task.kind == RESTORE and how != SKIPPED:
            label = self._label(host, task)
            self._planned[label] = None
            track = self._track(label)
            track.begin_restore(self._item_since)
            self._restored(track, task, how, result, now)
            self._item_since = now
        elif how == SUCCEEDED:
            self._learn(task, result)

    def end(self, host: str, task: Task, how: str, result: Result, now: float) -> None:
        """Note that a task ends for a host; of a loop, each item was told before."""
        if task.loop and task.kind in (RESTORE, VMS, VERSIONS):
            return
        track = None if task.once else self._tracks.get(self._label(host, task))
        if track is not None and task.kind == RESTORE:
            self._restored(track, task, how, result, now)
            return
        if how == SUCCEEDED:
            self._learn(task, result)
        if track is None:
            if how == FAILED_TASK:
                self._lost = self._lost or message(result)
                self._lost_console = self._lost_console or str(result.get("console") or "")
            return
        if how == FAILED_TASK:
            track.fail(message(result), task.name, closing=task.kind == FAIL)
        elif how == SUCCEEDED and task.hook:
            track.ended_badly = False  # the hook has rescued it
        if task.hook:
            track.end_hook(now)

    def _restored(self, track: Track, task: Task, how: str, result: Result, now: float) -> None:
        self._phases.pop(track.name, None)
        if how == SKIPPED or track.restoring is None:
            track.skip_restore()
            return
        done = Restore.read(result, track.restoring, now)
        if how == FAILED_TASK:
            track.restore_went_wrong(done, task.name, self._target())
        else:
            track.restored(done)
            track.ended_badly = False

    def _learn(self, task: Task, result: Result) -> None:
        """Take over what a task tells of VMs, versions or the rollout as a whole."""
        if task.kind == PLAN:
            plan = mapping(result.get("rollout_plan"))
            for vm in plan.get("vms") or ():
                about = {"template": plan.get("template"), "template_version": vm.get("from_version")}
                self._known[str(vm.get("name"))] = {**about, "why_not": vm.get("reason"), "turn": vm.get("action")}
            self._learn_versions(plan.get("versions"))
        elif task.kind == VMS:
            for vm in result.get("vms") or ():
                name = str(vm.get("name"))
                self._known.setdefault(self._hosts.get((task.uri, name), name), vm)
        elif task.kind == VERSIONS:
            self._learn_versions(result.get("template_versions"))
        elif task.kind == STATS:
            data = mapping(mapping(result.get("ansible_stats")).get("data"))
            self._stats = mapping(data.get("golden_rollout")) or self._stats

    def _learn_versions(self, versions: Iterable[Result] | None) -> None:
        self._versions.update({number(version.get("version")) or 0: version for version in versions or ()})

    def _label(self, host: str, task: Task) -> str:
        """Return the name of the VM that a task is about: that of the host, unless it is asked for another VM."""
        if not task.vm or task.vm == self._vm_of.get(host):
            return host
        return self._hosts.get((task.uri, task.vm), task.vm)

    def _track(self, label: str) -> Track:
        track = self._tracks.setdefault(label, Track(label))
        track.batch = self._play.batch
        return track

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def is_rollout(self) -> bool:
        """Whether this run has anything to do with a rollout."""
        return bool(self._tracks or self._stats)

    @property
    def batch(self) -> tuple[int, int]:
        """The number of the batch, and how many there are."""
        return self._play.batch, self._play.batches

    @property
    def batch_hosts(self) -> Sequence[str]:
        """The hosts of the batch."""
        return self._play.batch_hosts

    def phase(self, name: str, now: float) -> tuple[str, float] | None:
        """Return the phase that a VM is in, and for how many seconds; None when no task runs for it.

        A restore that is a process of its own tells nothing before it ends. What is said then, after ``≈``, is the
        phase that the VMs before it were in at that time.
        """
        track = self._tracks.get(name)
        if track is None or not track.busy:
            return None
        if track.restoring is None:
            return (track.hook.phase, now - track.hook.start) if track.hook is not None else None
        if name in self._phases:
            phase, since = self._phases[name]
            return phase, now - since
        seconds = now - track.restoring
        if track.moved:
            return BACK, seconds
        likely = likely_phase((other for other in self._tracks.values() if not other.busy), seconds)
        return f"≈{likely}" if likely else "restore", seconds

    def time_left(self, now: float) -> float | None:
        """Return the seconds that the VMs that are left will take at the pace so far; None when none is done yet."""
        report = self.report(now)
        begun = [vm.start for vm in report.vms if vm.start is not None]
        moving = [now - self._zero - vm.start for vm in report.with_result(MOVING) if vm.start is not None]
        times = [vm.seconds for vm in report.vms if vm.seconds and vm.result != MOVING]
        if not times:
            return None
        usual = sum(times) / len(times)
        under_way = sum(min(0.95, seconds / usual) for seconds in moving)
        pace = (len(times) + under_way) / max(now - self._zero - min(begun), 0.001)
        return (len(report.with_result(NOT_REACHED)) + len(moving) - under_way) / pace

    def report(self, now: float, outcome: str = UNDER_WAY) -> Report:
        """Return the report at this moment."""
        target = self._target()
        names = dict.fromkeys([*self._tracks, *self._planned, *self._known])
        vms = in_order(self._vm_report(name, target, outcome) for name in names)
        if outcome == DONE:
            results = {vm.result for vm in vms}
            early = results & {NOT_REACHED, INTERRUPTED} or (self._lost and not self._tracks)
            outcome = STOPPED if early else WITH_FAILURES if FAILED in results else DONE
        told = [*self._known.values(), *self._versions.values()]
        return Report(
            title=self._title,
            playbook=self._playbook,
            outcome=outcome,
            began=self._began,
            seconds=now - self._zero,
            vms=vms,
            versions=self._family(vms, target),
            vm_pool=str(self._stats.get("vm_pool") or ""),
            template=next((str(found["template"]) for found in told if found.get("template")), ""),
            target=target,
            going_back=self._stats.get("state") == "rolled_back",
            dry_run=self._dry_run,
            batch_count=max((vm.batch or 0 for vm in vms), default=0),
            lost="" if self._tracks else self._lost,
            lost_console="" if self._tracks else self._lost_console,
        )

    def _vm_report(self, name: str, target: int | None, outcome: str) -> VmReport:
        track, known = self._tracks.get(name, Track(name)), self._known.get(name, {})
        if track.start is None:
            result, reason = self._why_not(name, known, target)
        else:
            result = track.result(outcome, self._dry_run)
            reason = track.trouble[0] if result == FAILED else THERE if result == UP_TO_DATE else ""
        wanted = target if result not in (LEFT_ALONE, UP_TO_DATE) else None
        before = number(known.get("template_version"))
        return track.report(result, reason, outcome, zero=self._zero, known=before, target=wanted)

    def _why_not(self, name: str, known: Result, target: int | None) -> tuple[str, str]:
        """Return why nothing was done to a VM."""
        lease = mapping(known.get("lease"))
        if known.get("turn") in ("left_alone", "up_to_date"):
            return (LEFT_ALONE if known["turn"] == "left_alone" else UP_TO_DATE), str(known.get("why_not") or THERE)
        if name in self._planned or name in (self._stats.get("remaining") or ()):
            return NOT_REACHED, ""
        if known and number(known.get("template_version")) == target and not known.get("unfinished"):
            return UP_TO_DATE, THERE
        if lease:
            return LEFT_ALONE, f"taken by {lease.get('user')} since {lease.get('since')}"
        if known.get("turn"):
            return NOT_REACHED, str(known.get("why_not") or "")
        return LEFT_ALONE, "it is not among the hosts of this run"

    def _target(self) -> int | None:
        """Return the version that VMs are moved to, when it is one for all."""
        told = number(self._stats.get("template_version"))
        reached = {track.to_version for track in self._tracks.values() if track.to_version is not None}
        wanted = {number(vm.get("wanted_version")) for vm in self._known.values()}
        going_back = self._stats.get("state") == "rolled_back"
        if told is not None and not going_back:
            return told
        one = reached or (wanted if not going_back else set())
        return next(iter(one)) if len(one) == 1 else None

    def _family(self, vms: Iterable[VmReport], target: int | None) -> tuple[Version, ...]:
        """Return the versions of the template, the newest first, with the VMs of this run that are and were on each."""
        ordered = sorted(vms, key=lambda vm: natural(vm.name))
        numbers = {*self._versions, *(vm.version for vm in ordered), *(vm.from_version for vm in ordered), target}
        return tuple(
            Version(
                number=number,
                name=str(self._versions.get(number, {}).get("version_name") or ""),
                lifecycle=str(self._versions.get(number, {}).get("lifecycle") or ""),
                created=str(self._versions.get(number, {}).get("created") or ""),
                before=tuple(vm.name for vm in ordered if vm.from_version == number),
                now=tuple(vm.name for vm in ordered if vm.version == number),
            )
            for number in sorted((number for number in numbers if number), reverse=True)
        )


def batch_count(serial: Sequence[object], hosts: int) -> int:
    """Return into how many batches Ansible divides hosts, by the ``serial`` of their play."""
    sizes = [_batch_size(str(size), hosts) for size in serial] or [0]
    count, left = 0, hosts
    while left > 0:
        size = sizes[min(count, len(sizes) - 1)]
        left -= size if size > 0 else left
        count += 1
    return count


def _batch_size(size: str, hosts: int) -> int:
    try:
        return int(float(size[:-1]) / 100 * hosts) or 1 if size.endswith("%") else int(size)
    except ValueError:
        return 0
