"""Deleting the root that the last restore of a VM kept: it ends the way back."""

from __future__ import annotations

from dataclasses import replace

from ..errors import ExistsError, RefusedError
from ..hypervisor import Hypervisor
from ..libvirt_xml import domain_edit, domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..permissions import may_delete_volume, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..volume.volume_use import DiskUsers
from .describe import describe_root, describe_vm, look_at_vm
from .record import SETTLE, Pending, Record, Root
from .root import delete_root
from .vm_claim import change_record, change_record_back, read_record


def plan_settle(hv: Hypervisor, vm: Vm) -> Plan:
    """Return the plan that deletes the kept root of a VM, or what a run that died has left of that."""
    record = vm.managed()
    root = _doomed(vm, record)
    if root is not None:
        check_previous_unused(hv, vm, root)
    volume = hv.volume(root.storage_pool, root.volume) if root is not None else None
    told = {
        "previous": describe_root(root) if root is not None else None,
        "freed": volume.allocation if volume is not None else 0,
        "downtime": 0.0,
    }
    catalogue = Catalogue(hv)
    described = describe_vm(vm, catalogue)
    if root is None:
        return Plan(described, described, facts=lambda phases: {**told, "phases": phases})
    settled = replace(
        vm.domain, xml=domain_edit.with_record(vm.domain.xml, record.changed(previous=None, pending=None))
    )
    return Plan(
        before=described,
        after=describe_vm(domain_xml.read(settled), catalogue),
        steps=_steps(hv, vm, record, root),
        look=look_at_vm(hv, vm.name),
        facts=lambda phases: {**told, "phases": phases},
    )


def check_previous_unused(hv: Hypervisor, vm: Vm, previous: Root) -> None:
    """Refuse to go on when somebody has given the kept previous root, which is going to be used or deleted, to a VM."""
    volume = hv.volume(previous.storage_pool, previous.volume)
    users = DiskUsers.read(hv).of(volume) if volume is not None else []
    if users:
        raise RefusedError(
            f"the previous root {previous.volume!r} of VM {vm.name!r} is in use by VM "
            f"{', '.join(map(repr, users))}; detach it there first"
        )


def _doomed(vm: Vm, record: Record) -> Root | None:
    """Return the root that is to go: the kept one, or the one that a run which died was about to delete."""
    pending = record.pending
    if pending is None:
        return record.previous
    if pending.job == SETTLE and record.previous is None and pending.doomed:
        return pending.doomed[0]
    raise RefusedError(
        f"VM {vm.name!r} has an unfinished restore ({pending.job}), which needs its previous root; run the task that "
        "began it (vm_restore) again first"
    )


def _steps(hv: Hypervisor, vm: Vm, record: Record, root: Root) -> tuple[Step, ...]:
    """Return the steps. First it is noted that there is no way back any more, so that nobody begins to go it."""
    pending = Pending(SETTLE, vm.domain.active, (root,))
    noted = record if record.pending is not None else record.changed(previous=None, pending=pending)
    begun: list[bool] = []

    def begin(present: Record) -> Record:
        if present != record:
            raise _overtaken(vm)
        begun.append(True)
        return noted

    def note() -> None:
        change_record(hv, vm, begin)

    def take_back() -> None:
        if begun:
            change_record_back(hv, vm, lambda present: record if present == noted else present)

    def delete() -> None:
        present = read_record(hv, vm.name)
        if (present.root, present.pending) != (noted.root, noted.pending):
            raise _overtaken(vm)
        delete_root(hv, root)
        _replace(hv, vm, present, present.changed(pending=None))

    needs = may_write(vm.name)
    may_delete = may_delete_volume(root.storage_pool, root.volume)
    return (
        Step(f"note that VM {vm.name!r} does not go back to the root {root.volume!r}", note, take_back, needs=needs),
        Step(f"delete the previous root {root.volume!r}", delete, phase="settle", final=True, needs=may_delete),
    )


def _replace(hv: Hypervisor, vm: Vm, expected: Record, wanted: Record) -> None:
    """Write a record in place of the one that is expected to be there; another one is left as it is."""

    def change(present: Record) -> Record:
        if present != expected:
            raise _overtaken(vm)
        return wanted

    change_record(hv, vm, change)


def _overtaken(vm: Vm) -> ExistsError:
    return ExistsError(f"another task has changed VM {vm.name!r} in the meantime; look at it, and run this task again")
