"""Which process this is, in words by which another one can tell whether it has ended."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"


def this() -> str:
    """Return a word for this process: the boot of its machine, its PID namespace and its PID."""
    return f"{_place()}/{os.getpid()}"


def has_ended(process: str) -> bool:
    """Whether the process that ``this`` told so has ended; one that cannot be seen from here counts as alive.

    A number that the kernel has given to a process anew counts as alive, too.
    """
    place, _slash, pid = process.rpartition("/")
    if not place or place != _place() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's, or it is no number of a process
        return False
    return False


def _place() -> str:
    """Return where the PID of this process is one, or nothing where that is not known."""
    try:
        return f"{_BOOT.read_text(encoding='utf-8').strip()}/{os.readlink(_NAMESPACE)}"
    except OSError:
        return ""
