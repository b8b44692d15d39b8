"""The members of VM pools, and what tasks return of a pool."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import NotFoundError
from ..hypervisor import RUNNING, SHUT_OFF, Domain
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..template.catalog import Catalogue
from ..vm.record import PoolSettings, Record


@dataclass(frozen=True)
class Member:
    """A VM of a pool."""

    vm: Vm
    record: Record

    @property
    def name(self) -> str:
        """The name of the VM."""
        return self.vm.name

    @property
    def uuid(self) -> str:
        """The UUID of the VM."""
        return self.vm.domain.uuid

    @property
    def number(self) -> int:
        """The n of its name ``<vm_pool>-<n>``; a member that was renamed counts as the last."""
        match = re.search(r"-([0-9]+)\Z", self.vm.name)
        return int(match[1]) if match else 10**9

    @property
    def user(self) -> str | None:
        """Who holds it."""
        return self.record.lease.user if self.record.lease is not None else None

    @property
    def free(self) -> bool:
        """Whether nobody holds it."""
        return self.record.lease is None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.vm.domain.state == RUNNING

    @property
    def going(self) -> bool:
        """Whether a task has begun to remove it."""
        return self.record.going

    @property
    def takeable(self) -> bool:
        """Whether it can be handed to a user."""
        return (
            self.free
            and self.record.pending is None
            and not self.record.set_aside
            and not self.record.detached_disk
            and self.vm.domain.persistent
            and self.vm.domain.state in (RUNNING, SHUT_OFF)
        )

    @property
    def ready(self) -> bool:
        """Whether it runs and can be handed to a user at once."""
        return self.takeable and self.running


def is_prestarted(vm: Vm) -> bool:
    """Whether a VM of a pool runs and can be handed to a user at once."""
    record = vm.managed()
    return record.vm_pool is not None and Member(vm, record).ready


def members_of(domains: Iterable[Domain]) -> dict[str, list[Member]]:
    """Return the members of all pools among these domains, by number; those that cannot be read are left out."""
    pools: dict[str, list[Member]] = {}
    for domain, record in domain_xml.managed_of(domains)[0]:
        if record.vm_pool is not None:
            pools.setdefault(record.vm_pool.name, []).append(Member(domain_xml.read(domain), record))
    for members in pools.values():
        members.sort(key=lambda member: member.number)
    return dict(sorted(pools.items()))


def damaged_members(domains: Iterable[Domain], vm_pool: str) -> list[str]:
    """Return what is wrong with the VMs that by their names are members of a pool, and that cannot be read."""
    _managed, damaged = domain_xml.managed_of(domains)
    return [problem for name, problem in damaged.items() if is_member_name(vm_pool, name)]


def is_member_name(vm_pool: str, vm: str) -> bool:
    """Whether a VM has the name of a member of a pool: all that is known of one whose record cannot be read."""
    return re.fullmatch(re.escape(vm_pool) + "-[0-9]+", vm) is not None


def describe_pool(name: str, members: list[Member], catalogue: Catalogue) -> dict[str, Any]:
    """Return what tasks return of a pool."""
    settings = settings_of(members)
    record = members[0].record
    return {
        "name": name,
        "template": record.root.template,
        "template_storage_pool": record.root.template_storage_pool,
        "wanted_version": catalogue.wanted_version(record),
        "use_latest_template_version": record.follows_latest,
        "stateless": record.stateless,
        "auto_refresh": settings.auto_refresh,
        "count": len(members),
        "prestarted": settings.prestarted,
        "vm_per_user": settings.vm_per_user,
        "members": [_describe_member(member, catalogue) for member in members],
        "free": [member.name for member in members if member.free and not member.record.set_aside],
        "taken": {member.name: member.user for member in members if member.user is not None},
        "running": [member.name for member in members if member.running],
        "ready": [member.name for member in members if member.ready],
        "outdated": [member.name for member in members if catalogue.outdated(member.record)],
        "set_aside": [member.name for member in members if member.record.set_aside],
    }


def _describe_member(member: Member, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "name": member.name,
        "state": member.vm.domain.state,
        "template_version": member.record.root.version,
        "outdated": catalogue.outdated(member.record),
        "user": member.user,
        "failed_starts": member.record.failed_starts,
    }


def settings_of(members: list[Member]) -> PoolSettings:
    """Return the settings of the pool that these are the members of."""
    for member in members:
        if member.record.vm_pool is not None:
            return member.record.vm_pool
    raise NotFoundError("a VM pool without members has no settings")
