"""How far a rollout is: what was done, what follows from it, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_progress import (
    Outcome,
    Progress,
    tell_progress,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_000.0
MOVED = {"tried": True, "changed": True}


def plan(due: int = 3, later: int = 0, ill: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    """Return a plan as the module returns it, as far as it is looked at: VMs to move, then some to move later, and one
    that is taken."""
    names = [f"desk-{number}" for number in range(1, due + later + 1)]
    vms = [
        {
            "name": name,
            "action": "move" if number <= due else "later",
            "reason": "",
            "unhealthy": "paused" if number in ill else "",
        }
        for number, name in enumerate(names, 1)
    ]
    taken = {"name": "desk-9", "action": "left_alone", "reason": "taken by alice", "unhealthy": ""}
    told = {"vm_pool": "desk", "state": "restored", "template_version": 2, "failures_allowed": 0}
    return {**told, "checkpoint": None, "window_ends_epoch": None, "vms": [*vms, taken], **more}


def progress(outcomes: dict[int, dict[str, Any]], planned: dict[str, Any] | None = None, **how: Any) -> Progress:
    """Return the progress with these outcomes, by the numbers of the VMs."""
    found = tuple(Outcome(f"desk-{number}", **outcome) for number, outcome in outcomes.items())
    return Progress(planned or plan(), found, NOW, **how)


def told(now: Progress) -> dict[str, Any]:
    """Return what is told of a progress."""
    outcomes = {outcome.name: vars(outcome) for outcome in now.outcomes}
    return tell_progress(now.plan, outcomes, now.now, now.on_failure, now.dry_run)


def test_nothing_is_done_yet() -> None:
    begun = progress({}, plan(2, later=1, checkpoint=50))
    assert told(begun) == {
        "outcomes": {},
        "stopped": "",
        "to_take_back": [],
        "report": {
            "vm_pool": "desk",
            "state": "restored",
            "template_version": 2,
            "check_mode": False,
            "moved": [],
            "failed": {},
            "taken_back": [],
            "remaining": ["desk-1", "desk-2", "desk-3"],
            "left_alone": {"desk-9": "taken by alice"},
            "stopped": "checkpoint at 50 %",
        },
        "summary": "Moved: none. Failed: none. Not touched yet: desk-1, desk-2, desk-3. Left alone: desk-9. "
        "Stopped: checkpoint at 50 %.",
        "failures": "",
    }


def test_who_was_moved_who_failed_and_who_was_left() -> None:
    there_already, left = {"tried": True}, {"left": "taken by bob"}
    done = progress({1: MOVED, 2: {**MOVED, "error": "no good"}, 3: there_already, 4: left}, plan(5))
    assert done.moved == ["desk-1"]
    assert done.failed == {"desk-2": "no good"}
    assert done.left_alone == {"desk-9": "taken by alice", "desk-4": "taken by bob"}
    assert done.remaining == ["desk-5"]
    assert done.stopped == "too many VMs failed"
    said = told(done)
    assert said["summary"] == (
        "Moved: desk-1. Failed: desk-2. Not touched yet: desk-5. Left alone: desk-9, desk-4. "
        "Stopped: too many VMs failed."
    )
    assert said["failures"] == "desk-2: no good"


def test_nothing_is_told_as_stopped_when_nothing_is_left() -> None:
    failed = {"tried": True, "error": "no good"}
    done = progress({1: MOVED, 2: MOVED, 3: failed})
    assert done.stopped
    assert "Stopped" not in told(done)["summary"]


@pytest.mark.parametrize(
    ("allowed", "failed", "ill", "stops"),
    [
        (0, (1,), (), True),
        (1, (1,), (), False),
        (1, (1, 2), (), True),
        (1, (1, 2), (2,), False),
        (0, (3,), (3,), False),
    ],
)
def test_the_budget(allowed: int, failed: tuple[int, ...], ill: tuple[int, ...], stops: bool) -> None:
    """VMs that were unhealthy before are in the budget already."""
    outcomes = {number: {"tried": True, "error": "no good"} for number in failed}
    assert bool(progress(outcomes, plan(5, ill=ill, failures_allowed=allowed)).stopped) == stops


def test_the_window() -> None:
    assert progress({1: MOVED}, plan(window_ends_epoch=NOW + 1)).stopped == ""
    assert progress({1: MOVED}, plan(window_ends_epoch=NOW - 1)).stopped == "the time is over"
    everything = dict.fromkeys((1, 2, 3), MOVED)
    assert progress(everything, plan(window_ends_epoch=NOW - 1)).stopped == "", "it was over in time"


def test_those_that_moved_go_back_the_newest_first() -> None:
    failed = {1: MOVED, 2: MOVED, 3: {"tried": True, "error": "no good"}}
    assert progress(failed).to_take_back == []
    assert progress(failed, on_failure="continue").to_take_back == []
    back = progress(failed, on_failure="rollback")
    assert back.to_take_back == ["desk-2", "desk-1"]
    assert progress(failed, plan(failures_allowed=1), on_failure="rollback").to_take_back == []
    assert progress(failed, plan(state="rolled_back"), on_failure="rollback").to_take_back == [], "it is the way back"

    over = progress({**failed, 1: {**MOVED, "taken_back": True}, 2: {**MOVED, "error": "stuck"}}, on_failure="rollback")
    assert over.to_take_back == []
    assert (over.moved, over.taken_back) == ([], ["desk-1"])
    assert "Taken back: desk-1." in told(over)["summary"]


def test_check_mode_speaks_of_what_would_be() -> None:
    said = told(progress({1: MOVED}, dry_run=True))
    assert said["summary"].startswith("To be moved: desk-1.")
    assert said["report"]["check_mode"] is True


OUTCOMES = st.builds(
    dict, tried=st.booleans(), changed=st.booleans(), error=st.sampled_from(["", "bad"]),
    left=st.sampled_from(["", "taken"]), taken_back=st.booleans(),
)  # fmt: skip


@given(st.dictionaries(st.integers(1, 5), OUTCOMES), st.integers(0, 3), st.sampled_from(["halt", "rollback"]))
def test_each_vm_is_told_of_once_and_what_was_told_is_taken_up(
    outcomes: dict[int, dict[str, Any]], allowed: int, on_failure: str
) -> None:
    planned = plan(5, later=1, failures_allowed=allowed)
    now = progress(outcomes, planned, on_failure=on_failure)
    groups = [now.moved, list(now.failed), now.taken_back, now.remaining]
    named = [name for group in groups for name in group]
    assert sorted(named) == sorted(set(named))
    assert set(now.to_take_back) <= set(now.moved)

    first = told(now)
    assert tell_progress(planned, first["outcomes"], NOW, on_failure, dry_run=False) == first
    assert first["report"]["moved"] == now.moved


@pytest.mark.parametrize(("planned", "outcomes"), [({}, {}), (plan(), {"desk-1": {"moved": True}})])
def test_what_is_no_plan_is_refused(planned: dict[str, Any], outcomes: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=r"no plan that golden\.libvirt\.rollout_plan has returned"):
        tell_progress(planned, outcomes, NOW, "halt", dry_run=False)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidError, match="on_failure is 'stop', and must be one of halt, rollback, continue"):
        tell_progress(plan(), {}, NOW, "stop", dry_run=False)
