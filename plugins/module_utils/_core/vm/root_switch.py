"""The steps that replace the root of a VM, and how each of them is taken back.

Whoever reads this after a run died in the middle: the metadata of the VM tells where it stood (``record.Pending``), and
planning the same task again gives the steps that are left. Others may work on the same VM at the same time: every step
looks whether the VM still is where this task left it, and no undo touches what another task has made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .. import names
from ..errors import ExistsError, NotFoundError, RefusedError
from ..hypervisor import RUNNING, SHUT_OFF, Domain, Health, Hypervisor, Shutdown, Volume
from ..libvirt_xml import domain_edit, domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..payload.payload_volume import stray_payloads
from ..permissions import may_create_volume, may_delete_volume, may_drop_managed_save, may_start, may_stop, may_write
from ..plan import Phases, Plan, Step
from ..template.catalog import Catalogue
from .describe import describe_root, describe_vm, look_at_vm
from .health_steps import health_steps
from .record import SETTLE, SWITCH, Pending, Record, Root, from_text, to_text
from .root import NewRoot, delete_root, make_root
from .vm_claim import change_record, claimed

_STOPPED = Pending(SWITCH, was_running=True)
"""What the record of a VM tells while its root is replaced, before the switch."""
DOWN = ("stop", "switch", "boot", "verify")
"""The phases in which a VM that ran is not up."""


class RootSwitch:
    """One replacement of one VM's root, with what its steps and their undos must know of each other.

    ``runs_after`` tells whether the VM is to run afterwards (None: if it ran before), ``undo`` whether a VM that does
    not come up is put back, ``keep_previous`` whether the old root stays after success, ``clear_failures`` whether it
    is forgotten that the VM did not come up before; ``catalogue`` has what was read of templates already.
    """

    def __init__(
        self,
        hv: Hypervisor,
        vm: Vm,
        *,
        runs_after: bool | None = None,
        shutdown: Shutdown,
        health: Health,
        keep_previous: bool,
        undo: bool,
        clear_failures: bool = True,
        catalogue: Catalogue | None = None,
    ) -> None:
        self.hv = hv
        self.vm = vm
        self.name = vm.name
        self.record = vm.managed()
        self.was_running = vm.domain.active or (self.record.pending is not None and self.record.pending.was_running)
        self.runs_after = self.was_running if runs_after is None else runs_after
        self.shutdown = shutdown
        self.health = health
        self.keep_previous = keep_previous
        self.undo = undo
        self.clear_failures = clear_failures
        self.catalogue = catalogue or Catalogue(hv)
        self.switched = False
        self.stopping = False
        self.noted = False

    # --- plans -----------------------------------------------------------------------------------------------------

    def plan_whole(self, root: Root, new: NewRoot | None) -> Plan:
        """Return the plan from the beginning: onto ``root``, which is made if it is ``new``."""
        after = self._record_after(root, new)
        steps = [self._step_prepare(new)] if new is not None else []
        if self.vm.domain.active:
            steps.append(self._step_stop())
        if self.vm.domain.managed_save:
            say = f"drop the managed save image of VM {self.name!r}"
            needs = may_drop_managed_save(self.name)
            steps.append(Step(say, lambda: self.hv.drop_managed_save(self.name), phase="stop", needs=needs))
        steps.append(self._step_switch(root, after))
        return self._plan([*steps, *self._steps_up(after)], after)

    def plan_rest(self) -> Plan:
        """Return the plan that finishes a replacement whose run died after the switch."""
        self.switched = True
        previous = self.record.previous
        if previous is None or self.hv.volume(previous.storage_pool, previous.volume) is None:
            self.undo = False  # the old root is gone: the run died when all was well, and there is no way back
        resume = Step(f"take up the unfinished restore of VM {self.name!r}", lambda: None, self._undo_unfinished)
        return self._plan([resume, *self._steps_up(self.record)], self.record)

    def plan_nothing(self) -> Plan:
        """Return the plan for a VM on the right root: only what a run that died has left is to be done."""
        described = describe_vm(self.vm, self.catalogue)
        facts = {"previous": describe_root(self.record.root), "downtime": 0.0}
        live = self.hv.live_xml(self.name) if self.vm.domain.active else None
        left = stray_payloads(self.hv, self.vm, live, self.catalogue.volume_names)
        if self.record.pending is None:
            return Plan(described, described, tuple(left), facts=lambda phases: {**facts, "phases": phases})
        start = self.runs_after and not self.vm.domain.active
        steps = []
        if start:
            say, needs = f"start VM {self.name!r} again", may_start(self.name)
            steps.append(Step(say, lambda: self._start(self.record.root), phase="boot", needs=needs))
        say = "end the unfinished restore"
        steps.append(Step(say, self._end_unfinished, needs=may_write(self.name)))
        steps += left
        after = {**described, "state": RUNNING if start else self.vm.domain.state, "unfinished": None}
        return Plan(
            described,
            after,
            tuple(steps),
            look=look_at_vm(self.hv, self.name),
            facts=lambda phases: {**facts, "phases": phases},
        )

    def _end_unfinished(self) -> None:
        """End a restore that died before its switch; the root that it made was never used."""
        self._delete_strays(self.record.root.storage_pool)
        self._change(self.record.root, lambda record: record.changed(pending=None))

    def _plan(self, steps: list[Step], after: Record) -> Plan:
        steps = [*steps, *stray_payloads(self.hv, self.vm, None, self.catalogue.volume_names)]
        xml = domain_edit.with_root(self.vm.domain.xml, self._target, self._path_of(after.root), _settled(after))
        state = RUNNING if self.runs_after else SHUT_OFF
        changed = replace(self.vm.domain, xml=xml, state=state, managed_save=False)
        return Plan(
            before=describe_vm(self.vm, self.catalogue),
            after=describe_vm(domain_xml.read(changed), self.catalogue),
            steps=tuple(steps),
            look=look_at_vm(self.hv, self.name),
            facts=self._facts,
        )

    def _record_after(self, root: Root, new: NewRoot | None) -> Record:
        """Return the record that the switch writes: the way back is noted, and what goes when all is well."""
        present, previous, pending = self.record.root, self.record.previous, self.record.pending
        fallback = present
        doomed = list(pending.doomed) if pending is not None else []
        if new is not None and previous is not None:
            if pending is not None and pending.job == SETTLE:
                # The present root never came up as far as we know: the way back is the one before it.
                fallback = previous
                doomed.append(present)
            else:
                doomed.append(previous)
        doomed = [volume for volume in doomed if volume not in (root, fallback)]
        if not self.keep_previous:
            doomed.append(fallback)
        follows = self.record.follows
        if not self.record.follows_latest and new is not None and self.record.vm_pool is None:
            follows = str(root.version)  # a VM that follows no pool and no latest stays where it was put
        return self.record.changed(
            root=root,
            previous=fallback,
            generation=max(self.record.generation, names.root_generation(self.name, root.volume) or 0),
            follows=follows,
            rolled_back=new is None,
            failed_starts=0 if self.clear_failures else self.record.failed_starts,
            pending=Pending(SETTLE, self.was_running, tuple(dict.fromkeys(doomed))),
        )

    # --- steps, and their undos ------------------------------------------------------------------------------------

    def _step_prepare(self, new: NewRoot) -> Step:
        made: list[NewRoot] = []

        def prepare() -> None:
            self._delete_strays(new.root.storage_pool, below=new.root)
            made.append(new)  # before it is: a call can do its work and yet fail
            try:
                make_root(self.hv, new)
            except ExistsError as error:
                made.clear()
                raise self._overtaken() from error

        def undo() -> None:
            if made and not self._stays() and not self._is_on(new.root) and not self._is_defined_with(new.root):
                delete_root(self.hv, new.root)

        version = new.version
        say = f"create the root {new.root.volume!r} from template {version.template!r} version {version.version}"
        needs = may_create_volume(new.root.storage_pool, new.root.volume)
        return Step(say, prepare, undo, phase="prepare", needs=needs)

    def _delete_strays(self, storage_pool: str, below: Root | None = None) -> None:
        """Delete roots of runs that died before their switch: no definition of the VM ever had their numbers.

        Numbers from that of the root ``below`` which they are to be were free when this task looked: who has them now
        is at work.
        """
        limit = names.root_generation(self.name, below.volume) if below is not None else None
        with claimed(self.hv, self.vm):  # of a pool, nobody switches to one of them just now
            numbers = {name: names.root_generation(self.name, name) for name in self.hv.volume_names(storage_pool)}
            # After the list: so what is in it is not what another task has just switched to.
            self._check_unchanged(self._present())
            for volume, number in numbers.items():
                if number is not None and number > self.record.generation:
                    if limit is not None and number >= limit:
                        raise self._overtaken()
                    self.hv.delete_volume(storage_pool, volume)

    def _step_stop(self) -> Step:
        needs = (*may_write(self.name), *may_stop(self.name, self.shutdown.mode), *may_start(self.name))
        say = f"stop VM {self.name!r} ({self.shutdown.mode})"
        return Step(say, self._stop, self._undo_stop, phase="stop", needs=needs)

    def _stop(self) -> None:
        # nobody takes the VM while it is looked at and its record written; then they see what goes on
        with claimed(self.hv, self.vm):
            present = self._check_unchanged(self._present())
            self.stopping = True
            if present.pending is None:
                self.noted = True
                self._write(present.changed(pending=_STOPPED))
        self.hv.stop(self.name, self.shutdown)

    def _undo_stop(self) -> None:
        if not self.stopping or self._stays():
            return
        self.stopping = False
        self._start_again(self.record.root, noted=self.noted)

    def _step_switch(self, root: Root, after: Record) -> Step:
        replaced: list[Domain] = []

        def switch_if_down() -> bool:
            with claimed(self.hv, self.vm):
                volume = self._made(root)
                domain = self.hv.domain(self.name)
                if domain is None:
                    raise self._overtaken()
                self._check_unchanged(_unless_going(domain_xml.record_of(domain)))
                if domain.active:
                    return False
                replaced.append(domain)
                self.hv.define(domain_edit.with_root(domain.xml, self._target, volume.path, after))
                self._made(root)  # still: else the undo puts the old one back
                live = self.hv.live_xml(self.name)
                if live is not None and all(disk.source != volume.path for disk in domain_xml.disks_of(live)):
                    self.hv.define(domain.xml)  # it was started on the old one, which is not to be deleted
                    replaced.clear()
                    return False
            self.switched = True
            return True

        def switch() -> None:
            if switch_if_down():
                return
            if not self.was_running:
                raise self._started()
            # Of two tasks at the same time, the one that gives up starts what it has stopped: stop it again.
            self._stop()
            if not switch_if_down():
                raise self._started()

        def undo() -> None:
            if replaced and not self._stays():
                with claimed(self.hv, self.vm):
                    if self._present() is not None and self._is_defined_with(root):
                        self.hv.define(replaced[0].xml)
            self._undo_stop()

        say = f"switch VM {self.name!r} to the root {root.volume!r}"
        return Step(say, switch, undo, phase="switch", needs=may_write(self.name))

    def _made(self, root: Root) -> Volume:
        """Return the volume of a root, or stop when another task has deleted it as a stray."""
        volume = self.hv.volume(root.storage_pool, root.volume)
        if volume is None:
            raise NotFoundError(
                f"the root {root.volume!r} of VM {self.name!r} was deleted by another task; run this task again"
            )
        return volume

    def _steps_up(self, after: Record) -> list[Step]:
        """Return the steps from the switch on: up, healthy, settled."""
        steps = []
        if self.runs_after:
            say, needs = f"start VM {self.name!r}", may_start(self.name)
            steps.append(
                Step(
                    say,
                    lambda: self._start(after.root),
                    lambda: self._undo_start(after),
                    phase="boot",
                    needs=needs,
                )
            )
            steps += health_steps(self.hv, self.name, self.health)
        doomed = after.pending.doomed if after.pending else ()
        say = f"delete {', '.join(root.volume for root in doomed)}" if doomed else "keep the previous root"
        needs = sum((may_delete_volume(root.storage_pool, root.volume) for root in doomed), may_write(self.name))
        steps.append(Step(say, lambda: self._settle(after), phase="settle", final=True, needs=needs))
        return steps

    def _start(self, root: Root) -> None:
        with claimed(self.hv, self.vm):  # so nobody begins to remove it just now
            if not self._is_on(root):
                raise self._overtaken()
            self.hv.start(self.name)

    def _start_again(self, root: Root, *, noted: bool) -> None:
        """Start the VM that this task has stopped, and end what it has ``noted`` of that.

        One that is about to go, or whose root is detached, stays down. One that another task has restored meanwhile is
        started, too: that one may have had it up before it was stopped here.
        """
        with claimed(self.hv, self.vm):
            present = self._present()
            if present is None or present.detached_disk:
                return
            self.hv.start(self.name)
            if noted and (present.root, present.pending) == (root, _STOPPED):
                self._write(present.changed(pending=None))

    def _undo_start(self, after: Record) -> None:
        if not self._stays() and self._is_on(after.root):
            self.hv.stop(self.name, Shutdown("force"))

    def _settle(self, after: Record) -> None:
        doomed = after.pending.doomed if after.pending else ()
        if doomed:
            self._change(after.root, lambda record: _without_previous(record, doomed))
            for root in doomed:
                delete_root(self.hv, root)
        self._change(after.root, _settled)

    def _undo_unfinished(self) -> None:
        """Go back to the previous root of a replacement that another run has begun."""
        previous = self.record.previous
        if self._stays() or previous is None:
            return
        pending = _STOPPED if self.was_running else None
        kept = self._kept_before()
        back = self.record.changed(root=previous, previous=kept, rolled_back=False, pending=pending)
        with claimed(self.hv, self.vm):
            if not self._is_on(self.record.root):
                return
            self.hv.define(domain_edit.with_root(self.vm.domain.xml, self._target, self._path_of(previous), back))
        if kept != self.record.root:
            delete_root(self.hv, self.record.root)
        if self.was_running:
            self._start_again(previous, noted=True)

    def _kept_before(self) -> Root | None:
        """Return the previous root that the VM kept before the replacement that another run has begun."""
        if self.record.rolled_back:
            return self.record.root
        doomed = self.record.pending.doomed if self.record.pending is not None else ()
        return next((root for root in doomed if root != self.record.previous), None)

    # --- looking, and noting ---------------------------------------------------------------------------------------

    def _stays(self) -> bool:
        """Whether a VM on its new root stays there, although not all is well."""
        return self.switched and not self.undo

    def _check_unchanged(self, record: Record | None) -> Record:
        """Return ``record``, what the VM has now; stop when another task has restored the VM since we looked."""
        if record is None or _place(record) != _place(self.record):  # a root that was detached is no longer there
            raise self._overtaken()
        if record.payload != self.record.payload:
            raise RefusedError(f"the payload of VM {self.name!r} was changed in the meantime; run this task again")
        if record.lease != self.record.lease:
            raise RefusedError(f"VM {self.name!r} was taken or returned in the meantime; look at it")
        return record

    def _present(self) -> Record | None:
        """Return the record of the VM as it is at this moment; None when it is gone or about to go."""
        text = self.hv.metadata(self.name)
        return None if text is None else _unless_going(from_text(text, self.name))

    def _overtaken(self) -> ExistsError:
        return ExistsError(
            f"another task has restored or removed VM {self.name!r} in the meantime; look at it, "
            "and run this task again"
        )

    def _started(self) -> RefusedError:
        return RefusedError(f"VM {self.name!r} was started by someone in the meantime; run this task again")

    def _is_on(self, root: Root) -> bool:
        record = self._present()
        return record is not None and record.root == root

    def _is_defined_with(self, root: Root) -> bool:
        """Whether the definition has this root, whatever the record says: another task may have written over that."""
        domain = self.hv.domain(self.name)
        disk = domain_xml.read(domain).root_disk if domain is not None else None
        return disk is not None and disk.source.rpartition("/")[2] == root.volume

    def _change(self, root: Root, change: Callable[[Record], Record]) -> None:
        """Change the record of the VM, which must still be on that root."""

        def change_there(record: Record) -> Record:
            if record.root != root or record.going:
                raise self._overtaken()
            return change(record)

        change_record(self.hv, self.vm, change_there)

    def _write(self, record: Record) -> None:
        self.hv.set_metadata(self.name, to_text(record))

    @property
    def _target(self) -> str:
        disk = self.vm.root_disk
        return disk.target if disk is not None else ""

    def _path_of(self, root: Root) -> str:
        disk = self.vm.root_disk
        if disk is not None and root.storage_pool == self.record.root.storage_pool:
            return f"{disk.source.rpartition('/')[0]}/{root.volume}"
        return f"{self.hv.storage_pool(root.storage_pool).path.rstrip('/')}/{root.volume}"

    # --- results ---------------------------------------------------------------------------------------------------

    def _facts(self, phases: Phases) -> dict[str, Any]:
        unfinished = self.record.pending is not None and self.record.pending.job == SETTLE
        before = self.record.previous if unfinished and self.record.previous else self.record.root
        facts = {"previous": describe_root(before), "downtime": self._downtime(phases), "phases": phases}
        return {**facts, "rolled_back": False} if self._stays() else facts

    def _downtime(self, phases: Mapping[str, float]) -> float:
        """Return the seconds in which a VM that ran before, and does now, was not up."""
        if not (self.was_running and self.runs_after):
            return 0.0
        return round(sum(phases.get(phase, 0.0) for phase in DOWN), 3)


def _place(record: Record) -> tuple[Root, Root | None, int, str]:
    """Return what every restore changes of a record, and whether its root is detached."""
    return record.root, record.previous, record.generation, record.detached_disk


def _unless_going(record: Record | None) -> Record | None:
    return None if record is None or record.going else record


def _settled(record: Record) -> Record:
    """Return a record whose job is done: what is doomed is gone."""
    doomed = record.pending.doomed if record.pending else ()
    return _without_previous(record, doomed).changed(pending=None)


def _without_previous(record: Record, doomed: tuple[Root, ...]) -> Record:
    """Return a record by which nobody begins to go back to a root that is to be deleted."""
    return record.changed(previous=None) if record.previous in doomed else record
