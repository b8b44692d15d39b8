"""Whole modules on the hypervisor in memory: real arguments, real argument specs, real results."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

from .fake import FakeHypervisor
from .fixtures import REPOSITORY
from .modules import Result, run_module

_PLUGINS = "ansible_collections.golden.libvirt.plugins"

MODULES = sorted(path.stem for path in (REPOSITORY / "plugins" / "modules").glob("[a-z]*.py"))
"""All modules of the collection."""


def argument_spec(module: str) -> dict[str, Any]:
    """Return the argument spec that a module gives to Ansible, with the option that all have."""
    loaded = importlib.import_module(f"{_PLUGINS}.modules.{module}")
    runner = next(name for name in vars(loaded) if name.startswith("run"))
    with mock.patch.object(loaded, runner) as run:
        loaded.main()
    return {**run.call_args.kwargs["argument_spec"], "uri": dict(type="str")}


class Asked:
    """A hypervisor in memory behind the modules; ``opened`` tells whether the last one got as far as to connect.

    Without ``logs`` Ansible does not log how they are called, which takes no text with a NUL in it.
    """

    def __init__(self, hypervisor: FakeHypervisor, logs: bool = False) -> None:
        self.hypervisor = hypervisor
        self.logs = logs
        self.opened = False

    def run(self, module: str, *, check: bool = False, **options: Any) -> Result:
        """Run a module; a failed one raises ModuleFailed."""
        self.opened = False
        with mock.patch(f"{_PLUGINS}.module_utils._runner.LibvirtHypervisor", self._open):
            return run_module(module, check=check, diff=True, _ansible_no_log=not self.logs, **options)

    @contextmanager
    def _open(self, uri: str, only_look: bool = False) -> Iterator[FakeHypervisor]:
        self.opened = True
        self.hypervisor.connection = SimpleNamespace(uri=uri, read_only=False)  # type: ignore[attr-defined]
        yield self.hypervisor
