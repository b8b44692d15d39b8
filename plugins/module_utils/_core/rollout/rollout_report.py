"""The report of a rollout: what is known of it at one moment, its summary, and its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..names import natural
from ..plan import BACK

FORMAT = "golden.libvirt/rollout-report/1"

MOVED, WOULD_MOVE, TAKEN_BACK, FAILED = "moved", "would_move", "taken_back", "failed"
MOVING, INTERRUPTED, NOT_REACHED = "moving", "interrupted", "not_reached"
LEFT_ALONE, UP_TO_DATE = "left_alone", "up_to_date"
RESULTS = (FAILED, INTERRUPTED, MOVING, MOVED, WOULD_MOVE, TAKEN_BACK, NOT_REACHED, LEFT_ALONE, UP_TO_DATE)
"""What can have become of a VM; what needs attention comes first."""
UNDER_WAY, DONE, WITH_FAILURES = "under_way", "done", "with_failures"
STOPPED, BROKEN_OFF = "stopped", "interrupted"
"""What can have become of the run: it goes on; all is well; all VMs had their turn and some failed; it ended before all
had their turn; it was ended from outside."""

DRAIN, UNDRAIN, VERIFY = "drain", "undrain", "verify"
PHASES = (DRAIN, "prepare", "stop", "switch", "boot", VERIFY, "settle", BACK, UNDRAIN)
"""The parts of a VM's way in their usual order. ``back`` is the way back onto the old root."""


@dataclass(frozen=True)
class Segment:
    """One phase of one VM: ``start`` in seconds since the run began, and whether the VM was down meanwhile."""

    phase: str
    start: float
    seconds: float
    down: bool = False


@dataclass(frozen=True)
class VmReport:
    """What became of one VM; what is not known is None or empty."""

    name: str
    result: str
    from_version: int | None = None
    to_version: int | None = None
    version: int | None = None
    """The version that it is on now."""
    batch: int | None = None
    start: float | None = None
    seconds: float | None = None
    downtime: float | None = None
    segments: tuple[Segment, ...] = ()
    reason: str = ""
    """Why it failed, or why it was left alone."""
    task: str = ""
    """The task that failed."""
    rolled_back: bool | None = None
    """Of a VM that failed: whether it is as it was before."""
    console: str = ""

    def phase_seconds(self, phase: str) -> float | None:
        """Return how long a phase took, all its parts together; None when it did not come to that."""
        parts = [segment.seconds for segment in self.segments if segment.phase == phase]
        return round(sum(parts), 3) if parts else None


@dataclass(frozen=True)
class Version:
    """One version of the template, and the VMs that are on it."""

    number: int
    name: str = ""
    lifecycle: str = ""
    created: str = ""
    before: tuple[str, ...] = ()
    now: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A rollout at one moment: times are seconds since ``began``, which is an ISO 8601 text in UTC."""

    title: str
    outcome: str
    began: str
    seconds: float
    vms: tuple[VmReport, ...]
    versions: tuple[Version, ...] = ()
    playbook: str = ""
    vm_pool: str = ""
    template: str = ""
    target: int | None = None
    going_back: bool = False
    dry_run: bool = False
    batch_count: int = 0
    lost: str = ""
    """The first failure that belongs to no VM, and so ended the run before it began."""
    lost_console: str = ""
    """What a VM of no pool, such as that of a trial boot, wrote on its console."""

    def with_result(self, *results: str) -> tuple[VmReport, ...]:
        """Return the VMs that have one of these results."""
        return tuple(vm for vm in self.vms if vm.result in results)

    @property
    def counts(self) -> dict[str, int]:
        """The number of VMs with each result that there is."""
        counted = {result: len(self.with_result(result)) for result in RESULTS}
        return {result: count for result, count in counted.items() if count}

    @property
    def downtimes(self) -> tuple[float, ...]:
        """The downtimes of the VMs that were moved and ran."""
        return tuple(vm.downtime for vm in self.with_result(MOVED) if vm.downtime)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report in its documented format."""
    downtimes = report.downtimes
    return {
        "format": FORMAT,
        "title": report.title,
        "playbook": report.playbook,
        "outcome": report.outcome,
        "began": report.began,
        "seconds": round(report.seconds, 3),
        "vm_pool": report.vm_pool,
        "template": report.template,
        "template_version": report.target,
        "state": "rolled_back" if report.going_back else "restored",
        "check_mode": report.dry_run,
        "batches": report.batch_count,
        "error": report.lost,
        "error_console": report.lost_console,
        "summary": {
            "vms": len(report.vms),
            **{result: len(report.with_result(result)) for result in RESULTS},
            "downtime_median": round(median(downtimes), 3) if downtimes else None,
            "downtime_longest": max(downtimes) if downtimes else None,
        },
        "template_versions": [_version_json(version) for version in report.versions],
        "vms": [_vm_json(vm) for vm in report.vms],
    }


def _version_json(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "version_name": version.name,
        "lifecycle": version.lifecycle,
        "created": version.created,
        "vms_before": list(version.before),
        "vms": list(version.now),
    }


def _vm_json(vm: VmReport) -> dict[str, Any]:
    return {
        "name": vm.name,
        "result": vm.result,
        "reason": vm.reason,
        "task": vm.task,
        "rolled_back": vm.rolled_back,
        "from_version": vm.from_version,
        "to_version": vm.to_version,
        "version": vm.version,
        "batch": vm.batch,
        "start": _rounded(vm.start),
        "seconds": _rounded(vm.seconds),
        "downtime": _rounded(vm.downtime),
        "phases": [
            {
                "phase": segment.phase,
                "start": round(segment.start, 3),
                "seconds": round(segment.seconds, 3),
                "down": segment.down,
            }
            for segment in vm.segments
        ],
        "console": vm.console,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def median(numbers: Iterable[float]) -> float:
    """Return the middle of some numbers, of which there is at least one."""
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def span(seconds: float) -> str:
    """Return a length of time for people: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = math.ceil(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def versions_text(vm: VmReport, arrow: str) -> str:
    """Return from which version to which a VM goes, as far as that is known."""
    if vm.from_version is None or vm.to_version is None or vm.from_version == vm.to_version:
        known = [version for version in (vm.to_version, vm.from_version) if version is not None]
        return str(known[0]) if known else ""
    return f"{vm.from_version} {arrow} {vm.to_version}"


def outcome_text(vm: VmReport) -> str:
    """Return what became of a VM as a part of a sentence."""
    return {
        MOVED: "moved",
        WOULD_MOVE: "would be moved",
        TAKEN_BACK: "moved, and taken back",
        FAILED: _failure_text(vm),
        MOVING: "being moved",
        INTERRUPTED: "interrupted; the next run goes on with it",
        NOT_REACHED: "not reached",
        LEFT_ALONE: "left alone",
        UP_TO_DATE: "up to date",
    }[vm.result]


def _failure_text(vm: VmReport) -> str:
    if vm.rolled_back is None:
        return "failed"
    return "failed, and as it was before" if vm.rolled_back else "failed, and left as it is now"


def slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    kept = "".join(char if char.isascii() and char.isalnum() else "-" for char in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:80]


def in_order(vms: Iterable[VmReport]) -> tuple[VmReport, ...]:
    """Return the VMs as they went, those that never began behind them by name."""
    return tuple(sorted(vms, key=lambda vm: (vm.start is None, vm.start or 0.0, natural(vm.name))))
