"""The plan of a rollout as data and as a table, with the time that former rollouts took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median
from typing import Any

from ..template.manifest import Manifest
from ..text import one_line
from ..units import human_size
from .rollout_plan import LATER, LEFT_ALONE, MOVE, RolloutPlan, Turn
from .rollout_report import FORMAT, MOVED

SAID = {LATER: "later", LEFT_ALONE: "left alone"}


def seconds_per_vm(reports: Sequence[str], vm_pool: str, state: str) -> float | None:
    """Return the seconds that a VM of the pool took in former rollouts, from their reports (JSON); None: not known."""
    taken = [
        vm["seconds"]
        for report in map(_parsed, reports)
        if report.get("vm_pool") == vm_pool and report.get("state") == state and not report.get("check_mode")
        for vm in report["vms"]
        if vm.get("result") == MOVED and isinstance(vm.get("seconds"), (int, float))
    ]
    return round(median(taken), 1) if taken else None


def _parsed(text: str) -> dict[str, Any]:
    """Return a report, or an empty one for what is none: a file of others, or one that is being written."""
    try:
        report = json.loads(text)
        good = report["format"] == FORMAT and all(isinstance(vm, dict) for vm in report["vms"])
    except (ValueError, KeyError, TypeError):
        return {}
    return report if good else {}


def describe_plan(plan: RolloutPlan, pace: float | None) -> dict[str, Any]:
    """Return the plan as the task returns it; ``pace`` is the seconds that one VM takes."""
    strategy = plan.strategy
    seconds = None if pace is None else round(pace * len(plan.sizes))
    ends = strategy.window_ends
    described = {
        "vm_pool": strategy.vm_pool,
        "state": strategy.state,
        "template": plan.template,
        "template_version": plan.version,
        "version_name": plan.version_name,
        "versions": [_version(version) for version in plan.versions],
        "vms": [_described(turn) for turn in plan.turns],
        "batches": list(plan.sizes),
        "failures_allowed": plan.failures_allowed,
        "checkpoint": plan.checkpoint,
        "window_ends": None if ends is None else ends.isoformat(timespec="seconds"),
        "window_ends_epoch": None if ends is None else int(ends.timestamp()),
        "space": [{**vars(space), "enough": space.needed <= space.available} for space in plan.spaces],
        "seconds_per_vm": pace,
        "estimated_seconds": seconds,
    }
    return {**described, "table": table(plan, seconds)}


def _described(turn: Turn) -> dict[str, Any]:
    found, record = turn.found, turn.found.record
    return {
        "name": found.host.name,
        "vm": found.host.vm,
        "uri": found.host.uri,
        "state": found.state,
        "unhealthy": found.unhealthy,
        "taken_by": record.lease.user if record is not None and record.lease is not None else None,
        "from_version": None if record is None else record.root.version,
        "to_version": turn.to_version,
        "action": turn.action,
        "reason": turn.reason,
        "batch": turn.batch,
        "canary": turn.canary,
    }


def _version(version: Manifest) -> dict[str, Any]:
    return {
        "version": version.version,
        "version_name": version.version_name,
        "lifecycle": version.lifecycle,
        "created": version.created,
    }


def table(plan: RolloutPlan, seconds: int | None) -> list[str]:
    """Return the plan as lines to be read."""
    rows = [("batch", "VM", "state", "version", "")]
    rows += [_row(turn) for turn in plan.turns]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[4]]).rstrip() for row in rows]
    return [_headline(plan), *lines, *_remarks(plan, seconds)]


def _row(turn: Turn) -> tuple[str, str, str, str, str]:
    record = turn.found.record
    now = "" if record is None else str(record.root.version)
    versions = f"{now} -> {turn.to_version}" if turn.action in (MOVE, LATER) else now
    remarks = ["canary" if turn.canary else "", SAID.get(turn.action, ""), turn.reason]
    remark = ": ".join(part for part in remarks if part)
    return str(turn.batch or "-"), turn.found.host.name, turn.found.state, versions, one_line(remark)


def _headline(plan: RolloutPlan) -> str:
    strategy, due = plan.strategy, len(plan.with_action(MOVE))
    named = f" ({plan.version_name})" if plan.version_name else ""
    what = (
        f"Rollback of VM pool {strategy.vm_pool} from version {plan.version}"
        if strategy.back
        else f"Rollout of VM pool {strategy.vm_pool} to version {plan.version}{named}"
    )
    batches = f" in {len(plan.sizes)} batches" if len(plan.sizes) > 1 else ""
    return f"{what} of template {plan.template}: {due} of {len(plan.turns)} VMs{batches}"


def _remarks(plan: RolloutPlan, seconds: int | None) -> list[str]:
    lines = []
    if plan.checkpoint is not None:
        lines.append(f"It pauses at {plan.checkpoint} %; run it again to go on.")
    if plan.strategy.window_ends is not None:
        lines.append(f"No batch begins after {plan.strategy.window_ends.isoformat(sep=' ', timespec='minutes')}.")
    for space in plan.spaces:
        short = "" if space.needed <= space.available else ", WHICH IS NOT ENOUGH"
        lines.append(
            f"Space in storage pool {space.storage_pool} ({space.uri}): {human_size(space.available)} available, "
            f"{human_size(space.needed)} for the new roots to begin with{short}."
        )
    if seconds is not None:
        lines.append(f"It takes about {seconds} s, as former rollouts of this VM pool did for each batch.")
    return lines
