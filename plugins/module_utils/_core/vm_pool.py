"""Ensuring a VM pool: a set of VMs made from one template, named ``<vm_pool>-<n>``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from . import names
from .catalog import Catalogue, check_usable
from .domain_xml import Network
from .errors import InvalidError, NotFoundError, RefusedError
from .hypervisor import RUNNING, Hypervisor, Shutdown
from .names import LATEST
from .plan import Phases, Plan, Step
from .record import CREATE, PoolSettings, Record, to_text
from .root import find_template
from .vm import plan_vm
from .vm_creation import plan_creation
from .vm_pool_members import Member, describe_pool, members_of, settings_of
from .vm_removal import disk_users, plan_removal
from .vm_request import ABSENT, PRESENT, Size, VmRequest


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
    size: Size = field(default_factory=Size)
    networks: tuple[Network, ...] | None = None
    storage_pools: tuple[str, ...] = ()
    wait_timeout: int = 120


# --- plans -----------------------------------------------------------------------------------------------------------


def plan_vm_pool(hv: Hypervisor, request: VmPoolRequest) -> Plan:
    """Return the plan that brings a pool to what is wanted of it."""
    names.check_vm_name(request.vm_pool)
    domains = hv.domains()
    members = members_of(domains).get(request.vm_pool, [])
    if request.state == ABSENT:
        return _plan_removal(hv, request, members)
    return _PoolChange(hv, request, members, {domain.name for domain in domains}).plan()


def _plan_removal(hv: Hypervisor, request: VmPoolRequest, members: list[Member]) -> Plan:
    if not members:
        return Plan({}, {})
    taken = [f"{m.vm.name} by {m.record.lease.user!r}" for m in members if m.record.lease is not None]
    if taken:
        raise RefusedError(
            f"VM pool {request.vm_pool!r} has members that are taken ({', '.join(taken)}); they must be returned first"
        )
    before = describe_pool(request.vm_pool, members, Catalogue(hv))
    return Plan(before, {}, tuple(_removal_steps(hv, request, members)))


def _removal_steps(hv: Hypervisor, request: VmPoolRequest, members: list[Member]) -> list[Step]:
    steps: list[Step] = []
    users = disk_users(hv.domains()) if members else {}
    for member in members:
        remove = VmRequest(member.vm.name, ABSENT, wait_timeout=request.wait_timeout)
        steps += plan_removal(hv, member.vm.domain, remove, users).steps
    return steps


class _PoolChange:
    """What is decided for one pool: its settings, and the members to make, change, remove and start."""

    def __init__(self, hv: Hypervisor, request: VmPoolRequest, members: list[Member], taken_names: set[str]) -> None:
        self.hv = hv
        self.request = request
        self.members = members
        self.taken_names = taken_names
        self.catalogue = Catalogue(hv)
        self._check()
        self.count = request.count if request.count is not None else len(members)
        self.settings = self._wanted_settings()
        self.follows, self.version = self._wanted_version()

    def plan(self) -> Plan:
        staying, leaving = self._choose_leaving()
        creations = [self._creation(name) for name in self._new_names()]
        completions = [self._completion(member) for member in staying if _incomplete(member)]
        steps = [step for creation in [*completions, *creations] for step in creation.steps]
        steps += self._setting_steps(staying)
        starting = self._starting(staying, [str(creation.after["name"]) for creation in creations])
        steps += [Step(f"start VM {name!r}", self._starter(name), self._stopper(name)) for name in starting]
        steps += _removal_steps(self.hv, self.request, leaving)  # last, as it cannot be taken back
        before = describe_pool(self.request.vm_pool, self.members, self.catalogue) if self.members else {}
        return Plan(
            before,
            self._after(staying, creations, starting),
            tuple(steps),
            look=self._look,
            facts=self._facts(leaving, creations),
        )

    def _check(self) -> None:
        request = self.request
        for option, value in (("count", request.count), ("prestarted", request.prestarted)):
            if value is not None and value < 0:
                raise InvalidError(f"{option}: {value} is less than 0")
        if request.count == 0:
            raise InvalidError(
                f"count: a VM pool has members; use 'state: absent' to remove VM pool {request.vm_pool!r}"
            )
        if request.vm_per_user is not None and request.vm_per_user < 1:
            raise InvalidError(f"vm_per_user: {request.vm_per_user} is less than 1")
        if self.members:
            self._check_unchangeable(self.members[0].record)
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
        known = settings_of(self.members) if self.members else PoolSettings(request.vm_pool, self.count)
        wanted = replace(
            known,
            count=self.count,
            prestarted=known.prestarted if request.prestarted is None else request.prestarted,
            vm_per_user=known.vm_per_user if request.vm_per_user is None else request.vm_per_user,
        )
        if wanted.prestarted > wanted.count:
            raise InvalidError(f"prestarted: {wanted.prestarted} is more than the {wanted.count} VMs of the pool")
        return wanted

    def _wanted_version(self) -> tuple[str, str]:
        """Return what members follow, and the selector of the version that new ones get."""
        record = self.members[0].record if self.members else None
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

    def _creation(self, name: str) -> Plan:
        record = self.members[0].record if self.members else None
        request = VmRequest(
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
        )
        return plan_creation(self.hv, self.catalogue, request)

    def _storage_pools(self, record: Record | None) -> tuple[str, ...]:
        if self.request.storage_pools or record is None:
            return self.request.storage_pools
        return (record.root.storage_pool,)

    def _completion(self, member: Member) -> Plan:
        return plan_vm(self.hv, VmRequest(member.vm.name, size=self.request.size))

    def _setting_steps(self, staying: list[Member]) -> list[Step]:
        steps = []
        for member in staying:
            present = member.record.changed(pending=None) if _incomplete(member) else member.record
            wanted = present.changed(vm_pool=self.settings, follows=self.follows)
            if wanted != present:
                steps.append(
                    Step(
                        f"set what VM {member.vm.name!r} follows and its pool's settings",
                        self._writer(member.vm.name, wanted),
                        self._writer(member.vm.name, present),
                    )
                )
        return steps

    def _writer(self, name: str, record: Record) -> Any:
        return lambda: self.hv.set_metadata(name, to_text(record))

    def _starting(self, staying: list[Member], created: list[str]) -> list[str]:
        """Return the members to start, so that ``prestarted`` free VMs run."""
        running = sum(member.free and member.vm.domain.state == RUNNING for member in staying)
        down = [member.vm.name for member in staying if member.free and not member.vm.domain.active] + created
        return down[: max(0, self.settings.prestarted - running)]

    def _starter(self, name: str) -> Any:
        return lambda: self.hv.start(name)

    def _stopper(self, name: str) -> Any:
        return lambda: self.hv.stop(name, Shutdown("force"))

    def _after(self, staying: list[Member], creations: list[Plan], starting: list[str]) -> dict[str, Any]:
        changed = [Member(m.vm, m.record.changed(vm_pool=self.settings, follows=self.follows)) for m in staying]
        if changed:
            after = describe_pool(self.request.vm_pool, changed, self.catalogue)
        else:
            first = creations[0].after
            after = {
                "name": self.request.vm_pool,
                **{key: first[key] for key in _SHARED},
                **{"members": [], "free": [], "taken": {}, "running": [], "outdated": []},
            }
        after |= {
            "count": self.count,
            "prestarted": self.settings.prestarted,
            "vm_per_user": self.settings.vm_per_user,
        }
        for creation in creations:
            vm = creation.after
            member = {key: vm[key] for key in ("name", "state", "template_version", "outdated")}
            after["members"].append({**member, "user": None})
            after["free"].append(vm["name"])
        for member in after["members"]:
            if member["name"] in starting:
                member["state"] = RUNNING
        after["members"].sort(key=lambda member: _number(member["name"]))
        after["free"].sort(key=_number)
        after["running"] = [member["name"] for member in after["members"] if member["state"] == RUNNING]
        return after

    def _look(self) -> dict[str, Any]:
        members = members_of(self.hv.domains()).get(self.request.vm_pool, [])
        return describe_pool(self.request.vm_pool, members, Catalogue(self.hv))

    @staticmethod
    def _facts(leaving: list[Member], creations: list[Plan]) -> Any:
        def facts(_phases: Phases) -> dict[str, Any]:
            return {
                "created": [c.after["name"] for c in creations],
                "removed": [member.vm.name for member in leaving],
            }

        return facts


_SHARED = ("template", "template_storage_pool", "wanted_version", "use_latest_template_version", "stateless")


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _incomplete(member: Member) -> bool:
    return member.record.pending is not None and member.record.pending.job == CREATE
