"""One task, disturbed again and again, and whether it ends as it does undisturbed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable
from difflib import unified_diff
from pathlib import Path
from typing import Any

from .faults import Fault
from .fixtures import Site
from .points import SEED
from .scenarios import Scenario
from .states import Kept, State, assert_starts, connected, keep
from .tasks import AFTER_CLAIMS, Ended, Tasks
from .virsh import NAMESPACE


class Trial:
    """A scenario on a site: its state before, and the one that it comes to when nothing disturbs it."""

    def __init__(self, site: Site, tasks: Tasks, scenario: Scenario) -> None:
        scenario.prepare(site)
        self.site = site
        self.tasks = tasks
        self.scenario = scenario
        self.task = scenario.task(site)
        self.kept: Kept = keep(site)
        self.before: State = self.kept.look()
        undisturbed = tasks.run(self.task)
        undisturbed.succeeded()
        self.calls = undisturbed.calls
        self.expected: State = self.kept.look()
        assert self.expected != self.before, "the task has nothing to do"
        assert_starts(site)

    def disturbed(self, fault: Fault) -> Ended:
        """Run the task anew, disturbed."""
        self.kept.put_back()
        return self.tasks.run(self.task, fault)

    def assert_rerun_ends_well(self) -> None:
        """The task, run again, comes to the end that it comes to undisturbed.

        It may be told that something changed meanwhile: libvirtd goes on with a call whose caller was killed.
        """
        assert_whole(self.site)
        again = self.tasks.run(self.task, later=AFTER_CLAIMS)
        if again.failed and "run this task again" in again.message:
            self.tasks.rerun(self.task)
        else:
            again.succeeded()
        self.scenario.tidy(self.site, self.tasks)
        assert_equal(self.kept.look(), self.expected)

    def assert_holds(self, faults: Iterable[Fault], attempt: Callable[[Fault], None], record: Any) -> None:
        """Try every point, and name all those that do not hold."""
        tried, broken = 0, []
        for fault in faults:
            tried += 1
            try:
                attempt(fault)
            except AssertionError as error:
                broken.append(f"{fault} ({self.calls[fault.call]}): {str(error)[:4000]}")
        record("points", f"{tried - len(broken)} of {tried} held")
        assert tried
        assert not broken, f"{len(broken)} of {tried}, seed {SEED}:\n" + "\n".join(broken)


def assert_whole(site: Site) -> None:
    """Every disk of every VM is there, unless the VM is known to be half made or half removed."""
    with connected() as conn:
        for domain in conn.listAllDomains():
            xml = ET.fromstring(domain.XMLDesc())
            pending = xml.find(f"metadata/{NAMESPACE}vm/{NAMESPACE}pending")
            half = pending is not None and pending.get("job") in ("create", "remove")
            if domain.name().startswith(site.prefix) and not half:
                files = [source.get("file", "") for source in xml.iterfind("devices/disk/source")]
                missing = [file for file in files if file and not Path(file).exists()]
                assert not missing, f"{domain.name()} has lost {missing}"


def assert_equal(found: State, wanted: State) -> None:
    """Two states are equal, or it is told where they are not."""
    differ = {key: (found.get(key), wanted.get(key)) for key in {*found, *wanted} if found.get(key) != wanted.get(key)}
    told = []
    for key, (one, other) in differ.items():
        if key == "volumes":
            told.append(f"more volumes: {Counter(one) - Counter(other)}, less: {Counter(other) - Counter(one)}")
        else:
            lines = (str(state).replace("><", ">\n<").splitlines() for state in (other, one))
            told.append(f"{key}: " + " ".join(line for line in unified_diff(*lines, n=0, lineterm="")))
    assert not differ, "; ".join(told)
