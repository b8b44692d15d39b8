"""The three runs that every change must pass: predicted in check mode, done, and then nothing left to do."""

from __future__ import annotations

from typing import Any

from .modules import Result, run_module

OBJECT = {
    "template_version": "template_version",
    "vm": "vm",
    "vm_restore": "vm",
    "vm_pool": "vm_pool",
    "volume_attach": "volume",
    "vm_payload": "payload",
    "vm_lease": "lease",
}
# What only the hypervisor can know, by object.
UNKNOWN: dict[str, set[str]] = {
    "template_version": {"created", "sha256", "source_sha256"},
    "vm": {"uuid", "mac"},
    "vm_pool": set(),
    "volume": set(),
    "payload": set(),
    "lease": {"since", "addresses"},
}


def replay(name: str, /, **options: Any) -> Result:
    """Run a module in check mode, for real and again, compare the results, and return the real one."""
    predicted = run_module(name, check=True, diff=True, **options)
    done = run_module(name, diff=True, **options)
    again = run_module(name, diff=True, **options)
    key = OBJECT[name]
    assert predicted["changed"], "there is nothing to do: the test begins in the wrong state"
    assert done["changed"]
    assert not again["changed"], f"the second run changes something: {again.get('diff')}"
    assert known(predicted[key], key) == known(done[key], key), "check mode has not told the truth"
    assert again[key] == done[key]
    assert_readable(done["diff"])
    assert "diff" not in again
    return done


def known(value: Any, key: str) -> Any:
    """Return a result without what check mode cannot know."""
    if isinstance(value, dict):
        return {name: known(part, key) for name, part in value.items() if name not in UNKNOWN[key]}
    if isinstance(value, list):
        return [known(part, key) for part in value]
    return value


def assert_readable(diff: list[dict[str, Any]]) -> None:
    """A diff shows the object before and after, and the steps in words."""
    change, steps = diff
    assert change["before"] != change["after"] or steps["prepared"]
    lines = steps["prepared"].splitlines()
    assert lines
    assert all(line.startswith("- ") and len(line) > 10 for line in lines)
