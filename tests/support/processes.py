"""Tasks in processes of their own, of which many begin at once.

They are not forked from pytest: its libvirt threads hold locks that nobody would release in a copy of it.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.process import BaseProcess
from typing import Any

from .modules import ModuleFailed, run_module

REFUSED = 1
"""How a process ends whose task was refused for want of a VM; one that succeeds ends with 0."""

_CONTEXT = multiprocessing.get_context("forkserver")
_MODULES = "ansible_collections.golden.libvirt.plugins.modules"
_CONTEXT.set_forkserver_preload(["support.processes", f"{_MODULES}.vm_lease"])


def begin(module: str, **options: Any) -> BaseProcess:
    """Begin a task."""
    process = _CONTEXT.Process(target=_work, args=(module, options))
    process.start()
    return process


def ends(processes: list[BaseProcess]) -> list[int | None]:
    """Wait for processes, and return how they ended."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _work(module: str, options: dict[str, Any]) -> None:
    try:
        run_module(module, **options)
    except ModuleFailed as error:
        sys.exit(REFUSED if "has no free VM" in str(error) else 2)
