"""The steps that attach a volume to a VM and detach it, and how each of them is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from ..errors import ExistsError, HypervisorError, RefusedError
from ..hypervisor import PAUSED, Domain, Hypervisor, Volume
from ..libvirt_xml import disk_xml, domain_xml
from ..libvirt_xml.domain_xml import Disk, Vm
from ..permissions import may_write
from ..plan import Step
from ..vm import vm_claim
from ..vm.record import Record
from .attachment import SCSI, VIRTIO, Attachment, Place, check_bus, is_on
from .volume_use import DiskUsers, check_unused

_UNDO_TIMEOUT = 60
"""Seconds that a guest has to let go of a disk that it was given a moment ago."""


def attach_steps(hv: Hypervisor, attachment: Attachment) -> Iterator[Step]:
    """Yield the steps that attach a volume."""
    name, volume = attachment.vm.name, attachment.volume
    say = f"attach volume {volume.name!r} to VM {name!r} as {attachment.target} (device id {attachment.device_id})"
    if attachment.root:
        yield _root_step(hv, attachment, say)
        return
    live, stored = attachment.vm.domain.active, attachment.vm.domain.persistent
    yield from _controller_steps(hv, attachment.vm, attachment.bus, live=live, stored=stored)
    begun = []

    def attach() -> None:
        with claimed(hv, volume, name), _vm_claimed(hv, attachment.vm):
            _check_free(hv, volume)
            if (hv.live_xml(name) is not None) != live:
                what = "stopped" if live else "started"
                raise RefusedError(f"VM {name!r} was {what} by someone in the meantime; run this task again")
            begun.append(True)  # before it is: a call can do its work and yet fail
            hv.attach_device(name, attachment.xml, live=live, stored=stored)

    def undo() -> None:
        if begun:
            take_back(hv, name, volume, attachment.target)

    yield Step(say, attach, undo, needs=may_write(name))


def _root_step(hv: Hypervisor, attachment: Attachment, say: str) -> Step:
    name, volume = attachment.vm.name, attachment.volume
    replaced: list[Domain] = []

    def attach() -> None:
        with claimed(hv, volume, name), _unchanged(hv, attachment.vm) as present:
            _check_free(hv, volume)
            replaced.append(present)
            hv.define(disk_xml.with_root_disk(present.xml, attachment.xml, _with_root(attachment)))

    def undo() -> None:
        present = hv.domain(name)
        if replaced and present is not None and not present.active and _has_disk(present, attachment.target, volume):
            hv.define(replaced[0].xml)

    return Step(say, attach, undo, needs=may_write(name))


def _with_root(attachment: Attachment) -> Record | None:
    """Return the record of a VM that gets this root: with its own one, all is as it was before it was detached."""
    record, volume = attachment.vm.record, attachment.volume
    if record is None:
        return None
    if (record.root.storage_pool, record.root.volume) == (volume.storage_pool, volume.name):
        return record.changed(detached_disk="", stand_in="")
    return record.changed(detached_disk=record.detached_disk or attachment.xml, stand_in=attachment.target)


def _controller_steps(hv: Hypervisor, vm: Vm, bus: str, *, live: bool, stored: bool) -> Iterator[Step]:
    """Yield what gives the definitions of a VM the controller that a SCSI disk needs."""
    controller = disk_xml.scsi_controller()

    def lack() -> tuple[bool, bool]:
        live_xml, domain = hv.live_xml(vm.name) if live else None, hv.domain(vm.name)
        return (
            live_xml is not None and not domain_xml.has_scsi(live_xml),
            stored and domain is not None and not domain_xml.has_scsi(domain.xml),
        )

    given: list[tuple[bool, bool]] = []

    def give() -> None:
        given.append(lack())  # once more: another task may have been quicker
        if any(given[0]):
            hv.attach_device(vm.name, controller, live=given[0][0], stored=given[0][1])

    def undo() -> None:
        to_live, to_stored = given[0] if given else (False, False)
        if to_live and _only_controller(hv.live_xml(vm.name)):
            hv.detach_device(vm.name, controller, live=True)
        if to_stored and _only_controller(getattr(hv.domain(vm.name), "xml", None)):
            hv.detach_device(vm.name, controller, live=False)

    if bus == SCSI and any(lack()):
        yield Step(f"give VM {vm.name!r} a SCSI controller", give, undo, needs=may_write(vm.name))


def _only_controller(xml: str | None) -> bool:
    """Whether a definition has a SCSI controller with nothing at it."""
    return xml is not None and domain_xml.has_scsi(xml) and all(disk.bus != SCSI for disk in domain_xml.disks_of(xml))


def copying_steps(hv: Hypervisor, place: Place, volume: Volume, disk: Disk, *, live: bool) -> Iterator[Step]:
    """Yield the steps that give a disk to the one definition of a VM that lacks it."""
    vm = place.vm
    yield from _controller_steps(hv, vm, disk.bus, live=live, stored=not live)
    xml = disk_xml.disk_xml(volume, disk.target, disk.bus, read_only=disk.read_only, serial=disk.serial)
    where = "running instance" if live else "stored definition"
    begun = []

    def attach() -> None:
        with claimed(hv, volume, vm.name), _vm_claimed(hv, vm):
            check_unused(volume, vm.name, DiskUsers.read(hv))
            begun.append(True)
            hv.attach_device(vm.name, xml, live=live, stored=not live)

    def undo() -> None:
        if begun and _is_at(domain_xml.disks_of(_definition(hv, vm.name, live)), disk.target, volume):
            hv.detach_device(vm.name, disk_xml.disk_at(disk.target), live=live, timeout=_UNDO_TIMEOUT)

    say = f"attach volume {volume.name!r} in the {where} of VM {vm.name!r}, too"
    yield Step(say, attach, undo, needs=may_write(vm.name))


def detach_root_step(hv: Hypervisor, vm: Vm, disk: Disk, volume: Volume) -> Step:
    """Return the step that detaches the root of a stopped VM, and notes how it was attached."""
    if vm.domain.active:
        raise RefusedError(f"VM {vm.name!r} runs; stop it to detach its root")
    record = vm.record
    if record is not None and record.pending is not None:
        raise RefusedError(
            f"VM {vm.name!r} has an unfinished {record.pending.job}; run the task that made it "
            "(vm_restore, vm) again first"
        )
    if record is not None:
        own = record.detached_disk or disk_xml.find_disk(vm.domain.xml, disk.target)
        record = record.changed(detached_disk=own, stand_in="")

    replaced: list[Domain] = []

    def detach() -> None:
        with _unchanged(hv, vm) as present:
            replaced.append(present)
            hv.define(disk_xml.without_root(present.xml, disk.target, record))
        _release(hv, volume, vm.name)  # one that an attach left that was killed

    def undo() -> None:
        present = hv.domain(vm.name)
        if replaced and present is not None and not present.active and not DiskUsers.read(hv).of_disk(disk, besides=""):
            hv.define(replaced[0].xml)

    say = f"detach the root {volume.name!r} from VM {vm.name!r}"
    return Step(say, detach, undo, needs=may_write(vm.name))


def detach_steps(hv: Hypervisor, place: Place, disk: Disk, volume: Volume, timeout: int) -> list[Step]:
    """Return the steps that detach a data volume: the guest lets go of it first, then it is forgotten."""
    steps = []
    if place.running(disk):
        check_bus(place.vm, disk.bus, read_only=False)
        _check_guest_can_let_go(place.vm, disk)
        steps.append(_detach_step(hv, place.vm, disk, volume, live=True, timeout=timeout))
    if place.vm.domain.persistent and place.stored(disk):
        steps.append(_detach_step(hv, place.vm, disk, volume, live=False))
    return steps


def _check_guest_can_let_go(vm: Vm, disk: Disk) -> None:
    """Refuse what would only run out of time.

    It would not even be harmless: libvirt cannot take back what it asked of the guest, and when it asks again in the
    very moment in which the guest, going on, lets go, QEMU keeps the volume open.
    """
    if vm.domain.state == PAUSED and disk.bus == VIRTIO:
        raise RefusedError(
            f"VM {vm.name!r} is paused, so its guest cannot let go of disk {disk.target!r}; go on with it "
            f"('virsh resume {vm.name}') or stop it first"
        )


def _detach_step(hv: Hypervisor, vm: Vm, disk: Disk, volume: Volume, *, live: bool, timeout: int = 0) -> Step:
    name = vm.name
    replaced: list[str] = []

    def detach() -> None:
        # A guest may take its time to let go, and whoever defines the VM does not touch what runs.
        with nullcontext() if live else _vm_claimed(hv, vm):
            present = _definition(hv, name, live)
            if not _is_at(domain_xml.disks_of(present), disk.target, volume):
                raise RefusedError(
                    f"VM {name!r} was stopped or its disk {disk.target} changed by another task in the meantime; "
                    "run this task again"
                )
            replaced.append(disk_xml.find_disk(present, disk.target))
            hv.detach_device(name, disk_xml.disk_at(disk.target), live=live, timeout=timeout)
        _release(hv, volume, name)  # one that an attach left that was killed

    def undo() -> None:
        if replaced:
            _put_back(hv, name, disk, replaced[0], live=live)

    where = f"the running VM {name!r}" if live else f"VM {name!r}"
    return Step(f"detach {disk.target}, volume {volume.name!r}, from {where}", detach, undo, needs=may_write(name))


# --- undos -----------------------------------------------------------------------------------------------------------


def take_back(hv: Hypervisor, vm: str, volume: Volume, target: str) -> None:
    """Detach what an attach that failed may have left."""
    live = hv.live_xml(vm)
    if live is not None and _is_at(domain_xml.disks_of(live), target, volume):
        hv.detach_device(vm, disk_xml.disk_at(target), live=True, timeout=_UNDO_TIMEOUT)
    if _has_disk(hv.domain(vm), target, volume):
        hv.detach_device(vm, disk_xml.disk_at(target), live=False)


def _put_back(hv: Hypervisor, vm: str, disk: Disk, xml: str, *, live: bool) -> None:
    """Attach what was detached, unless it is still there, or another VM has it by now."""
    definition = _definition(hv, vm, live)
    if definition == _NONE or any(other.target == disk.target for other in domain_xml.disks_of(definition)):
        return
    if not DiskUsers.read(hv).of_disk(disk, besides=vm):
        hv.attach_device(vm, xml, live=live, stored=not live)


# --- parts -----------------------------------------------------------------------------------------------------------

_NONE = "<domain/>"
"""The definition of a VM that is gone, or does not run."""


def _definition(hv: Hypervisor, vm: str, live: bool) -> str:
    if live:
        return hv.live_xml(vm) or _NONE
    domain = hv.domain(vm)
    return _NONE if domain is None else domain.xml


def _is_at(disks: tuple[Disk, ...], target: str, volume: Volume) -> bool:
    return any(disk.target == target and is_on(disk, volume) for disk in disks)


def _has_disk(domain: Domain | None, target: str, volume: Volume) -> bool:
    return domain is not None and domain.persistent and _is_at(domain_xml.disks_of(domain.xml), target, volume)


def _check_free(hv: Hypervisor, volume: Volume) -> None:
    """Look again, now that the volume is claimed: others may have taken it since we looked."""
    users = DiskUsers.read(hv)
    others = users.of(volume) or ([users.keeper(volume)] if users.keeper(volume) else [])
    if others:
        raise ExistsError(
            f"volume {volume.name!r} was given to VM {', '.join(map(repr, others))} by another task in the meantime; "
            "run this task again"
        )


def _vm_claimed(hv: Hypervisor, vm: Vm) -> AbstractContextManager[None]:
    """Hold the claim on a VM of ours: others define it as they have found it a moment ago."""
    return vm_claim.claimed(hv, vm) if vm.record is not None else nullcontext()


@contextmanager
def _unchanged(hv: Hypervisor, vm: Vm) -> Iterator[Domain]:
    """Hold the claim on a VM as it stands now, or stop when others have changed or started it since we looked."""
    with _vm_claimed(hv, vm):
        present = hv.domain(vm.name)
        found = None if present is None else domain_xml.read(present)
        if found is None or found.domain.active or (found.disks, found.record) != (vm.disks, vm.record):
            raise RefusedError(
                f"VM {vm.name!r} was started or changed by another task in the meantime; run this task again"
            )
        yield found.domain


@contextmanager
def claimed(hv: Hypervisor, volume: Volume, vm: str) -> Iterator[None]:
    """Hold a volume while it is looked at and attached: of two VMs that get it at once, one is refused."""
    thing = _claim_on(volume)
    holder = hv.claim(thing, vm)
    if holder != vm:
        raise ExistsError(
            f"volume {volume.name!r} is being attached to VM {holder!r} by another task; "
            "if that was killed, run it again"
        )
    try:
        yield
    finally:
        _release(hv, volume, vm)


def _release(hv: Hypervisor, volume: Volume, vm: str) -> None:
    with suppress(HypervisorError):  # it would end by itself, too
        hv.release(_claim_on(volume), vm)


def _claim_on(volume: Volume) -> str:
    return f"volume {volume.path}"
