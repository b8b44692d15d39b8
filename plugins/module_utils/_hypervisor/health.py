"""Waiting for a VM to be up, as its user means it."""

from __future__ import annotations

import socket
from typing import Any

from .._core.errors import UnhealthyError
from .._core.hypervisor import Health
from .addresses import addresses
from .agent import Agent, decoded
from .connection import LOOK_AGAIN, Connection
from .console import Console, listening
from .library import libvirt

_LOOK_AGAIN = {"port": 0.2, "command": 0.2}
"""Seconds between two looks at what has no libvirt event. That the agent comes is one."""
_OUTPUT_SHOWN = 2000


def wait_healthy(connection: Connection, domain: Any, health: Health) -> None:
    """Wait until a VM passes its health check and stays up for ``stable_for`` seconds.

    The error has what the guest wrote on its serial console meanwhile, if anything, in ``console``.
    """
    with listening(connection, domain) as console:
        try:
            _wait(connection, domain, health, console)
        except UnhealthyError as error:
            written = console.text()
            if written:
                error.facts["console"] = written
            raise


def _wait(connection: Connection, domain: Any, health: Health, console: Console) -> None:
    probe = _Probe(domain, health, console)
    if not connection.wait_until(domain, probe.passes, health.timeout, _LOOK_AGAIN.get(health.check, LOOK_AGAIN)):
        raise UnhealthyError(
            f"VM {domain.name()!r} did not pass its health check {health.check!r} within {health.timeout} seconds: "
            f"{probe.last}"
        )
    if health.stable_for:
        connection.wait_until(domain, lambda: not probe.passes_running(), health.stable_for)
        if not probe.passes():
            raise UnhealthyError(
                f"VM {domain.name()!r} was up and did not stay so for {health.stable_for} seconds: {probe.last}"
            )


class _Probe:
    """One way to look whether a VM is up; ``last`` is what the last look found, in words."""

    def __init__(self, domain: Any, health: Health, console: Console) -> None:
        self.domain = domain
        self.health = health
        self.console = console
        self.agent = Agent(domain)
        self.last = "it was not looked at yet"
        self._running: int | None = None

    def passes(self) -> bool:
        self.check_alive()
        check = {"none": self._none, "agent": self._agent, "port": self._port, "command": self._command}
        return check[self.health.check]()

    def passes_running(self) -> bool:
        """Whether it is still there; one that is not is an error at once."""
        self.check_alive()
        return True

    def check_alive(self) -> None:
        """Raise for a VM that is down or stands still: no waiting will help."""
        self.console.listen()
        state, reason = self.domain.state()
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            raise UnhealthyError(f"VM {self.domain.name()!r} went down while it was waited for")
        if state == libvirt.VIR_DOMAIN_CRASHED or (
            state == libvirt.VIR_DOMAIN_PAUSED
            and reason
            in (
                libvirt.VIR_DOMAIN_PAUSED_IOERROR,
                libvirt.VIR_DOMAIN_PAUSED_CRASHED,
                libvirt.VIR_DOMAIN_PAUSED_UNKNOWN,
            )
        ):
            raise UnhealthyError(
                f"VM {self.domain.name()!r} stands still (crashed, or an input/output error of a disk); look "
                "at its console "
                "and at the log of QEMU on the hypervisor"
            )

    def _none(self) -> bool:
        return True

    def _agent(self) -> bool:
        return self._told(self.agent.ask("guest-ping")) is not None

    def _port(self) -> bool:
        known = [address for found in addresses(self.domain).values() for address in found]
        if not known:
            self.last = "it has no known IP address"
        for address in known:
            try:
                with socket.create_connection((address, self.health.port or 0), timeout=1):
                    return True
            except OSError as error:
                self.last = f"port {self.health.port} at {address}: {error}"
        return False

    def _command(self) -> bool:
        if self._running is None:
            self._running = self._told(self.agent.begin(self.health.command))
            return False
        status = self._told(self.agent.status(self._running))
        if status is not None and not status.get("exited"):
            return False
        self._running = None  # ended, or the guest does not know it any more because it was rebooted
        if status is None:
            return False
        output = "".join(decoded(status.get(name), _OUTPUT_SHOWN)[0] for name in ("out-data", "err-data"))
        self.last = f"the command ended with {status.get('exitcode', status.get('signal'))}: {output.strip()}"
        return bool(status.get("exitcode") == 0)

    def _told(self, answer: Any) -> Any:
        """Return an answer of the agent, and remember why there is none."""
        if answer is None:
            self.last = self.agent.last
        return answer
