"""Tasks on a real libvirtd that are killed, or to which libvirt returns an error, at any of their calls.

``GOLDEN_EVERY_POINT=1`` tries every call; else some stand for the others, chosen by ``GOLDEN_SEED``.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from support.faults import CUT, ERROR, INJECTED, KILL, LOST, Fault
from support.fixtures import Site
from support.points import SEED, errors, kills, lost
from support.scenarios import SCENARIOS, Scenario
from support.tasks import Tasks
from support.trial import Trial, assert_equal

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@every_scenario
def test_a_task_that_was_killed_is_finished_by_its_rerun(
    site: Site, tasks: Tasks, scenario: Scenario, record_property: Any
) -> None:
    trial = Trial(site, tasks, scenario)

    def attempt(fault: Fault) -> None:
        assert trial.disturbed(fault).result is None or fault.kind == CUT
        trial.assert_rerun_ends_well()

    points = [Fault(KILL, call) for call in kills(trial.calls, scenario.most, scenario.name)]
    dice = random.Random(f"{SEED} {scenario.name}")
    # In the middle of a call: how long one takes differs by far, and so does the time.
    points += [Fault(CUT, call, seconds=10 ** dice.uniform(-3.5, -1)) for call in lost(trial.calls, 1, scenario.name)]
    trial.assert_holds(points, attempt, record_property)


@every_scenario
def test_an_error_is_undone_or_leaves_what_the_rerun_finishes(
    site: Site, tasks: Tasks, scenario: Scenario, record_property: Any
) -> None:
    trial = Trial(site, tasks, scenario)

    def attempt(fault: Fault) -> None:
        ended = trial.disturbed(fault)
        if not ended.failed:
            assert_equal(trial.kept.look(), trial.expected)
        else:
            assert INJECTED in ended.message
            assert "Traceback" not in ended.message, ended.message
            # What libvirt has done and not told, nobody can take back who does not know whether others did it.
            if ended.rolled_back and fault.kind == ERROR:
                assert_equal(trial.kept.look(), trial.before)
        trial.assert_rerun_ends_well()

    points = [Fault(ERROR, call) for call in errors(trial.calls, scenario.most, scenario.name)]
    points += [Fault(LOST, call) for call in lost(trial.calls, 1, scenario.name)]
    trial.assert_holds(points, attempt, record_property)
