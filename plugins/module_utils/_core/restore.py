"""Restoring a VM: its root volume is replaced, everything else of it stays.

Whoever reads this after a run died in the middle: the metadata of the VM tells where it stood (``record.Pending``),
and planning the same task again gives the steps that are left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from . import domain_xml, names
from .catalog import Catalogue, Template, check_usable, read_template
from .describe import describe_root, describe_vm
from .domain_xml import Vm
from .errors import ExistsError, NotFoundError, RefusedError
from .hypervisor import RUNNING, SHUT_OFF, Domain, Health, Hypervisor, Shutdown
from .manifest import Manifest
from .plan import Phases, Plan, Step
from .record import CREATE, SETTLE, SWITCH, Pending, Record, Root, to_text
from .root import LEAST_SPACE, NewRoot, check_root_size, delete_root, find_template, make_root, plan_root
from .units import human_size

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


def plan_restore(hv: Hypervisor, request: RestoreRequest) -> Plan:
    """Return the plan that brings a VM onto a fresh root of a template version."""
    vm, record = _look(hv, request)
    template, version = _target(hv, record, request)
    check_root_size(version, request.root_size, "root_size")
    there = record.root.template_version == (template.storage_pool, template.name, version.version)
    if record.pending is not None and record.pending.job == SETTLE and there:
        return _Restore(hv, request, vm, record).plan_rest()
    if there and not request.force:
        return _plan_as_it_is(hv, vm, record, request)
    check_usable(version)
    _check_possible(hv, vm, record, request)
    pool = hv.storage_pool(record.root.storage_pool)
    if pool.available < LEAST_SPACE:
        raise RefusedError(
            f"storage pool {pool.name!r} has {human_size(pool.available)} available of the "
            f"{human_size(LEAST_SPACE)} that a "
            f"new root of VM {vm.name!r} needs; free some space (playbook prune)"
        )
    size = request.root_size or _current_capacity(hv, record)
    new = plan_root(hv, vm.name, pool, template, version, size=size, above=record.generation)
    return _Restore(hv, request, vm, record).plan_whole(new.root, new)


def plan_rolled_back(hv: Hypervisor, request: RestoreRequest) -> Plan:
    """Return the plan that puts a VM back onto the previous root that its last restore kept."""
    vm, record = _look(hv, request)
    if record.rolled_back and record.pending is not None and record.pending.job == SETTLE:
        return _Restore(hv, request, vm, record).plan_rest()
    if record.previous is None:
        if record.rolled_back:
            return _plan_as_it_is(hv, vm, record, request)
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
    return _Restore(hv, request, vm, record).plan_whole(record.previous, None)


# --- looking and deciding --------------------------------------------------------------------------------------------


def _look(hv: Hypervisor, request: RestoreRequest) -> tuple[Vm, Record]:
    domain = hv.domain(request.vm)
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
    if record.lease is not None:
        raise RefusedError(
            f"VM {vm.name!r} is taken by {record.lease.user!r} since {record.lease.since}; it is restored "
            "when it is returned"
        )
    if vm.root_disk is None:
        raise RefusedError(
            f"VM {vm.name!r} has no root disk: the volume {record.root.volume!r} is detached; attach it at "
            "device id 0 first"
        )
    return vm, record


def _target(hv: Hypervisor, record: Record, request: RestoreRequest) -> tuple[Template, Manifest]:
    root = record.root
    if request.template is None or request.template == root.template:
        template = read_template(hv, root.template_storage_pool, root.template)
        own = names.LATEST if record.follows_latest else str(root.version)
        return template, template.select(request.template_version or own)
    template = find_template(hv, request.template, [root.template_storage_pool])
    return template, template.select(request.template_version or names.LATEST)


def _check_possible(hv: Hypervisor, vm: Vm, record: Record, request: RestoreRequest) -> None:
    snapshots = hv.snapshots(vm.name)
    if snapshots:
        raise RefusedError(
            f"VM {vm.name!r} has snapshots or checkpoints ({', '.join(snapshots)}), which belong to its present root; "
            "delete them first ('virsh snapshot-delete', 'virsh checkpoint-delete')"
        )
    if vm.domain.managed_save and not (request.force or record.stateless):
        raise RefusedError(
            f"VM {vm.name!r} has a managed save image, the memory of a guest on its present root; start and "
            "stop the VM "
            "to use it up, or set 'force: true' to drop it"
        )


def _current_capacity(hv: Hypervisor, record: Record) -> int:
    volume = hv.volume(record.root.storage_pool, record.root.volume)
    return volume.capacity if volume is not None else 0


def _plan_as_it_is(hv: Hypervisor, vm: Vm, record: Record, request: RestoreRequest) -> Plan:
    """Return the plan for a VM on the right root: only what a run that died before the switch left is to be done."""
    described = describe_vm(vm, Catalogue(hv))
    facts = {"previous": describe_root(record.root), "downtime": 0.0, "phases": {}}
    if record.pending is None:
        return Plan(described, described, facts=lambda phases: facts)
    restore = _Restore(hv, request, vm, record)
    start = restore.runs_after and not vm.domain.active
    steps = [Step(f"start VM {vm.name!r} again", lambda: hv.start(vm.name), phase="boot")] if start else []
    steps.append(Step("end the unfinished restore", lambda: restore.note(None)))
    after = {**described, "state": RUNNING if start else vm.domain.state, "unfinished": None}
    return Plan(described, after, tuple(steps), look=restore.result, facts=lambda phases: {**facts, "phases": phases})


def _key(root: Root) -> tuple[str, str]:
    return root.storage_pool, root.volume


# --- the steps -------------------------------------------------------------------------------------------------------


class _Restore:
    """One replacement of one VM's root, with what its steps and their undos must know of each other."""

    def __init__(self, hv: Hypervisor, request: RestoreRequest, vm: Vm, record: Record) -> None:
        self.hv = hv
        self.request = request
        self.vm = vm
        self.record = record
        self.was_running = vm.domain.active or (record.pending is not None and record.pending.was_running)
        self.runs_after = {AS_BEFORE: self.was_running, YES: True, NO: False}[request.start]
        self.switched = False

    @property
    def name(self) -> str:
        return self.vm.name

    def plan_whole(self, root: Root, new: NewRoot | None) -> Plan:
        """Return the plan from the beginning: onto ``root``, which is made if it is ``new``."""
        after = self._record_after(root, new)
        steps = [self._step_prepare(new)] if new is not None else []
        if self.vm.domain.active:
            steps.append(self._step_stop())
        if self.vm.domain.managed_save:
            say = f"drop the managed save image of VM {self.name!r}"
            steps.append(Step(say, lambda: self.hv.drop_managed_save(self.name), phase="stop"))
        steps.append(self._step_switch(root, new, after))
        return self._plan([*steps, *self._steps_up(after)], after)

    def plan_rest(self) -> Plan:
        """Return the plan that finishes a restore whose run died after the switch."""
        self.switched = True
        if self.record.previous is None:
            raise NotFoundError(
                f"VM {self.name!r} has an unfinished restore and no previous root noted; restore it with force"
            )
        resume = Step(f"take up the unfinished restore of VM {self.name!r}", lambda: None, self._undo_unfinished)
        return self._plan([resume, *self._steps_up(self.record)], self.record)

    def _plan(self, steps: list[Step], after: Record) -> Plan:
        catalogue = Catalogue(self.hv)
        before = describe_vm(self.vm, catalogue)
        settled = self._settled(after)
        xml = domain_xml.with_root(self.vm.domain.xml, self._target, self._path_of(after.root), settled)
        state = RUNNING if self.runs_after else SHUT_OFF
        changed = replace(self.vm.domain, xml=xml, state=state, managed_save=False)
        described = describe_vm(domain_xml.read(changed), catalogue)
        return Plan(before, described, tuple(steps), look=self.result, facts=self._facts)

    @property
    def _target(self) -> str:
        disk = self.vm.root_disk
        return disk.target if disk is not None else ""

    def _path_of(self, root: Root) -> str:
        disk = self.vm.root_disk
        if disk is not None and root.storage_pool == self.record.root.storage_pool:
            return f"{disk.source.rpartition('/')[0]}/{root.volume}"
        return f"{self.hv.storage_pool(root.storage_pool).path.rstrip('/')}/{root.volume}"

    def _record_after(self, root: Root, new: NewRoot | None) -> Record:
        """Return the record that the switch writes: the way back is noted, and what goes when all is well."""
        present, previous, pending = self.record.root, self.record.previous, self.record.pending
        fallback = present
        doomed = list(pending.doomed) if pending is not None else []
        if new is not None and previous is not None:
            if pending is not None and pending.job == SETTLE:
                # The present root never came up as far as we know: the way back is the one before it.
                fallback = previous
                doomed.append(_key(present))
            else:
                doomed.append(_key(previous))
        kept = {_key(root), _key(fallback)}
        doomed = [volume for volume in doomed if volume not in kept]
        if not self.request.keep_previous:
            doomed.append(_key(fallback))
        generation = names.root_generation(self.name, root.volume) or 0
        follows = self.record.follows
        if not self.record.follows_latest and new is not None and self.record.vm_pool is None:
            follows = str(root.version)  # a VM that follows no pool and no latest stays where it was put
        return self.record.changed(
            root=root,
            previous=fallback,
            generation=max(self.record.generation, generation),
            follows=follows,
            rolled_back=new is None,
            pending=Pending(SETTLE, self.was_running, tuple(dict.fromkeys(doomed))),
        )

    def _settled(self, record: Record) -> Record:
        doomed = record.pending.doomed if record.pending else ()
        previous = record.previous
        if previous is not None and _key(previous) in doomed:
            previous = None
        return record.changed(previous=previous, pending=None)

    def _step_prepare(self, new: NewRoot) -> Step:
        def prepare() -> None:
            self._delete_strays(new)
            make_root(self.hv, new)

        def undo() -> None:
            if not self._stays():
                delete_root(self.hv, new.root)

        say = (
            f"create the root {new.root.volume!r} from template {new.version.template!r} version {new.version.version}"
        )
        return Step(say, prepare, undo, phase="prepare")

    def _delete_strays(self, new: NewRoot) -> None:
        """Delete roots of runs that died before their switch: no definition of the VM ever had their numbers."""
        for volume in self.hv.volume_names(new.root.storage_pool):
            number = names.root_generation(self.name, volume)
            if number is not None and number > self.record.generation:
                self.hv.delete_volume(new.root.storage_pool, volume)

    def _step_stop(self) -> Step:
        def stop() -> None:
            if self.record.pending is None:
                self.note(Pending(SWITCH, was_running=True))
            self.hv.stop(self.name, self.request.shutdown)

        def undo() -> None:
            if not self._stays():
                self.hv.start(self.name)
                self.note(self.record.pending)

        return Step(f"stop VM {self.name!r} ({self.request.shutdown.mode})", stop, undo, phase="stop")

    def _step_switch(self, root: Root, new: NewRoot | None, after: Record) -> Step:
        replaced: list[str] = []

        def switch() -> None:
            domain = self._unchanged_domain()
            volume = self.hv.volume(root.storage_pool, root.volume)
            if volume is None:
                raise NotFoundError(
                    f"the new root {root.volume!r} of VM {self.name!r} is gone: another task deleted it"
                )
            xml = domain_xml.with_root(domain.xml, self._target, volume.path, after)
            self.hv.define(xml)
            replaced.append(domain.xml)
            self.switched = True

        def undo() -> None:
            if replaced and not self._stays():
                self.hv.define(replaced[0])

        return Step(f"switch VM {self.name!r} to the root {root.volume!r}", switch, undo, phase="switch")

    def _unchanged_domain(self) -> Domain:
        """Return the domain as it is now, or stop when another task has restored it since we looked."""
        domain = self.hv.domain(self.name)
        if domain is None:
            raise NotFoundError(f"VM {self.name!r} was removed in the meantime")
        record = domain_xml.record_of(domain)
        if record is None or (record.root, record.generation) != (self.record.root, self.record.generation):
            raise ExistsError(
                f"another task has restored VM {self.name!r} in the meantime; look at it, and run this task again"
            )
        if domain.active:
            raise RefusedError(f"VM {self.name!r} was started by someone in the meantime; run this task again")
        return domain

    def _steps_up(self, after: Record) -> list[Step]:
        """Return the steps from the switch on: up, healthy, settled."""
        steps = []
        if self.runs_after:
            steps.append(
                Step(
                    f"start VM {self.name!r}",
                    lambda: self.hv.start(self.name),
                    self._undo_start,
                    phase="boot",
                )
            )
            if self.request.health.check != "none" or self.request.health.stable_for:
                say = f"wait until VM {self.name!r} is healthy ({self.request.health.check})"
                verify = Step(say, lambda: self.hv.wait_healthy(self.name, self.request.health), phase="verify")
                steps.append(verify)
        doomed = after.pending.doomed if after.pending else ()
        say = f"delete {', '.join(volume for _pool, volume in doomed)}" if doomed else "keep the previous root"
        steps.append(Step(say, lambda: self._settle(after), phase="settle"))
        return steps

    def _undo_start(self) -> None:
        if not self._stays():
            self.hv.stop(self.name, Shutdown("force"))

    def _settle(self, after: Record) -> None:
        for storage_pool, volume in after.pending.doomed if after.pending else ():
            self.hv.delete_volume(storage_pool, volume)
        self._write(self._settled(after))

    def _undo_unfinished(self) -> None:
        """Go back to the previous root of a restore that another run has begun."""
        previous = self.record.previous
        if self._stays() or previous is None:
            return
        domain = self.hv.domain(self.name)
        if domain is None:
            return
        back = self.record.changed(root=previous, previous=None, pending=None)
        self.hv.define(domain_xml.with_root(domain.xml, self._target, self._path_of(previous), back))
        if not self.record.rolled_back:
            delete_root(self.hv, self.record.root)
        if self.was_running:
            self.hv.start(self.name)

    def _stays(self) -> bool:
        """Whether the user wants to look at a VM that did not come up, instead of having it taken back."""
        return self.switched and self.request.on_failure == KEEP

    def note(self, pending: Pending | None) -> None:
        """Note in the VM's metadata where this job stands."""
        self._write(self.record.changed(pending=pending))

    def _write(self, record: Record) -> None:
        self.hv.set_metadata(self.name, to_text(record))

    # --- results ---------------------------------------------------------------------------------------------------

    def result(self) -> dict[str, Any]:
        """Return the VM as it is now."""
        domain = self.hv.domain(self.name)
        return {} if domain is None else describe_vm(domain_xml.read(domain), Catalogue(self.hv))

    def _facts(self, phases: Phases) -> dict[str, Any]:
        down = ("stop", "switch", "boot", "verify") if self.was_running and self.runs_after else ()
        facts: dict[str, Any] = {
            "previous": describe_root(
                self.record.previous if self.record.pending and self.record.previous else self.record.root
            ),
            "downtime": round(sum(phases.get(phase, 0.0) for phase in down), 3),
            "phases": phases,
        }
        if self._stays():
            facts["rolled_back"] = False
        return facts
