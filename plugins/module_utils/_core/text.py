"""Texts that guests and users have written, made safe to be shown."""

from __future__ import annotations

import unicodedata

PLACEHOLDER = "\N{REPLACEMENT CHARACTER}"


def readable(text: str) -> str:
    """Return a text without the characters that do something instead of being shown; lines and tabs stay.

    Control characters could steer a terminal, and those that change the direction of writing could make a text look
    like another one. Half of a surrogate pair cannot be written to a file.
    """
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return a text as one line without characters that do something."""
    return readable(" ".join(text.split()))


def _shown(char: str) -> str:
    kept = char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return char if kept else PLACEHOLDER
