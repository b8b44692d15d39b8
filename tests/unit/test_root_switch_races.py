"""Two restores that planned the same number for their new roots, and a root that no restore got to use."""

from __future__ import annotations

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import ExistsError, RefusedError

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
