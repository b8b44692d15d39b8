"""The filter rollout_progress, where Ansible runs it."""

from __future__ import annotations

import json
from pathlib import Path

from support.playbooks import Controller, Run

PLAN = {
    "vm_pool": "desk",
    "state": "restored",
    "template_version": 2,
    "failures_allowed": 0,
    "checkpoint": None,
    "window_ends_epoch": 1,
    "vms": [{"name": f"desk-{number}", "action": "move", "reason": "", "unhealthy": ""} for number in (1, 2)],
}


def say(folder: Path, expression: str) -> Run:
    """Return what Ansible makes of an expression about a plan."""
    message = json.dumps({"msg": f"{{{{ {expression} }}}}"})
    return Controller(folder).run(
        "ansible", "localhost", "-m", "ansible.builtin.debug", "-a", message, "-e", json.dumps({"plan": PLAN})
    )


def test_it_tells_how_far_a_rollout_is_by_the_clock(tmp_path: Path) -> None:
    outcomes = "{'desk-1': {'tried': true, 'changed': true}}"
    told = say(tmp_path, f"(plan | golden.libvirt.rollout_progress({outcomes})).summary")
    assert told.rc == 0, told.output
    moved = "Moved: desk-1. Failed: none. Not touched yet: desk-2. Left alone: none. Stopped: the time is over."
    assert moved in told.text


def test_what_it_cannot_use_is_told(tmp_path: Path) -> None:
    for expression, why in (
        ("{} | golden.libvirt.rollout_progress({})", "golden.libvirt.rollout_progress: this is no plan"),
        ("plan | golden.libvirt.rollout_progress({}, on_failure='stop')", "must be one of halt, rollback, continue"),
    ):
        refused = say(tmp_path, expression)
        assert refused.rc != 0
        assert why in refused.text
