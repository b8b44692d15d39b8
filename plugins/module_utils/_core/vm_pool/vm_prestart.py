"""Keeping free members of a VM pool running, and bringing one up: with a fresh root where it needs one."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ExistsError, GoldenError, HypervisorError, TimedOutError, UnhealthyError
from ..hypervisor import Health, Hypervisor, Shutdown
from ..template.catalog import Catalogue
from ..vm.fresh_root import refresh
from ..vm.record import CREATE, TRIES, to_text
from ..vm.vm_claim import change_record, claimed, read_record, start_staying
from .vm_pool_members import Member, members_of, settings_of

BATCH = 4
"""How many members are booting at the same time."""


def did_not_come_up(error: GoldenError) -> bool:
    """Whether an error says that a VM did not come up, and not that something forbade to start it."""
    return isinstance(error, (UnhealthyError, HypervisorError, TimedOutError))


def missing(members: list[Member], catalogue: Catalogue, tried: Iterable[str] = ()) -> list[Member]:
    """Return the members to bring up next, best first, so that as many as the pool wants run and are free.

    Those on the version that they follow come first, and those that have failed before last. A restore that nobody
    has finished comes last of all: somebody may be at it.
    """
    wanted = settings_of(members).prestarted - sum(member.ready for member in members)
    skipped = set(tried)
    candidates = [member for member in members if member.name not in skipped and startable(member)]
    candidates.sort(key=lambda member: rank(member, catalogue))
    return candidates[: max(0, wanted)]


def rank(member: Member, catalogue: Catalogue) -> tuple[bool, int, bool]:
    """Return a key that sorts the members to start, best first."""
    return member.record.pending is not None, member.record.failed_starts, catalogue.outdated(member.record)


RANK_OF_NEW = (False, 0, False)
"""That of a member which is to be made."""


def startable(member: Member) -> bool:
    """Whether a member is to be started when free ones are missing."""
    record = member.record
    if not member.free or record.set_aside or record.detached_disk or member.going or not member.vm.domain.persistent:
        return False
    if record.pending is not None:
        return record.pending.job != CREATE
    return not member.vm.domain.active


def tell(failures: dict[str, str]) -> list[str]:
    """Return what users are warned of when VMs did not come up that were to be ready."""
    return [f"VM {name!r} did not come up, to be ready for others: {why}" for name, why in sorted(failures.items())]


def refill(hv: Hypervisor, vm_pool: str, health: Health) -> dict[str, str]:
    """Bring up members until as many as the pool wants run and are free, and return why others did not come up.

    Each is tried once. What goes wrong with one holds up no other; it is counted in its record.
    """
    failures: dict[str, str] = {}
    tried: set[str] = set()
    while True:
        members = members_of(hv.domains()).get(vm_pool, [])
        batch = missing(members, Catalogue(hv), tried)[:BATCH] if members else []
        if not batch:
            return failures
        tried.update(member.name for member in batch)
        failures.update(_bring_up_batch(hv, batch, health))


def _bring_up_batch(hv: Hypervisor, batch: list[Member], health: Health) -> dict[str, str]:
    failures: dict[str, str] = {}
    started = []
    for member in batch:
        try:
            start_fresh(hv, member.name)
            started.append(member)
        except ExistsError:
            continue  # another task is at it
        except GoldenError as error:
            failures[member.name] = _failed(hv, member, error)
    for member in started:
        try:
            wait_up(hv, member, health)
        except GoldenError as error:
            failures[member.name] = _failed(hv, member, error)
    return failures


def start_fresh(hv: Hypervisor, name: str, *, force_taken: bool = False) -> None:
    """Start a member that is down, after a restore if it needs one."""
    start_staying(hv, refresh(hv, name, force_taken=force_taken))


def wait_up(hv: Hypervisor, member: Member, health: Health) -> None:
    """Wait until a member is healthy; that it had failed before is forgotten then."""
    if health.waits:
        hv.wait_healthy(member.name, health)
    if member.record.failed_starts:
        change_record(hv, member.vm, lambda record: record.changed(failed_starts=0))


def _failed(hv: Hypervisor, member: Member, error: GoldenError) -> str:
    """Count a failed start of a member, unless a user has taken it meanwhile, and return what went wrong."""
    if not did_not_come_up(error):
        return error.message
    try:
        with claimed(hv, member.vm):
            record = read_record(hv, member.name)
            if record.lease is not None:
                return f"{error.message}; {record.lease.user!r} has taken it meanwhile"
            hv.stop(member.name, Shutdown("force"))
            failed = record.failed_starts + 1
            hv.set_metadata(member.name, to_text(record.changed(failed_starts=failed)))
    except GoldenError as other:
        return f"{error.message}; {other.message}"
    return f"{error.message} ({failed} of {TRIES} tries; then it is set aside)"
