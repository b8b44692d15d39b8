"""What a guest writes on its serial console while it is listened to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._core.text import terminal_text
from .connection import Connection
from .library import libvirt

_DEVICE = "serial0"
"""libvirt's name for the first serial port."""
_CHUNK = 64 * 1024
_CHUNKS = 64
"""How much is read at one look: a guest that never stops writing must not hold up the task."""
_BYTES_KEPT = 32 * 1024
_SHOWN = 4000
"""Characters: the bytes that are kept hold so many even when half of them are escape sequences."""


@contextmanager
def listening(connection: Connection, domain: Any) -> Iterator[Console]:
    """Listen to the serial console of a VM, where it has one that nobody else has open; else nothing is heard."""
    console = Console(connection, domain)
    try:
        yield console
    finally:
        console.close()


class Console:
    """The end of what was heard so far. That nothing can be heard is never an error."""

    def __init__(self, connection: Connection, domain: Any) -> None:
        self._heard = b""
        self._stream: Any = None
        with contextlib.suppress(libvirt.libvirtError):
            stream = connection.libvirt.newStream(libvirt.VIR_STREAM_NONBLOCK)
            domain.openConsole(_DEVICE, stream, 0)
            self._stream = stream

    def listen(self) -> None:
        """Take over what has come since the last time; to be done often, as it is kept in memory until then."""
        for _chunk in range(_CHUNKS):
            data = self._next()
            if not data:
                return
            self._heard = (self._heard + data)[-_BYTES_KEPT:]

    def text(self) -> str:
        """Return the end of it as text that is safe to be shown."""
        self.listen()
        return terminal_text(self._heard, _SHOWN)

    def close(self) -> None:
        """Let others open the console."""
        if self._stream is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._stream.abort()
            self._stream = None

    def _next(self) -> bytes:
        """Return what has come; nothing when there is no more at this moment, or never will be."""
        if self._stream is None:
            return b""
        try:
            data = self._stream.recv(_CHUNK)
        except libvirt.libvirtError:
            data = b""
        if data == b"":  # the VM is down, or somebody has taken the console over
            self.close()
        return data if isinstance(data, bytes) else b""  # a number: nothing yet
