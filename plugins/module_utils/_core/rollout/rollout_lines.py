"""What a rollout shows in a terminal: the live lines, the plain lines, and the table at the end."""

from __future__ import annotations

from dataclasses import dataclass

from ..names import natural
from ..text import one_line
from .rollout_report import (
    BROKEN_OFF,
    FAILED,
    INTERRUPTED,
    LEFT_ALONE,
    MOVED,
    MOVING,
    NOT_REACHED,
    TAKEN_BACK,
    UP_TO_DATE,
    WOULD_MOVE,
    Report,
    VmReport,
    outcome_text,
    span,
    versions_text,
)
from .rollout_watch import Watch

GOOD, BAD, ACTIVE, QUIET, STRONG = "32", "31", "36", "90", "1"
"""The colours of a terminal that are used, as the numbers of their escape sequences."""
URGENCY = (MOVING, FAILED, INTERRUPTED, TAKEN_BACK, NOT_REACHED, MOVED, WOULD_MOVE, UP_TO_DATE, LEFT_ALONE)
"""Which VMs are shown when there is no room for all."""


@dataclass(frozen=True)
class Signs:
    """The characters that are drawn with."""

    arrow: str = "→"
    done: str = "━"
    rest: str = "─"
    dot: str = "·"
    likely: str = "≈"
    good: str = "✓"
    bad: str = "✗"
    active: str = "●"
    waiting: str = "○"
    more: str = "…"


FINE = Signs()
ASCII = Signs("->", "=", "-", "-", "~", "+", "x", "*", ".", "...")
"""For terminals that know nothing else."""


def live_lines(watch: Watch, now: float, width: int, height: int, signs: Signs) -> list[str]:
    """Return the lines to be shown at the foot of a terminal: one for each VM, and a progress bar.

    Lines are never wider than ``width`` columns, and there are at most ``height`` of them.
    """
    report = watch.report(now)
    shown = _shown(report, height - 3)
    hidden = _to_do(report) - len(shown)
    names = max((len(one_line(vm.name)) for vm in shown), default=0)
    lines = [_cut([("", signs.rest * width)], width, QUIET)]
    for vm in shown:
        lines.append(_cut(_vm_parts(vm, watch.phase(vm.name, now), min(names, width // 3), signs), width))
    lines.append(_cut([("", f"  {signs.more} and {hidden} more" if hidden else "")], width, QUIET))
    lines.append(_bar(watch, report, now, width, signs))
    return lines


def plain_begin(watch: Watch) -> str:
    """Return the line that says that a batch begins."""
    number, count = watch.batch
    return f"rollout: batch {number} of {count}: {', '.join(one_line(host) for host in watch.batch_hosts)}"


def plain_end(watch: Watch, vm: VmReport, report: Report, now: float) -> str:
    """Return the line that says what became of a VM."""
    parts = [f"rollout: {one_line(vm.name)} {outcome_text(vm)}"]
    if vm.result in (MOVED, WOULD_MOVE):
        parts.append(f" {versions_text(vm, '->')}")
    if vm.seconds:
        parts.append(f" in {span(vm.seconds)}")
    if vm.downtime:
        parts.append(f", down {span(vm.downtime)}")
    if vm.reason:
        parts.append(f": {one_line(vm.reason)}")
    left = watch.time_left(now)
    ahead = f", about {span(left)} left" if left and left >= 0.5 else ""
    return f"{''.join(parts)} ({_done(report)} of {_to_do(report)}{ahead})"


def table(report: Report) -> list[tuple[str, str]]:
    """Return the lines of the table at the end, each with the result that it is about."""
    vms = sorted((vm for vm in report.vms if vm.result != UP_TO_DATE), key=lambda vm: natural(vm.name))
    names = max((len(one_line(vm.name)) for vm in vms), default=0)
    lines = []
    for vm in vms:
        versions = versions_text(vm, "->")
        seconds = span(vm.seconds) if vm.seconds else ""
        down = f"down {span(vm.downtime)}" if vm.downtime else ""
        text = f"{one_line(vm.name):{names}}  {versions:8}  {outcome_text(vm):12}  {seconds:>10}  {down}".rstrip()
        lines.append((vm.result, f"{text}  {one_line(vm.reason)}" if vm.reason else text))
    lines.append(("", summary(report)))
    return lines


def summary(report: Report) -> str:
    """Return what became of the rollout, in one line."""
    words = {result: outcome_text(VmReport("", result)) for result in report.counts}
    said = [f"{count} {words[result]}".partition(";")[0] for result, count in report.counts.items()]
    whole = f"{', '.join(said) or 'no VM'} in {span(report.seconds)}"
    return f"interrupted: {whole}" if report.outcome == BROKEN_OFF else whole


def _to_do(report: Report) -> int:
    return len(report.vms) - len(report.with_result(UP_TO_DATE, LEFT_ALONE))


def _done(report: Report) -> int:
    return _to_do(report) - len(report.with_result(MOVING, NOT_REACHED, INTERRUPTED))


def _shown(report: Report, room: int) -> list[VmReport]:
    """Return the VMs that there is room for, in a steady order."""
    there = [vm for vm in report.vms if vm.result not in (UP_TO_DATE, LEFT_ALONE)]
    # of those that are done, the last are of more interest than the first
    urgent = sorted(there, key=lambda vm: (URGENCY.index(vm.result), -(vm.start or 0.0) if vm.result == MOVED else 0.0))
    chosen = {vm.name for vm in urgent[: max(room, 1)]}
    return [vm for vm in there if vm.name in chosen]


def _vm_parts(vm: VmReport, at: tuple[str, float] | None, names: int, signs: Signs) -> list[tuple[str, str]]:
    """Return the coloured parts of the line of a VM; ``at`` is the phase that it is in."""
    mark, colour = {
        MOVING: (signs.active, ACTIVE),
        FAILED: (signs.bad, BAD),
        TAKEN_BACK: (signs.bad, BAD),
        MOVED: (signs.good, GOOD),
        WOULD_MOVE: (signs.good, GOOD),
    }.get(vm.result, (signs.waiting, QUIET))
    what = "waiting" if vm.result == NOT_REACHED else outcome_text(vm).partition(",")[0]
    what, seconds = (what, vm.seconds) if at is None else (at[0].replace("≈", signs.likely), at[1])
    return [
        (colour, f"  {mark} "),
        (STRONG if vm.result == MOVING else "", f"{one_line(vm.name)[:names]:{names}}"),
        (QUIET, f"  {versions_text(vm, signs.arrow):7}"),
        (colour, f"  {what:11}"),
        ("", f"  {seconds:4.0f} s" if seconds is not None else " " * 8),
        (QUIET, f"  down {span(vm.downtime)}" if vm.downtime else ""),
        (BAD, f"  {one_line(vm.reason)}" if vm.result == FAILED else ""),
    ]


def _bar(watch: Watch, report: Report, now: float, width: int, signs: Signs) -> str:
    number, count = watch.batch
    total, done = _to_do(report), _done(report)
    failed = len(report.with_result(FAILED))
    left = watch.time_left(now)
    words = [f"{done}/{total}", f"batch {number}/{count}"]
    words += [f"{failed} failed"] if failed else []
    words.append(f"{span(report.seconds)}" if left is None else f"about {span(max(left, 0.0))} left")
    text = f"  {f' {signs.dot} '.join(words)}"
    room = max(min(width - len(text) - 2, 60), 0)
    filled = room * done // total if total else room
    parts = [
        ("", "  "),
        (BAD if failed else GOOD, signs.done * filled),
        (QUIET, signs.rest * (room - filled)),
        ("", text),
    ]
    return _cut(parts, width)


def _cut(parts: list[tuple[str, str]], width: int, colour: str = "") -> str:
    """Return coloured parts as one line, cut off at ``width`` columns."""
    line, left = [], width
    for own, text in parts:
        kept = text[:left]
        left -= len(kept)
        code = own or colour
        line.append(f"\033[{code}m{kept}\033[0m" if code and kept else kept)
    return "".join(line)
