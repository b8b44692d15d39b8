"""Tasks in processes of their own, which can be disturbed, killed, delayed, and run beside each other.

They are not forked from pytest, whose libvirt threads hold locks that nobody would release in a copy of it, but from a
process that has loaded the modules and has done nothing yet.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from .faults import Fault, count_calls
from .modules import ModuleFailed, Result, run_module

MODULES = ("template_version", "vm", "vm_lease", "vm_payload", "vm_pool", "vm_restore", "volume_attach")
AFTER_CLAIMS = 150.0
"""Seconds after which what a task that was killed has claimed is free again."""


@dataclass(frozen=True)
class Task:
    """A module and its options."""

    module: str
    options: dict[str, Any]


def task(module: str, /, **options: Any) -> Task:
    """Return a task."""
    return Task(module, options)


@dataclass(frozen=True)
class Ended:
    """How a task ended: ``result`` is None of one that was killed; ``calls`` are the functions of libvirt it called."""

    result: Result | None
    calls: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it failed, with a message."""
        return self.result is not None and bool(self.result.get("failed"))

    @property
    def message(self) -> str:
        """What a task that failed said."""
        assert self.result is not None, "it was killed"
        assert self.failed, f"it did not fail: {self.result}"
        return str(self.result["msg"])

    @property
    def rolled_back(self) -> bool:
        """Whether a task that failed left all as it was. One that fails before its first step does not say so."""
        return self.result is not None and bool(self.result.get("rolled_back", True))

    def succeeded(self) -> Result:
        """Return the result of a task that must not have failed."""
        assert self.result is not None, "it was killed"
        assert not self.failed, f"it failed: {self.result['msg']}"
        return self.result


class Tasks:
    """What begins tasks, each in a process of its own."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from support.tasks import serve; serve()"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, wanted: Task, fault: Fault | None = None, *, delay: float = 0.0, later: float = 0.0) -> int:
        """Begin a task after ``delay`` seconds, for whose process the clock is ahead by ``later`` seconds."""
        return int(self._ask({
            "module": wanted.module,
            "options": wanted.options,
            "fault": None if fault is None else asdict(fault),
            "delay": delay,
            "later": later,
        }))  # fmt: skip

    def end(self, process: int) -> Ended:
        """Wait for a task."""
        result, calls = self._ask(process)
        return Ended(result, tuple(calls))

    def run(self, wanted: Task, fault: Fault | None = None, *, later: float = 0.0) -> Ended:
        """Run a task."""
        return self.end(self.begin(wanted, fault, later=later))

    def rerun(self, wanted: Task) -> Result:
        """Run a task that must succeed, when the claims of those before it have expired."""
        return self.run(wanted, later=AFTER_CLAIMS).succeeded()

    def close(self) -> None:
        """End the process that the tasks come from."""
        self._server.communicate()

    def _ask(self, question: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="session")
def tasks() -> Iterator[Tasks]:
    """Yield what begins tasks."""
    made = Tasks()
    try:
        yield made
    finally:
        made.close()


def serve() -> None:
    """Fork a process for each line with a task, and wait for one for each line with its id."""
    for module in MODULES:
        importlib.import_module(f"ansible_collections.golden.libvirt.plugins.modules.{module}")
    pipes = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            with open(pipes.pop(asked)) as pipe:
                said = pipe.read()
            os.waitpid(asked, 0)
            answer: Any = json.loads(said) if said else (None, [])
        else:
            reading, writing = os.pipe()
            answer = os.fork() or _work(asked, writing)
            os.close(writing)
            pipes[answer] = reading
        print(json.dumps(answer), flush=True)


def _work(asked: dict[str, Any], writing: int) -> int:
    """Run a task in this process, and end it."""
    calls: list[str] = []
    result: Result = {}
    try:
        time.sleep(asked["delay"])
        real, later = time.time, asked["later"]
        time.time = lambda: real() + later
        count_calls(calls, Fault(**asked["fault"]) if asked["fault"] else None)
        result = run_module(asked["module"], **asked["options"])
    except ModuleFailed as error:
        result = error.result
    except BaseException:
        result = {"failed": True, "msg": traceback.format_exc()}  # no message of ours has one: it is told as it is
    finally:
        with contextlib.suppress(BrokenPipeError), open(writing, "w") as pipe:
            json.dump((result, calls), pipe)
        os._exit(0)
