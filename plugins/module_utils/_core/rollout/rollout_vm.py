"""One VM in a rollout that goes on: what tasks do to it, and what becomes of it.

Times are seconds of a clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .rollout_report import (
    BACK,
    FAILED,
    INTERRUPTED,
    MOVED,
    MOVING,
    PHASES,
    TAKEN_BACK,
    UNDER_WAY,
    UP_TO_DATE,
    VERIFY,
    WOULD_MOVE,
    Segment,
    VmReport,
)

DOWN = ("stop", "switch", "boot", VERIFY)
"""The phases of a restore in which a VM that ran is not up."""

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Restore:
    """One ``vm_restore`` that has ended: what it returned, and when it ran."""

    phases: dict[str, float]
    from_version: int | None
    version: int | None
    changed: bool
    downtime: float
    rolled_back: bool | None
    message: str
    console: str
    start: float
    end: float

    @classmethod
    def read(cls, result: Result, start: float, end: float) -> Restore:
        """Return a restore from what its task has returned."""
        stays = result.get("rolled_back")
        return cls(
            phases={str(name): float(seconds) for name, seconds in mapping(result.get("phases")).items()},
            from_version=number(mapping(result.get("previous")).get("template_version")),
            version=number(mapping(result.get("vm")).get("template_version")),
            changed=bool(result.get("changed")),
            downtime=float(result.get("downtime") or 0.0),
            rolled_back=stays if isinstance(stays, bool) else None,
            message=message(result),
            console=str(result.get("console") or ""),
            start=start,
            end=end,
        )


@dataclass
class Track:
    """What is known of one VM that the run has done something to; ``start`` is None when nothing was begun yet."""

    name: str
    batch: int | None = None
    from_version: int | None = None
    to_version: int | None = None
    version: int | None = None
    start: float | None = None
    end: float | None = None
    restoring: float | None = None
    """Since when a restore runs; None when none does."""
    segments: list[Segment] = field(default_factory=list)
    hook: Segment | None = None
    """The hook that ran last, when no restore has begun since."""
    moved: bool = False
    came_back: bool = False
    unchanged: bool = False
    restore_failed: bool = False
    ended_badly: bool = False
    trouble: tuple[str, str] = ("", "")
    """What went wrong, and in which task."""
    rolled_back: bool | None = None
    downtime: float | None = None
    console: str = ""

    # --- what happens ----------------------------------------------------------------------------------------------

    def begin_hook(self, phase: str, now: float) -> None:
        """Note that a task of a hook begins."""
        self._begin(now)
        if self.hook is None or self.hook.phase != phase:
            self._close_hook()
            self.hook = Segment(phase, now, 0.0)

    def begin_restore(self, now: float) -> None:
        """Note that a restore begins."""
        self._begin(now)
        self._close_hook()
        self.restoring = now

    def end_hook(self, now: float) -> None:
        """Note that a task of a hook ends."""
        self.end = now
        if self.hook is not None:
            self.hook = replace(self.hook, seconds=now - self.hook.start)

    def skip_restore(self) -> None:
        """Note that a restore was skipped."""
        self.restoring = None
        if not self.moved:
            self.start = self.hook = None

    def fail(self, what: str, task: str, closing: bool) -> None:
        """Note that a task failed; ``closing`` for one that only says again that something failed."""
        self.ended_badly = True
        if not (closing and self.trouble[0]):
            self.trouble = (what, task)

    def restored(self, done: Restore) -> None:
        """Note that a restore ended well."""
        self.restoring, self.end = None, done.end
        taken = sum(done.phases.values())
        if self.moved:
            self.moved, self.came_back, self.rolled_back = False, True, True
            self.version = self.from_version if done.version is None else done.version
            self.segments.append(Segment(BACK, done.end - taken, taken, done.downtime > 0))
            self.downtime = (self.downtime or 0.0) + done.downtime
            return
        self.from_version, self.to_version, self.version = done.from_version, done.version, done.version
        self.moved, self.unchanged = done.changed, not done.changed
        self.downtime = done.downtime
        self.segments += laid_out(done.phases, max(done.start, done.end - taken))

    def restore_went_wrong(self, done: Restore, task: str, target: int | None) -> None:
        """Note that a restore failed; ``target`` is where the VM was to go."""
        self.restoring, self.end = None, done.end
        self.restore_failed = self.ended_badly = True
        self.trouble = (done.message, task)
        self.console = done.console or self.console
        # one that failed before its first step says nothing of the way back: there was none to go
        self.rolled_back = not done.phases if done.rolled_back is None else done.rolled_back
        laid = laid_out(done.phases, done.start)
        rest = done.end - sum(done.phases.values()) - done.start
        if self.rolled_back and laid and rest > 0:
            laid.append(Segment(BACK, done.end - rest, rest, "stop" in done.phases))
        self.segments += laid
        self.downtime = round(sum(part.seconds for part in self.segments if part.down), 3)
        if not self.moved:
            self.from_version = done.from_version if self.from_version is None else self.from_version
            self.version = self.from_version if self.rolled_back else target

    def _begin(self, now: float) -> None:
        self.start = now if self.start is None else self.start
        self.end = None

    def _close_hook(self) -> None:
        if self.hook is not None:
            self.segments.append(self.hook)
            self.hook = None

    # --- what is known ---------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a task runs that does something to the VM."""
        return self.start is not None and self.end is None

    def result(self, outcome: str, dry_run: bool) -> str:
        """Return what has become of the VM, which was begun with."""
        if self.restore_failed or self.ended_badly or (self.came_back and self.trouble[0]):
            return FAILED
        done = {self.came_back: TAKEN_BACK, self.moved: WOULD_MOVE if dry_run else MOVED, self.unchanged: UP_TO_DATE}
        if True in done and not self.busy:
            return done[True]
        return MOVING if outcome == UNDER_WAY else INTERRUPTED

    def _is_as_before(self, outcome: str) -> bool | None:
        """Return whether a VM that failed is as it was before; None while that is not decided."""
        if self.rolled_back is None and self.moved and outcome == UNDER_WAY:
            return None
        return not self.moved if self.rolled_back is None else self.rolled_back

    def report(
        self, result: str, reason: str, outcome: str, *, zero: float, known: int | None, target: int | None
    ) -> VmReport:
        """Return the report; ``known`` is the version that it was on, as far as others said so."""
        failed = result == FAILED
        from_version = known if self.from_version is None else self.from_version
        parts = [*self.segments, *([self.hook] if self.hook is not None else [])]
        return VmReport(
            name=self.name,
            result=result,
            from_version=from_version,
            to_version=target if self.to_version is None else self.to_version,
            version=from_version if self.version is None or result == WOULD_MOVE else self.version,
            batch=self.batch,
            start=None if self.start is None else self.start - zero,
            seconds=None if self.start is None or self.end is None else self.end - self.start,
            downtime=self.downtime,
            segments=tuple(replace(part, start=part.start - zero) for part in parts if part.seconds > 0),
            reason=reason,
            task=self.trouble[1] if failed else "",
            rolled_back=self._is_as_before(outcome) if failed else None,
            console=self.console,
        )


def laid_out(phases: Mapping[str, float], start: float) -> list[Segment]:
    """Return the phases of one restore, one after the other."""
    was_running = "stop" in phases or "boot" in phases
    laid = []
    for phase in sorted(phases, key=_place):
        laid.append(Segment(phase, start, phases[phase], was_running and phase in DOWN))
        start += phases[phase]
    return laid


def likely_phase(done: Iterable[Track], seconds: float) -> str:
    """Return in which phase VMs that are done were so many seconds after their restore had begun, on average.

    A VM that takes longer than the others is thought to be verified: that is what has no end of its own.
    """
    ways = [track.segments for track in done if track.moved and track.segments]
    passed, phase = 0.0, ""
    for phase in PHASES[1 : PHASES.index(VERIFY) + 1] if ways else ():
        passed += sum(part.seconds for way in ways for part in way if part.phase == phase) / len(ways)
        if seconds < passed:
            break
    return phase


def _place(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def message(result: Result) -> str:
    """Return what a failed task says."""
    return str(result.get("msg") or "it failed").strip()


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that should be a mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> int | None:
    """Return a value that should be a whole number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None
