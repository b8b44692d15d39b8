"""Removing a VM with its own volumes; its data volumes stay unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from .. import names
from ..errors import DeniedError, ExistsError, NotFoundError, RefusedError
from ..hypervisor import Domain, Hypervisor, Shutdown, Volume
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..permissions import may_delete_volume, may_stop, may_undefine, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..volume.volume_use import DiskUsers, own_volumes
from .describe import describe_vm
from .record import REMOVE, Pending, Record
from .vm_claim import change_record, change_record_back
from .vm_request import VmRequest

Volumes = dict[str, list[tuple[str, str]]]
"""Storage pool and name of volumes, by the VM that they are called after."""


def named_after_vms(hv: Hypervisor) -> Volumes:
    """Return the roots and payloads in all active storage pools that the user may look into."""
    found: Volumes = {}
    for pool in hv.storage_pools():
        if pool.active:
            with suppress(DeniedError, NotFoundError, RefusedError):  # the last two: it was stopped a moment ago
                for name in hv.volume_names(pool.name):
                    vm = names.root_vm(name) or names.payload_vm(name)
                    if vm:
                        found.setdefault(vm, []).append((pool.name, name))
    return found


def plan_removal(
    hv: Hypervisor,
    domain: Domain,
    request: VmRequest,
    users: DiskUsers | None = None,
    catalogue: Catalogue | None = None,
    *,
    named: Volumes | None = None,
    reserved: bool = False,
) -> Plan:
    """Return the plan that removes a VM; its data volumes stay unless told otherwise.

    ``users``, ``catalogue`` and ``named`` spare who removes many VMs looking at all VMs, templates and volumes for
    each. They make the reservations of all of them first, and say that the VM is ``reserved``.
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
    doomed = _own_volumes(hv, vm, record, named_after_vms(hv) if named is None else named)
    data = _data_volumes(hv, vm, doomed)
    if request.delete_data_volumes:
        doomed, data = doomed + data, []
    _check_only_ours(vm, doomed, DiskUsers.read(hv) if users is None else users)
    steps = [] if reserved else reservation(hv, vm)
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


def reservation(hv: Hypervisor, vm: Vm) -> list[Step]:
    """Return the step after which a VM is seen to be going, and nobody can take it; none where that was done before."""
    before = vm.managed().pending
    if not vm.domain.persistent or vm.managed().going:
        return []
    begun: list[bool] = []

    def reserve(record: Record) -> Record:
        if record.going:
            return record  # another task removes it, too
        if record.lease is not None:
            raise RefusedError(f"VM {vm.name!r} was taken by {record.lease.user!r} meanwhile; run this task again")
        started = not vm.domain.active and hv.live_xml(vm.name) is not None
        if started or record != vm.managed():
            what = "started" if started else "changed"
            raise ExistsError(f"VM {vm.name!r} was {what} in the meantime; look at it, and run this task again")
        begun.append(True)
        doomed = before.doomed if before is not None else ()
        return record.changed(pending=Pending(REMOVE, vm.domain.active, doomed))

    def give_up(record: Record) -> Record:
        return record.changed(pending=before) if record.going else record

    def undo() -> None:
        if begun:
            change_record_back(hv, vm, give_up)

    say = f"note that VM {vm.name!r} is being removed"
    needs = may_write(vm.name)
    return [Step(say, lambda: change_record(hv, vm, reserve), undo, needs=needs)]


def _own_volumes(hv: Hypervisor, vm: Vm, record: Record, named: Volumes) -> list[Volume]:
    """Return the volumes that are the VM's alone: its roots, those of runs that died, its payload.

    A root that was detached is a data volume: it is not among them.
    """
    own = own_volumes(record)
    if record.detached_disk or vm.root_disk is None:
        own.pop(0)
    for pool, name in named.get(vm.name, ()):
        number = names.root_generation(vm.name, name)
        if number is None or (pool == record.root.storage_pool and number > record.generation):
            own.append((pool, name))
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
