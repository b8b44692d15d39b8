"""The catalogue of template versions: what is stored, which one is meant, who uses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .. import names
from ..errors import InvalidError, NotFoundError, ReadOnlyError, RefusedError
from ..hypervisor import Domain, Hypervisor, Volume
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..vm.record import Record, Root
from ..volume.volume_use import all_volumes
from . import manifest
from .manifest import Manifest


@dataclass(frozen=True)
class Entry:
    """A stored version: its manifest, or None for a claim whose manifest is not whole (yet), or that cannot be used for
    a ``problem``."""

    storage_pool: str
    template: str
    version: int
    manifest: Manifest | None
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.manifest is not None and self.manifest.ready

    def image_volume(self, file_based: bool) -> str:
        """Return the name of its image volume; of one that is not whole, the name that it is to have."""
        if self.manifest is not None:
            return self.manifest.image.volume
        return names.image_volume(self.template, self.version, file_based)

    @property
    def deleted(self) -> bool:
        """Whether only its number is left."""
        return self.manifest is not None and self.manifest.status == manifest.DELETED


@dataclass(frozen=True)
class Template:
    """All stored versions of one template, by number; empty for a template that does not exist."""

    name: str
    storage_pool: str
    entries: tuple[Entry, ...]

    @property
    def ready(self) -> list[Manifest]:
        """The versions that readers see, by number."""
        return [entry.manifest for entry in self.entries if entry.manifest is not None and entry.manifest.ready]

    @property
    def latest(self) -> Manifest | None:
        """The highest-numbered version whose lifecycle is active; None also where a higher one cannot be read."""
        unread = max((entry.version for entry in self.entries if entry.problem), default=0)
        active = [version for version in self.ready if version.lifecycle == manifest.ACTIVE]
        return active[-1] if active and active[-1].version > unread else None

    @property
    def next_number(self) -> int:
        """The lowest number above all that were ever used."""
        return max((entry.version for entry in self.entries), default=0) + 1

    def select(self, selector: str) -> Manifest:
        """Return the version that a number, a version name or ``latest`` means."""
        if not self.entries:
            raise NotFoundError(
                f"there is no template {self.name!r} in storage pool {self.storage_pool!r}; "
                "see template_version_info for those that there are"
            )
        if selector == names.LATEST:
            if self.latest is None:
                self._explain_unread()
                raise NotFoundError(
                    f"template {self.name!r} has no latest version, as none of its versions is ready and active; "
                    "publish one, or name a version"
                )
            return self.latest
        for version in self.ready:
            if selector and selector in (str(version.version), version.version_name):
                return version
        self._explain_unread()
        self._explain_missing(selector)
        raise NotFoundError(f"template {self.name!r} has no version {selector!r}; it has {self._offer()}")

    def _explain_unread(self) -> None:
        for entry in self.entries:
            if entry.problem:
                raise InvalidError(entry.problem)

    def _explain_missing(self, selector: str) -> None:
        for entry in self.entries:
            if str(entry.version) == selector:
                state = (
                    "was deleted" if entry.deleted else "is not complete: it is being published, or its publisher died"
                )
                raise NotFoundError(f"version {selector} of template {self.name!r} {state}; it has {self._offer()}")

    def _offer(self) -> str:
        offer = [f"{v.version} ({v.version_name})" if v.version_name else str(v.version) for v in self.ready]
        return "the versions " + ", ".join(offer) if offer else "no ready version"


def read_template(hv: Hypervisor, storage_pool: str, template: str, existing: Iterable[str] | None = None) -> Template:
    """Return the template of that name; one without entries where there is none.

    ``existing`` are the volumes of the storage pool, for who has listed them already.
    """
    names.check_template_name(template)
    stored = _stored(hv.volume_names(storage_pool) if existing is None else existing)
    entries = _read(hv, storage_pool, (found for found in stored if found[0] == template))
    return Template(template, storage_pool, tuple(entries))


def look_at_template(
    hv: Hypervisor, storage_pool: str, template: str, existing: Iterable[str] | None = None
) -> Template:
    """Return the template of that name for who changes nothing of it: a version that cannot be read hides no other."""
    names.check_template_name(template)
    stored = _stored(hv.volume_names(storage_pool) if existing is None else existing)
    looked = (_look(hv, storage_pool, *found) for found in stored if found[0] == template)
    return Template(template, storage_pool, tuple(looked))


def look_at_templates(hv: Hypervisor, storage_pool: str) -> list[Template]:
    """Return all templates of a storage pool by name, as ``look_at_template`` does."""
    by_name: dict[str, list[Entry]] = {}
    for name, number in _stored(hv.volume_names(storage_pool)):
        by_name.setdefault(name, []).append(_look(hv, storage_pool, name, number))
    return [Template(name, storage_pool, tuple(found)) for name, found in sorted(by_name.items())]


def _stored(volumes: Iterable[str]) -> list[tuple[str, int]]:
    parsed = (names.parse_manifest_volume(volume) for volume in volumes)
    return sorted(found for found in parsed if found is not None)


def _read(hv: Hypervisor, storage_pool: str, stored: Iterable[tuple[str, int]]) -> list[Entry]:
    return [Entry(storage_pool, name, number, read_manifest(hv, storage_pool, name, number)) for name, number in stored]


def _look(hv: Hypervisor, storage_pool: str, template: str, version: int) -> Entry:
    try:
        return Entry(storage_pool, template, version, read_manifest(hv, storage_pool, template, version))
    except InvalidError as error:
        return Entry(storage_pool, template, version, None, error.message)


def read_manifest(hv: Hypervisor, storage_pool: str, template: str, version: int) -> Manifest | None:
    """Return one manifest, or None for one that is not (wholly) there."""
    volume = names.manifest_volume(template, version)
    try:
        found = manifest.parse(hv.read_volume(storage_pool, volume, manifest.CAPACITY))
        if found is not None and (found.template, found.version) == (template, version):
            manifest.check_sensible(found)
    except NotFoundError:
        return None
    except InvalidError as error:
        raise InvalidError(
            f"the manifest {volume!r} in storage pool {storage_pool!r} cannot be used: {error.message}"
        ) from error
    if found is not None and (found.template, found.version) != (template, version):
        raise InvalidError(
            f"the manifest {volume!r} in storage pool {storage_pool!r} is that of {found.template!r} version "
            f"{found.version}; it was copied or renamed, delete it or give it back its name"
        )
    return found


def check_usable(version: Manifest) -> Manifest:
    """Return the version, or refuse one that must not be used for new VMs and restores."""
    if version.lifecycle == manifest.REVOKED:
        raise RefusedError(
            f"version {version.version} of template {version.template!r} is revoked; choose another version, "
            "or set its lifecycle to 'active' again"
        )
    return version


@dataclass
class Catalogue:
    """Templates and volumes as a plan sees them: each template is read, each storage pool listed once."""

    hv: Hypervisor
    _templates: dict[tuple[str, str], Template] = field(default_factory=dict)
    _volumes: dict[str, list[str]] = field(default_factory=dict)

    def volume_names(self, storage_pool: str) -> list[str]:
        """Return the names of all volumes of a storage pool."""
        if storage_pool not in self._volumes:
            self._volumes[storage_pool] = self.hv.volume_names(storage_pool)
        return self._volumes[storage_pool]

    def read(self, storage_pool: str, name: str) -> Template:
        """Return a template as ``read_template`` does, for who cannot do without it."""
        found = read_template(self.hv, storage_pool, name, self.volume_names(storage_pool))
        self._templates[storage_pool, name] = found
        return found

    def template(self, storage_pool: str, name: str) -> Template:
        """Return a template; one without entries where it or its storage pool is gone, or where it cannot be read."""
        key = (storage_pool, name)
        if key not in self._templates:
            try:
                self._templates[key] = look_at_template(self.hv, *key, self.volume_names(storage_pool))
            except (NotFoundError, RefusedError, ReadOnlyError, InvalidError):  # the last: it has no name at all
                self._templates[key] = Template(name, storage_pool, ())
        return self._templates[key]

    @property
    def problems(self) -> list[str]:
        """What is wrong with the versions of these templates that cannot be read."""
        return [entry.problem for template in self._templates.values() for entry in template.entries if entry.problem]

    def wanted_version(self, record: Record) -> int | None:
        """Return the number of the version that a VM is to be on, or None where it cannot be told."""
        if not record.follows_latest:
            return int(record.follows)
        latest = self.template(record.root.template_storage_pool, record.root.template).latest
        return latest.version if latest else None

    def outdated(self, record: Record) -> bool:
        """Whether a VM is on another version than the one that it follows."""
        wanted = self.wanted_version(record)
        return wanted is not None and wanted != record.root.version


@dataclass
class Usage:
    """Who uses images: the VMs by their records and disks, the volumes by what backs them."""

    vms: list[Vm]
    volumes: list[Volume]

    @classmethod
    def read(cls, hv: Hypervisor) -> Usage:
        """Look at all VMs and at the volumes of all active storage pools."""
        volumes = [volume for found in all_volumes(hv).values() for volume in found]
        return cls([domain_xml.read(domain) for domain in hv.domains()], volumes)

    def users(self, version: Manifest, storage_pool: str, image_path: str) -> list[str]:
        """Return the VMs and volumes that use a version, in words, sorted."""
        identity = (storage_pool, version.template, version.version)
        found = {f"VM {vm.name!r}" for vm in self.vms if uses_version(vm.record, identity)}
        if image_path:
            found |= {f"VM {vm.name!r}" for vm in self.vms if any(disk.source == image_path for disk in vm.disks)}
            found |= self._overlays(image_path)
        return sorted(found)

    def _overlays(self, image_path: str) -> set[str]:
        """Return what lies on the image: the VMs whose disks or kept roots do, and the volumes that are no VM's."""
        by_path = {disk.source: vm.name for vm in self.vms for disk in vm.disks if disk.source}
        by_name = {(root.storage_pool, root.volume): vm.name for vm in self.vms for root in roots_of(vm.record)}
        found = set()
        for volume in self.volumes:
            if volume.backing_path == image_path:
                holder = by_path.get(volume.path) or by_name.get((volume.storage_pool, volume.name))
                found.add(
                    f"VM {holder!r}" if holder else f"volume {volume.name!r} in storage pool {volume.storage_pool!r}"
                )
        return found


def roots_of(record: Record | None) -> list[Root]:
    """Return the root of a VM, and the previous root that it keeps."""
    if record is None:
        return []
    return [record.root] if record.previous is None else [record.root, record.previous]


def uses_version(record: Record | None, identity: tuple[str, str, int]) -> bool:
    """Whether a VM's root, or the previous root that it keeps, is of that version."""
    return any(root.template_version == identity for root in roots_of(record))


def vms_by_version(domains: Iterable[Domain]) -> dict[tuple[str, str, int], list[str]]:
    """Return the names of the VMs on each version."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for domain, record in domain_xml.managed_of(domains)[0]:
        found.setdefault(record.root.template_version, []).append(domain.name)
    return found


def describe_version(version: Manifest, storage_pool: str, latest: int | None) -> dict[str, Any]:
    """Return what tasks return of a version."""
    return {
        **version.to_dict(),
        "storage_pool": storage_pool,
        "latest": version.version == latest,
        "complete": version.ready,
    }
