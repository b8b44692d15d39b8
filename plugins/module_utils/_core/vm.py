"""Ensuring one VM: made from a template version, changed, started, stopped, removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from . import domain_xml, names
from .catalog import Catalogue, Template, check_usable
from .describe import describe_vm
from .domain_xml import Network, Vm
from .errors import ExistsError, InvalidError, NotFoundError, RefusedError
from .hypervisor import RUNNING, SHUT_OFF, Domain, Hypervisor, Shutdown
from .manifest import Manifest
from .names import LATEST
from .plan import Plan, Step
from .record import CREATE, Pending, PoolSettings, Record, to_text
from .root import NewRoot, check_root_size, choose_storage_pool, find_template, make_root, plan_root
from .units import GIB, human_size

PRESENT, ABSENT, STARTED, STOPPED = "present", "absent", "started", "stopped"


@dataclass(frozen=True)
class Size:
    """The hardware of a VM: ``memory`` in KiB, ``storage`` (of the root) in bytes; None leaves it as it is."""

    cpus: int | None = None
    memory: int | None = None
    storage: int | None = None


@dataclass(frozen=True)
class VmRequest:
    """What the user wants of a VM; None leaves a part as it is, or as the template has it."""

    name: str
    state: str = PRESENT
    template: str | None = None
    template_version: str | None = None
    use_latest_template_version: bool | None = None
    stateless: bool | None = None
    size: Size = field(default_factory=Size)
    networks: tuple[Network, ...] | None = None
    storage_pools: tuple[str, ...] = ()
    description: str | None = None
    autostart: bool | None = None
    delete_data_volumes: bool = False
    wait_timeout: int = 120
    vm_pool: PoolSettings | None = None
    template_storage_pool: str | None = None


def plan_vm(hv: Hypervisor, request: VmRequest) -> Plan:
    """Return the plan that brings a VM to what is wanted of it."""
    names.check_vm_name(request.name)
    domain = hv.domain(request.name)
    if request.state == ABSENT:
        return Plan({}, {}) if domain is None else plan_removal(hv, domain, request)
    catalogue = Catalogue(hv)
    if domain is None:
        return plan_creation(hv, catalogue, request)
    vm = domain_xml.read(domain)
    record = vm.managed()
    if record.pending is not None and record.pending.job == CREATE:
        return _plan_completion(hv, catalogue, request, vm, record)
    return _plan_change(hv, catalogue, request, vm, record)


# --- making one ------------------------------------------------------------------------------------------------------


def plan_creation(hv: Hypervisor, catalogue: Catalogue, request: VmRequest) -> Plan:
    """Return the plan that makes a VM that does not exist."""
    if request.template is None:
        raise NotFoundError(f"there is no VM {request.name!r}; to make it, say from which template (option 'template')")
    first = [request.template_storage_pool] if request.template_storage_pool else list(request.storage_pools)
    template = find_template(hv, request.template, first or ["default"])
    version = check_usable(template.select(request.template_version or LATEST))
    check_follows(request)
    new = _plan_new_root(hv, request, template, version)
    record = Record(
        root=new.root,
        generation=names.root_generation(request.name, new.root.volume) or 1,
        follows=_follows(request, version),
        stateless=bool(request.stateless),
        pending=Pending(CREATE, was_running=False),
        vm_pool=request.vm_pool,
    )
    return _Creation(hv, catalogue, request, new, record).plan()


def check_follows(request: VmRequest) -> None:
    """Refuse a VM that is to follow latest and to keep its root's changes: it cannot do both."""
    if request.use_latest_template_version and request.stateless is False:
        raise InvalidError(
            f"VM {request.name!r} is not stateless, so it cannot follow the latest version: moving it would "
            "lose what is "
            "on its root; set 'stateless: true', or move it deliberately with vm_restore"
        )
    if request.use_latest_template_version and not request.stateless:
        raise InvalidError(
            f"VM {request.name!r}: use_latest_template_version needs 'stateless: true', as each move loses "
            "what is on the root"
        )


def _follows(request: VmRequest, version: Manifest) -> str:
    return LATEST if request.use_latest_template_version else str(version.version)


def _plan_new_root(hv: Hypervisor, request: VmRequest, template: Template, version: Manifest) -> NewRoot:
    wanted = request.size.storage
    check_root_size(version, wanted, f"size.storage_size_in_gb of VM {request.name!r}")
    pool = choose_storage_pool(hv, list(request.storage_pools) or [template.storage_pool])
    return plan_root(hv, request.name, pool, template, version, size=wanted or 0)


def _plan_completion(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, vm: Vm, record: Record) -> Plan:
    """Return the plan that finishes a VM whose maker died: its definition is there, its root may be half-done."""
    root = record.root
    template = catalogue.template(root.template_storage_pool, root.template)
    version = check_usable(template.select(str(root.version)))
    pool = hv.storage_pool(root.storage_pool)
    capacity = max(version.image.capacity, request.size.storage or 0)
    new = NewRoot(root, version, f"{pool.path.rstrip('/')}/{root.volume}", capacity)
    return _Creation(hv, catalogue, request, new, record, defined=vm).plan()


class _Creation:
    """One VM in the making.

    The definition comes first: its name is the claim, and its metadata tells a later run what is to be finished.
    """

    def __init__(
        self,
        hv: Hypervisor,
        catalogue: Catalogue,
        request: VmRequest,
        new: NewRoot,
        record: Record,
        *,
        defined: Vm | None = None,
    ) -> None:
        self.hv = hv
        self.catalogue = catalogue
        self.request = request
        self.new = new
        self.record = record
        self.found = defined
        self.mine = defined is not None
        self.complete = False

    def plan(self) -> Plan:
        name, request = self.request.name, self.request
        steps = []
        if self.found is None:
            steps.append(Step(f"define VM {name!r}", self._define, self._undefine))
        version = self.new.version
        say = f"create the root {self.new.root.volume!r} from template {version.template!r} version {version.version}"
        steps.append(Step(say, self._make_root, self._delete_root))
        if request.autostart:
            steps.append(Step(f"let VM {name!r} start with its host", lambda: self.hv.set_autostart(name, True)))
        if request.state == STARTED:
            steps.append(Step(f"start VM {name!r}", lambda: self.hv.start(name), self._stop))
        return Plan({}, describe_vm(self._predicted(), self.catalogue), tuple(steps), look=_looker(self.hv, name))

    def _xml(self, virt_type: str, record: Record) -> str:
        request = self.request
        hardware = domain_xml.with_changes(
            self.new.version.domain_xml,
            cpus=request.size.cpus,
            memory=request.size.memory,
            networks=request.networks,
            description=request.description,
        )
        return domain_xml.new_vm(hardware, request.name, virt_type, self.new.path, record)

    def _predicted(self) -> Vm:
        settled = self.record.changed(pending=None)
        state = RUNNING if self.request.state == STARTED else SHUT_OFF
        if self.found is not None:
            xml = domain_xml.with_record(self.found.domain.xml, settled)
            autostart = self.found.domain.autostart or bool(self.request.autostart)
            return domain_xml.read(replace(self.found.domain, state=state, autostart=autostart, xml=xml))
        xml = self._xml("qemu", settled)
        return domain_xml.read(Domain(self.request.name, "", state, True, bool(self.request.autostart), False, xml))

    def _define(self) -> None:
        self.mine = True  # before it is: a call can do its work and yet fail
        try:
            self.hv.define(self._xml(self.hv.virt_type(), self.record))
        except ExistsError as error:
            self.mine = False
            raise ExistsError(
                f"VM {self.request.name!r} was made by another task in the meantime; run this task again"
            ) from error

    def _undefine(self) -> None:
        if self._is_ours():
            self.hv.undefine(self.request.name)

    def _make_root(self) -> None:
        if self.found is not None:
            self._delete_root()
        volume = make_root(self.hv, self.new)
        if volume.path != self.new.path:
            raise InvalidError(f"libvirt put volume {volume.name!r} at {volume.path} and not at {self.new.path}")
        self.hv.set_metadata(self.request.name, to_text(self.record.changed(pending=None)))
        self.complete = True

    def _delete_root(self) -> None:
        if self._is_ours():
            self.hv.delete_volume(self.new.root.storage_pool, self.new.root.volume)

    def _is_ours(self) -> bool:
        """Whether the VM is the one that this task makes, and no other task uses it in the meantime."""
        domain = self.hv.domain(self.request.name)
        record = domain_xml.record_of(domain) if domain is not None and not domain.active else None
        if not self.mine or record is None or record.root != self.new.root:
            return False
        return self.complete or (record.pending is not None and record.pending.job == CREATE)

    def _stop(self) -> None:
        self.hv.stop(self.request.name, Shutdown("force"))


def _looker(hv: Hypervisor, name: str) -> Callable[[], dict[str, Any]]:
    def look() -> dict[str, Any]:
        domain = hv.domain(name)
        return {} if domain is None else describe_vm(domain_xml.read(domain), Catalogue(hv))

    return look


# --- changing one ----------------------------------------------------------------------------------------------------


def _plan_change(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, vm: Vm, record: Record) -> Plan:
    _check_unchangeable(catalogue, request, vm, record)
    wanted = _wanted_record(request, vm, record)
    xml = _wanted_xml(request, vm, wanted)
    steps, warnings = [], []
    if domain_xml.canonical(xml) != domain_xml.canonical(vm.domain.xml):
        steps.append(Step(f"change VM {vm.name!r}", lambda: hv.define(xml), lambda: hv.define(vm.domain.xml)))
        if vm.domain.active and _hardware_differs(request, vm):
            warnings.append(f"VM {vm.name!r} runs: its changed hardware takes effect when it is next started")
    autostart = vm.domain.autostart if request.autostart is None else request.autostart
    if autostart != vm.domain.autostart:
        steps.append(
            Step(
                f"set autostart of VM {vm.name!r} to {autostart}",
                lambda: hv.set_autostart(vm.name, autostart),
                lambda: hv.set_autostart(vm.name, not autostart),
            )
        )
    steps += _grow_root(hv, request, vm, record)
    state = vm.domain.state
    if request.state == STARTED and state != RUNNING:
        if vm.domain.active:
            raise RefusedError(f"VM {vm.name!r} is paused; go on with it ('virsh resume {vm.name}') or stop it first")
        steps.append(Step(f"start VM {vm.name!r}", lambda: hv.start(vm.name)))
        state = RUNNING
    if request.state == STOPPED and vm.domain.active:
        shutdown = Shutdown(timeout=request.wait_timeout)
        steps.append(Step(f"stop VM {vm.name!r}", lambda: hv.stop(vm.name, shutdown), lambda: hv.start(vm.name)))
        state = SHUT_OFF
    after = domain_xml.read(replace(vm.domain, xml=xml, autostart=autostart, state=state))
    return Plan(
        before=describe_vm(vm, catalogue),
        after=describe_vm(after, catalogue),
        steps=tuple(steps),
        warnings=tuple(warnings),
        look=_looker(hv, vm.name),
    )


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
    changed = domain_xml.with_changes(
        vm.domain.xml,
        cpus=request.size.cpus if request.size.cpus != vm.cpus else None,
        memory=request.size.memory if request.size.memory != vm.memory else None,
        networks=request.networks if _networks_differ(request, vm) else None,
        description=request.description if request.description != vm.description else None,
    )
    return domain_xml.with_record(changed, record)


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
    wanted, root = request.size.storage, record.root
    volume = hv.volume(root.storage_pool, root.volume) if wanted is not None else None
    if wanted is None or volume is None or wanted == volume.capacity:
        return []
    if wanted < volume.capacity:
        raise RefusedError(
            f"the root of VM {vm.name!r} has {human_size(volume.capacity)}, more than the {wanted // GIB} GiB "
            "that are wanted; "
            "a disk cannot be made smaller without losing what is on it"
        )
    if vm.domain.active:
        raise RefusedError(f"VM {vm.name!r} runs; stop it to grow its root to {human_size(wanted)}")
    say = f"grow the root {root.volume!r} to {human_size(wanted)}"
    return [Step(say, lambda: hv.resize_volume(root.storage_pool, root.volume, wanted), final=True)]


# --- removing one ----------------------------------------------------------------------------------------------------


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
