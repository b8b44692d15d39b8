"""The report of a rollout as one HTML page that needs no other file."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..names import natural
from .html_elements import add, document, element, percent
from .rollout_chart import chart, kind_of, mark
from .rollout_report import (
    BROKEN_OFF,
    DONE,
    FAILED,
    FORMAT,
    INTERRUPTED,
    LEFT_ALONE,
    MOVED,
    MOVING,
    NOT_REACHED,
    PHASES,
    RESULTS,
    STOPPED,
    TAKEN_BACK,
    UNDER_WAY,
    UP_TO_DATE,
    WITH_FAILURES,
    WOULD_MOVE,
    Report,
    Version,
    VmReport,
    median,
    outcome_text,
    span,
    versions_text,
)
from .rollout_style import STYLE

CHIPS = 40
"""How many names of VMs are shown at a version before the rest is folded."""


def page(report: Report) -> str:
    """Return the report as the text of an HTML file."""
    sections = [_failures(report), _timeline(report), _family(report), _table(report)]
    main = element("main", *(section for section in sections if section is not None), id="report")
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        element("div", _header(report), main, _footer(), class_="wrap"),
    )
    return document(_heading(report), STYLE, body)


# --- the head -------------------------------------------------------------------------------------------------------


def _heading(report: Report) -> str:
    what = report.vm_pool or report.template or report.title or "Rollout"
    if report.going_back:
        return f"{what} back to version {report.target}" if report.target is not None else f"{what} back"
    return f"{what} to version {report.target}" if report.target is not None else what


def _header(report: Report) -> ET.Element:
    kind = "Dry run of a " if report.dry_run else ""
    over = f"{kind}{'rollback' if report.going_back else 'rollout'}".capitalize()
    facts = [f"{report.began[:10]} {report.began[11:16]} UTC", f"took {span(report.seconds)}"]
    facts += [f"template {report.template}"] if report.template else []
    facts += [f"{report.batch_count} batches"] if report.batch_count > 1 else []
    facts += [f"playbook {report.playbook}"] if report.playbook else []
    names = element(
        "div",
        element("p", over, class_="over"),
        element("h1", _heading(report)),
        element("p", *(element("span", fact) for fact in facts), class_="facts"),
    )
    return element("header", element("div", names, _pill(report), class_="top"), _tiles(report))


def _pill(report: Report) -> ET.Element:
    kind, text = {
        DONE: ("good", "Dry run: possible" if report.dry_run else "Done"),
        WITH_FAILURES: ("bad", "Done, with failures"),
        STOPPED: ("bad", "Stopped"),
        BROKEN_OFF: ("warn", "Interrupted"),
        UNDER_WAY: ("warn", "Under way when this was written"),
    }[report.outcome]
    return element("p", mark(kind), text, class_=f"pill {kind}")


def _tiles(report: Report) -> ET.Element:
    vms = len(report.vms)
    moved, result = (WOULD_MOVE, "Would be moved") if report.dry_run else (MOVED, "Moved")
    tiles = [_tile(result, str(len(report.with_result(moved))), f"of {vms} VM{'s' if vms != 1 else ''}")]
    failed = report.with_result(FAILED)
    back = sum(1 for vm in failed if vm.rolled_back)
    tiles.append(_tile("Failed", str(len(failed)), f"{back} back as before" if failed else "", bad=bool(failed)))
    others = {TAKEN_BACK: "Taken back", MOVING: "Being moved", INTERRUPTED: "Interrupted", NOT_REACHED: "Not reached"}
    for result, title in others.items():
        if report.with_result(result):
            tiles.append(_tile(title, str(len(report.with_result(result)))))
    alone, current = len(report.with_result(LEFT_ALONE)), len(report.with_result(UP_TO_DATE))
    if alone or current:
        said = [f"{alone} left alone"] if alone else []
        said += [f"{current} up to date"] if current else []
        tiles.append(_tile("Not touched", str(alone + current), ", ".join(said)))
    if report.downtimes:
        longest = _whole(span(max(report.downtimes)))
        tiles.append(_tile("Downtime of a VM", span(median(report.downtimes)), f"median; longest {longest}"))
    begun = [vm.start for vm in report.vms if vm.start is not None]
    if begun and report.with_result(moved):
        done = len(report.with_result(moved, FAILED, TAKEN_BACK))
        tiles.append(_tile("Pace", span((report.seconds - min(begun)) / done), "for each VM"))
    return element("dl", *tiles, class_="tiles")


def _tile(name: str, value: str, more: str = "", bad: bool = False) -> ET.Element:
    number = element("dd", value, element("small", more) if more else None, class_="num")
    return element("div", element("dt", name), number, class_="tile bad" if bad else "tile")


def _section(identity: str, title: str, *content: ET.Element, lead: str = "") -> ET.Element:
    heading = element("h2", title, id=identity)
    explained = element("p", lead, class_="lead") if lead else None
    return element("section", heading, explained, *content, aria_labelledby=identity)


# --- the sections ---------------------------------------------------------------------------------------------------


def _failures(report: Report) -> ET.Element | None:
    found = [_failure(vm) for vm in report.with_result(FAILED)]
    if report.lost:
        lost = element("article", element("h3", "Before any VM"), element("p", report.lost), class_="failure")
        found.append(add(lost, _console("the VM", report.lost_console)))
    return _section("failures", "What went wrong", *found) if found else None


def _failure(vm: VmReport) -> ET.Element:
    left = "It is as it was before" if vm.rolled_back else "It is left as it is now"
    where = f"{left}, on version {vm.version}." if vm.version is not None else f"{left}."
    article = element(
        "article",
        element("h3", vm.name),
        element("p", vm.reason or "It failed."),
        element("p", f"{where} Task: {vm.task}." if vm.task else where, class_="muted"),
        class_="failure",
        id=f"failure-{vm.name}",
    )
    return add(article, _console(vm.name, vm.console))


def _console(name: str, lines: str) -> ET.Element | None:
    if not lines:
        return None
    text = element("pre", lines, class_="mono", tabindex="0", role="region", aria_label=f"Console of {name}")
    return element("details", element("summary", "The last lines of its console"), text, open="")


def _timeline(report: Report) -> ET.Element | None:
    drawn = chart(report)
    if drawn is None:
        return None
    lead = "From the moment that the first VM was begun with. Thick: the VM is down. Thin: it is up."
    return _section("timeline", "Timeline", drawn, lead=lead)


def _family(report: Report) -> ET.Element | None:
    if not report.versions:
        return None
    total = max(len(report.vms), 1)
    items = [_version(version, report, total) for version in report.versions]
    title = f"Versions of {report.template}" if report.template else "Versions"
    lead = "The VMs of this run by the version that they are on now; the line in each bar is where it was before."
    return _section("versions", title, element("ul", *items, class_="family"), lead=lead)


def _version(version: Version, report: Report, total: int) -> ET.Element:
    tags = []
    if version.number == report.target:
        tags.append(element("span", "going back to" if report.going_back else "target", class_="tag good"))
    if version.lifecycle in ("candidate", "revoked"):
        kind = "bad" if version.lifecycle == "revoked" else "warn"
        tags.append(element("span", version.lifecycle, class_=f"tag {kind}"))
    about = [version.name] if version.name else []
    about += [f"published {version.created[:10]}"] if version.created else []
    names = element(
        "div",
        element("h3", f"Version {version.number}", *tags),
        element("p", *(element("span", text) for text in about), class_="about") if about else None,
    )
    before, now = len(version.before), len(version.now)
    share = element(
        "svg",
        element("title", f"Version {version.number}: {now} of {total} VMs, before {before}"),
        element("rect", width="100%", height=8, rx=4, class_="all"),
        element("rect", width=percent(now / total), height=8, rx=4, class_="now") if now else None,
        element("line", x1=percent(before / total), x2=percent(before / total), y1=-3, y2=11, class_="was"),
        role="img",
        class_="share",
        overflow="visible",
    )
    change = f"{now} VM{'s' if now != 1 else ''}" + (f", before {before}" if before != now else "")
    chips = _chips(version.now)
    return element(
        "li", names, element("div", share, element("p", change, class_="about num"), chips), class_="version"
    )


def _chips(names: tuple[str, ...]) -> ET.Element | None:
    if not names:
        return None
    shown = element("ul", *(element("li", name) for name in names[:CHIPS]), class_="chips")
    if len(names) <= CHIPS:
        return shown
    rest = element("ul", *(element("li", name) for name in names[CHIPS:]), class_="chips")
    folded = element("details", element("summary", f"{len(names) - CHIPS} more"), rest)
    return element("div", shown, folded)


def _table(report: Report) -> ET.Element:
    phases = [phase for phase in PHASES if any(part.phase == phase for vm in report.vms for part in vm.segments)]
    columns = ["VM", "Result", "Version", *(["Batch"] if report.batch_count > 1 else []), *phases, "Down", "Total"]
    cells = [
        element("th", _title(name), scope="col", class_="num" if columns.index(name) > 2 else None) for name in columns
    ]
    head = element("tr", *cells)
    ordered = sorted(report.vms, key=lambda vm: (RESULTS.index(vm.result), natural(vm.name)))
    body = element("tbody", *(_vm_row(vm, report, phases) for vm in ordered))
    table = element(
        "table",
        element("caption", "What became of each VM; times in seconds", class_="sr"),
        element("thead", head),
        body,
    )
    region = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="What became of each VM")
    return _section("vms", "VMs", region, lead="Phases, downtime and total in seconds.")


def _title(column: str) -> str:
    return column[:1].upper() + column[1:]


def _vm_row(vm: VmReport, report: Report, phases: list[str]) -> ET.Element:
    text = outcome_text(vm)
    reason = vm.reason if vm.result != FAILED else ""
    what = element("span", _title(text), element("small", reason) if reason else None)
    if vm.result == FAILED:
        add(what, element("small", element("a", "what went wrong", href=f"#failure-{vm.name}")))
    cells = (_seconds(vm.phase_seconds(phase)) for phase in phases)
    times = [_seconds(vm.downtime if vm.start is not None else None), _seconds(vm.seconds)]
    batch = [str(vm.batch or "")] if report.batch_count > 1 else []
    return element(
        "tr",
        element("th", vm.name, scope="row"),
        element("td", element("div", mark(kind_of(vm)), what, class_="what")),
        element("td", versions_text(vm, "→"), class_="versions"),
        *(element("td", text, class_="num") for text in (*batch, *cells, *times)),
    )


def _whole(text: str) -> str:
    """Return a text that is not broken over two lines."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _footer() -> ET.Element:
    text = (
        f"Written by the callback golden.libvirt.rollout. The same as JSON ({FORMAT}) is in the file beside this one."
    )
    return element("footer", element("p", text))
