"""What a removal leaves when it does not get to its end, and what others see of a VM that is going."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError, HypervisorError
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import REMOVE, SETTLE, Pending

from support.fake import Died, FakeHypervisor
from unit.world import (
    do,
    ensuring,
    ensuring_pool,
    plan,
    record,
    refused,
    restoring,
    roots,
    set_record,
    taking,
    with_template,
    with_vm,
    write_on_root,
)


def _half_removed() -> FakeHypervisor:
    """Return a hypervisor with a VM whose removal has deleted its root and then failed."""
    hv = with_vm(state="present")
    planned = plan(hv, ensuring(state="absent"))
    hv.meanwhile("undefine", lambda: hv.fail_at(0))
    with pytest.raises(HypervisorError) as failure:
        planned.apply(lambda: 0.0)
    hv.revive()
    assert failure.value.facts["rolled_back"] is False
    assert roots(hv) == []
    return hv


def test_a_vm_that_is_half_removed_is_known_as_such_and_the_rerun_removes_it() -> None:
    hv = _half_removed()
    pending = record(hv).pending
    assert pending is not None
    assert pending.job == REMOVE
    for task in (ensuring(state="started"), ensuring(description="x"), restoring(force=True)):
        refused(hv, task, "is being removed")
    do(hv, ensuring(state="absent"))
    assert hv.domains() == []


def test_a_removal_that_fails_before_anything_is_deleted_leaves_the_vm_as_it_was() -> None:
    hv = with_vm(state="present")
    before = hv.state()
    planned = plan(hv, ensuring(state="absent"))
    hv.meanwhile("set_metadata", lambda: hv.fail_at(0))
    with pytest.raises(GoldenError) as failure:
        planned.apply(lambda: 0.0)
    hv.revive()
    assert failure.value.facts["rolled_back"] is True
    assert hv.state() == before


@pytest.mark.parametrize("in_pool", [False, True], ids=["vm", "member of a pool"])
def test_what_an_unfinished_restore_left_goes_with_the_vm_although_its_removal_was_killed(in_pool: bool) -> None:
    hv = with_template()
    do(hv, ensuring_pool(template="web", count=1) if in_pool else ensuring(template="web", template_version="1"))
    name = "desk-1" if in_pool else "web-1"
    write_on_root(hv, name)
    old = record(hv, name).root
    do(hv, restoring(name, template_version="2" if not in_pool else None, keep_previous=True, force=True))
    set_record(hv, name, previous=None, pending=Pending(SETTLE, was_running=False, doomed=(old,)))
    assert len(roots(hv, name)) == 2
    task = ensuring_pool(state="absent") if in_pool else ensuring(state="absent")
    planned = plan(hv, task)
    hv.meanwhile("set_metadata", lambda: hv.die_at(1))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    hv.claims.clear()
    do(hv, task)
    assert (hv.domains(), roots(hv, name)) == ([], [])


def test_a_member_that_is_taken_meanwhile_is_not_removed() -> None:
    hv = with_template()
    do(hv, ensuring_pool(template="web", count=1))
    removal = plan(hv, ensuring("desk-1", state="absent"))
    do(hv, taking())
    before = record(hv, "desk-1")
    with pytest.raises(GoldenError, match="was taken by 'anna' meanwhile"):
        removal.apply(lambda: 0.0)
    assert record(hv, "desk-1") == before
    assert hv.vms["desk-1"].state == "running"


def test_a_new_vm_whose_completion_was_told_as_failed_is_taken_back() -> None:
    hv = with_template()
    before = hv.state()
    planned = plan(hv, ensuring(template="web"))
    hv.meanwhile("create_volume", lambda: hv.fail_at(_calls_until_completed(), after=True))
    with pytest.raises(HypervisorError) as failure:
        planned.apply(lambda: 0.0)
    hv.revive()
    assert failure.value.facts["rolled_back"] is True
    assert hv.state() == before


def _calls_until_completed() -> int:
    """Return how many calls come between the creation of a root and the one that notes that it is complete."""
    hv = with_template()
    planned = plan(hv, ensuring(template="web"))
    numbers: list[int] = []
    for call in ("create_volume", "set_metadata"):
        hv.meanwhile(call, lambda: numbers.append(hv.calls))
    planned.apply(lambda: 0.0)
    return numbers[1] - numbers[0]
