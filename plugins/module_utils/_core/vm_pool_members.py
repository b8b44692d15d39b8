"""The members of VM pools, and what tasks return of a pool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from . import domain_xml
from .catalog import Catalogue
from .domain_xml import Vm
from .errors import NotFoundError
from .hypervisor import RUNNING, Domain
from .record import PoolSettings, Record


@dataclass(frozen=True)
class Member:
    """A VM of a pool."""

    vm: Vm
    record: Record

    @property
    def number(self) -> int:
        """The n of its name ``<vm_pool>-<n>``; a member that was renamed counts as the last."""
        match = re.search(r"-([0-9]+)\Z", self.vm.name)
        return int(match[1]) if match else 10**9

    @property
    def free(self) -> bool:
        """Whether nobody holds it."""
        return self.record.lease is None


def members_of(domains: list[Domain]) -> dict[str, list[Member]]:
    """Return the members of all pools among these domains, by number."""
    pools: dict[str, list[Member]] = {}
    for domain in domains:
        record = domain_xml.record_of(domain)
        if record is not None and record.vm_pool is not None:
            pools.setdefault(record.vm_pool.name, []).append(Member(domain_xml.read(domain), record))
    for members in pools.values():
        members.sort(key=lambda member: member.number)
    return dict(sorted(pools.items()))


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
        "count": len(members),
        "prestarted": settings.prestarted,
        "vm_per_user": settings.vm_per_user,
        "members": [_describe_member(member, catalogue) for member in members],
        "free": [member.vm.name for member in members if member.free],
        "taken": {m.vm.name: m.record.lease.user for m in members if m.record.lease is not None},
        "running": [member.vm.name for member in members if member.vm.domain.state == RUNNING],
        "outdated": [member.vm.name for member in members if catalogue.outdated(member.record)],
    }


def _describe_member(member: Member, catalogue: Catalogue) -> dict[str, Any]:
    return {
        "name": member.vm.name,
        "state": member.vm.domain.state,
        "template_version": member.record.root.version,
        "outdated": catalogue.outdated(member.record),
        "user": member.record.lease.user if member.record.lease else None,
    }


def settings_of(members: list[Member]) -> PoolSettings:
    """Return the settings of the pool that these are the members of."""
    for member in members:
        if member.record.vm_pool is not None:
            return member.record.vm_pool
    raise NotFoundError("a VM pool without members has no settings")
