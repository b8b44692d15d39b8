"""Removing a VM with its own volumes; its data volumes stay unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable

from .. import names
from ..errors import RefusedError
from ..hypervisor import Domain, Hypervisor, Shutdown, Volume
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..payload.payload_volume import payload_volumes
from ..permissions import may_delete_volume, may_stop, may_undefine
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..volume.volume_use import DiskUsers, own_volumes
from .describe import describe_vm
from .record import Record
from .vm_request import VmRequest


def plan_removal(
    hv: Hypervisor,
    domain: Domain,
    request: VmRequest,
    users: DiskUsers | None = None,
    catalogue: Catalogue | None = None,
) -> Plan:
    """Return the plan that removes a VM; its data volumes stay unless told otherwise.

    ``users`` and ``catalogue`` spare who removes many VMs looking at all VMs and templates for each.
    """
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
        doomed, data = doomed + data, []
    _check_only_ours(vm, doomed, DiskUsers.read(hv) if users is None else users)
    steps = []
    if domain.active:
        shutdown = Shutdown(timeout=request.wait_timeout)
        say, needs = f"stop VM {vm.name!r}", may_stop(vm.name)
        steps.append(Step(say, lambda: hv.stop(vm.name, shutdown), lambda: hv.start(vm.name), needs=needs))
    # The volumes go first: as long as the definition is there, a later run knows what is left to do.
    for volume in doomed:
        needs = may_delete_volume(volume.storage_pool, volume.name)
        steps.append(Step(f"delete volume {volume.name!r}", _deleter(hv, volume), final=True, needs=needs))
    say, needs = f"undefine VM {vm.name!r}", may_undefine(vm.name)
    steps.append(Step(say, lambda: hv.undefine(vm.name), final=True, needs=needs))
    kept = [{"storage_pool": volume.storage_pool, "volume": volume.name} for volume in data]
    return Plan(
        before=describe_vm(vm, catalogue or Catalogue(hv)),
        after={},
        steps=tuple(steps),
        facts=lambda phases: {"data_volumes_kept": kept},
    )


def _own_volumes(hv: Hypervisor, vm: Vm, record: Record) -> list[Volume]:
    """Return the volumes that are the VM's alone: its roots, those of runs that died, its payload.

    A root that was detached is a data volume: it is not among them.
    """
    own = own_volumes(record)
    if record.detached_disk or vm.root_disk is None:
        own.pop(0)
    for name in hv.volume_names(record.root.storage_pool):
        number = names.root_generation(vm.name, name)
        if number is not None and number > record.generation:
            own.append((record.root.storage_pool, name))
    own += payload_volumes(hv, vm.name)
    found = [hv.volume(*key) for key in dict.fromkeys(own)]
    return [volume for volume in found if volume is not None]


def _data_volumes(hv: Hypervisor, vm: Vm, own: list[Volume]) -> list[Volume]:
    paths = [disk.source for disk in vm.disks if disk.device == "disk" and disk.source]
    found = [hv.volume_at(path) for path in paths if path not in {volume.path for volume in own}]
    return [volume for volume in found if volume is not None]


def _check_only_ours(vm: Vm, doomed: list[Volume], users: DiskUsers) -> None:
    """Refuse to delete volumes that other VMs use, too."""
    for volume in doomed:
        others = users.of(volume, besides=vm.name)
        if others:
            raise RefusedError(
                f"volume {volume.name!r} of VM {vm.name!r} is in use by VM {', '.join(map(repr, others))}, "
                "too; detach it there first"
            )
        owner = users.root_of(volume)
        if owner not in ("", vm.name):
            raise RefusedError(
                f"volume {volume.name!r} at VM {vm.name!r} is the root of VM {owner!r}; detach it, and attach it there "
                "again (volume_attach), first"
            )


def _deleter(hv: Hypervisor, volume: Volume) -> Callable[[], None]:
    return lambda: hv.delete_volume(volume.storage_pool, volume.name)
