"""Running a command in the guest of a VM."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import GoldenError, InvalidError, NotFoundError, RefusedError
from ..hypervisor import RUNNING, GuestResult, Hypervisor
from ..permissions import Need
from ..plan import Phases, Plan, Step

_LINES_TOLD, _LETTERS_TOLD = 5, 2000


class CommandFailedError(GoldenError):
    """A command in a guest ended with another code than 0."""


@dataclass(frozen=True)
class GuestCommand:
    """A program with its arguments, and what it reads. ``timeout`` is in seconds."""

    vm: str
    command: tuple[str, ...]
    stdin: str | None = None
    timeout: int = 60


def plan_guest_command(hv: Hypervisor, request: GuestCommand) -> Plan:
    """Return the plan that runs a command in a guest."""
    if not request.command or not request.command[0]:
        raise InvalidError("command: it is empty")
    if request.timeout < 1:
        raise InvalidError(f"wait_timeout: {request.timeout} is less than 1")
    _check_running(hv, request.vm)
    results: list[GuestResult] = []

    def execute() -> None:
        results.append(hv.run_in_guest(request.vm, request.command, request.timeout, request.stdin))
        if results[0].rc != 0:
            raise CommandFailedError(_failure(request, results[0]))

    def facts(_phases: Phases) -> dict[str, Any]:
        return {"ran": bool(results), **(asdict(results[0]) if results else {})}

    return Plan(
        before={},
        after={"vm": request.vm, "program": request.command[0]},
        steps=(
            Step(
                f"run {request.command[0]!r} in the guest of VM {request.vm!r}",
                execute,
                final=True,
                needs=(Need("domain", request.vm, "write"),),
            ),
        ),
        facts=facts,
    )


def _check_running(hv: Hypervisor, vm: str) -> None:
    domain = hv.domain(vm)
    if domain is None:
        raise NotFoundError(f"there is no VM {vm!r}; 'virsh list --all' shows those that there are")
    if domain.state != RUNNING:
        raise RefusedError(f"VM {vm!r} is {domain.state}; a command needs a guest that runs")


def _failure(request: GuestCommand, result: GuestResult) -> str:
    lines = (result.stderr.strip() or result.stdout.strip()).splitlines()[-_LINES_TOLD:]
    told = f": {' / '.join(lines)[-_LETTERS_TOLD:]}" if lines else " and said nothing"
    return f"{request.command[0]!r} ended with {result.rc} in VM {request.vm!r}{told}"
