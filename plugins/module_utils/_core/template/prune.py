"""Deleting the versions of a template that are old and that nothing uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..errors import InvalidError
from ..hypervisor import Hypervisor
from ..plan import Plan
from . import manifest
from .catalog import Entry, Template, Usage, read_template
from .unpublish import leftovers, retire, users_of


def plan_prune(hv: Hypervisor, storage_pool: str, name: str, keep: int, settled: Iterable[str] = ()) -> Plan:
    """Return the plan that deletes the versions older than the last ``keep`` active ones, unless something uses them.

    The previous roots that the VMs ``settled`` keep count as gone: in a dry run they are still there.
    """
    if keep < 1:
        raise InvalidError(f"keep: {keep} is less than 1; the latest version is always kept")
    template = read_template(hv, storage_pool, name)
    usage = _without_kept_roots(Usage.read(hv), set(settled))
    # Those of a run that died are marked as deleted, and their images may be there still.
    going = [entry for entry in template.entries if entry.deleted]
    deleted, kept = [], []
    for entry in template.entries:
        if not entry.deleted:
            users = users_of(hv, usage, template, entry, leftovers(hv, template, [*going, entry]))
            reason = why_kept(template, entry, keep) or (f"it is in use by {', '.join(users)}" if users else "")
            if reason:
                kept.append({**_identity(entry), "reason": reason})
            else:
                going.append(entry)
                deleted.append(_identity(entry))
    found = {"template": name, "storage_pool": storage_pool}
    volumes = [hv.volume(storage_pool, volume) for volume in leftovers(hv, template, going)]
    told = {"deleted": deleted, "kept": kept, "freed": sum(volume.allocation for volume in volumes if volume)}
    return Plan(
        before={**found, "versions": [entry.version for entry in template.entries if not entry.deleted]},
        after={**found, "versions": [entry["version"] for entry in kept]},
        steps=tuple(retire(hv, template, going)),
        facts=lambda phases: told,
    )


def why_kept(template: Template, entry: Entry, keep: int) -> str:
    """Return why the policy keeps a version, whoever uses it; empty for one that is old enough to go."""
    active = [version.version for version in template.ready if version.lifecycle == manifest.ACTIVE]
    if not entry.ready:
        return "it is being published, or its publisher died"
    if template.latest is not None and entry.version == template.latest.version:
        return "it is the latest"
    if len(active) < keep:
        return f"there are no {keep} active versions"
    if entry.version in active[-keep:]:
        return f"it is one of the last {keep} active versions"
    return f"it is newer than version {active[-keep]}" if entry.version > active[-keep] else ""


def _without_kept_roots(usage: Usage, vms: set[str]) -> Usage:
    settled, gone = [], set()
    for vm in usage.vms:
        if vm.name in vms and vm.record is not None and vm.record.previous is not None:
            gone.add((vm.record.previous.storage_pool, vm.record.previous.volume))
            settled.append(replace(vm, record=vm.record.changed(previous=None)))
        else:
            settled.append(vm)
    return Usage(settled, [volume for volume in usage.volumes if (volume.storage_pool, volume.name) not in gone])


def _identity(entry: Entry) -> dict[str, Any]:
    return {
        "template": entry.template,
        "storage_pool": entry.storage_pool,
        "version": entry.version,
        "version_name": entry.manifest.version_name if entry.manifest is not None else "",
    }
