"""Tasks in processes of their own, of which many begin at once.

They are not forked from pytest, whose libvirt threads hold locks that nobody would release in a copy of it, but from a
process that has loaded the module and has done nothing yet.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .modules import ModuleFailed, run_module

REFUSED = 1
"""How a process ends whose task was refused for want of a VM; one that succeeds ends with 0."""


class Processes:
    """Processes that run one module of the collection."""

    def __init__(self, module: str) -> None:
        folder = Path(__file__).resolve().parents[1]
        self._server = subprocess.Popen(
            [sys.executable, "-c", f"from support.processes import serve; serve({module!r})"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(None)  # until it is ready

    def begin(self, **options: Any) -> int:
        """Begin a task, and return the id of its process."""
        return self._ask(options)

    def ends(self, processes: list[int]) -> list[int]:
        """Wait for processes, and return how they ended."""
        return [self._ask(process) for process in processes]

    def close(self) -> None:
        """End the process that they come from."""
        self._server.communicate()

    def _ask(self, question: Any) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


@contextlib.contextmanager
def processes_of(module: str) -> Iterator[Processes]:
    """Yield what begins tasks of a module."""
    made = Processes(module)
    try:
        yield made
    finally:
        made.close()


def serve(module: str) -> None:
    """Fork a process for each line with options, wait for one for each line with its id; print its id or its end."""
    importlib.import_module(f"ansible_collections.golden.libvirt.plugins.modules.{module}")
    for line in sys.stdin:
        asked = json.loads(line)
        if asked is None:
            answer = 0
        elif isinstance(asked, int):
            answer = os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1])
        else:
            answer = os.fork() or _work(module, asked)
        print(answer, flush=True)


def _work(module: str, options: dict[str, Any]) -> int:
    code = 2
    try:
        run_module(module, **options)
        code = 0
    except ModuleFailed as error:
        code = REFUSED if "has no free VM" in str(error) else 2
    finally:
        os._exit(code)
