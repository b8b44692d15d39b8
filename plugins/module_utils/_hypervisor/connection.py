"""A libvirt connection: opened, translated errors, events that end waits."""

from __future__ import annotations

import contextlib
import itertools
import operator
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from .._core.hypervisor import Host
from .denials import is_refused_connection, refused_connection, told
from .library import libvirt

LOOK_AGAIN = 1.0
"""Seconds after which a wait looks again although no event came: an event can be lost when libvirtd restarts."""
_ANSWER_AFTER = 0.5
"""Seconds without a call after which libvirtd is answered; by default it asks every 5, and waits for 30."""

_event_loop_registered = False


def _register_event_loop() -> None:
    """Let libvirt deliver events in this process; to be done once, and before a connection is opened."""
    global _event_loop_registered  # noqa: PLW0603 - the registration is one per process, as libvirt has it
    if not _event_loop_registered:
        libvirt.virEventRegisterDefaultImpl()
        # Errors come as exceptions; libvirt would print them on stderr besides. The handler, which does nothing with
        # its two arguments, is none in Python: in one, what a signal raises would turn into a SystemError.
        libvirt.registerErrorHandler(operator.is_, None)
        _event_loop_registered = True


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let signals wait: what they raise in a callback of libvirt, such as Ansible's timeout of a task, is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM, signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what libvirt raises into our error, which says what was being done."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise told(doing, error) from error


class Connection:
    """One open connection, with its waits.

    One that is to ``only_look`` is ``read_only`` where the user may have no other.
    """

    def __init__(self, uri: str, only_look: bool = False) -> None:
        _register_event_loop()
        self.uri = uri
        self.only_look = only_look
        self.read_only = False
        doing = f"cannot connect to {uri!r}"
        with translated(doing):
            try:
                self.libvirt = libvirt.open(uri)
            except libvirt.libvirtError as error:
                if not is_refused_connection(error):
                    raise
                if not only_look:
                    raise refused_connection(doing, error) from error
                self.libvirt = libvirt.openReadOnly(uri)
                self.read_only = True
        self._events: dict[str, list[int]] = {}
        self._awaited = ""
        self._timer = libvirt.virEventAddTimeout(-1, self._time_is_over, None)
        self._answered = time.monotonic()
        self._woken = False

    def close(self) -> None:
        """Close the connection."""
        libvirt.virEventRemoveTimeout(self._timer)
        with contextlib.suppress(libvirt.libvirtError):  # a connection that broke has nothing left to be ended
            for event in itertools.chain.from_iterable(self._events.values()):
                self.libvirt.domainEventDeregisterAny(event)
            self.libvirt.close()

    def host(self) -> Host:
        """Return name and architecture of the hypervisor."""
        with translated("cannot ask the hypervisor for its host"):
            return Host(self.libvirt.getHostname(), self.libvirt.getInfo()[0])

    def wait_until(self, domain: Any, done: Callable[[], bool], timeout: float, look_again: float = LOOK_AGAIN) -> bool:
        """Wait until ``done`` is true, looking whenever the domain, its agent or one of its devices comes or goes.

        Return whether it is in time. ``look_again`` is for what libvirt has no event for: the seconds after which to
        look without one.
        """
        self._awaited = self.listen(domain)
        deadline = time.monotonic() + timeout
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._run_events(min(left, look_again))
        return True

    def listen(self, domain: Any) -> str:
        """Begin to receive the events of a domain, and return its UUID; a wait does so by itself.

        Libvirtd sends those of no other: each would wake the process.
        """
        uuid: str = domain.UUIDString()
        if uuid not in self._events:
            wanted = (
                libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            )
            with translated("cannot listen to domain events"):
                register = self.libvirt.domainEventRegisterAny
                self._events[uuid] = [register(domain, event, self._happened, None) for event in wanted]
        return uuid

    def stay_alive(self) -> None:
        """Answer libvirtd, which closes a connection that keeps silent; for work that makes no calls for long."""
        if time.monotonic() - self._answered > _ANSWER_AFTER:
            self._run_events(0)
            self._answered = time.monotonic()

    def _happened(self, _libvirt: Any, domain: Any, *_event: Any) -> None:
        """End the wait for this domain; what has happened is read from libvirt."""
        self._woken = self._woken or domain.UUIDString() == self._awaited

    def _time_is_over(self, *_timer: Any) -> None:
        self._woken = True

    def _run_events(self, seconds: float) -> None:
        self._woken = False
        libvirt.virEventUpdateTimeout(self._timer, max(1, int(seconds * 1000)))
        while not self._woken:  # the loop also returns for what comes of our own calls
            with _signals_held_back():
                libvirt.virEventRunDefaultImpl()
        libvirt.virEventUpdateTimeout(self._timer, -1)
