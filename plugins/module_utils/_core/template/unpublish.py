"""Deleting one version of a template, or a template with all of its versions."""

from __future__ import annotations

from typing import Any

from .. import names
from ..errors import RefusedError
from ..hypervisor import Hypervisor
from ..permissions import may_delete_volume, may_write_volume
from ..plan import Plan, Step
from . import manifest
from .catalog import Entry, Template, Usage, describe_version, read_template
from .manifest import Image, Manifest


def plan_delete_version(hv: Hypervisor, storage_pool: str, name: str, selector: str) -> Plan:
    """Return the plan that deletes one version; its number stays used."""
    template = read_template(hv, storage_pool, name)
    entry = _find(template, selector)
    if entry is None or (entry.deleted and not leftovers(hv, template, [entry])):
        return Plan({}, {})
    _check_unused(hv, template, [entry])
    return Plan(before=_describe(template, entry), after={}, steps=tuple(retire(hv, template, [entry])))


def plan_delete_template(hv: Hypervisor, storage_pool: str, name: str) -> Plan:
    """Return the plan that deletes a template with all of its volumes."""
    template = read_template(hv, storage_pool, name)
    if not template.entries:
        return Plan({}, {})
    entries = list(template.entries)
    _check_unused(hv, template, entries)
    steps = retire(hv, template, entries)
    for entry in entries:
        volume = names.manifest_volume(name, entry.version)
        needs = may_delete_volume(storage_pool, volume)
        steps.append(
            Step(f"delete the manifest {volume!r}", _deleter(hv, storage_pool, volume), final=True, needs=needs)
        )
    before = {
        "template": name,
        "storage_pool": storage_pool,
        "versions": [entry.version for entry in entries],
    }
    return Plan(before=before, after={}, steps=tuple(steps))


def _find(template: Template, selector: str) -> Entry | None:
    if selector == names.LATEST:
        latest = template.latest
        return next((entry for entry in template.entries if latest and entry.version == latest.version), None)
    found = [entry for entry in template.entries if selector and selector in _selectors(entry)]
    return next((entry for entry in found if not entry.deleted), found[-1] if found else None)


def _selectors(entry: Entry) -> tuple[str, ...]:
    return (str(entry.version), entry.manifest.version_name if entry.manifest is not None else "")


def retire(hv: Hypervisor, template: Template, entries: list[Entry]) -> list[Step]:
    """Return the steps that end versions, so that at no time a version is offered whose image is gone."""
    steps = []
    for entry in entries:
        if not entry.deleted:
            say = f"mark version {entry.version} of template {template.name!r} as deleted"
            volume = names.manifest_volume(entry.template, entry.version)
            needs = may_write_volume(template.storage_pool, volume)
            steps.append(Step(say, _marker(hv, template, entry), _unmarker(hv, template, entry), needs=needs))
    # A VM may have been made between the first look and the mark: look again, now that nobody can start a new one.
    if steps:
        steps.append(Step("look again for users", lambda: _check_unused(hv, template, entries)))
    for volume in leftovers(hv, template, entries):
        deleter = _image_deleter(hv, template, entries, volume)
        needs = may_delete_volume(template.storage_pool, volume)
        steps.append(Step(f"delete the image {volume!r}", deleter, final=True, needs=needs))
    return steps


def leftovers(hv: Hypervisor, template: Template, entries: list[Entry]) -> list[str]:
    """Return the volumes that go with these versions: images that no other version names, and half-done uploads."""
    file_based = hv.storage_pool(template.storage_pool).file_based
    going = {entry.version for entry in entries}
    still_named = {e.image_volume(file_based) for e in template.entries if not e.deleted and e.version not in going}
    existing = set(hv.volume_names(template.storage_pool))
    images = dict.fromkeys(entry.image_volume(file_based) for entry in entries)
    candidates = [volume for image in images for volume in (image, names.upload_volume(image))]
    return [volume for volume in candidates if volume in existing and volume not in still_named]


def _check_unused(hv: Hypervisor, template: Template, entries: list[Entry]) -> None:
    """Refuse to delete what a VM or a volume uses, and name the users."""
    usage, going = Usage.read(hv), leftovers(hv, template, entries)
    for entry in entries:
        users = users_of(hv, usage, template, entry, going)
        if users:
            raise RefusedError(
                f"version {entry.version} of template {template.name!r} is in use by {', '.join(users)}; "
                "restore those to another version, or remove them, first",
                users=users,
            )


def users_of(hv: Hypervisor, usage: Usage, template: Template, entry: Entry, going: list[str]) -> list[str]:
    """Return who uses a version that is to go, or its image if that is among the volumes that are ``going``."""
    if entry.manifest is None or entry.deleted:
        return []
    image = entry.manifest.image.volume
    volume = hv.volume(template.storage_pool, image) if image in going else None
    return usage.users(entry.manifest, template.storage_pool, volume.path if volume is not None else "")


def _marker(hv: Hypervisor, template: Template, entry: Entry) -> Any:
    def mark() -> None:
        deleted = (entry.manifest or _nameless(hv, template, entry)).revised(status=manifest.DELETED)
        hv.write_volume(template.storage_pool, names.manifest_volume(entry.template, entry.version), deleted.to_bytes())

    return mark


def _unmarker(hv: Hypervisor, template: Template, entry: Entry) -> Any:
    def unmark() -> None:
        if entry.manifest is not None:
            volume = names.manifest_volume(entry.template, entry.version)
            hv.write_volume(template.storage_pool, volume, entry.manifest.to_bytes())

    return unmark


def _nameless(hv: Hypervisor, template: Template, entry: Entry) -> Manifest:
    """Return a manifest for a claim that never got one."""
    file_based = hv.storage_pool(template.storage_pool).file_based
    image = Image(names.image_volume(entry.template, entry.version, file_based), "qcow2" if file_based else "raw", 0)
    return Manifest(entry.template, entry.version, hv.now(), {"kind": "none", "name": ""}, image, "")


def _image_deleter(hv: Hypervisor, template: Template, entries: list[Entry], volume: str) -> Any:
    def delete() -> None:
        now = read_template(hv, template.storage_pool, template.name)
        if volume in leftovers(hv, now, entries):  # else a version that shares it was published in the meantime
            hv.delete_volume(template.storage_pool, volume)

    return delete


def _deleter(hv: Hypervisor, storage_pool: str, volume: str) -> Any:
    return lambda: hv.delete_volume(storage_pool, volume)


def _describe(template: Template, entry: Entry) -> dict[str, Any]:
    if entry.manifest is None:
        return {"template": entry.template, "version": entry.version, "status": manifest.CREATING}
    return describe_version(entry.manifest, template.storage_pool, template.latest.version if template.latest else None)
