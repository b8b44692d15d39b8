"""Restoring a VM: onto which root, and whether that is possible; ``root_switch`` has the steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import names
from ..errors import NotFoundError, RefusedError
from ..hypervisor import Health, Hypervisor, Shutdown
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..networks import check_networks
from ..plan import Plan
from ..template.catalog import Catalogue, Template, check_usable
from ..template.manifest import Manifest
from ..units import human_size
from .overlay import is_unwritten
from .record import CREATE, SETTLE, Record
from .root import LEAST_SPACE, check_root_size, find_template, plan_root
from .root_switch import RootSwitch
from .settle import check_previous_unused, plan_settle

AS_BEFORE, YES, NO = "as_before", "yes", "no"
KEEP, ROLLBACK = "keep", "rollback"


@dataclass(frozen=True)
class RestoreRequest:
    """What the user wants of a restore; sizes in bytes, None is the default that ``vm_restore`` documents."""

    vm: str
    template: str | None = None
    template_version: str | None = None
    root_size: int | None = None
    force: bool = False
    shutdown: Shutdown = field(default_factory=Shutdown)
    health: Health = field(default_factory=Health)
    on_failure: str = ROLLBACK
    keep_previous: bool = False
    start: str = AS_BEFORE
    force_taken: bool = False
    clear_failures: bool = True


def plan_restore(hv: Hypervisor, request: RestoreRequest, changed: Vm | None = None) -> Plan:
    """Return the plan that brings a VM onto a fresh root of a template version.

    ``changed`` is the VM as steps before this plan make it.
    """
    vm, record = _look(hv, request, changed)
    catalogue = Catalogue(hv)
    template, version = _target(catalogue, record, request)
    check_root_size(version, request.root_size, "root_size")
    there = record.root.template_version == (template.storage_pool, template.name, version.version)
    if record.pending is not None and record.pending.job == SETTLE and there and not _used_since(hv, vm, request):
        return _switch(hv, vm, request, catalogue).plan_rest()
    if there and not request.force:
        return _switch(hv, vm, request, catalogue).plan_nothing()
    check_usable(version)
    _check_possible(hv, vm, record, request)
    pool = hv.storage_pool(record.root.storage_pool)
    if pool.available < LEAST_SPACE:
        raise RefusedError(
            f"storage pool {pool.name!r} has {human_size(pool.available)} available of the "
            f"{human_size(LEAST_SPACE)} that a "
            f"new root of VM {vm.name!r} needs; delete what is not needed"
        )
    size = request.root_size or _current_capacity(hv, record)
    existing = catalogue.volume_names(pool.name)
    new = plan_root(vm.name, pool, template, version, size=size, above=record.generation, existing=existing)
    return _switch(hv, vm, request, catalogue).plan_whole(new.root, new)


def plan_rolled_back(hv: Hypervisor, request: RestoreRequest) -> Plan:
    """Return the plan that puts a VM back onto the previous root that its last restore kept."""
    vm, record = _look(hv, request)
    if record.rolled_back and record.pending is not None and record.pending.job == SETTLE:
        return _switch(hv, vm, request).plan_rest()
    if record.rolled_back:
        return _switch(hv, vm, request).plan_nothing()
    if record.previous is None:
        raise RefusedError(
            f"VM {vm.name!r} has no previous root to go back to: its last restore did not keep it "
            "(keep_previous: true); "
            "restore it to an older version instead"
        )
    _check_possible(hv, vm, record, request)
    if hv.volume(record.previous.storage_pool, record.previous.volume) is None:
        raise NotFoundError(
            f"the previous root {record.previous.volume!r} of VM {vm.name!r} is not in storage pool "
            f"{record.previous.storage_pool!r} any more; restore the VM to an older version instead"
        )
    return _switch(hv, vm, request).plan_whole(record.previous, None)


def plan_settled(hv: Hypervisor, name: str) -> Plan:
    """Return the plan that deletes the previous root that the last restore of a VM kept.

    It is none of the user's who may hold the VM, so it goes from a taken VM, too.
    """
    vm, _record = _look(hv, RestoreRequest(name, force_taken=True))
    return plan_settle(hv, vm)


# --- looking and deciding --------------------------------------------------------------------------------------------


def _look(hv: Hypervisor, request: RestoreRequest, changed: Vm | None = None) -> tuple[Vm, Record]:
    domain = changed.domain if changed is not None else hv.domain(request.vm)
    if domain is None:
        raise NotFoundError(f"there is no VM {request.vm!r}; make it with the module vm")
    vm = domain_xml.read(domain)
    record = vm.managed()
    if not domain.persistent:
        raise RefusedError(f"VM {vm.name!r} is transient: it has no stored definition to change; define it first")
    if record.pending is not None and record.pending.job == CREATE:
        raise RefusedError(
            f"VM {vm.name!r} is not complete: the task that made it died; run that task (vm, vm_pool) again"
        )
    if record.going:
        raise RefusedError(f"VM {vm.name!r} is being removed; run the task that removes it again")
    if record.lease is not None and not request.force_taken:
        raise RefusedError(
            f"VM {vm.name!r} is taken by {record.lease.user!r} since {record.lease.since}; it is restored "
            "when it is returned (vm_lease), or now with 'force_taken: true'",
            taken_by=record.lease.user,
        )
    if record.detached_disk or vm.root_disk is None:
        raise RefusedError(
            f"the root {record.root.volume!r} of VM {vm.name!r} is detached; attach it at device id 0 again "
            "(volume_attach) first"
        )
    return vm, record


def _target(catalogue: Catalogue, record: Record, request: RestoreRequest) -> tuple[Template, Manifest]:
    root = record.root
    if request.template is None or request.template == root.template:
        template = catalogue.read(root.template_storage_pool, root.template)
        own = names.LATEST if record.follows_latest else str(root.version)
        return template, template.select(request.template_version or own)
    template = find_template(catalogue.hv, request.template, [root.template_storage_pool])
    return template, template.select(request.template_version or names.LATEST)


def _check_possible(hv: Hypervisor, vm: Vm, record: Record, request: RestoreRequest) -> None:
    snapshots = hv.snapshots(vm.name)
    if snapshots:
        raise RefusedError(
            f"VM {vm.name!r} has snapshots or checkpoints ({', '.join(snapshots)}), which belong to its present root; "
            "delete them first ('virsh snapshot-delete', 'virsh checkpoint-delete')"
        )
    if record.previous is not None:
        check_previous_unused(hv, vm, record.previous)
    if vm.domain.managed_save and not (request.force or record.stateless):
        raise RefusedError(
            f"VM {vm.name!r} has a managed save image, the memory of a guest on its present root; start and "
            "stop the VM "
            "to use it up, or set 'force: true' to drop it"
        )
    if _switch(hv, vm, request).runs_after:
        check_networks(hv, domain_xml.networks_of(vm.domain.xml), vm.name, starts=True)


def _used_since(hv: Hypervisor, vm: Vm, request: RestoreRequest) -> bool:
    """Whether a VM that is to be reset was used and went down, with a new root on which nobody has settled it."""
    record = vm.managed()
    return request.force and record.stateless and not vm.domain.active and not is_unwritten(hv, record.root)


def _current_capacity(hv: Hypervisor, record: Record) -> int:
    volume = hv.volume(record.root.storage_pool, record.root.volume)
    return volume.capacity if volume is not None else 0


def _switch(hv: Hypervisor, vm: Vm, request: RestoreRequest, catalogue: Catalogue | None = None) -> RootSwitch:
    return RootSwitch(
        hv,
        vm,
        runs_after={AS_BEFORE: None, YES: True, NO: False}[request.start],
        shutdown=request.shutdown,
        health=request.health,
        keep_previous=request.keep_previous,
        undo=request.on_failure == ROLLBACK,
        clear_failures=request.clear_failures,
        catalogue=catalogue,
    )
