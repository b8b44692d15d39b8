"""Ensuring a VM pool: a set of VMs made from one template, named ``<vm_pool>-<n>``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .. import names
from ..errors import InvalidError, NotFoundError, RefusedError
from ..hypervisor import RUNNING, Health, Hypervisor
from ..libvirt_xml.domain_xml import Network
from ..names import LATEST
from ..payload.payload import PayloadRequest
from ..payload.vm_payload import Handing, hand_over
from ..permissions import may_start, may_write
from ..plan import Phases, Plan, Step
from ..template.catalog import Catalogue, check_usable
from ..vm.record import CREATE, PoolSettings, Record
from ..vm.root import find_template
from ..vm.vm import plan_vm
from ..vm.vm_claim import change_record, change_record_back
from ..vm.vm_creation import Origin, find_origin, plan_creation
from ..vm.vm_removal import named_after_vms, plan_removal, reservation
from ..vm.vm_request import ABSENT, PRESENT, Size, VmRequest
from ..volume.volume_use import DiskUsers
from .vm_pool_members import Member, damaged_members, describe_pool, members_of, settings_of
from .vm_prestart import RANK_OF_NEW, rank, refill, startable, tell

MOST = 10_000
"""Members that a pool can have: more were a slip, and planning them would take all memory."""


@dataclass(frozen=True)
class VmPoolRequest:
    """What the user wants of a pool; None leaves a part as it is."""

    vm_pool: str
    state: str = PRESENT
    template: str | None = None
    template_version: str | None = None
    count: int | None = None
    stateless: bool | None = None
    prestarted: int | None = None
    vm_per_user: int | None = None
    auto_refresh: bool | None = None
    retry_set_aside: bool = False
    health: Health = field(default_factory=Health)
    size: Size = field(default_factory=Size)
    networks: tuple[Network, ...] | None = None
    storage_pools: tuple[str, ...] = ()
    wait_timeout: int = 120
    payload: PayloadRequest | None = None


# --- plans -----------------------------------------------------------------------------------------------------------


def plan_vm_pool(hv: Hypervisor, request: VmPoolRequest) -> Plan:
    """Return the plan that brings a pool to what is wanted of it."""
    names.check_vm_name(request.vm_pool)
    domains = hv.domains()
    damaged = damaged_members(domains, request.vm_pool)
    if damaged:
        raise InvalidError(
            f"VM pool {request.vm_pool!r} cannot be changed, as one of its VMs cannot be read: {damaged[0]}"
        )
    members = members_of(domains).get(request.vm_pool, [])
    if request.state == ABSENT:
        return _plan_removal(hv, request, members)
    return _PoolChange(hv, request, members, {domain.name for domain in domains}).plan()


def _plan_removal(hv: Hypervisor, request: VmPoolRequest, members: list[Member]) -> Plan:
    if not members:
        return Plan({}, {})
    taken = [f"{member.name} by {member.user!r}" for member in members if not member.free]
    if taken:
        raise RefusedError(
            f"VM pool {request.vm_pool!r} has members that are taken ({', '.join(taken)}); they must be returned first"
        )
    catalogue = Catalogue(hv)
    before = describe_pool(request.vm_pool, members, catalogue)
    return Plan(before, {}, tuple(_removal_steps(hv, request, members, catalogue)))


def _removal_steps(hv: Hypervisor, request: VmPoolRequest, members: list[Member], catalogue: Catalogue) -> list[Step]:
    if not members:
        return []
    users, named = DiskUsers.read(hv), named_after_vms(hv)
    reserving: list[Step] = []
    removing: list[Step] = []
    for member in members:
        remove = VmRequest(member.name, ABSENT, wait_timeout=request.wait_timeout)
        reserving += reservation(hv, member.vm)
        removing += plan_removal(hv, member.vm.domain, remove, users, catalogue, named=named, reserved=True).steps
    return [*reserving, *removing]


class _PoolChange:
    """What is decided for one pool: its settings, and the members to make, change, remove and start."""

    def __init__(self, hv: Hypervisor, request: VmPoolRequest, members: list[Member], taken_names: set[str]) -> None:
        self.hv = hv
        self.request = request
        self.going = [member for member in members if member.going]
        self.members = [member for member in members if not member.going]
        self.all_members = members
        self.taken_names = taken_names
        self.catalogue = Catalogue(hv)
        self._check()
        self.count = request.count if request.count is not None else len(self.members) or len(members)
        self.settings = self._wanted_settings()
        self.follows, self.version = self._wanted_version()
        self.not_started: dict[str, str] = {}

    def plan(self) -> Plan:
        staying, leaving = self._choose_leaving()
        leaving += self.going
        creations = self._creations()
        completions = [self._completion(member) for member in staying if _incomplete(member)]
        steps = [step for creation in [*completions, *creations] for step in creation.steps]
        steps += self._setting_steps(staying)
        handings = self._handings(staying)
        steps += [step for handing in handings for step in handing.steps]
        starting = self._starting(staying, creations)
        steps += [step for handing in handings for step in handing.cleaning]
        # What goes cannot be taken back, and so comes after what can; a member that does not come up holds up nothing.
        steps += _removal_steps(self.hv, self.request, leaving, self.catalogue)
        if starting:
            say = f"start {', '.join(starting)}, so that free VMs run"
            needs = tuple(need for name in starting for need in may_start(name))
            steps.append(Step(say, self._refill, final=True, needs=needs))
        before = describe_pool(self.request.vm_pool, self.all_members, self.catalogue) if self.all_members else {}
        return Plan(
            before,
            self._after(staying, creations, starting),
            tuple(steps),
            warnings=(*self._warnings(staying), *(told for handing in handings for told in handing.warnings)),
            look=self._look,
            facts=self._facts(leaving, creations),
            tells=lambda: tell(self.not_started),
        )

    def _refill(self) -> None:
        self.not_started.update(refill(self.hv, self.request.vm_pool, self.request.health))

    def _warnings(self, staying: list[Member]) -> tuple[str, ...]:
        aside = [m.name for m in staying if m.record.set_aside] if not self.request.retry_set_aside else []
        if not aside:
            return ()
        return (
            f"VM pool {self.request.vm_pool!r}: {', '.join(aside)} did not come up again and again, and is set aside; "
            "look at it, then restore it (vm_restore with force) or set 'retry_set_aside: true'",
        )

    def _check(self) -> None:
        request = self.request
        for option, value in (("count", request.count), ("prestarted", request.prestarted)):
            if value is not None and value < 0:
                raise InvalidError(f"{option}: {value} is less than 0")
        if request.count is not None and request.count > MOST:
            raise InvalidError(f"count: {request.count} is more than the {MOST} VMs that a pool can have")
        if request.count == 0:
            raise InvalidError(
                f"count: a VM pool has members; use 'state: absent' to remove VM pool {request.vm_pool!r}"
            )
        if request.vm_per_user is not None and request.vm_per_user < 1:
            raise InvalidError(f"vm_per_user: {request.vm_per_user} is less than 1")
        stateless = self.all_members[0].record.stateless if self.all_members else request.stateless is not False
        if request.template_version == LATEST and not stateless:
            raise InvalidError(
                f"VM pool {request.vm_pool!r} is not stateless, so it cannot follow the latest version: moving its "
                "members would lose what is on their roots; name a version by its number"
            )
        if self.all_members:
            self._check_unchangeable(self.all_members[0].record)
        elif request.template is None or request.count is None:
            raise NotFoundError(f"there is no VM pool {request.vm_pool!r}; to make it, give 'template' and 'count'")

    def _check_unchangeable(self, record: Record) -> None:
        if self.request.template not in (None, record.root.template):
            raise RefusedError(
                f"VM pool {self.request.vm_pool!r} is made from template {record.root.template!r}, not "
                f"{self.request.template!r}; make another pool, or move its members with vm_restore"
            )
        if self.request.stateless not in (None, record.stateless):
            raise RefusedError(
                f"the members of VM pool {self.request.vm_pool!r} are {'' if record.stateless else 'not '}stateless; "
                "that is decided when a pool is made: make another pool"
            )

    def _wanted_settings(self) -> PoolSettings:
        request = self.request
        known = settings_of(self.all_members) if self.all_members else PoolSettings(request.vm_pool, self.count)
        wanted = replace(
            known,
            count=self.count,
            prestarted=known.prestarted if request.prestarted is None else request.prestarted,
            vm_per_user=known.vm_per_user if request.vm_per_user is None else request.vm_per_user,
            auto_refresh=known.auto_refresh if request.auto_refresh is None else request.auto_refresh,
        )
        if wanted.prestarted > wanted.count:
            raise InvalidError(f"prestarted: {wanted.prestarted} is more than the {wanted.count} VMs of the pool")
        return wanted

    def _wanted_version(self) -> tuple[str, str]:
        """Return what members follow, and the selector of the version that new ones get."""
        record = self.all_members[0].record if self.all_members else None
        stateless = record.stateless if record else self.request.stateless is not False
        selector = self.request.template_version or None
        if record is not None and selector is None:
            return record.follows, record.follows
        if selector in (None, LATEST) and stateless:
            return LATEST, LATEST
        template = (
            self.catalogue.template(record.root.template_storage_pool, record.root.template)
            if record
            else find_template(self.hv, self.request.template or "", list(self.request.storage_pools) or ["default"])
        )
        number = str(check_usable(template.select(selector or LATEST)).version)
        return number, number

    def _choose_leaving(self) -> tuple[list[Member], list[Member]]:
        """Return the members that stay and those that go when the count was lowered: free ones, the last first."""
        surplus = len(self.members) - self.count
        if surplus <= 0:
            return self.members, []
        free = [member for member in self.members if member.free]
        if len(free) < surplus:
            raise RefusedError(
                f"VM pool {self.request.vm_pool!r} is to lose {surplus} of its {len(self.members)} VMs, and "
                f"only {len(free)} "
                "are free; wait until more are returned, or lower the count less"
            )
        # Those that do not come up go first, then those with the highest numbers.
        free.sort(key=lambda member: (member.record.set_aside, member.number))
        leaving = free[-surplus:]
        return [member for member in self.members if member not in leaving], leaving

    def _new_names(self) -> list[str]:
        numbers = iter(range(1, len(self.members) + self.count + len(self.taken_names) + 1))
        wanted = self.count - len(self.members)
        found: list[str] = []
        while len(found) < wanted:
            name = f"{self.request.vm_pool}-{next(numbers)}"
            if name not in self.taken_names:
                found.append(name)
        return found

    def _creations(self) -> list[Plan]:
        new = [self._creation_request(name) for name in self._new_names()]
        if not new:
            return []
        origin: Origin = find_origin(self.hv, new[0])
        return [plan_creation(self.hv, self.catalogue, request, origin) for request in new]

    def _creation_request(self, name: str) -> VmRequest:
        record = self.all_members[0].record if self.all_members else None
        return VmRequest(
            name=name,
            template=record.root.template if record else self.request.template,
            template_version=self.version,
            use_latest_template_version=self.follows == LATEST,
            stateless=record.stateless if record else self.request.stateless is not False,
            size=self.request.size,
            networks=self.request.networks,
            storage_pools=self._storage_pools(record),
            vm_pool=self.settings,
            template_storage_pool=record.root.template_storage_pool if record else None,
            payload=self.request.payload,
        )

    def _storage_pools(self, record: Record | None) -> tuple[str, ...]:
        if self.request.storage_pools or record is None:
            return self.request.storage_pools
        return (record.root.storage_pool,)

    def _completion(self, member: Member) -> Plan:
        return plan_vm(self.hv, VmRequest(member.vm.name, size=self.request.size, payload=self.request.payload))

    def _handings(self, staying: list[Member]) -> list[Handing]:
        """Return what hands the payload to the members that nobody holds."""
        if self.request.payload is None:
            return []
        free = [member for member in staying if member.free and member.record.pending is None]
        lives = {member.name: self.hv.live_xml(member.name) for member in free if member.vm.domain.active}
        return [hand_over(self.hv, member.vm, lives.get(member.name), self.request.payload) for member in free]

    def _setting_steps(self, staying: list[Member]) -> list[Step]:
        steps = []
        for member in staying:
            if self._wanted(member.record) != member.record:
                steps.append(
                    Step(
                        f"set what VM {member.name!r} follows and its pool's settings",
                        partial(change_record, self.hv, member.vm, self._wanted),
                        partial(change_record_back, self.hv, member.vm, self._former(member.record)),
                        needs=may_write(member.name),
                    )
                )
        return steps

    def _wanted(self, record: Record) -> Record:
        failed = 0 if self.request.retry_set_aside and record.set_aside else record.failed_starts
        return record.changed(vm_pool=self.settings, follows=self.follows, failed_starts=failed)

    def _former(self, before: Record) -> Callable[[Record], Record]:
        return lambda record: record.changed(
            vm_pool=before.vm_pool, follows=before.follows, failed_starts=before.failed_starts
        )

    def _starting(self, staying: list[Member], creations: list[Plan]) -> list[str]:
        """Return the members to start, so that ``prestarted`` free VMs run."""
        known = [self._changed(member) for member in staying]
        ranked = [(rank(member, self.catalogue), member.name) for member in known if startable(member)]
        ranked += [(RANK_OF_NEW, str(creation.after["name"])) for creation in creations]
        ranked.sort(key=lambda ranked: (ranked[0], _number(ranked[1])))
        wanted = max(0, self.settings.prestarted - sum(member.ready for member in known))
        return [name for _rank, name in ranked[:wanted]]

    def _changed(self, member: Member) -> Member:
        record = self._wanted(member.record)
        return Member(member.vm, record.changed(pending=None) if _incomplete(member) else record)

    def _after(self, staying: list[Member], creations: list[Plan], starting: list[str]) -> dict[str, Any]:
        changed = [self._changed(member) for member in staying]
        if changed:
            after = describe_pool(self.request.vm_pool, changed, self.catalogue)
        else:
            first = creations[0].after
            after = {
                "name": self.request.vm_pool,
                **{key: first[key] for key in _SHARED},
                **{"members": [], "free": [], "taken": {}, "running": [], "ready": [], "outdated": [], "set_aside": []},
            }
        after |= {
            "count": self.count,
            "prestarted": self.settings.prestarted,
            "vm_per_user": self.settings.vm_per_user,
            "auto_refresh": self.settings.auto_refresh,
        }
        for creation in creations:
            vm = creation.after
            member = {key: vm[key] for key in ("name", "state", "template_version", "outdated")}
            after["members"].append({**member, "user": None, "failed_starts": 0})
            after["free"].append(vm["name"])
        for member in after["members"]:
            if member["name"] in starting:
                member["state"] = RUNNING
                if member["outdated"]:  # it is restored to be started
                    member.update(template_version=after["wanted_version"], outdated=False)
        after["outdated"] = [member["name"] for member in after["members"] if member["outdated"]]
        after["members"].sort(key=lambda member: _number(member["name"]))
        after["free"].sort(key=_number)
        after["running"] = [member["name"] for member in after["members"] if member["state"] == RUNNING]
        after["ready"] = [name for name in after["running"] if name in {*after["ready"], *starting}]
        return after

    def _look(self) -> dict[str, Any]:
        members = members_of(self.hv.domains()).get(self.request.vm_pool, [])
        return describe_pool(self.request.vm_pool, members, Catalogue(self.hv))

    def _facts(self, leaving: list[Member], creations: list[Plan]) -> Callable[[Phases], dict[str, Any]]:
        def facts(_phases: Phases) -> dict[str, Any]:
            return {
                "created": [c.after["name"] for c in creations],
                "removed": [member.name for member in leaving],
                "not_started": self.not_started,
            }

        return facts


_SHARED = ("template", "template_storage_pool", "wanted_version", "use_latest_template_version", "stateless")


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _incomplete(member: Member) -> bool:
    return member.record.pending is not None and member.record.pending.job == CREATE
