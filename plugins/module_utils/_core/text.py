"""Texts that guests and users have written, made safe to be shown."""

from __future__ import annotations

import re
import unicodedata

from .errors import InvalidError

PLACEHOLDER = "\N{REPLACEMENT CHARACTER}"
_HARMLESS = "\n\t"
_SEQUENCES = re.compile(
    r"""\x1b(?:
        \[[0-?]*[ -/]*[@-~]                      # colours, places, modes
      | [\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?  # titles and other texts for the terminal itself
      | [ -/]*[0-~]                             # all others
    )""",
    re.VERBOSE,
)
"""The escape sequences of terminals."""
_NOT_IN_XML = re.compile("[^\\t\\n\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML cannot hold, and a carriage return, which it reads back as another character."""
_MOST_TEXT = 64 * 1024


def readable(text: str) -> str:
    """Return a text without the characters that do something instead of being shown; lines and tabs stay.

    Control characters could steer a terminal, and those that change the direction of writing could make a text look
    like another one. Half of a surrogate pair cannot be written to a file.
    """
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text.replace("\r\n", "\n"))


def storable(text: str, what: str) -> str:
    """Return a text that libvirt can keep and gives back as it is, or refuse it; ``what`` is named in the error."""
    found = _NOT_IN_XML.search(text)
    if found is not None:
        raise InvalidError(f"{what}: libvirt cannot keep the character U+{ord(found[0]):04X}; take it out")
    if len(text) > _MOST_TEXT:
        raise InvalidError(f"{what}: it has {len(text)} characters, more than the {_MOST_TEXT} that can be; shorten it")
    return text


def one_line(text: str) -> str:
    """Return a text as one line without characters that do something."""
    return readable(" ".join(text.split()))


def terminal_text(data: bytes, limit: int) -> str:
    """Return the end of what was written to a terminal as plain lines, at most ``limit`` characters.

    Nothing is left that would do something: no escape sequences, no control characters.
    """
    plain = _SEQUENCES.sub("", data.decode(errors="replace"))
    lines = (_without_controls(line).rstrip() for line in re.split(r"\r*\n|\r", plain))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    if len(text) <= limit:
        return text
    end = text[-limit:]
    return end.partition("\n")[2] or end  # without the rest of a line


def _without_controls(line: str) -> str:
    return line if line.isprintable() else "".join(char for char in line if _is_harmless(char))


def _shown(char: str) -> str:
    return char if _is_harmless(char) else PLACEHOLDER


def _is_harmless(char: str) -> bool:
    return char in _HARMLESS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
