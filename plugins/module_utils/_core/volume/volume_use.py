"""Who uses a volume, and whether a VM may get it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Union

from .. import names
from ..errors import GoldenError, RefusedError
from ..hypervisor import Hypervisor, Volume
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Disk
from ..template import image_format
from ..vm.record import Record

_READABLE = ("raw", "qcow2")
_Source = Union[str, tuple[str, str]]


@dataclass
class DiskUsers:
    """Which VMs have a volume at one of their disks, in their stored or their live definition."""

    _vms: dict[_Source, set[str]] = field(default_factory=dict)
    _roots: dict[tuple[str, str], str] = field(default_factory=dict)
    _kept: dict[tuple[str, str], str] = field(default_factory=dict)
    _damaged: list[str] = field(default_factory=list)
    """VMs of ours whose records cannot be read: what is theirs is told by its name."""

    @classmethod
    def read(cls, hv: Hypervisor) -> DiskUsers:
        """Look at all VMs."""
        domains = hv.domains()
        managed, damaged = domain_xml.managed_of(domains)
        users = cls(_damaged=list(damaged))
        for domain in domains:
            live = hv.live_xml(domain.name) if domain.active else None
            for disk in (*domain_xml.disks_of(domain.xml), *(domain_xml.disks_of(live) if live else ())):
                users._vms.setdefault(_source(disk), set()).add(domain.name)
        for domain, record in managed:
            root, *kept = own_volumes(record)
            users._roots[root] = domain.name
            users._kept.update(dict.fromkeys(kept, domain.name))
        return users

    def of(self, volume: Volume, besides: str = "") -> list[str]:
        """Return the names of the VMs that have a volume, apart from one."""
        found = self._vms.get(volume.path, set()) | self._vms.get((volume.storage_pool, volume.name), set())
        return sorted(found - {besides})

    def of_disk(self, disk: Disk, besides: str) -> list[str]:
        """Return the names of the VMs that have a disk on the same volume, apart from one."""
        return sorted(self._vms.get(_source(disk), set()) - {besides})

    def keeper(self, volume: Volume) -> str:
        """Return the VM that keeps a volume without having it at a disk: a root to go back to, or a payload."""
        kept = self._kept.get((volume.storage_pool, volume.name), "")
        return kept or next((vm for vm in self._damaged if names.is_own_volume_of(vm, volume.name)), "")

    def root_of(self, volume: Volume) -> str:
        """Return the VM whose root a volume is, attached or detached."""
        return self._roots.get((volume.storage_pool, volume.name), "")


def own_volumes(record: Record) -> list[tuple[str, str]]:
    """Return storage pool and name of the volumes that a VM's record names: first its root."""
    doomed = record.pending.doomed if record.pending is not None else ()
    roots = [record.root, *([record.previous] if record.previous is not None else []), *doomed]
    found = [(root.storage_pool, root.volume) for root in roots]
    if record.payload is not None:
        found.append((record.payload.storage_pool, record.payload.volume))
    return found


def free_volumes(hv: Hypervisor, storage_pools: list[str], users: DiskUsers) -> list[Volume]:
    """Return the volumes of these storage pools that a VM can get as data volumes, by storage pool and name.

    They are used by no VM, back nothing, belong to no template, are nobody's root, and can be read by QEMU.
    """
    volumes = {**{name: hv.volumes(name) for name in storage_pools}, **all_volumes(hv, besides=storage_pools)}
    backing = {volume.backing_path for found in volumes.values() for volume in found}
    free = []
    for name in storage_pools:
        beside = {volume.name for volume in volumes[name]}
        free += [
            volume
            for volume in volumes[name]
            if _is_data(volume)
            and not belongs_to_template(volume, beside)
            and volume.path not in backing
            and not (users.of(volume) or users.keeper(volume) or users.root_of(volume))
        ]
    return free


def _is_data(volume: Volume) -> bool:
    """Whether a volume may hold data of its own: roots and other overlays are half of something else."""
    readable = volume.type == "block" or (volume.type == "file" and volume.format in _READABLE)
    special = names.is_root_volume(volume.name) or names.payload_vm(volume.name)
    return readable and not volume.backing_path and not special


def belongs_to_template(volume: Volume, pool_volumes: set[str]) -> bool:
    """Whether a volume is the image or the manifest of a template version; ``pool_volumes`` are all names beside it."""
    if names.parse_manifest_volume(volume.name) is not None:
        return True
    manifest = volume.name.removesuffix(".qcow2").removesuffix(".upload") + ".json"
    return manifest in pool_volumes and names.parse_manifest_volume(manifest) is not None


def overlays_of(hv: Hypervisor, volume: Volume) -> list[Volume]:
    """Return the volumes that lie on a volume, in all active storage pools."""
    return [other for found in all_volumes(hv).values() for other in found if other.backing_path == volume.path]


def all_volumes(hv: Hypervisor, besides: Iterable[str] = ()) -> dict[str, list[Volume]]:
    """Return the volumes by active storage pool, apart from some; a pool that goes just then has none."""
    found = {}
    for name in sorted(_active(hv) - set(besides)):
        try:
            found[name] = hv.volumes(name)
        except GoldenError:
            if name in _active(hv):
                raise
    return found


def _active(hv: Hypervisor) -> set[str]:
    return {pool.name for pool in hv.storage_pools() if pool.active}


def check_attachable(hv: Hypervisor, volume: Volume, vm: str, users: DiskUsers) -> None:
    """Refuse a volume that the VM must not get: one that others use or need, or that QEMU is not to read."""
    check_unused(volume, vm, users)
    if belongs_to_template(volume, set(hv.volume_names(volume.storage_pool))):
        raise RefusedError(
            f"volume {volume.name!r} belongs to a template, whose versions never change; make a VM from the template, "
            "or a copy of the volume ('virsh vol-clone')"
        )
    above = overlays_of(hv, volume)
    if above:
        raise RefusedError(
            f"volume {volume.name!r} backs {', '.join(repr(other.name) for other in above)}, which a change to it "
            "would destroy; make a copy of the volume ('virsh vol-clone'), or delete those first"
        )
    for below in check_readable(hv, volume)[1:]:
        others = users.of(below)
        if others:  # a guest can make its disk look like an overlay, to read another one's when it gets it again
            raise RefusedError(
                f"volume {volume.name!r} lies on {below.name!r}, which is a disk of VM {', '.join(map(repr, others))}, "
                "and lets another VM read that; convert it to a stand-alone one ('qemu-img convert')"
            )


def check_unused(volume: Volume, vm: str, users: DiskUsers) -> None:
    """Refuse a volume that another VM has, or keeps to go back to."""
    others = users.of(volume, besides=vm)
    if others:
        raise RefusedError(
            f"volume {volume.name!r} is in use by VM {', '.join(map(repr, others))}; detach it there first"
        )
    keeper = users.keeper(volume)
    if keeper:
        raise RefusedError(
            f"volume {volume.name!r} is kept by VM {keeper!r}, as a root to go back to or as its payload; it is free "
            "when that VM is restored without keep_previous, or has no payload any more"
        )


def check_readable(hv: Hypervisor, volume: Volume) -> list[Volume]:
    """Return a volume and those that back it, top first; refuse one that QEMU cannot read, or in which it would find
    the names of other files to read."""
    if volume.type not in ("file", "block"):
        raise RefusedError(
            f"volume {volume.name!r} is of the type {volume.type!r}; only files and block devices can be attached"
        )
    if volume.type == "block":
        return [volume]
    if volume.format not in _READABLE:
        raise RefusedError(
            f"volume {volume.name!r} is in the format {volume.format!r}, which a VM cannot use as a disk; convert it "
            f"first, for example with 'qemu-img convert -O qcow2 {volume.name} {volume.name}.qcow2'"
        )
    chain = [volume]
    while True:
        lowest = chain[-1]
        if lowest.type == "file" and lowest.format == "qcow2":
            head = hv.read_volume(lowest.storage_pool, lowest.name, image_format.QCOW2_HEADER)
            image_format.check_self_contained(head, f"volume {lowest.name!r}")
        if not lowest.backing_path:
            return chain
        below = hv.volume_at(lowest.backing_path)
        if below is None:
            raise RefusedError(
                f"volume {volume.name!r} lies on {lowest.backing_path}, which is no volume of an active storage pool; "
                "start the storage pool that has it, or convert the volume to a stand-alone one ('qemu-img convert')"
            )
        if below in chain:
            raise RefusedError(f"volume {volume.name!r} lies on {below.name!r}, which lies on itself; delete them")
        chain.append(below)


def _source(disk: Disk) -> _Source:
    return disk.volume or disk.source
