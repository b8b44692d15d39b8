"""Sizes as people write them, and as libvirt counts them."""

from __future__ import annotations

import re
from fractions import Fraction

from .errors import InvalidError

KIB = 1024
GIB = 1024**3

_FACTORS = {
    "B": 1,
    "KiB": KIB,
    "MiB": KIB**2,
    "GiB": GIB,
    "TiB": KIB**4,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?)\s*([A-Za-z]+)")
_KIB_ONLY = re.compile(r"[0-9]{1,19}")
_MOST = 2**63 - 1
"""Bytes that libvirt and QEMU can count."""
_REMEDY = "write a number with one of the units " + ", ".join(_FACTORS) + ", for example '20GiB'"


def parse_size(text: str, option: str) -> int:
    """Return the bytes of a size such as ``20GiB``; ``option`` is named in the error."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None or match[2] not in _FACTORS:
        raise InvalidError(f"{option}: {text!r} is no size; {_REMEDY}")
    size = Fraction(match[1]) * _FACTORS[match[2]]
    if size.denominator != 1 or size <= 0:
        raise InvalidError(f"{option}: {text!r} is not a whole, positive number of bytes; {_REMEDY}")
    return check_countable(int(size), text, option)


def check_countable(size: int, given: str | int, option: str) -> int:
    """Return a number of bytes, or refuse one that is more than libvirt can count."""
    if size > _MOST:
        raise InvalidError(f"{option}: {given!r} is more than the {human_size(_MOST + 1)} that can be")
    return size


def parse_memory(value: str | int, option: str) -> int:
    """Return KiB, from a size (``512MiB``) or from a bare number of KiB, as libvirt has it."""
    text = str(value).strip()
    kib = int(text) if _KIB_ONLY.fullmatch(text) else -(-parse_size(text, option) // KIB)
    if kib <= 0:
        raise InvalidError(
            f"{option}: {value!r} is no amount of memory; give a size such as '512MiB' or a number of KiB"
        )
    check_countable(kib * KIB, value, option)
    return kib


def human_size(size: int) -> str:
    """Return bytes in the largest binary unit that keeps the number readable: ``1.5GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _FACTORS[unit]:
            return f"{size / _FACTORS[unit]:.1f}".removesuffix(".0") + unit
    return f"{size}B"
