"""The report of a rollout: its JSON, and its page as a parser of HTML sees it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.names import natural
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout import rollout_style
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.html_elements import document, element
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_html import page
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_report import (
    RESULTS,
    Report,
    VmReport,
    outcome_text,
    slug,
    span,
    to_json,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.text import one_line, readable

from support.rollouts import MARKUP, hostile, sample


class Page(HTMLParser):
    """The elements and the text of a page."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize(
    "report", [sample(), hostile(), Report("", "done", "", 0.0, ())], ids=["usual", "evil", "empty"]
)
def test_a_page_has_nothing_that_runs_and_nothing_from_elsewhere(report: Report) -> None:
    found = Page(page(report))
    assert found.open == []
    assert not [
        tag for tag, _ in found.elements if tag in ("script", "img", "iframe", "object", "link", "base", "form")
    ]
    names = {name for _, attributes in found.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src", "srcset", "action")]
    assert all(attributes["href"].startswith("#") for attributes in found.all("a"))
    style = "".join(found.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    found = Page(page(hostile()))
    said = {tag: "".join(texts) for tag, texts in found.texts.items()}
    for tag in ("title", "h1", "h3", "pre", "p", "th", "small", "li", "span"):
        assert MARKUP in said[tag], tag
    assert "\0" not in page(hostile())
    assert "\x1b" not in page(hostile())
    assert "\u202e" not in page(hostile())


def test_the_page_tells_what_happened() -> None:
    found = Page(page(sample()))
    text = " ".join(word for texts in found.texts.values() for word in texts)
    for said in (
        "desk to version 4",
        "Stopped",
        "no answer in 30 s",
        "PANIC",
        "taken by alice",
        "Not reached",
        "revoked",
    ):
        assert said in text
    rows = [attributes for attributes in found.all("th") if attributes.get("scope") == "row"]
    assert len(rows) == len(sample().vms)


def test_the_page_can_be_used_without_eyes_and_without_a_mouse() -> None:
    found = Page(page(sample()))
    tags = [tag for tag, _ in found.elements]
    for once in ("main", "header", "footer", "h1", "title", "caption"):
        assert tags.count(once) == 1 or once == "title", once
    assert found.all("html") == [{"lang": "en"}]
    identities = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", "report") in identities
        assert attributes.get("href", "#report")[1:] in identities
    for drawing in found.all("svg"):
        assert drawing.get("role") == "img" or drawing.get("aria-hidden") == "true" or drawing.get("class") == "end"
    for attributes in found.all("div") + found.all("pre"):
        if attributes.get("role") == "region":
            assert (attributes["tabindex"], bool(attributes["aria-label"])) == ("0", True)
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_a_console_is_shown_only_where_there_is_one() -> None:
    assert page(sample()).count("<pre") == 1
    lost = replace(sample(), vms=(), lost="it did not come up", lost_console="<b>panic</b>")
    assert page(lost).count("<pre") == 1
    assert "&lt;b&gt;panic&lt;/b&gt;</pre>" in page(lost)
    assert (to_json(lost)["error"], to_json(lost)["error_console"]) == ("it did not come up", "<b>panic</b>")
    assert to_json(sample())["vms"][3]["console"].endswith("PANIC")


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [rollout_style.LIGHT, rollout_style.DARK], ids=["light", "dark"])
def test_the_contrast_is_that_of_wcag_aa(colours: dict[str, str]) -> None:
    texts = [(ink, paper) for ink in ("text", "muted") for paper in ("page", "card", "sunk")]
    texts += [("accent", "card"), ("bad", "card"), *((kind, f"{kind}-soft") for kind in ("good", "bad", "warn"))]
    shapes = [(phase, "card") for phase in ("drain", "prepare", "stop", "switch", "boot", "verify", "settle", "back")]
    for ink, paper in texts:
        assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for ink, paper in [*shapes, ("undrain", "card"), ("accent", "sunk")]:
        assert _contrast(colours[ink], colours[paper]) >= 3, (ink, paper)


def test_both_schemes_have_the_same_colours() -> None:
    assert list(rollout_style.LIGHT) == list(rollout_style.DARK)
    used = set(re.findall(r"var\(--([a-z-]+)\)", rollout_style.STYLE))
    assert used == set(rollout_style.LIGHT)


def test_json_has_the_documented_format() -> None:
    found = json.loads(json.dumps(to_json(sample())))
    assert found["format"] == "golden.libvirt/rollout-report/1"
    assert (found["outcome"], found["vm_pool"], found["template_version"]) == ("stopped", "desk", 4)
    assert found["summary"] == {
        "vms": 7, "failed": 1, "interrupted": 0, "moving": 0, "moved": 3, "would_move": 0, "taken_back": 0,
        "not_reached": 1, "left_alone": 1, "up_to_date": 1, "downtime_median": 8.0, "downtime_longest": 9.2,
    }  # fmt: skip
    broken = next(vm for vm in found["vms"] if vm["result"] == "failed")
    assert (broken["name"], broken["rolled_back"], broken["version"]) == ("desk-4", True, 3)
    assert [part["phase"] for part in broken["phases"]] == [
        "drain", "prepare", "stop", "switch", "boot", "verify", "back",
    ]  # fmt: skip
    assert found["template_versions"][0]["vms"] == ["desk-1", "desk-2", "desk-3", "desk-7"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3599.7, "1 h"),
        (7900, "2 h 12 min"),
    ],
)
def test_lengths_of_time_are_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_names_sort_as_people_count() -> None:
    assert sorted(["desk-10", "desk-2", "desk", "10", "9", "a²"], key=natural) == [
        "9",
        "10",
        "a²",
        "desk",
        "desk-2",
        "desk-10",
    ]


def test_file_names_are_plain() -> None:
    assert slug("Roll out, ../../etc: Büro №5") == "roll-out-etc-b-ro-5"
    assert len(slug("x" * 500)) == 80


@pytest.mark.parametrize("result", RESULTS)
def test_every_result_has_words(result: str) -> None:
    assert outcome_text(VmReport("a", result))


def test_texts_of_others_do_nothing() -> None:
    assert readable("a\r\nb\tc\x07\x9b\u2028\u202e\ud800") == "a\nb\tc�����"
    assert one_line(" a\n\x1b[2Jb ") == "a �[2Jb"


def test_a_document_takes_texts_as_texts() -> None:
    found = Page(document("<t>", "a{b:c}", element("body", "x & <y>", class_='"><script>')))
    assert (found.texts["title"], found.texts["body"], found.texts["style"]) == (["<t>"], ["x & <y>"], ["a{b:c}"])
    assert found.all("body") == [{"class": '"><script>'}]
