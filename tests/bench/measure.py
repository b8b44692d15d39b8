"""Figures: what something costs, beside a reference that is measured at the same time.

Both take turns, so that a machine that is busy with other things slows down both; the ratio is the median of the
rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml import domain_xml

TESTS = Path(__file__).resolve().parents[1]
HEAD = "| what | cost | beside | ratio | limit |\n|---|---|---|---|---|"
Call = Callable[[], object]


@dataclass(frozen=True)
class Figure:
    """A cost in words, and how many times that of the reference it is."""

    what: str
    cost: str
    beside: str
    ratio: float
    limit: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is within its limit."""
        return self.limit is None or self.ratio <= self.limit

    def row(self) -> str:
        """Return the row of a Markdown table."""
        limit = "" if self.limit is None else f"{self.limit:g}{'' if self.holds else ' (not held)'}"
        return f"| {self.what} | {self.cost} | {self.beside} | {self.ratio:.2f} | {limit} |"


def show(figures: Iterable[Figure]) -> int:
    """Print figures as they come, and return the exit code: 1 if a limit does not hold."""
    code = 0
    for figure in figures:
        print(figure.row(), flush=True)
        code = code if figure.holds else 1
    return code


def seconds(call: Call) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def in_turn(rounds: int, *calls: Call) -> list[list[float]]:
    """Return the seconds of each call in each round; each round begins with another one of them."""
    return timed_in_turn(rounds, *(partial(seconds, call) for call in calls))


def timed_in_turn(rounds: int, *timed: Callable[[], float]) -> list[list[float]]:
    """Return the same of calls that each return what of their time counts."""
    times: list[list[float]] = [[] for _call in timed]
    for number in range(rounds):
        for offset in range(len(timed)):
            place = (number + offset) % len(timed)
            times[place].append(timed[place]())
    return times


def unread(call: Call) -> Call:
    """Return a call that knows no definition from the last time, as it is in a task."""

    def fresh() -> object:
        domain_xml.read.cache_clear()
        return call()

    return fresh


def ratio(ours: list[float], reference: list[float]) -> float:
    """Return the median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(ours, reference))


def duration(times: list[float], each: int = 1) -> str:
    """Return the median in words; ``each`` is of how many things a time is."""
    median = statistics.median(times) / each
    return f"{median:.1f} s" if median >= 1 else f"{median * 1000:.1f} ms"


def process(*command: str | Path) -> int:
    """Run a command that must succeed, and return its peak of memory in bytes."""
    started = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    assert started.returncode == 0, command
    return usage.ru_maxrss * 1024


def module(name: str, **options: Any) -> int:
    """Run a module as a process of its own, and return its peak of memory in bytes."""
    code = "import json, sys, support.modules as m; m.run_module(sys.argv[1], **json.loads(sys.argv[2]))"
    return process(sys.executable, "-c", code, name, json.dumps(options))


def bare(*words: str) -> int:
    """Run a bare script as a process of its own, and return its peak of memory in bytes."""
    return process(sys.executable, TESTS / "bench" / "bare.py", *words)
