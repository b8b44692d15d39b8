"""Commands in the guest of a running VM."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .._core.errors import HypervisorError, TimedOutError
from .._core.hypervisor import GuestResult
from .agent import Agent, decoded
from .connection import Connection, translated

_LOOK_AGAIN = 0.2
"""Seconds between two looks at the agent: libvirt has no event for the end of a command."""
_OUTPUT_KEPT = 256 * 1024


class GuestCalls:
    """The call of ``_core.hypervisor.Hypervisor`` that reaches into a guest."""

    connection: Connection

    def run_in_guest(self, name: str, command: Sequence[str], timeout: int, stdin: str | None = None) -> GuestResult:
        with translated(f"cannot run a command in VM {name!r}"):
            domain = self.connection.libvirt.lookupByName(name)
            return _Command(self.connection, domain, command, timeout).run(stdin)


class _Command:
    """One command in one guest, from the first question to the agent until it has ended."""

    def __init__(self, connection: Connection, domain: Any, command: Sequence[str], timeout: int) -> None:
        self.connection = connection
        self.domain = domain
        self.command = command
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.agent = Agent(domain, self.deadline)
        self.status: Any = None

    def run(self, stdin: str | None) -> GuestResult:
        self._wait_for_agent()
        # With all the time that is left, as it is not tried again: it may have been started, and its answer been lost.
        pid = self.agent.begin(self.command, stdin, self.timeout)
        if pid is None:
            raise HypervisorError(f"{self._name} did not start {self.command[0]!r}: {self.agent.last}")
        if not self._wait(lambda: self._ended(pid)):
            raise TimedOutError(
                f"{self.command[0]!r} did not end within {self.timeout} seconds in VM {self.domain.name()!r}; it may "
                "still be running there"
            )
        return self._result()

    @property
    def _name(self) -> str:
        return f"the guest agent of VM {self.domain.name()!r}"

    def _wait_for_agent(self) -> None:
        if not self._wait(lambda: self.agent.ask("guest-ping") is not None):
            raise TimedOutError(
                f"{self._name} did not answer within {self.timeout} seconds: {self.agent.last}; see that the VM has a "
                "channel for it, and that it (qemu-guest-agent) is installed and runs in the guest"
            )

    def _wait(self, done: Any) -> bool:
        def look() -> bool:
            if not self.domain.isActive():
                raise HypervisorError(f"VM {self.domain.name()!r} went down while a command was to run in it")
            return bool(done())

        return self.connection.wait_until(self.domain, look, max(0.0, self.deadline - time.monotonic()), _LOOK_AGAIN)

    def _ended(self, pid: int) -> bool:
        self.status = self.agent.status(pid)
        if self.status is None and self.agent.refused:  # the guest was rebooted, or its agent began anew
            raise HypervisorError(
                f"{self._name} does not know any more how {self.command[0]!r} ended: {self.agent.last}"
            )
        return self.status is not None and bool(self.status.get("exited"))

    def _result(self) -> GuestResult:
        stdout, cut = decoded(self.status.get("out-data"), _OUTPUT_KEPT)
        stderr, cut_too = decoded(self.status.get("err-data"), _OUTPUT_KEPT)
        code, signal = self.status.get("exitcode"), self.status.get("signal")
        rc = code if isinstance(code, int) else 128 + signal if isinstance(signal, int) else None  # as shells do it
        if rc is None:
            raise HypervisorError(f"{self._name} does not tell with which code {self.command[0]!r} ended")
        return GuestResult(
            rc=rc,
            stdout=stdout,
            stderr=stderr,
            truncated=cut or cut_too or bool(self.status.get("out-truncated") or self.status.get("err-truncated")),
        )
