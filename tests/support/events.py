"""The event source as a process of its own, and a way to cut it off from libvirt that spares everybody else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .fixtures import REPOSITORY

SOURCE = REPOSITORY / "extensions" / "eda" / "plugins" / "event_source" / "lifecycle.py"
LIBVIRT_SOCKETS = Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock")
Event = dict[str, Any]


class Source:
    """A running event source, with the events that it has given so far."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, SOURCE, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self._readers = [threading.Thread(target=read) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def wait(self, number: int = 1, timeout: float = 60, **wanted: Any) -> Event:
        """Return the event of this number that has these values, once it is there."""

        def found() -> list[Event]:
            return [event for event in self.events if wanted.items() <= event.items()]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= number, timeout), (wanted, self.events)
            return found()[number - 1]

    def of(self, vm: str) -> list[tuple[str, str]]:
        """Return the starts and stops of a VM, with their details."""
        events = [event for event in self.events if event.get("vm") == vm]
        return [(event["event"], event["detail"]) for event in events if event["event"] in ("started", "stopped")]

    def end(self) -> int:
        """End it as ansible-rulebook does, and return its code; ``said`` is what it has written on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
            for reader in self._readers:
                reader.join()
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()


@contextmanager
def running_source(**arguments: Any) -> Iterator[Source]:
    """Yield an event source that has connected."""
    source = Source(arguments)
    try:
        source.wait(event="connected")
        yield source
    finally:
        source.end()


class Relay:
    """A socket of libvirt that can be closed and opened again, as if libvirtd was restarted, or made to hang."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "libvirt"
        self.uri = f"qemu+unix:///system?socket={self.path}"
        self._hung: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.open()

    def open(self) -> None:
        """Let connections come."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._run(self._accept, self._listener)

    def hang(self) -> None:
        """Let nothing through the present connections any more, without ending them."""
        self._hung.update(self._sockets)

    def close(self) -> None:
        """Break all connections, and let none come."""
        assert self._listener is not None
        self._hung.clear()
        self.path.unlink()
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._sockets):
            end.close()
        self._sockets.clear()
        self._threads.clear()

    def _run(self, function: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(next(path for path in LIBVIRT_SOCKETS if path.exists())))
                self._sockets += [client, server]
                self._run(self._copy, client, server)
                self._run(self._copy, server, client)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while source in self._hung:
                    time.sleep(0.05)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def made_relay(folder: Path) -> Iterator[Relay]:
    """Yield a relay, whose folder must have a short name."""
    assert len(os.fsencode(folder)) < 90
    relay = Relay(folder)
    try:
        yield relay
    finally:
        if relay.path.exists():
            relay.close()
