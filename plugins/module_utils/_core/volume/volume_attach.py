"""Attaching a volume to a VM, as its root or as a data volume, and detaching it."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor, Volume
from ..libvirt_xml.domain_xml import Disk, Vm
from ..plan import Plan, Step
from .attach_steps import attach_steps, copying_steps, detach_root_step, detach_steps
from .attachment import (
    AttachRequest,
    Place,
    check_bus,
    choose,
    describe,
    describe_detached,
    find,
    look,
    missing_volume,
    volume_of,
)
from .device_ids import ROOT_ID
from .volume_use import DiskUsers, check_attachable


def plan_attach(hv: Hypervisor, request: AttachRequest) -> Plan:
    """Return the plan that attaches a volume to a VM."""
    place = look(hv, request.vm)
    volume = _existing_volume(hv, request)
    device_id, disk = find(place, volume)
    if disk is not None:
        return _plan_complete(hv, request, place, volume, (device_id, disk))
    check_attachable(hv, volume, "", DiskUsers.read(hv))  # at this VM, too, it may be something else: a CD
    _check_changeable(hv, place.vm)
    attachment = choose(place, volume, request)
    plan = Plan(
        before=describe_detached(volume),
        after=attachment.describe(),
        steps=tuple(attach_steps(hv, attachment)),
        look=lambda: look_at(hv, request.vm, volume),
    )
    if attachment.root and request.device_id is None:
        return plan.warning(
            f"VM {request.vm!r} has no root, so volume {volume.name!r} is attached as its root; "
            "give device_id to say so, or another one for a data volume"
        )
    return plan


def _plan_complete(hv: Hypervisor, request: AttachRequest, place: Place, volume: Volume, at: tuple[int, Disk]) -> Plan:
    """Return the plan for a volume that the VM has: what of its two definitions lacks it gets it."""
    device_id, disk = at
    _check_same(request, volume, device_id, disk)
    after = describe(volume, request.vm, device_id, disk)
    steps: list[Step] = []
    if place.live is not None and not place.running(disk):
        check_bus(place.vm, disk.bus, disk.read_only)
        _check_vacant(request, disk, place.live_disk(disk.target), "runs with")
        steps += copying_steps(hv, place, volume, disk, live=True)
    if place.vm.domain.persistent and not place.stored(disk):
        _check_vacant(request, disk, place.stored_disk(disk.target), "is stored with")
        steps += copying_steps(hv, place, volume, disk, live=False)
    if steps:
        _check_changeable(hv, place.vm)
    return Plan(after, after, tuple(steps), look=lambda: look_at(hv, request.vm, volume))


def _check_vacant(request: AttachRequest, disk: Disk, other: Disk | None, how: str) -> None:
    if other is not None:
        raise RefusedError(
            f"VM {request.vm!r} {how} another volume, {other.source}, at the target {disk.target} of volume "
            f"{request.volume!r}; detach one of the two"
        )


def _check_same(request: AttachRequest, volume: Volume, device_id: int, disk: Disk) -> None:
    """Refuse to change a volume that is attached already: the guest would have to lose it first."""
    for option, wanted, present in (
        ("device_id", request.device_id, device_id),
        ("bus", request.bus, disk.bus),
        ("read_only", request.read_only, disk.read_only),
        ("serial", request.serial, disk.serial),
    ):
        if wanted is not None and wanted != present:
            raise RefusedError(
                f"volume {volume.name!r} is attached to VM {request.vm!r} with {option} {present!r}, not {wanted!r}; "
                "detach it first"
            )


def plan_detach(hv: Hypervisor, request: AttachRequest) -> Plan:
    """Return the plan that detaches a volume, given by name or by device id, from a VM."""
    place = look(hv, request.vm)
    device_id, disk = _find_for_detach(hv, request, place)
    if disk is None:
        volume = hv.volume(request.storage_pool, request.volume) if request.volume is not None else None
        gone = describe_detached(volume) if volume is not None else {}
        return Plan(gone, gone)
    _check_changeable(hv, place.vm)
    volume = volume_of(hv, disk)
    if device_id == ROOT_ID:
        steps = [detach_root_step(hv, place.vm, disk, volume)]
    else:
        steps = detach_steps(hv, place, disk, volume, request.timeout)
    return Plan(
        before=describe(volume, request.vm, device_id, disk),
        after=describe_detached(volume),
        steps=tuple(steps),
    )


def _find_for_detach(hv: Hypervisor, request: AttachRequest, place: Place) -> tuple[int, Disk | None]:
    if request.volume is None:
        if request.device_id is None:
            raise InvalidError("detaching needs 'volume' or 'device_id'")
        return request.device_id, place.ids().get(request.device_id)
    path = f"{hv.storage_pool(request.storage_pool).path.rstrip('/')}/{request.volume}"
    volume = hv.volume(request.storage_pool, request.volume) or missing_volume(
        request.storage_pool, request.volume, path
    )
    device_id, disk = find(place, volume)
    if disk is not None and request.device_id not in (None, device_id):
        raise InvalidError(
            f"volume {request.volume!r} is at device id {device_id} of VM {request.vm!r}, not {request.device_id}; "
            "give one of the two"
        )
    return device_id, disk


# --- looking ---------------------------------------------------------------------------------------------------------


def look_at(hv: Hypervisor, vm: str, volume: Volume) -> dict[str, Any]:
    """Return an attached volume as tasks return it, as it stands now."""
    place = look(hv, vm)
    device_id, disk = find(place, volume)
    return describe_detached(volume) if disk is None else describe(volume, vm, device_id, disk)


def _existing_volume(hv: Hypervisor, request: AttachRequest) -> Volume:
    if request.volume is None:
        raise InvalidError("attaching needs 'volume'")
    if request.device_id is not None and request.device_id < 0:
        raise InvalidError(f"device_id: {request.device_id} is less than 0")
    volume = hv.volume(request.storage_pool, request.volume)
    if volume is None:
        raise NotFoundError(
            f"there is no volume {request.volume!r} in storage pool {request.storage_pool!r}; storage_pool_info lists "
            "those that can be attached ('virsh pool-refresh' finds files that were put there by other means)"
        )
    return volume


def _check_changeable(hv: Hypervisor, vm: Vm) -> None:
    if vm.domain.managed_save:
        raise RefusedError(
            f"VM {vm.name!r} has a managed save image, the memory of a guest with its present disks; start and stop "
            f"the VM to use it up, or drop it ('virsh managedsave-remove {vm.name}')"
        )
    snapshots = hv.snapshots(vm.name) if vm.domain.persistent else []
    if snapshots:
        raise RefusedError(
            f"VM {vm.name!r} has snapshots or checkpoints ({', '.join(snapshots)}), which belong to its present disks; "
            "delete them first ('virsh snapshot-delete', 'virsh checkpoint-delete')"
        )
