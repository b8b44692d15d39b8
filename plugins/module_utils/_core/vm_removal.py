"""Removing a VM with its own volumes; its data volumes stay unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable

from . import domain_xml, names
from .catalog import Catalogue
from .describe import describe_vm
from .domain_xml import Vm
from .errors import RefusedError
from .hypervisor import Domain, Hypervisor, Shutdown
from .plan import Plan, Step
from .record import Record
from .vm_request import VmRequest


def plan_removal(hv: Hypervisor, domain: Domain, request: VmRequest) -> Plan:
    """Return the plan that removes a VM; its data volumes stay unless told otherwise."""
    vm = domain_xml.read(domain)
    record = vm.managed()
    if record.lease is not None:
        raise RefusedError(
            f"VM {vm.name!r} is taken by {record.lease.user!r} since {record.lease.since}; it must be returned first"
        )
    snapshots = hv.snapshots(vm.name)
    if snapshots:
        raise RefusedError(
            f"VM {vm.name!r} has snapshots or checkpoints ({', '.join(snapshots)}); delete them first "
            "('virsh snapshot-delete', 'virsh checkpoint-delete')"
        )
    doomed = _own_volumes(hv, vm, record)
    data = _data_volumes(hv, vm, doomed)
    if request.delete_data_volumes:
        _check_only_ours(hv, vm, data)
        doomed, data = doomed + data, []
    steps = []
    if domain.active:
        shutdown = Shutdown(timeout=request.wait_timeout)
        steps.append(Step(f"stop VM {vm.name!r}", lambda: hv.stop(vm.name, shutdown), lambda: hv.start(vm.name)))
    # The volumes go first: as long as the definition is there, a later run knows what is left to do.
    for storage_pool, volume in doomed:
        steps.append(Step(f"delete volume {volume!r}", _deleter(hv, storage_pool, volume), final=True))
    steps.append(Step(f"undefine VM {vm.name!r}", lambda: hv.undefine(vm.name), final=True))
    kept = [{"storage_pool": storage_pool, "volume": volume} for storage_pool, volume in data]
    return Plan(
        before=describe_vm(vm, Catalogue(hv)),
        after={},
        steps=tuple(steps),
        facts=lambda phases: {"data_volumes_kept": kept},
    )


def _own_volumes(hv: Hypervisor, vm: Vm, record: Record) -> list[tuple[str, str]]:
    """Return the volumes that are the VM's alone: its roots, those of runs that died, its payload."""
    own = [(record.root.storage_pool, record.root.volume)]
    if record.previous is not None:
        own.append((record.previous.storage_pool, record.previous.volume))
    if record.pending is not None:
        own += [(root.storage_pool, root.volume) for root in record.pending.doomed]
    if record.payload is not None:
        own.append((record.payload.storage_pool, record.payload.volume))
    for volume in hv.volume_names(record.root.storage_pool):
        number = names.root_generation(vm.name, volume)
        if number is not None and number > record.generation:
            own.append((record.root.storage_pool, volume))
    return [found for found in dict.fromkeys(own) if hv.volume(*found) is not None]


def _data_volumes(hv: Hypervisor, vm: Vm, own: list[tuple[str, str]]) -> list[tuple[str, str]]:
    found = []
    for disk in vm.disks:
        volume = hv.volume_at(disk.source) if disk.device == "disk" and disk.source else None
        if volume is not None and (volume.storage_pool, volume.name) not in own:
            found.append((volume.storage_pool, volume.name))
    return found


def _check_only_ours(hv: Hypervisor, vm: Vm, data: list[tuple[str, str]]) -> None:
    """Refuse to delete data volumes that others use, too."""
    paths = {disk.source for disk in vm.disks if disk.source}
    for other in hv.domains():
        if other.name != vm.name and data:
            shared = paths.intersection(disk.source for disk in domain_xml.read(other).disks)
            if shared:
                raise RefusedError(
                    f"the data volume {', '.join(sorted(shared))} of VM {vm.name!r} is in use by VM "
                    f"{other.name!r}, too; "
                    "detach it there first, or remove this VM without delete_data_volumes"
                )


def _deleter(hv: Hypervisor, storage_pool: str, volume: str) -> Callable[[], None]:
    return lambda: hv.delete_volume(storage_pool, volume)
