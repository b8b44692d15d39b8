"""How a volume is attached to a VM: at which device id, target and bus, and what is in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor, Volume
from ..libvirt_xml import disk_xml, domain_xml
from ..libvirt_xml.domain_xml import Disk, Vm
from .device_ids import ROOT_ID, device_ids, free_id, free_target

VIRTIO, SCSI, SATA, IDE, USB = "virtio", "scsi", "sata", "ide", "usb"
BUSES = (VIRTIO, SCSI, SATA, IDE, USB)

_HOT_PLUG = (VIRTIO, SCSI, USB)
_LAST_IDE = 3
_SERIAL_LENGTH = {SCSI: 36}
_SERIAL_LENGTH_OTHERS = 20


@dataclass(frozen=True)
class AttachRequest:
    """What the user wants of a volume at a VM; None leaves the choice to us. ``timeout`` is in seconds."""

    vm: str
    volume: str | None = None
    storage_pool: str = "default"
    device_id: int | None = None
    bus: str | None = None
    read_only: bool | None = None
    serial: str | None = None
    timeout: int = 60


@dataclass(frozen=True)
class Place:
    """A VM in which something is attached: its stored definition, and the live one of a VM that runs."""

    vm: Vm
    live: tuple[Disk, ...] | None

    @property
    def targets(self) -> set[str]:
        """The targets of all drives."""
        return {disk.target for disk in (*self.vm.disks, *(self.live or ()))}

    def stored_disk(self, target: str) -> Disk | None:
        """Return the disk at a target of the stored definition."""
        return next((disk for disk in self.vm.disks if disk.target == target), None)

    def live_disk(self, target: str) -> Disk | None:
        """Return the disk at a target of the running instance."""
        return next((disk for disk in self.live or () if disk.target == target), None)

    def stored(self, disk: Disk) -> bool:
        """Whether the stored definition has a disk, on its volume."""
        return _same(self.stored_disk(disk.target), disk)

    def running(self, disk: Disk) -> bool:
        """Whether the running instance has a disk, on its volume."""
        return _same(self.live_disk(disk.target), disk)

    def ids(self) -> dict[int, Disk]:
        """Return the disks by device id: those of the stored definition, and those that only the live one has."""
        only_live = tuple(disk for disk in self.live or () if not self.stored(disk))
        return device_ids(replace(self.vm, disks=(*self.vm.disks, *only_live)))


@dataclass(frozen=True)
class Attachment:
    """How a volume is to be attached: as which disk, and to what of the VM."""

    place: Place
    volume: Volume
    device_id: int
    target: str
    bus: str
    read_only: bool
    serial: str
    model: str = ""

    @property
    def vm(self) -> Vm:
        """The VM that gets it."""
        return self.place.vm

    @property
    def root(self) -> bool:
        """Whether it becomes the root."""
        return self.device_id == ROOT_ID

    @property
    def xml(self) -> str:
        """The disk."""
        return disk_xml.disk_xml(
            self.volume, self.target, self.bus, read_only=self.read_only, serial=self.serial, model=self.model
        )

    def describe(self) -> dict[str, Any]:
        """Return the attached volume as tasks return it."""
        return describe(self.volume, self.vm.name, self.device_id, domain_xml.disk_of(self.xml))


def choose(place: Place, volume: Volume, request: AttachRequest) -> Attachment:
    """Return how a volume is to be attached, or say what is in the way."""
    vm, taken = place.vm, place.ids()
    as_root = request.device_id == ROOT_ID or (
        request.device_id is None and not vm.domain.active and ROOT_ID not in taken
    )
    if as_root:
        _check_root_possible(vm, taken)
    model = vm.record.detached_disk if as_root and vm.record is not None else ""
    bus = request.bus or (domain_xml.disk_of(model).bus if model else VIRTIO)
    if bus not in BUSES:
        raise InvalidError(f"bus: {bus!r} is not one of {', '.join(BUSES)}")
    check_bus(vm, bus, bool(request.read_only))
    if request.device_id is None:
        device_id = ROOT_ID if as_root else free_id(taken, place.targets, bus)
    else:
        device_id = request.device_id
    if device_id in taken:
        raise RefusedError(
            f"device id {device_id} of VM {vm.name!r} is taken by {taken[device_id].source or 'another volume'}; "
            f"detach that first, or use another device_id, such as {free_id(taken, place.targets, bus)}"
        )
    if bus == IDE and device_id > _LAST_IDE:
        raise RefusedError(f"bus 'ide' of VM {vm.name!r} has room for the device ids 0 to {_LAST_IDE}; use another bus")
    same_place = (
        model and domain_xml.disk_of(model).bus == bus and domain_xml.disk_of(model).target not in place.targets
    )
    target = domain_xml.disk_of(model).target if same_place else free_target(vm, place.targets, bus, device_id)
    return Attachment(
        place=place,
        volume=volume,
        device_id=device_id,
        target=target,
        bus=bus,
        read_only=bool(request.read_only),
        serial=_checked_serial(request.serial or "", bus),
        model=model,
    )


def _check_root_possible(vm: Vm, taken: dict[int, Disk]) -> None:
    if vm.domain.active:
        raise RefusedError(f"VM {vm.name!r} runs; stop it to attach a root")
    if ROOT_ID in taken:
        raise RefusedError(
            f"VM {vm.name!r} has a root already, {taken[ROOT_ID].source}; detach it first "
            "(state: detached, device_id: 0)"
        )


def check_bus(vm: Vm, bus: str, read_only: bool) -> None:
    """Refuse a bus that the VM does not have, or into which nothing can be plugged as it stands."""
    if vm.domain.active and bus not in _HOT_PLUG:
        raise RefusedError(
            f"VM {vm.name!r} runs, and nothing can be plugged into bus {bus!r} then; stop it, or use one of "
            f"{', '.join(_HOT_PLUG)}"
        )
    if bus == IDE and "q35" in domain_xml.machine_of(vm.domain.xml):
        raise RefusedError(f"VM {vm.name!r} is of a machine type without bus 'ide'; use 'sata'")
    if read_only and bus in (SATA, IDE):
        raise RefusedError(f"a disk on bus {bus!r} cannot be read-only; use one of {', '.join(_HOT_PLUG)}")


def _checked_serial(serial: str, bus: str) -> str:
    longest = _SERIAL_LENGTH.get(bus, _SERIAL_LENGTH_OTHERS)
    if len(serial) > longest:
        raise InvalidError(
            f"serial: {serial!r} has {len(serial)} characters; on bus {bus!r} there is room for {longest}"
        )
    if not all(letter.isascii() and (letter.isalnum() or letter in "_-+.") for letter in serial):
        raise InvalidError(f"serial: {serial!r} may hold letters, digits, '_', '-', '+' and '.' only")
    return serial


# --- looking ---------------------------------------------------------------------------------------------------------


def look(hv: Hypervisor, name: str) -> Place:
    """Return a VM as it stands."""
    domain = hv.domain(name)
    if domain is None:
        raise NotFoundError(f"there is no VM {name!r}; 'virsh list --all' shows those that there are")
    live = hv.live_xml(name) if domain.active else None
    return Place(domain_xml.read(domain), None if live is None else domain_xml.disks_of(live))


def find(place: Place, volume: Volume) -> tuple[int, Disk | None]:
    """Return device id and disk at which a VM has a volume; no disk where it has it not."""
    for device_id, disk in place.ids().items():
        if is_on(disk, volume):
            return device_id, disk
    return ROOT_ID, None


def volume_of(hv: Hypervisor, disk: Disk) -> Volume:
    """Return the volume of a disk; of one that no storage pool knows, what the disk itself says."""
    found = hv.volume(*disk.volume) if disk.volume else hv.volume_at(disk.source)
    pool, name = disk.volume or ("", disk.source.rpartition("/")[2])
    return found or missing_volume(pool, name, disk.source)


def missing_volume(storage_pool: str, name: str, path: str) -> Volume:
    """Return what stands for a volume that no storage pool knows."""
    return Volume(name, storage_pool, path, "file", "", 0, 0)


def _same(disk: Disk | None, other: Disk) -> bool:
    return disk is not None and (disk.source, disk.volume) == (other.source, other.volume)


def is_on(disk: Disk, volume: Volume) -> bool:
    """Whether a disk is this volume."""
    return disk.source == volume.path if disk.volume is None else disk.volume == (volume.storage_pool, volume.name)


# --- results ---------------------------------------------------------------------------------------------------------


def describe_detached(volume: Volume) -> dict[str, Any]:
    """Return a volume that no VM has, as tasks return it."""
    return describe(volume)


def describe(
    volume: Volume, vm: str | None = None, device_id: int | None = None, disk: Disk | None = None
) -> dict[str, Any]:
    """Return a volume as tasks return it."""
    root = vm is not None and device_id == ROOT_ID
    return {
        "name": volume.name,
        "storage_pool": volume.storage_pool,
        "path": volume.path,
        "format": volume.format,
        "capacity": volume.capacity,
        "vm": vm,
        "device_id": device_id,
        "target": disk.target if disk is not None else None,
        "bus": disk.bus if disk is not None else None,
        "type": "ROOT" if root else "DATADISK",
        "bootable": root,
        "read_only": disk.read_only if disk is not None else None,
        "serial": disk.serial if disk is not None else None,
    }
