"""Root volumes: where one is put, how large it is, and how it is made from a template version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .. import names
from ..errors import InvalidError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor, StoragePool, Volume
from ..libvirt_xml.volume_xml import new_volume
from ..template import manifest
from ..template.catalog import Template, read_manifest, read_template
from ..template.manifest import Manifest
from ..units import human_size
from .record import Root

LEAST_SPACE = 64 * 1024**2
"""Bytes that a storage pool must have available for a new root: with less, its guest could not even boot."""


@dataclass(frozen=True)
class NewRoot:
    """A root volume to be made: an overlay of a template version; ``path`` is where it is going to be."""

    root: Root
    version: Manifest
    path: str
    capacity: int


def find_template(hv: Hypervisor, name: str, storage_pools: list[str]) -> Template:
    """Return the template of that name, from these storage pools first, else from the only other one that has it."""
    names.check_template_name(name)
    for pool in storage_pools:
        template = read_template(hv, pool, name)
        if template.entries:
            return template
    active = [pool.name for pool in hv.storage_pools() if pool.active and pool.name not in storage_pools]
    found = [template for template in (read_template(hv, pool, name) for pool in active) if template.entries]
    if not found:
        raise NotFoundError(
            f"there is no template {name!r} in any active storage pool; publish it with template_version, "
            "or see template_version_info for those that there are"
        )
    if len(found) > 1:
        pools = ", ".join(template.storage_pool for template in found)
        raise InvalidError(
            f"template {name!r} is in more than one storage pool ({pools}); name the one in storage_pools"
        )
    return found[0]


def choose_storage_pool(hv: Hypervisor, candidates: list[str]) -> StoragePool:
    """Return the first candidate that a root can be put into, or say what each of them lacks."""
    lacks = []
    for name in candidates:
        pool = hv.storage_pool(name)
        if not pool.file_based:
            lacks.append(f"{name}: its type {pool.type!r} cannot hold qcow2 overlays")
        elif pool.available < LEAST_SPACE:
            lacks.append(
                f"{name}: has {human_size(pool.available)} available of the {human_size(LEAST_SPACE)} that are needed"
            )
        else:
            return pool
    raise RefusedError(f"no storage pool can take the root volume: {'; '.join(lacks)}")


def plan_root(
    vm: str,
    pool: StoragePool,
    template: Template,
    version: Manifest,
    *,
    existing: Iterable[str],
    size: int = 0,
    above: int = 0,
) -> NewRoot:
    """Return the root to be made for a VM: its number is above ``above`` and those of the ``existing`` volumes of the
    storage pool, its size at least that of the image and ``size`` bytes."""
    numbers = (names.root_generation(vm, volume) for volume in existing)
    generation = max(above, *(number or 0 for number in numbers), 0) + 1
    name = names.root_volume(vm, generation)
    return NewRoot(
        root=Root(name, pool.name, template.name, template.storage_pool, version.version),
        version=version,
        path=f"{pool.path.rstrip('/')}/{name}",
        capacity=max(version.image.capacity, size),
    )


def check_root_size(version: Manifest, wanted: int | None, option: str) -> None:
    """Refuse a root smaller than the image that it lies on."""
    if wanted is not None and wanted < version.image.capacity:
        raise InvalidError(
            f"{option}: {human_size(wanted)} is less than the {human_size(version.image.capacity)} of template "
            f"{version.template!r} version {version.version}; give at least that"
        )


def make_root(hv: Hypervisor, new: NewRoot) -> Volume:
    """Create the overlay, and make sure that the version was not deleted meanwhile."""
    image = hv.volume(new.root.template_storage_pool, new.version.image.volume)
    if image is None:
        raise NotFoundError(
            f"the image {new.version.image.volume!r} of template {new.version.template!r} version "
            f"{new.version.version} "
            f"is not in storage pool {new.root.template_storage_pool!r}; refresh the storage pool, or publish it again"
        )
    # The format as it was published: libvirt may not have looked into a fresh image yet.
    backing = replace(image, format=new.version.image.format)
    xml = new_volume(new.root.volume, new.capacity, "qcow2", backing)
    volume = hv.create_volume(new.root.storage_pool, xml)
    stored = read_manifest(hv, new.root.template_storage_pool, new.version.template, new.version.version)
    if stored is None or stored.status != manifest.READY:
        hv.delete_volume(new.root.storage_pool, new.root.volume)
        raise NotFoundError(
            f"version {new.version.version} of template {new.version.template!r} was deleted in the meantime"
        )
    return volume


def delete_root(hv: Hypervisor, root: Root) -> None:
    """Delete a root volume, if it is there."""
    hv.delete_volume(root.storage_pool, root.volume)
