"""The timeline of a rollout as SVG, one small picture for each VM, as wide as there is room."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from .html_elements import element, percent
from .rollout_report import FAILED, INTERRUPTED, PHASES, TAKEN_BACK, Report, Segment, VmReport, outcome_text, span

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
"""Seconds that two ticks of the axis may be apart."""
TICKS = 6
"""No more ticks than have room on a phone."""
MIDDLE, THICK, THIN = 15, 16, 6
"""Where the bar is in its picture, and how thick it is while the VM is down and while it is up."""


def chart(report: Report) -> ET.Element | None:
    """Return the timeline of all VMs that were begun with, or None when there are none."""
    vms = [vm for vm in report.vms if vm.start is not None]
    begin = min((vm.start or 0.0 for vm in vms), default=0.0)
    length = max((_end(vm, report) for vm in vms), default=0.0) - begin
    if length <= 0:
        return None
    rows = element("div", class_="chart")
    batch = None
    several = len({vm.batch for vm in vms}) > 1
    for vm in vms:
        if several and vm.batch != batch:
            batch = vm.batch
            rows.append(element("div", f"Batch {batch}", class_="batch"))
        rows.extend(_row(vm, report, begin, length))
    rows.append(element("div", _axis(length), class_="axis"))
    return element("figure", _legend(vms), rows)


def mark(kind: str) -> ET.Element:
    """Return the small sign of a result: ``good``, ``bad``, ``warn`` or another."""
    path = {"good": "M5.5 9.3l2.4 2.4 4.6-5", "bad": "M6.2 6.2l5.6 5.6M11.8 6.2l-5.6 5.6", "warn": "M9 5v5M9 12.9v.1"}
    line = element("path", d=path.get(kind, "M5.8 9h6.4"))
    circle = element("circle", cx=9, cy=9, r=9)
    return element("svg", circle, line, class_=f"mark {kind}", viewBox="0 0 18 18", aria_hidden="true")


def kind_of(vm: VmReport) -> str:
    """Return which sign a VM has."""
    kinds = {FAILED: "bad", INTERRUPTED: "warn", TAKEN_BACK: "warn", "moved": "good", "would_move": "good"}
    return kinds.get(vm.result, "none")


def _end(vm: VmReport, report: Report) -> float:
    return report.seconds if vm.start is None or vm.seconds is None else vm.start + vm.seconds


def _row(vm: VmReport, report: Report, begin: float, length: float) -> Iterator[ET.Element]:
    start, end = (vm.start or 0.0) - begin, _end(vm, report) - begin
    parts = ", ".join(f"{part.phase} {span(part.seconds)}" for part in vm.segments) or "no phases known"
    down = f"; down {span(vm.downtime)}" if vm.downtime else ""
    picture = element(
        "svg",
        element("title", f"{vm.name}: {outcome_text(vm)}"),
        element("desc", f"Began {span(start)} after the first VM: {parts}{down}."),
        *_grid(length),
        element("line", x1=percent(start / length), x2=percent(end / length), y1=MIDDLE, y2=MIDDLE, class_="track"),
        *(_bar(part, begin, length) for part in vm.segments),
        _cross(end / length) if vm.result == FAILED else None,
        role="img",
    )
    name = element("div", mark(kind_of(vm)), element("span", vm.name), class_="vm")
    yield name
    yield element("div", picture, class_="bar")
    seconds = span(vm.seconds) if vm.seconds is not None else "…"
    yield element("div", seconds, class_="time num")


def _bar(part: Segment, begin: float, length: float) -> ET.Element:
    height = THICK if part.down else THIN
    phase = part.phase if part.phase in PHASES else "settle"
    return element(
        "rect",
        element("title", f"{part.phase} {span(part.seconds)}{', VM down' if part.down else ''}"),
        x=percent((part.start - begin) / length),
        y=MIDDLE - height / 2,
        # so that the shortest phase can be seen
        width=percent(max(part.seconds / length, 0.002)),
        height=height,
        class_=f"p-{phase}",
    )


def _cross(share: float) -> ET.Element:
    return element(
        "svg", element("path", d=f"M4 {MIDDLE - 4}l8 8m0 -8l-8 8", class_="cross"), x=percent(share), class_="end"
    )


def _ticks(length: float) -> Iterator[int]:
    step = next((step for step in STEPS if length / step <= TICKS), STEPS[-1])
    yield from range(0, int(length) + 1, step)


def _grid(length: float) -> Iterator[ET.Element]:
    for tick in _ticks(length):
        x = percent(tick / length)
        yield element("line", x1=x, x2=x, y1=0, y2="100%", class_="grid")


def _axis(length: float) -> ET.Element:
    labels = []
    for tick in _ticks(length):
        share = tick / length
        anchor = "start" if tick == 0 else "end" if share > 0.95 else "middle"
        text = f"{tick} s" if tick < 60 else f"{tick // 60}:{tick % 60:02}"
        labels.append(element("text", text, x=percent(share), y=15, text_anchor=anchor, class_="tick"))
    return element("svg", *labels, aria_hidden="true")


def _legend(vms: list[VmReport]) -> ET.Element:
    used = {part.phase: part.down for vm in vms for part in vm.segments}
    items = []
    for phase in (phase for phase in PHASES if phase in used):
        height = 12 if any(part.down for vm in vms for part in vm.segments if part.phase == phase) else 6
        swatch = element("rect", x=0, y=7 - height / 2, width=14, height=height, class_=f"p-{phase}")
        items.append(element("li", element("svg", swatch, aria_hidden="true"), phase))
    return element("ul", *items, class_="legend", aria_label="Phases")
