"""Two restores that planned the same number for their new roots, and a root that no restore got to use."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    ExistsError,
    HypervisorError,
    NotFoundError,
    RefusedError,
)

from support.fake import Died
from unit.world import do, plan, record, restoring, root_chain, roots, with_vm


def test_a_root_that_another_restore_has_made_since_is_not_taken_for_a_stray() -> None:
    hv = with_vm(versions=3, state="present")
    ours, theirs = (plan(hv, restoring(template_version=version)) for version in ("2", "3"))
    ours.steps[0].do()
    with pytest.raises(ExistsError, match="run this task again"):
        theirs.steps[0].do()
    theirs.steps[0].undo()
    for step in ours.steps[1:]:
        step.do()
    assert root_chain(hv)[1] == f"web.v{record(hv).root.version}.qcow2" == "web.v2.qcow2"


def test_the_root_of_a_restore_that_was_killed_goes_when_the_vm_is_left_on_its_present_one() -> None:
    hv = with_vm(versions=2)
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("stop", lambda: hv.die_at(1))
    with pytest.raises(Died):
        planned.apply(lambda: 0.0)
    hv.revive()
    assert len(roots(hv)) == 2
    do(hv, restoring(template_version="1"))
    assert (len(roots(hv)), record(hv).pending) == (1, None)


def test_a_vm_that_somebody_starts_just_before_the_switch_stays_on_the_root_that_it_runs_on() -> None:
    hv = with_vm(versions=2, state="present")
    planned = plan(hv, restoring(template_version="2"))
    hv.meanwhile("define", lambda: hv.start("web-1"))
    with pytest.raises(RefusedError, match="was started by someone") as failed:
        planned.apply(lambda: 0.0)
    assert failed.value.facts["rolled_back"]
    assert (root_chain(hv)[1], record(hv).root.version) == ("web.v1.qcow2", 1)
    assert len(roots(hv)) == 1


@pytest.mark.parametrize("looks_after", [1, 2], ids=["made its root", "stopped the VM"])
def test_of_two_restores_one_goes_on_when_the_other_gives_up_and_starts_the_vm_again(looks_after: int) -> None:
    hv = with_vm(versions=2, state="started")
    loser = plan(hv, restoring(template_version="2"))
    for step in loser.steps[:looks_after]:
        step.do()
    winner = plan(hv, restoring(template_version="2"))
    for step in loser.steps[looks_after:2]:
        step.do()
    switch = next(number for number, step in enumerate(winner.steps) if step.phase == "switch")
    for step in winner.steps[:switch]:
        step.do()
    with pytest.raises(NotFoundError, match="run this task again"):
        loser.steps[2].do()
    for step in reversed(loser.steps[:3]):
        step.undo()
    assert hv.domain("web-1").active
    for step in winner.steps[switch:]:
        step.do()
    assert hv.domain("web-1").active
    assert (root_chain(hv)[1], record(hv).root.version, record(hv).pending) == ("web.v2.qcow2", 2, None)


def test_a_vm_that_was_down_and_is_started_by_somebody_before_the_switch_is_left_to_them() -> None:
    hv = with_vm(versions=2, state="present")
    planned = plan(hv, restoring(template_version="2"))
    planned.steps[0].do()
    hv.start("web-1")
    with pytest.raises(RefusedError, match="was started by someone"):
        planned.steps[1].do()
    planned.steps[1].undo()
    planned.steps[0].undo()
    assert hv.domain("web-1").active
    assert (root_chain(hv)[1], len(roots(hv))) == ("web.v1.qcow2", 1)


def test_a_restore_that_stopped_a_vm_for_a_second_time_starts_it_when_it_fails() -> None:
    hv = with_vm(versions=2, state="started")
    other = plan(hv, restoring(template_version="2"))
    for step in other.steps[:2]:
        step.do()
    planned = plan(hv, restoring(template_version="2"))  # of a VM that is down, but ran
    for step in reversed(other.steps[:2]):
        step.undo()
    hv.meanwhile("define", lambda: hv.fail_at(1, False))
    with pytest.raises(HypervisorError):
        planned.apply(lambda: 0.0)
    assert hv.domain("web-1").active
    assert (root_chain(hv)[1], record(hv).pending) == ("web.v1.qcow2", None)
