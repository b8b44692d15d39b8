"""Making a VM from a template version, and completing one whose maker died."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

from .. import names
from ..errors import ExistsError, InvalidError, NotFoundError
from ..hypervisor import RUNNING, SHUT_OFF, Domain, Hypervisor, Shutdown, StoragePool
from ..libvirt_xml import domain_edit, domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..names import LATEST
from ..networks import check_networks
from ..payload.vm_payload import hand_over
from ..permissions import may_create_volume, may_define, may_start, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue, Template, check_usable
from ..template.manifest import Manifest
from ..volume.attachment import Place
from ..volume.data_volumes import plan_data_volumes
from .describe import describe_vm, look_at_vm
from .health_steps import health_steps
from .record import CREATE, Pending, Record, to_text
from .root import NewRoot, check_root_size, choose_storage_pool, find_template, make_root, plan_root
from .vm_request import STARTED, VmRequest, check_follows


@dataclass(frozen=True)
class Origin:
    """What VMs are made of, and where their roots go; ``volumes`` are the names of those that are there already."""

    template: Template
    version: Manifest
    storage_pool: StoragePool
    volumes: tuple[str, ...]


def find_origin(hv: Hypervisor, request: VmRequest) -> Origin:
    """Return what a new VM is made of: the same for all that are to be alike."""
    if request.template is None:
        raise NotFoundError(f"there is no VM {request.name!r}; to make it, say from which template (option 'template')")
    first = [request.template_storage_pool] if request.template_storage_pool else list(request.storage_pools)
    template = find_template(hv, request.template, first or ["default"])
    version = check_usable(template.select(request.template_version or LATEST))
    check_follows(request)
    check_root_size(version, request.size.storage, f"size.storage_size_in_gb of VM {request.name!r}")
    _check_networks(hv, request, version)
    pool = choose_storage_pool(hv, list(request.storage_pools) or [template.storage_pool])
    return Origin(template, version, pool, tuple(hv.volume_names(pool.name)))


def _check_networks(hv: Hypervisor, request: VmRequest, version: Manifest) -> None:
    """Refuse networks that are asked for and not there; those of the template matter when the VM starts."""
    starts = request.state == STARTED
    if request.networks is not None:
        check_networks(hv, [network.network for network in request.networks], request.name, starts=starts)
    elif starts:
        check_networks(hv, domain_xml.networks_of(version.domain_xml), request.name, starts=True)


def plan_creation(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, origin: Origin | None = None) -> Plan:
    """Return the plan that makes a VM that does not exist; ``origin`` spares who makes many looking for each."""
    origin = origin or find_origin(hv, request)
    version = origin.version
    size, existing = request.size.storage or 0, origin.volumes
    new = plan_root(request.name, origin.storage_pool, origin.template, version, size=size, existing=existing)
    record = Record(
        root=new.root,
        generation=names.root_generation(request.name, new.root.volume) or 1,
        follows=_follows(request, version),
        stateless=bool(request.stateless),
        pending=Pending(CREATE, was_running=False),
        vm_pool=request.vm_pool,
        vm=str(uuid4()),
    )
    return _Creation(hv, catalogue, request, new, record).plan()


def _follows(request: VmRequest, version: Manifest) -> str:
    return LATEST if request.use_latest_template_version else str(version.version)


def plan_completion(hv: Hypervisor, catalogue: Catalogue, request: VmRequest, vm: Vm, record: Record) -> Plan:
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
            steps.append(Step(f"define VM {name!r}", self._define, self._undefine, needs=may_define(name)))
        version = self.new.version
        say = f"create the root {self.new.root.volume!r} from template {version.template!r} version {version.version}"
        needs = may_create_volume(self.new.root.storage_pool, self.new.root.volume)
        steps.append(Step(say, self._make_root, self._delete_root, needs=needs))
        predicted = self._predicted()
        if request.volumes:
            pools = list(request.storage_pools) or [self.new.root.storage_pool]
            data = plan_data_volumes(self.hv, Place(predicted, None), request.volumes, pools)
            steps += data.steps
            predicted = domain_xml.read(replace(predicted.domain, xml=data.xml))
        cleaning: tuple[Step, ...] = ()
        warnings: tuple[str, ...] = ()
        if request.payload is not None:
            handing = hand_over(self.hv, predicted, None, request.payload)
            steps += handing.steps
            cleaning, warnings = handing.cleaning, tuple(handing.warnings)
            predicted = domain_xml.read(replace(predicted.domain, xml=handing.xml))
        if request.autostart:
            say = f"let VM {name!r} start with its host"
            steps.append(Step(say, lambda: self.hv.set_autostart(name, True), needs=may_write(name)))
        if request.state == STARTED:
            steps.append(Step(f"start VM {name!r}", lambda: self.hv.start(name), self._stop, needs=may_start(name)))
            steps += health_steps(self.hv, name, request.health)
        state = RUNNING if request.state == STARTED else SHUT_OFF
        after = domain_xml.read(replace(predicted.domain, state=state))
        described = describe_vm(after, self.catalogue)
        return Plan({}, described, (*steps, *cleaning), warnings, look=look_at_vm(self.hv, name))

    def _xml(self, virt_type: str, record: Record) -> str:
        request = self.request
        hardware = domain_edit.with_changes(
            self.new.version.domain_xml,
            cpus=request.size.cpus,
            memory=request.size.memory,
            networks=request.networks,
            description=request.description,
        )
        return domain_edit.new_vm(hardware, request.name, virt_type, self.new.path, record)

    def _predicted(self) -> Vm:
        """Return the VM as it is going to be before it is given data volumes and started."""
        settled = self.record.changed(pending=None)
        if self.found is not None:
            xml = domain_edit.with_record(self.found.domain.xml, settled)
            autostart = self.found.domain.autostart or bool(self.request.autostart)
            return domain_xml.read(replace(self.found.domain, autostart=autostart, xml=xml))
        xml = self._xml("qemu", settled)
        uuid, autostart = self.record.vm, bool(self.request.autostart)
        return domain_xml.read(Domain(self.request.name, uuid, SHUT_OFF, True, autostart, False, xml))

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
        self.complete = True  # before it is: a call can do its work and yet fail
        self.hv.set_metadata(self.request.name, to_text(self.record.changed(pending=None)))

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
