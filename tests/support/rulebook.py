"""ansible-rulebook, run as a user does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from .fixtures import REPOSITORY
from .waiting import until

PROGRAMS = REPOSITORY / ".cache" / "rulebook" / "bin"
INVENTORY = "localhost ansible_connection=local ansible_python_interpreter='{{ ansible_playbook_python }}'\n"


class Rulebook:
    """A running ansible-rulebook."""

    def __init__(self, folder: Path, rulebook: str, variables: dict[str, Any]) -> None:
        self._log = folder / "rulebook.log"
        given = folder / "vars.yml"
        given.write_text(yaml.safe_dump(variables))
        inventory = folder / "inventory.ini"
        inventory.write_text(INVENTORY)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "ansible-rulebook", "-r", rulebook, "--vars", given, "-i", inventory, "--print-events"],
                cwd=folder,
                env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "true"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far, with every run of blanks as one space."""
        return " ".join(self._log.read_text().split())

    def wait(self, text: str) -> None:
        """Wait until it has printed something."""
        until(lambda: text in self.output or self._process.poll() is not None)
        assert text in self.output

    def end(self) -> None:
        """End it, as ^C does, with what it has begun: a playbook whose workers it ends may wait for them for ever."""
        begun = _descendants(self._process.pid)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=120)
        finally:
            for process in (self._process.pid, *begun):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.wait()


def _descendants(process: int) -> list[int]:
    """Return the processes that a process has begun, and those that they have."""
    found = subprocess.run(["pgrep", "--parent", str(process)], check=False, capture_output=True, text=True)
    children = [int(line) for line in found.stdout.split()]
    return [*children, *(below for child in children for below in _descendants(child))]


@contextmanager
def running(folder: Path, rulebook: str, **variables: Any) -> Iterator[Rulebook]:
    """Yield a rulebook whose source has connected."""
    made = Rulebook(folder, rulebook, variables)
    try:
        made.wait("'event': 'connected'")
        yield made
    finally:
        made.end()
