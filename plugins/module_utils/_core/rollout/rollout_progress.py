"""How far a rollout is: what has become of its VMs so far, and what follows from that for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidError
from .rollout_plan import LATER, LEFT_ALONE, MOVE
from .rollout_strategy import ROLLED_BACK

ON_FAILURE = (HALT, ROLLBACK, CONTINUE) = ("halt", "rollback", "continue")
"""What follows when more VMs have failed than may."""
TOO_MANY_FAILED, TIME_IS_OVER = "too many VMs failed", "the time is over"


@dataclass(frozen=True)
class Outcome:
    """What has become of one VM: ``error`` is why it failed, ``left`` why it was left alone; empty if it was not."""

    name: str
    tried: bool = False
    changed: bool = False
    error: str = ""
    left: str = ""
    taken_back: bool = False


@dataclass(frozen=True)
class Progress:
    """A rollout at a moment, in seconds since 1970. ``plan`` is what the module ``rollout_plan`` returned."""

    plan: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]
    now: float
    on_failure: str = HALT
    dry_run: bool = False

    @property
    def failed(self) -> dict[str, str]:
        """The VMs that failed, and why."""
        return {outcome.name: outcome.error for outcome in self.outcomes if outcome.error}

    @property
    def moved(self) -> list[str]:
        """The VMs that were moved, or would be, in their order."""
        return [outcome.name for outcome in self._done if outcome.changed and not outcome.taken_back]

    @property
    def taken_back(self) -> list[str]:
        """The VMs that were moved, and put back again."""
        return [outcome.name for outcome in self._done if outcome.taken_back]

    @property
    def _done(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.tried and not outcome.error]

    @property
    def remaining(self) -> list[str]:
        """The VMs that are still to be moved, in this run or in a later one."""
        reached = {outcome.name for outcome in self.outcomes}
        due = [name for name in self._planned(MOVE) if name not in reached]
        return [*due, *self._planned(LATER)]

    @property
    def left_alone(self) -> dict[str, str]:
        """The VMs that were not moved and are not going to be, and why."""
        planned = {vm["name"]: vm["reason"] for vm in self.plan["vms"] if vm["action"] == LEFT_ALONE}
        return {**planned, **{outcome.name: outcome.left for outcome in self.outcomes if outcome.left}}

    def _planned(self, action: str) -> list[str]:
        return [vm["name"] for vm in self.plan["vms"] if vm["action"] == action]

    @property
    def _exceeded(self) -> bool:
        """Whether more have failed than may; those that were unhealthy before are in the budget already."""
        ill = {vm["name"] for vm in self.plan["vms"] if vm["unhealthy"]}
        return len(self.failed.keys() - ill) > self.plan["failures_allowed"]

    @property
    def stopped(self) -> str:
        """Why no further batch is to begin, or nothing."""
        if self._exceeded:
            return TOO_MANY_FAILED
        ends = self.plan["window_ends_epoch"]
        return TIME_IS_OVER if ends is not None and self.now > ends and self.remaining else ""

    @property
    def why_stopped(self) -> str:
        """Why this run ends before all VMs are moved, or nothing."""
        checkpoint = self.plan["checkpoint"]
        return self.stopped or (f"checkpoint at {checkpoint} %" if checkpoint is not None else "")

    @property
    def to_take_back(self) -> list[str]:
        """The VMs that go back onto their previous roots, the newest first."""
        back = self.on_failure == ROLLBACK and self._exceeded and self.plan["state"] != ROLLED_BACK
        return self.moved[::-1] if back else []


def tell_progress(
    plan: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]], now: float, on_failure: str, dry_run: bool
) -> dict[str, Any]:
    """Return what the playbook goes by, and what it tells; see the filter ``rollout_progress``."""
    if on_failure not in ON_FAILURE:
        raise InvalidError(f"on_failure is {on_failure!r}, and must be one of {', '.join(ON_FAILURE)}")
    try:
        found = tuple(Outcome(**{**outcome, "name": name}) for name, outcome in outcomes.items())
        return _described(Progress(plan, found, now, on_failure, dry_run))
    except (KeyError, TypeError) as error:
        raise InvalidError(
            "this is no plan that golden.libvirt.rollout_plan has returned, or these are no outcomes of its VMs: "
            f"{error!r}"
        ) from error


def _described(progress: Progress) -> dict[str, Any]:
    return {
        "outcomes": {outcome.name: vars(outcome) for outcome in progress.outcomes},
        "stopped": progress.stopped,
        "to_take_back": progress.to_take_back,
        "report": {
            "vm_pool": progress.plan["vm_pool"],
            "state": progress.plan["state"],
            "template_version": progress.plan["template_version"],
            "check_mode": progress.dry_run,
            "moved": progress.moved,
            "failed": progress.failed,
            "taken_back": progress.taken_back,
            "remaining": progress.remaining,
            "left_alone": progress.left_alone,
            "stopped": progress.why_stopped,
        },
        "summary": _summary(progress),
        "failures": "; ".join(f"{name}: {error}" for name, error in progress.failed.items()),
    }


def _summary(progress: Progress) -> str:
    parts = [
        _told("To be moved" if progress.dry_run else "Moved", progress.moved),
        _told("Failed", progress.failed),
        _told("Taken back", progress.taken_back) if progress.taken_back else "",
        _told("Not touched yet", progress.remaining),
        _told("Left alone", progress.left_alone),
        f"Stopped: {progress.why_stopped}." if progress.why_stopped and progress.remaining else "",
    ]
    return " ".join(part for part in parts if part)


def _told(what: str, names: Iterable[str]) -> str:
    return f"{what}: {', '.join(names) or 'none'}."
