"""The files of a payload, and what a CD and a floppy can hold of them.

Everything is refused here, before anything is built: a file name comes from outside, and the libraries that write the
media neither check it nor recover from it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidError
from ..units import human_size

CDROM, FLOPPY = "cdrom", "floppy"
UTF8, BASE64 = "utf-8", "base64"
DEFAULT_VOLUME_ID = "PAYLOAD"

FLOPPY_CLUSTER = 512
FLOPPY_CLUSTERS = 2847
"""What a 1.44 MB floppy has for files and folders: 2880 sectors less boot sector, two FATs and the root directory."""
FLOPPY_ROOT_ENTRIES = 224
FLOPPY_ENTRY = 32
FLOPPY_NAME_PART = 13
"""UTF-16 units of a long name that one directory entry takes."""

_CD_PARTS = 8
_CD_NAME = 64
_CD_PATH_BYTES = 240
_FLOPPY_NAME = 255
_FLOPPY_PATH = 256
_FORBIDDEN = {CDROM: '*:;?\\', FLOPPY: '"*:<>?\\|'}  # fmt: skip
_VOLUME_ID = {
    CDROM: (re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,15}"), "1 to 16 letters, digits, '_', '.' and '-'"),
    FLOPPY: (re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}"), "1 to 11 letters, digits, '_' and '-'"),
}
_CALLED = {CDROM: "a CD", FLOPPY: "a floppy"}


@dataclass(frozen=True)
class PayloadFile:
    """One file: its path on the medium, with ``/`` between folders, and its bytes, which nothing ever prints."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Folder:
    """A folder of the medium: the folders and the contents of the files in it, by name, in the order of the names."""

    folders: dict[str, Folder]
    files: dict[str, bytes] = field(repr=False)


def file_of(name: str, content: str, encoding: str = UTF8) -> PayloadFile:
    """Return the file whose content is given as text (stored as UTF-8), or as bytes written in base64."""
    return PayloadFile(name, _from_base64(name, content) if encoding == BASE64 else utf8(content, f"file {name!r}"))


def utf8(text: str, what: str) -> bytes:
    """Return a text as UTF-8; one that came from bytes that were no text is an error that names only ``what``."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidError(
            f"{what}: the content is no valid UTF-8 text; convert it, or give the bytes as a file in base64"
        ) from None


def _from_base64(name: str, content: str) -> bytes:
    lines = content.replace("\r\n", "").replace("\n", "")
    try:
        decoded = base64.b64decode(lines, validate=True)
    except ValueError:
        decoded = None
    # the library overlooks padding in excess and bits that mean nothing
    if decoded is None or base64.b64encode(decoded).decode("ascii") != lines:
        raise InvalidError(
            f"file {name!r}: the content is not valid base64; write it with 'base64' or the filter b64encode, "
            "or set 'encoding: utf-8'"
        )
    return decoded


def check_files(files: Sequence[PayloadFile], medium: str, max_file_size: int) -> None:
    """Refuse files that the medium (``cdrom`` or ``floppy``) cannot hold, or of more than ``max_file_size`` bytes.

    What passes reads back the same, name and content, by anything that reads the medium.
    """
    if not files:
        raise InvalidError("the payload has no files; give at least one, or set 'state: absent'")
    for file in files:
        _check_name(file.name, medium)
        check_size(file, max_file_size)
    _check_distinct(files, medium)
    if medium == FLOPPY:
        _check_floppy_space(files)


def check_size(file: PayloadFile, max_file_size: int) -> None:
    """Refuse a file of more than ``max_file_size`` bytes."""
    if len(file.content) > max_file_size:
        raise InvalidError(
            f"file {file.name!r} has {len(file.content)} bytes, more than max_file_size "
            f"({max_file_size} bytes, {human_size(max_file_size)}); raise max_file_size, or make the file smaller"
        )


def check_volume_id(volume_id: str, medium: str) -> str:
    """Return the name of a medium, or say what is wrong with it; a floppy has it in capital letters."""
    pattern, rule = _VOLUME_ID[medium]
    if pattern.fullmatch(volume_id) is None:
        raise InvalidError(
            f"volume_id {volume_id!r} is not valid for {_CALLED[medium]}; use {rule}, beginning with a letter or a "
            "digit"
        )
    return volume_id


def folder_of(files: Sequence[PayloadFile]) -> Folder:
    """Return the root folder with these files, sorted by name whatever their order."""
    root = Folder({}, {})
    for file in sorted(files, key=lambda file: file.name.split("/")):
        *folders, name = file.name.split("/")
        here = root
        for folder in folders:
            here = here.folders.setdefault(folder, Folder({}, {}))
        here.files[name] = file.content
    return root


def describe(files: Sequence[PayloadFile]) -> list[dict[str, Any]]:
    """Return what may be shown of the files: name, size and SHA-256 of each, sorted by name."""
    return [
        {"name": file.name, "size": len(file.content), "sha256": hashlib.sha256(file.content).hexdigest()}
        for file in sorted(files, key=lambda file: file.name)
    ]


def utf16_units(text: str) -> int:
    """Return the length of a name as Joliet and VFAT count it: an emoji is two."""
    return len(text.encode("utf-16-le")) // 2


def floppy_entries(name: str) -> int:
    """Return the directory entries that a name takes on a floppy: its long name, and the short one."""
    return -(-utf16_units(name) // FLOPPY_NAME_PART) + 1


def same_name(name: str) -> str:
    """Return what two names have in common that a medium takes for the same: neither case nor composition counts."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _check_name(name: str, medium: str) -> None:
    parts = name.split("/")
    if name.startswith("/"):
        raise InvalidError(f"file {name!r}: the name is absolute; leave out the '/' at its beginning")
    for part in parts:
        if part in ("", ".", ".."):
            raise InvalidError(
                f"file {name!r}: {'an empty part' if not part else repr(part)} is not allowed in a name; "
                "write it as 'folder/file', relative to the medium"
            )
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _is_noncharacter(character):
            raise InvalidError(
                f"file {name!r}: the character U+{ord(character):04X} is not allowed in a name, as it is no printable "
                "one; take it out"
            )
        if character in _FORBIDDEN[medium]:
            raise InvalidError(
                f"file {name!r}: {_CALLED[medium]} cannot have {character!r} in a name, nor any of "
                f"{' '.join(_FORBIDDEN[medium])}; choose another name"
            )
    for part in parts:
        if part[-1] in ". ":
            raise InvalidError(f"file {name!r}: {part!r} ends in a dot or a blank, which Windows drops; take it off")
    if medium == CDROM:
        _check_lengths_cd(name, parts)
    else:
        _check_lengths_floppy(name, parts)


def _is_noncharacter(character: str) -> bool:
    code = ord(character)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _check_lengths_cd(name: str, parts: Sequence[str]) -> None:
    """Refuse what is longer than Joliet has it; Rock Ridge and ISO 9660 (whose names are made here) allow as much."""
    _check_parts(name, parts, CDROM, _CD_NAME)
    if len(parts) > _CD_PARTS:
        raise InvalidError(
            f"file {name!r} lies in {len(parts) - 1} folders; a CD can have {_CD_PARTS - 1} within each other: "
            "use fewer"
        )
    size = sum(2 * utf16_units(part) for part in parts) + len(parts) - 1
    if size > _CD_PATH_BYTES:
        raise InvalidError(
            f"file {name!r}: the path takes {size} bytes on a CD, where a path can have {_CD_PATH_BYTES} (some "
            f"{_CD_PATH_BYTES // 2} letters); shorten it"
        )


def _check_lengths_floppy(name: str, parts: Sequence[str]) -> None:
    _check_parts(name, parts, FLOPPY, _FLOPPY_NAME)
    size = utf16_units(name)
    if size > _FLOPPY_PATH:
        raise InvalidError(
            f"file {name!r}: the path has {size} UTF-16 units, where a floppy's can have {_FLOPPY_PATH}; shorten it"
        )


def _check_parts(name: str, parts: Sequence[str], medium: str, limit: int) -> None:
    for part in parts:
        size = utf16_units(part)
        if size > limit:
            raise InvalidError(
                f"file {name!r}: {part!r} has {size} UTF-16 units, where a name on {_CALLED[medium]} can have {limit} "
                "(a letter is one, an emoji two); shorten it"
            )


def _check_distinct(files: Sequence[PayloadFile], medium: str) -> None:
    seen: dict[tuple[str, ...], tuple[str, bool]] = {}
    for file in files:
        parts = file.name.split("/")
        for depth in range(1, len(parts) + 1):
            here, is_file = "/".join(parts[:depth]), depth == len(parts)
            key = tuple(same_name(part) for part in parts[:depth])
            there, was_file = seen.setdefault(key, (here, is_file))
            if here != there:
                raise InvalidError(
                    f"{there!r} and {here!r} differ only by case or by the composition of a letter; {_CALLED[medium]} "
                    "cannot hold both: rename one of them"
                )
            if is_file != was_file:
                raise InvalidError(f"{here!r} is a file and also the folder of another file; rename one of them")
            if is_file and there is not here:
                raise InvalidError(f"file {here!r} is given twice; give it once")


def _check_floppy_space(files: Sequence[PayloadFile]) -> None:
    root = folder_of(files)
    entries = _entries(root) + 1
    if entries > FLOPPY_ROOT_ENTRIES:
        raise InvalidError(
            f"the files and folders at the top of the floppy take {entries} directory entries, and it has "
            f"{FLOPPY_ROOT_ENTRIES} there (1 for the volume's name; a name takes 2, and 1 more for each "
            f"{FLOPPY_NAME_PART} letters after the first {FLOPPY_NAME_PART}); put them into a folder, shorten names, "
            "or use 'type: cdrom'"
        )
    clusters = _clusters(root)
    if clusters > FLOPPY_CLUSTERS:
        raise InvalidError(
            f"the files and folders take {clusters} clusters of {FLOPPY_CLUSTER} bytes "
            f"({human_size(clusters * FLOPPY_CLUSTER)}), and a floppy has {FLOPPY_CLUSTERS} "
            f"({human_size(FLOPPY_CLUSTERS * FLOPPY_CLUSTER)}); leave out some, or use 'type: cdrom'"
        )


def _entries(folder: Folder) -> int:
    return sum(floppy_entries(name) for name in (*folder.folders, *folder.files))


def _clusters(root: Folder) -> int:
    """Return the clusters of the files and folders in a folder, without its own."""
    files = sum(-(-len(content) // FLOPPY_CLUSTER) for content in root.files.values())
    folders = sum(
        -(-(_entries(folder) + 2) * FLOPPY_ENTRY // FLOPPY_CLUSTER) + _clusters(folder)
        for folder in root.folders.values()
    )
    return files + folders
