"""Returning a VM of a pool: it is stopped and restored, and is its user's until that is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import RefusedError
from ..hypervisor import RUNNING, SHUT_OFF, Hypervisor
from ..libvirt_xml.domain_xml import Vm
from ..permissions import may_stop, may_write
from ..plan import Plan, Step
from ..template.catalog import Catalogue
from ..vm.describe import describe_vm, look_at_vm
from ..vm.fresh_root import finish_restore, look_again, needs_restore, no_clock, restore_request
from ..vm.record import SWITCH
from ..vm.restore import RestoreRequest, plan_restore
from ..vm.vm_claim import change_record
from .vm_lease import LeaseRequest, as_user, claim_on, describe_lease, find_pool, named, refill_steps
from .vm_pool_members import Member
from .vm_prestart import missing, tell


def plan_returned(hv: Hypervisor, request: LeaseRequest) -> Plan:
    """Return the plan that takes a VM back from its user; by whom nothing is held has returned it already."""
    members, damaged = find_pool(hv, request.vm_pool)
    member = _returning(members, request)
    not_started: dict[str, str] = {}
    if member is None:
        steps = refill_steps(hv, request, members, not_started)
        return Plan(
            {},
            {},
            tuple(steps),
            tuple(damaged),
            facts=lambda phases: {"vm": {}, "not_started": not_started},
            tells=lambda: tell(not_started),
        )
    plan = _Return(hv, request, members, member, not_started).plan()
    return replace(plan, warnings=(*plan.warnings, *damaged))


def _returning(members: list[Member], request: LeaseRequest) -> Member | None:
    """Return the VM that is to be returned, if any is held."""
    if request.vm is not None:
        member = named(members, request.vm_pool, request.vm)
        if member.record.lease is not None and request.user not in (None, member.user):
            raise RefusedError(
                f"VM {member.name!r} is taken by {member.user!r} since {member.record.lease.since}, not by "
                f"{request.user!r}; only who has it returns it"
            )
        return None if member.free else member
    held = [member for member in members if member.user == request.user]
    if len(held) > 1:
        raise RefusedError(
            f"user {request.user!r} holds {', '.join(member.name for member in held)}; say which one is returned "
            "(option 'vm')"
        )
    return held[0] if held else None


class _Return:
    """One VM being returned."""

    def __init__(
        self,
        hv: Hypervisor,
        request: LeaseRequest,
        members: list[Member],
        member: Member,
        not_started: dict[str, str],
    ) -> None:
        self.hv = hv
        self.request = request
        self.members = members
        self.member = member
        self.catalogue = Catalogue(hv)
        self.not_started = not_started
        self.done = False

    def plan(self) -> Plan:
        """Return what is done, and what comes out of it."""
        member = self.member
        expected, steps = self._restoring()
        free = Step(f"free VM {member.name!r}", self._free, final=True, needs=may_write(member.name))
        freed = Member(
            replace(member.vm, domain=replace(member.vm.domain, state=SHUT_OFF)),
            member.record.changed(
                lease=None, pending=None, root=replace(member.record.root, version=expected["template_version"])
            ),
        )
        left = [freed if other is member else other for other in self.members]
        starts = any(other is freed for other in missing(left, self.catalogue))
        vm = {**expected, "state": RUNNING if starts else SHUT_OFF, "lease": None, "unfinished": None}
        return Plan(
            before=describe_lease(member, self.request.vm_pool, {}),
            after={},
            steps=(*steps, free, *refill_steps(self.hv, self.request, left, self.not_started)),
            look=self._look,
            facts=lambda phases: {
                "vm": look_at_vm(self.hv, member.name)() if self.done else vm,
                "not_started": self.not_started,
            },
            tells=lambda: tell(self.not_started),
        )

    def _restoring(self) -> tuple[dict[str, Any], list[Step]]:
        """Return what the VM is going to be, and the step that gets it there."""
        vm, record = self.member.vm, self.member.record
        described = describe_vm(vm, self.catalogue)
        if self._is_to_be_restored(vm):
            restore = plan_restore(self.hv, self._request(vm))
            return restore.after, [Step(f"restore VM {vm.name!r}", self._restore, needs=restore.needs)]
        if vm.domain.active or record.pending is not None:
            return described, [
                Step(f"stop VM {vm.name!r}", self._restore, needs=may_stop(vm.name, self.request.shutdown.mode))
            ]
        return described, []

    def _is_to_be_restored(self, vm: Vm) -> bool:
        if self.member.record.stateless:
            return vm.domain.active or needs_restore(self.hv, self.catalogue, vm)
        return self.catalogue.outdated(vm.managed())

    def _request(self, vm: Vm) -> RestoreRequest:
        return restore_request(vm, force_taken=True, shutdown=self.request.shutdown)

    def _restore(self) -> None:
        vm = look_again(self.hv, self.member.name)
        pending = vm.managed().pending
        if pending is None or pending.job != SWITCH or not self._is_to_be_restored(vm):
            # else the restore that follows takes it up, and knows that it ran
            vm = finish_restore(self.hv, self.member.name, force_taken=True)
        if self._is_to_be_restored(vm):
            plan_restore(self.hv, self._request(vm)).apply(no_clock)
        else:
            self.hv.stop(vm.name, self.request.shutdown)

    def _free(self) -> None:
        lease = self.member.record.lease
        self.hv.release(claim_on(self.member.uuid), as_user(lease.user if lease else ""))  # a killed task may leave it
        change_record(
            self.hv, self.member.vm, lambda record: record.changed(lease=None) if record.lease == lease else record
        )

    def _look(self) -> dict[str, Any]:
        self.done = True
        return {}
