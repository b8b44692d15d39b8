"""Lists of template versions, with who is on them."""

from __future__ import annotations

from typing import Any

from ..hypervisor import Hypervisor
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import disks_of, nics_of
from ..listing import Listing
from ..vm.describe import describe_nic
from . import manifest
from .catalog import Entry, Template, describe_version, look_at_template, look_at_templates, vms_by_version
from .manifest import Manifest

UNREADABLE = "unreadable"
"""The status of a version whose manifest is damaged, or of a newer format."""


def list_versions(hv: Hypervisor, storage_pool: str, template: str | None, all_versions: bool) -> Listing:
    """Return the latest version of each template, or all versions; ``template`` limits it to that one."""
    hv.storage_pool(storage_pool)
    templates = [look_at_template(hv, storage_pool, template)] if template else look_at_templates(hv, storage_pool)
    domains = hv.domains()
    on_version = vms_by_version(domains)
    listed = []
    for found in templates:
        for entry in found.entries:
            if not entry.deleted and (all_versions or _is_latest(found, entry)):
                vms = on_version.get((storage_pool, entry.template, entry.version), [])
                listed.append(_describe(hv, found, entry, vms))
    unread = [entry.problem for found in templates for entry in found.entries if entry.problem]
    return Listing(listed, [*unread, *domain_xml.managed_of(domains)[1].values()])


def _is_latest(template: Template, entry: Entry) -> bool:
    return template.latest is not None and entry.version == template.latest.version


def _describe(hv: Hypervisor, template: Template, entry: Entry, vms: list[str]) -> dict[str, Any]:
    version = entry.manifest
    if version is None:
        return {
            "template": entry.template,
            "version": entry.version,
            "version_name": "",
            "status": UNREADABLE if entry.problem else manifest.CREATING,
            "storage_pool": entry.storage_pool,
            "latest": False,
            "complete": False,
            **_hardware(None),
            "vms": vms,
            "allocation": 0,
        }
    image = hv.volume(entry.storage_pool, version.image.volume)
    return {
        **describe_version(version, entry.storage_pool, template.latest.version if template.latest else None),
        **_hardware(version),
        "vms": vms,
        "allocation": image.allocation if image else 0,
    }


def _hardware(version: Manifest | None) -> dict[str, Any]:
    if version is None or not version.domain_xml:
        return {"disks": [], "nics": []}
    disks = disks_of(version.domain_xml)
    return {
        "disks": [{"device": disk.device, "target": disk.target, "bus": disk.bus} for disk in disks],
        "nics": [
            {key: value for key, value in describe_nic(nic).items() if key != "mac"}
            for nic in nics_of(version.domain_xml)
        ],
    }
