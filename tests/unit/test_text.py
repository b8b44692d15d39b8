"""Texts of guests, made safe to be shown."""

from __future__ import annotations

import unicodedata

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.text import terminal_text
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"Linux version 6.1\r\nKernel panic - not syncing\r\n", "Linux version 6.1\nKernel panic - not syncing"),
        (b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[1;31mFAILED\x1b[0m  \r\r\n", "FAILED"),
        (b"\x1b]0;evil title\x07ok \x1b]8;;http://x\x1b\\link", "ok link"),
        (b"\x1b(Bplain\x1b=\x1bc", "plain"),
        (b"\x1bP1$r0m\x1b\\a\x1b]not ended\nb", "a\nb"),
        (b"a\rb\x08\x00\x07c\x7f\td", "a\nbc\td"),
        (b"one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("Grüße \N{SNOWMAN}".encode(), "Grüße \N{SNOWMAN}"),
        (b"half \xe2\x98 \xff", "half \N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"),
        ("x\u202ey\u2028z\x9b31m\ue000".encode(), "xyz31m"),
        (b"", ""),
    ],
)
def test_what_was_written_to_a_terminal(written: bytes, shown: str) -> None:
    assert terminal_text(written, 4000) == shown


def test_the_end_is_kept_from_the_beginning_of_a_line() -> None:
    written = b"".join(b"line %d\n" % number for number in range(1000))
    shown = terminal_text(written, 100)
    assert shown.splitlines() == [f"line {number}" for number in range(989, 1000)]
    assert terminal_text(b"x" * 1000, 100) == "x" * 100


@given(
    st.lists(st.sampled_from([b"\x1b", b"[", b"]", b"P", b"1;", b"m", b"\x07", b"\\", b"\n", b"\r", b"\xc2\x9b", b"a"]))
)
def test_nothing_is_left_that_does_something(parts: list[bytes]) -> None:
    shown = terminal_text(b"".join(parts), 4000)
    assert {unicodedata.category(char) for char in shown if char != "\n"} <= {"Ll", "Nd", "Po", "Pe", "Ps", "Lu"}
