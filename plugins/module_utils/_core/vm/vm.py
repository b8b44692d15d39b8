"""Ensuring one VM: which of making, completing, changing and removing it is to be done, and changing it."""

from __future__ import annotations

from dataclasses import replace

from .. import names
from ..errors import ExistsError, RefusedError
from ..hypervisor import RUNNING, SHUT_OFF, Hypervisor, Shutdown
from ..libvirt_xml import domain_edit, domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..names import LATEST
from ..networks import check_networks
from ..payload.payload_volume import stray_payloads
from ..payload.vm_payload import hand_over
from ..permissions import may_start, may_stop, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..text import storable
from ..volume.attachment import look
from ..volume.data_volumes import grow_steps, plan_data_volumes
from .describe import describe_vm, look_at_vm
from .fresh_root import needs_restore, restore_request
from .health_steps import health_steps
from .record import CREATE, SETTLE, Record
from .restore import KEEP, YES, RestoreRequest, plan_restore
from .vm_claim import start_staying, staying
from .vm_creation import plan_completion, plan_creation
from .vm_removal import plan_removal
from .vm_request import ABSENT, STARTED, STOPPED, VmRequest, check_follows


def plan_vm(hv: Hypervisor, request: VmRequest) -> Plan:
    """Return the plan that brings a VM to what is wanted of it."""
    names.check_vm_name(request.name)
    storable(request.description or "", f"description of VM {request.name!r}")
    domain = hv.domain(request.name)
    if request.state == ABSENT:
        return Plan({}, {}) if domain is None else plan_removal(hv, domain, request)
    catalogue = Catalogue(hv)
    if domain is None:
        return plan_creation(hv, catalogue, request)
    vm = domain_xml.read(domain)
    record = vm.managed()
    if record.pending is not None and record.pending.job == CREATE:
        return plan_completion(hv, catalogue, request, vm, record)
    if record.going:
        raise RefusedError(f"VM {vm.name!r} is being removed; run the task that removes it again (state: absent)")
    return _plan_change(hv, catalogue, request, vm, record)


# --- changing one ----------------------------------------------------------------------------------------------------


def _plan_change(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, vm: Vm, record: Record) -> Plan:
    _check_unchangeable(catalogue, request, vm, record)
    wanted = _wanted_record(request, vm, record)
    xml = _wanted_xml(request, vm, wanted)
    _check_networks(hv, request, vm, xml)
    steps, warnings = _define_steps(hv, request, vm, xml), []
    if steps and vm.domain.active and _hardware_differs(request, vm):
        warnings.append(f"VM {vm.name!r} runs: its changed hardware takes effect when it is next started")
    autostart = vm.domain.autostart if request.autostart is None else request.autostart
    if autostart != vm.domain.autostart:
        steps.append(
            Step(
                f"set autostart of VM {vm.name!r} to {autostart}",
                lambda: hv.set_autostart(vm.name, autostart),
                lambda: hv.set_autostart(vm.name, not autostart),
                needs=may_write(vm.name),
            )
        )
    restore = _restore_to_start(hv, catalogue, request, domain_xml.read(replace(vm.domain, xml=xml)))
    if restore is None:
        steps += _grow_root(hv, request, vm, record)
    if request.volumes:
        place = replace(look(hv, vm.name), vm=domain_xml.read(replace(vm.domain, xml=xml)))
        data = plan_data_volumes(hv, place, request.volumes, list(request.storage_pools) or [record.root.storage_pool])
        steps += data.steps
        xml = data.xml
    live = hv.live_xml(vm.name) if vm.domain.active else None
    as_changed = domain_xml.read(replace(vm.domain, xml=xml))
    if request.payload is not None:
        handing = hand_over(hv, as_changed, live, request.payload)
        steps += handing.steps
        warnings += handing.warnings
        xml, cleaning = handing.xml, list(handing.cleaning)
    else:
        stops = request.state == STOPPED
        cleaning = stray_payloads(hv, as_changed, live, catalogue.volume_names, stops=stops)
    state = vm.domain.state
    if restore is not None:
        changed = domain_xml.read(replace(vm.domain, xml=xml, autostart=autostart))
        rest = plan_restore(hv, restore, changed)
        return replace(rest, before=describe_vm(vm, catalogue), steps=(*steps, *rest.steps), warnings=tuple(warnings))
    if request.state == STARTED and state != RUNNING:
        if vm.domain.active:
            raise RefusedError(f"VM {vm.name!r} is paused; go on with it ('virsh resume {vm.name}') or stop it first")
        steps.append(Step(f"start VM {vm.name!r}", lambda: start_staying(hv, vm), needs=may_start(vm.name)))
        steps += health_steps(hv, vm.name, request.health)
        state = RUNNING
    if request.state == STOPPED and vm.domain.active:
        if record.lease is not None:
            raise RefusedError(
                f"VM {vm.name!r} is taken by {record.lease.user!r} since {record.lease.since}; it is stopped when it "
                "is returned (vm_lease)"
            )
        shutdown = Shutdown(timeout=request.wait_timeout)
        say, needs = f"stop VM {vm.name!r}", may_stop(vm.name)
        steps.append(Step(say, lambda: hv.stop(vm.name, shutdown), lambda: start_staying(hv, vm), needs=needs))
        state = SHUT_OFF
    steps += cleaning
    after = domain_xml.read(replace(vm.domain, xml=xml, autostart=autostart, state=state))
    return Plan(
        before=describe_vm(vm, catalogue),
        after=describe_vm(after, catalogue),
        steps=tuple(steps),
        warnings=tuple(warnings),
        look=look_at_vm(hv, vm.name),
    )


def _define_steps(hv: Hypervisor, request: VmRequest, vm: Vm, xml: str) -> list[Step]:
    """Return the step that changes the definition; the steps after it do the rest of what is going to be in it."""
    described = request.description in (None, vm.description)  # blanks count in it, and in nothing else
    if described and domain_xml.canonical(xml) == domain_xml.canonical(vm.domain.xml):
        return []
    wanted = domain_xml.read(replace(vm.domain, xml=xml))
    begun: list[bool] = []

    def change() -> None:
        with staying(hv, vm):
            present = hv.domain(vm.name)
            if present is None or present.xml != vm.domain.xml:
                raise ExistsError(
                    f"another task has changed VM {vm.name!r} in the meantime; look at it, and run this task again"
                )
            begun.append(True)  # before it is: a call can do its work and yet fail
            hv.define(xml)

    def undo() -> None:
        if not begun:
            return
        with staying(hv, vm) as record:
            present = hv.domain(vm.name)
            if present is not None and (record, domain_xml.disks_of(present.xml)) == (wanted.record, wanted.disks):
                hv.define(vm.domain.xml)  # else others have changed it since

    return [Step(f"change VM {vm.name!r}", change, undo, needs=may_write(vm.name))]


def _check_networks(hv: Hypervisor, request: VmRequest, vm: Vm, xml: str) -> None:
    starts = request.state == STARTED and not vm.domain.active
    if starts or _networks_differ(request, vm):
        check_networks(hv, domain_xml.networks_of(xml), vm.name, starts=starts)


def _restore_to_start(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, vm: Vm) -> RestoreRequest | None:
    """Return the restore that a start of the VM takes: a stateless one begins without what was changed on its root.

    One that runs has had it; if the task that did it has died, it is to be finished.
    """
    record = vm.managed()
    if request.state != STARTED or not record.stateless:
        return None
    if vm.domain.state == RUNNING and record.pending is not None and record.pending.job == SETTLE:
        return RestoreRequest(
            vm.name, template_version=str(record.root.version), on_failure=KEEP, force_taken=True, clear_failures=False
        )
    if vm.domain.active or not needs_restore(hv, catalogue, vm):
        return None
    if record.lease is not None:
        raise RefusedError(
            f"VM {vm.name!r} is taken by {record.lease.user!r} since {record.lease.since}, and would be restored to be "
            "started: it loses what is on its root when its user takes it again, or returns it (vm_lease)"
        )
    return replace(restore_request(vm), start=YES, root_size=request.size.storage, health=request.health)


def _check_unchangeable(catalogue: Catalogue, request: VmRequest, vm: Vm, record: Record) -> None:
    root = record.root
    if request.template is not None and request.template != root.template:
        raise RefusedError(
            f"VM {vm.name!r} is made from template {root.template!r}, not {request.template!r}; "
            f"move it with vm_restore (template: {request.template})"
        )
    if request.template_version not in (None, LATEST):
        wanted = catalogue.template(root.template_storage_pool, root.template).select(str(request.template_version))
        if wanted.version != root.version:
            raise RefusedError(
                f"VM {vm.name!r} is on version {root.version} of template {root.template!r}, not {wanted.version}; "
                f"move it with vm_restore (template_version: {wanted.version})"
            )


def _wanted_record(request: VmRequest, vm: Vm, record: Record) -> Record:
    stateless = record.stateless if request.stateless is None else request.stateless
    follows_latest = request.use_latest_template_version
    if follows_latest is None:
        follows_latest = record.follows_latest
    check_follows(replace(request, stateless=stateless, use_latest_template_version=follows_latest))
    follows = record.follows
    if follows_latest != record.follows_latest:
        follows = LATEST if follows_latest else str(record.root.version)
    return record.changed(stateless=stateless, follows=follows)


def _wanted_xml(request: VmRequest, vm: Vm, record: Record) -> str:
    changed = domain_edit.with_changes(
        vm.domain.xml,
        cpus=request.size.cpus if request.size.cpus != vm.cpus else None,
        memory=request.size.memory if request.size.memory != vm.memory else None,
        networks=request.networks if _networks_differ(request, vm) else None,
        description=request.description if request.description != vm.description else None,
    )
    return domain_edit.with_record(changed, record)


def _networks_differ(request: VmRequest, vm: Vm) -> bool:
    if request.networks is None or len(request.networks) != len(vm.nics):
        return request.networks is not None
    return any(
        (want.network, want.model) != (nic.network, nic.model) or (want.mac and want.mac.lower() != nic.mac.lower())
        for want, nic in zip(request.networks, vm.nics)
    )


def _hardware_differs(request: VmRequest, vm: Vm) -> bool:
    size = request.size
    return size.cpus not in (None, vm.cpus) or size.memory not in (None, vm.memory) or _networks_differ(request, vm)


def _grow_root(hv: Hypervisor, request: VmRequest, vm: Vm, record: Record) -> list[Step]:
    wanted, root, disk = request.size.storage, record.root, vm.root_disk
    volume = hv.volume(root.storage_pool, root.volume) if wanted is not None else None
    if wanted is None or volume is None or disk is None or record.detached_disk:
        return []
    return list(grow_steps(hv, look(hv, vm.name), volume, disk.target, wanted))
