# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a task tells of its phases while it runs: over a pipe that a callback opens, and that Ansible's copies of its own
process, in which tasks run, have inherited.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

_AT_ONCE = select.PIPE_BUF
"""So many bytes are written whole or not at all, whoever else writes."""


@dataclass(frozen=True)
class PhaseBegun:
    """A phase of a task that has begun at a time of the monotonic clock; ``vm`` and ``uri`` are the task's options."""

    host: str
    action: str
    vm: str
    uri: str
    phase: str
    at: float


class PhasePipe:
    """The pipe. What nobody reads in time, or is too long, is lost: it is only there to be looked at."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self._rest = b""

    def tell(self, host: str, action: str, vm: str, uri: str, phase: str) -> None:
        """Tell that a phase begins now."""
        line = json.dumps(asdict(PhaseBegun(host, action, vm, uri, phase, time.monotonic()))).encode() + b"\n"
        if len(line) <= _AT_ONCE:
            try:
                os.write(self._writing, line)
            except BlockingIOError:
                return

    def told(self) -> Iterator[PhaseBegun]:
        """Yield what was told since the last time, in its order."""
        while True:
            try:
                read = os.read(self._reading, _AT_ONCE)
            except BlockingIOError:
                return
            *lines, self._rest = (self._rest + read).split(b"\n")
            for line in lines:
                yield PhaseBegun(**json.loads(line))


_opened: list[PhasePipe] = []


def open_pipe() -> PhasePipe:
    """Return the pipe of this process and of its copies to come, opened if it is not yet."""
    if not _opened:
        _opened.append(PhasePipe())
    return _opened[0]


def opened_pipe() -> PhasePipe | None:
    """Return the pipe if somebody has opened it."""
    return _opened[0] if _opened else None
