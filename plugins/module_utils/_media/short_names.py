"""The names of eight letters and three that a medium has besides the real ones."""

from __future__ import annotations

import re
import unicodedata

from .._core.payload.payload_files import Folder, same_name

_END_OF_LATIN = 0x250
_FIRST_ACCENT, _LAST_ACCENT = 0x300, 0x36F


def short_names(folder: Folder) -> dict[str, tuple[str, str]]:
    """Return base (1 to 8 characters) and extension (0 to 3, of files only) for each name in a folder.

    They are of the characters A-Z, 0-9 and '_', that ISO 9660 and FAT both have, and differ from each other and from
    the other real names of the folder.
    """
    names = {**dict.fromkeys(folder.folders, False), **dict.fromkeys(folder.files, True)}
    real = {same_name(name): name for name in names}
    taken: set[str] = set()
    found = {}
    for name in sorted(names):
        stem, dot, extension = name.rpartition(".") if names[name] else (name, "", "")
        if not stem:
            stem, extension = extension if dot else name, ""
        base, extension = _plain(stem)[:8] or "_", _plain(extension)[:3]
        number = 0
        short = base
        while _joined(short, extension) in taken or real.get(same_name(_joined(short, extension)), name) != name:
            number += 1
            short = f"{base[: 7 - len(str(number))]}_{number}"
        taken.add(_joined(short, extension))
        found[name] = short, extension
    return found


def _plain(text: str) -> str:
    """Return the text in capital letters without accents; a run of what has no such letter becomes '_'."""
    # no further than Latin letters: of other characters each Python knows more, and the names would depend on it
    decomposed = (unicodedata.normalize("NFKD", c) if ord(c) < _END_OF_LATIN else c for c in text)
    letters = "".join(c for c in "".join(decomposed) if not _FIRST_ACCENT <= ord(c) <= _LAST_ACCENT)
    return re.sub("[^A-Z0-9]+", "_", letters.upper())


def _joined(base: str, extension: str) -> str:
    return f"{base}.{extension}" if extension else base
