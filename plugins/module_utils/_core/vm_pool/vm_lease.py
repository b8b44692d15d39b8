"""Taking a VM of a pool for a user, so that of many who try at once each gets another one.

A VM is taken in this order: the user claims it, then claims the taking of it, looks at the whole pool once more, and
writes the lease into the VM's record, as all tasks write (``vm_claim``); then both claims end. The first claim keeps
other users off the VM, the second one keeps two tasks of the same user from taking two VMs: the later one helps with
what the earlier one has begun. What a killed task leaves are claims of the user: the next task of the user takes them
up, and after two minutes they are gone. So a VM is the user's, or free.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from .. import names
from ..errors import ExistsError, GoldenError, InvalidError, NotFoundError, RefusedError, UnhealthyError
from ..hypervisor import RUNNING, Health, Hypervisor, Shutdown
from ..libvirt_xml import domain_xml
from ..permissions import Needs, may_start, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..vm.describe import describe_root, describe_vm
from ..vm.fresh_root import needs_restore, restore_request
from ..vm.record import Lease, Record, from_text, to_text
from ..vm.restore import plan_restore
from ..vm.vm_claim import change_record_back, claimed, read_record
from .vm_pool_members import Member, damaged_members, members_of, settings_of
from .vm_prestart import did_not_come_up, missing, refill, start_fresh, tell, wait_up

ATTEMPTS = 3
"""How many members are brought up for one user, until one comes up."""
_ROUNDS = 10
"""How often the pool is looked at again when others took what was free at the last look."""
_BRIEFLY = 0.5
"""Seconds for which a VM is waited for that another task changes at this moment, each time that it is looked at."""


@dataclass(frozen=True)
class LeaseRequest:
    """Who wants to take or return which VM."""

    vm_pool: str
    user: str | None = None
    vm: str | None = None
    shutdown: Shutdown = field(default_factory=Shutdown)
    health: Health = field(default_factory=Health)


def plan_taken(hv: Hypervisor, request: LeaseRequest) -> Plan:
    """Return the plan that hands a VM of the pool to the user."""
    user = check_user(request.user or "")
    members, damaged = find_pool(hv, request.vm_pool)
    plan = _Taking(hv, request, user, members).plan()
    return replace(plan, warnings=(*plan.warnings, *damaged))


def claim_on(uuid: str) -> str:
    """Return the claim on the lease of a VM."""
    return f"lease:{uuid}"


def as_user(user: str) -> str:
    """Return the name under which a user claims the lease of a VM: all tasks of the user have the same claim."""
    return f"user {user}"


def check_user(user: str) -> str:
    """Return the name of a user, or say what is wrong with it."""
    if not user.strip() or not user.isprintable() or len(user) > 256:
        raise InvalidError(f"user {user!r} is no valid name; use 1 to 256 printable characters")
    return user


def find_pool(hv: Hypervisor, vm_pool: str) -> tuple[list[Member], list[str]]:
    """Return the members of a pool that must be there, and what is wrong with those that cannot be read."""
    names.check_vm_name(vm_pool)
    domains = list(hv.domains())
    members = members_of(domains).get(vm_pool)
    if not members:
        raise NotFoundError(f"there is no VM pool {vm_pool!r}; make it with vm_pool, or see vm_pool_info")
    return members, damaged_members(domains, vm_pool)


def find_members(hv: Hypervisor, vm_pool: str) -> list[Member]:
    """Return the members of a pool that must be there."""
    return find_pool(hv, vm_pool)[0]


def named(members: list[Member], vm_pool: str, vm: str) -> Member:
    """Return the member of this name."""
    for member in members:
        if member.name == vm:
            return member
    offer = ", ".join(member.name for member in members)
    raise NotFoundError(f"VM pool {vm_pool!r} has no VM {vm!r}; it has {offer}")


class _Taking:
    """One VM being taken; ``got`` is the one that the user has, once that is known."""

    def __init__(self, hv: Hypervisor, request: LeaseRequest, user: str, members: list[Member]) -> None:
        self.hv = hv
        self.request = request
        self.user = user
        self.lease = Lease(user, hv.now())
        self.members = members
        self.catalogue = Catalogue(hv)
        self.got: Member | None = None
        self.new = False
        self.vm: dict[str, Any] = {}
        self.not_started: dict[str, str] = {}

    def plan(self) -> Plan:
        """Return what is done, and what comes out of it as far as that can be told."""
        chosen, expected, needs = self._preview()
        lease = chosen.record.lease or self.lease
        steps = []
        if chosen.free or not chosen.running:
            how = (
                ""
                if chosen.running
                else ", with a fresh root"
                if expected["root"] != describe_root(chosen.record.root)
                else ", started"
            )
            say = f"take VM {chosen.name!r} for {self.user!r}{how}"
            steps.append(Step(say, self._take, self._undo, needs=(*may_write(chosen.name), *needs)))
        taken = replace(chosen, record=chosen.record.changed(lease=lease))
        left = [taken if member is chosen else member for member in self.members]
        steps += refill_steps(self.hv, self.request, left, self.not_started)
        self.vm = {**expected, "state": RUNNING, "lease": {"user": lease.user, "since": lease.since}}
        return Plan(
            before={} if chosen.free else self._describe(chosen),
            after=self._describe(taken),
            steps=tuple(steps),
            look=self._look,
            facts=lambda phases: {"vm": self.vm, "not_started": self.not_started},
            tells=lambda: tell(self.not_started),
        )

    # --- deciding --------------------------------------------------------------------------------------------------

    def _preview(self) -> tuple[Member, dict[str, Any], Needs]:
        """Return the VM that the user would get now, how it is described then, and what permissions that needs."""
        problems = []
        for member in self._candidates(self.members, ()):
            described = describe_vm(member.vm, self.catalogue)
            if member.running:
                return member, described, ()
            try:
                if not needs_restore(self.hv, self.catalogue, member.vm):
                    return member, described, may_start(member.name)
                restore = plan_restore(self.hv, restore_request(member.vm, force_taken=True))
                return member, restore.after, (*restore.needs, *may_start(member.name))
            except RefusedError as error:
                problems.append(error)
        raise problems[0]

    def _candidates(self, members: list[Member], failed: Collection[str]) -> list[Member]:
        """Return the VMs that the user can get, best first, or refuse."""
        held = [member for member in members if member.user == self.user]
        if self.request.vm is not None:
            return [self._named(members, held, self.request.vm)]
        if held:
            return held[:1]
        free = [member for member in members if member.takeable and member.name not in failed]
        if not free:
            raise self._none_free(members, failed)
        return sorted(
            free,
            key=lambda member: (
                not member.running,
                member.record.failed_starts,
                self.catalogue.outdated(member.record),
            ),
        )

    def _named(self, members: list[Member], held: list[Member], name: str) -> Member:
        member = named(members, self.request.vm_pool, name)
        if member in held:
            return member
        if member.record.lease is not None:
            raise RefusedError(
                f"VM {name!r} is taken by {member.user!r} since {member.record.lease.since}; take another one"
            )
        limit = settings_of(members).vm_per_user
        if len(held) >= limit:
            raise RefusedError(
                f"user {self.user!r} holds {', '.join(other.name for other in held)} of VM pool "
                f"{self.request.vm_pool!r}, and may hold {limit} of its VMs (vm_per_user); return one first"
            )
        if not member.takeable:
            raise RefusedError(f"VM {name!r} cannot be taken: {_why_not(member)}")
        return member

    def _none_free(self, members: list[Member], failed: Collection[str]) -> RefusedError:
        taken = sum(not member.free for member in members)
        others = [
            f"{member.name}: {'it did not come up now' if member.takeable else _why_not(member)}"
            for member in members
            if member.free and (not member.takeable or member.name in failed)
        ]
        return RefusedError(
            f"VM pool {self.request.vm_pool!r} has no free VM for {self.user!r}: {taken} of {len(members)} are taken"
            + (f", and of the others none can be ({'; '.join(others)})" if others else "")
            + "; return one (vm_lease), or let the pool have more (vm_pool with a higher count)"
        )

    # --- doing -----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Take a VM and bring it up; one that does not come up is given back, and another one tried."""
        problems: dict[str, str] = {}
        overtaken = 0
        while True:
            try:
                member = self._acquire(problems)
            except RefusedError as error:
                if not problems:
                    raise
                raise UnhealthyError(f"{error.message} ({'; '.join(problems.values())})") from error
            try:
                self._end_claims(member)
                if not member.running:
                    start_fresh(self.hv, member.name, force_taken=True)
                if self.new or not member.running:
                    wait_up(self.hv, member, self.request.health)
                return
            except GoldenError as error:
                if isinstance(error, (ExistsError, NotFoundError, RefusedError)) and overtaken < ATTEMPTS:
                    # Another task of the user may be at it: it is not freed under that one, but looked at again.
                    overtaken += 1
                    continue
                overtaken = 0
                self._give_back(did_not_come_up(error))
                problems[member.name] = error.message
                if not self.new or self.request.vm is not None or len(problems) == ATTEMPTS:
                    raise type(error)("; ".join(problems.values()), **error.facts) from error

    def _acquire(self, failed: Collection[str]) -> Member:
        """Make a VM the user's, and return it."""
        members = self.members
        for _round in range(_ROUNDS):
            for member in self._candidates(members, failed):
                self.got, self.new = member, member.free
                won = True if not member.free else self._claim(member)
                if won:
                    return member
                if won is None:
                    break
            members = find_members(self.hv, self.request.vm_pool)
        self.got = None
        raise RefusedError(
            f"VM pool {self.request.vm_pool!r} has no free VM for {self.user!r} at this moment, as others are taking "
            "the last ones; run this task again"
        )

    def _claim(self, member: Member) -> bool | None:
        """Claim a free VM and write the lease; return whether it is the user's now, None when they may have another."""
        if self.hv.claim(claim_on(member.uuid), as_user(self.user)) != as_user(self.user):
            return False
        if not self._still_free(member):  # a look at this one alone is cheap, and most are lost here
            self.hv.release(claim_on(member.uuid), as_user(self.user))
            return False
        taking = f"take:{self.request.vm_pool}:{self.user}"
        chosen = self.hv.claim(taking, member.uuid)
        if chosen != member.uuid:  # another task of the user is taking that one, or was killed when it did
            self.hv.release(claim_on(member.uuid), as_user(self.user))
            if self.hv.claim(claim_on(chosen), as_user(self.user)) == as_user(self.user):
                self._write(chosen)
                self.hv.release(claim_on(chosen), as_user(self.user))
            self.hv.release(taking, chosen)
            return None
        try:
            return self._write(member.uuid)
        finally:
            self._end_claims(member)

    def _end_claims(self, member: Member) -> None:
        """End the claims on a VM: those of this task, and those that another one of the user has left."""
        self.hv.release(f"take:{self.request.vm_pool}:{self.user}", member.uuid)
        self.hv.release(claim_on(member.uuid), as_user(self.user))

    def _still_free(self, member: Member) -> bool:
        text = self.hv.metadata(member.name)
        lease = from_text(text, member.name).lease if text is not None else None
        return text is not None and (lease is None or lease.user == self.user)

    def _write(self, uuid: str) -> bool:
        """Write the lease, if the VM still can be taken and the user may have it; both are claimed."""
        members = find_members(self.hv, self.request.vm_pool)
        held = [member.uuid for member in members if member.user == self.user]
        member = next((member for member in members if member.uuid == uuid), None)
        if uuid in held:
            return True
        limit = 1 if self.request.vm is None else settings_of(members).vm_per_user
        if member is None or len(held) >= limit or not member.takeable:
            return False
        try:
            with claimed(self.hv, member.vm, _BRIEFLY):
                present = Member(member.vm, read_record(self.hv, member.name))
                if not present.takeable:
                    return present.user == self.user
                self.hv.set_metadata(member.name, to_text(present.record.changed(lease=self.lease)))
        except (NotFoundError, RefusedError):
            return False  # it is gone, or being changed: there may be others
        return True

    def _give_back(self, failed: bool) -> None:
        """Free the VM again that did not come up, unless the user had it before."""
        if not self.new or self.got is None:
            return
        name = self.got.name

        def free(record: Record) -> Record:
            if record.lease != self.lease:
                return record
            if failed:
                self.hv.stop(name, Shutdown("force"))
            return record.changed(lease=None, failed_starts=record.failed_starts + failed)

        change_record_back(self.hv, self.got.vm, free)

    def _undo(self) -> None:
        self._give_back(failed=False)

    # --- results ---------------------------------------------------------------------------------------------------

    def _describe(self, member: Member) -> dict[str, Any]:
        found = self.hv.addresses_of([member.name]) if member.running else {}
        return describe_lease(member, self.request.vm_pool, found.get(member.name, {}))

    def _look(self) -> dict[str, Any]:
        got = self.got or next(member for member in self.members if member.user == self.user)
        domain = self.hv.domain(got.name)
        vm = domain_xml.read(domain) if domain is not None else got.vm
        self.vm = describe_vm(vm, self.catalogue)
        return self._describe(Member(vm, vm.managed()))


def describe_lease(member: Member, vm_pool: str, addresses: dict[str, list[str]]) -> dict[str, Any]:
    """Return what tasks return of a lease."""
    lease = member.record.lease
    return {
        "vm": member.name,
        "vm_pool": vm_pool,
        "user": lease.user if lease else None,
        "since": lease.since if lease else None,
        "addresses": addresses,
    }


def refill_steps(hv: Hypervisor, request: LeaseRequest, members: list[Member], failures: dict[str, str]) -> list[Step]:
    """Return the step that has as many free VMs running as the pool wants; ``failures`` is told what went wrong."""
    due = missing(members, Catalogue(hv))
    if not due:
        return []

    def do() -> None:
        failures.update(refill(hv, request.vm_pool, request.health))

    say = f"start {', '.join(member.name for member in due)}, so that free VMs run"
    return [Step(say, do, final=True, needs=tuple(need for m in due for need in may_start(m.name)))]


def _why_not(member: Member) -> str:
    record = member.record
    if record.set_aside:
        return (
            f"it is set aside, as it did not come up {record.failed_starts} times; look at it, and restore it "
            "(vm_restore with force) or let vm_pool try again (retry_set_aside)"
        )
    if record.pending is not None:
        return f"a task is at it, or was killed when it was ({record.pending.job}); run that one again"
    if record.detached_disk:
        return "its root is detached"
    return f"it is {member.vm.domain.state}" if member.vm.domain.persistent else "it is transient"
