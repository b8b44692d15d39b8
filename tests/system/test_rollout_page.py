"""The report of a rollout in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_html import page
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_report import Report

from support.browser import Browser, browser
from support.rollouts import hostile, sample

PHONE, DESKTOP = 360, 1280


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def write(folder: Path, report: Report) -> Path:
    path = folder / "report.html"
    path.write_text(page(report), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("report", [sample(), hostile()], ids=["usual", "evil"])
def test_it_fits_and_nothing_runs(chromium: Browser, tmp_path: Path, report: Report, width: int, scheme: str) -> None:
    path = write(tmp_path, report)
    chromium.open(path, width, scheme=scheme)
    assert chromium.ask("document.documentElement.scrollWidth") == width, "it cannot be scrolled sideways"
    assert chromium.ask("document.title") != "pwned"
    assert chromium.complaints == []
    assert chromium.requests == [path.as_uri()], "it needs no other file"
    assert (
        chromium.ask("getComputedStyle(document.querySelector('main')).color")
        == {
            "light": "rgb(26, 34, 48)",
            "dark": "rgb(231, 236, 243)",
        }[scheme]
    ), "the style sheet is allowed by the page's own policy"


def test_text_does_not_run_out_of_its_box(chromium: Browser, tmp_path: Path) -> None:
    """Nothing but what can be scrolled is wider than where it is in."""
    for report in (sample(), hostile()):
        chromium.open(write(tmp_path, report), PHONE)
        wide = chromium.ask(
            "[...document.querySelectorAll('header *, section > *, section li, section p, section h3')]"
            ".filter(e => e.namespaceURI.endsWith('xhtml') && e.scrollWidth > e.clientWidth + 1 && e.clientWidth"
            " && !e.closest('.scroll, pre, .chart, .skip')).map(e => e.className || e.tagName)"
        )
        assert wide == []


def test_a_phone_shows_the_timeline_as_wide_as_a_desktop(chromium: Browser, tmp_path: Path) -> None:
    path = write(tmp_path, sample())
    for width in (PHONE, DESKTOP):
        chromium.open(path, width)
        share = chromium.ask("document.querySelector('.bar svg').getBoundingClientRect().width / innerWidth")
        assert share > 0.6, width
        bars = chromium.ask("[...document.querySelectorAll('.bar rect')].map(e => e.getBoundingClientRect().width)")
        assert min(bars) > 0


def test_a_screen_reader_finds_its_way(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(write(tmp_path, sample()), DESKTOP)
    roles = chromium.roles()
    found = [role for role, _ in roles]
    for landmark in ("main", "banner", "contentinfo"):
        assert found.count(landmark) == 1, landmark
    assert ("heading", "desk to version 4") in roles
    regions = [name for role, name in roles if role == "region"]
    assert {"What went wrong", "Timeline", "Versions of web", "VMs", "Console of desk-4"} <= set(regions)
    assert ("table", "What became of each VM; times in seconds") in roles
    assert found.count("rowheader") == len(sample().vms)
    assert "columnheader" in found
    pictures = [name for role, name in roles if role == "image"]
    assert "desk-4: failed, and as it was before" in pictures
    assert all(pictures), "every picture has a name"


def test_the_keyboard_reaches_everything(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(write(tmp_path, sample()), DESKTOP)
    reached = []
    for _ in range(6):
        chromium.press("Tab")
        reached.append(chromium.ask("document.activeElement.className || document.activeElement.tagName"))
        outline = chromium.ask("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or reached[-1] == "BODY"
    assert reached[:5] == ["skip", "SUMMARY", "mono", "scroll", "A"]
