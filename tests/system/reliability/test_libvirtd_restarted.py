"""libvirtd is killed, and started again, in the middle of a task."""

from __future__ import annotations

import random
from typing import Any

import pytest

from support.faults import RESTART, Fault, has_own_libvirtd
from support.fixtures import Site
from support.points import EVERY_POINT, SEED
from support.scenarios import SCENARIOS, Scenario
from support.tasks import Tasks
from support.trial import Trial

pytestmark = pytest.mark.skipif(not has_own_libvirtd(), reason="libvirtd is the machine's (scripts/own-libvirt.sh)")
SOME = ("publish a file", "publish a VM", "restore, running", "attach, running", "payload, stopped", "make a pool")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_task_says_so_and_its_rerun_ends_well(
    site: Site, tasks: Tasks, scenario: Scenario, record_property: Any
) -> None:
    if scenario.name not in SOME and not EVERY_POINT:
        pytest.skip("only with GOLDEN_EVERY_POINT")
    trial = Trial(site, tasks, scenario)

    def attempt(fault: Fault) -> None:
        ended = trial.disturbed(fault)
        if ended.failed:
            assert "connection to libvirt broke" in ended.message, ended.message
        trial.assert_rerun_ends_well()

    dice = random.Random(f"{SEED} {scenario.name}")
    calls = dice.sample(range(1, len(trial.calls)), 10 if EVERY_POINT else 2)
    trial.assert_holds([Fault(RESTART, call) for call in calls], attempt, record_property)
