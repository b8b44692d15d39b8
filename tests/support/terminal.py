"""A real terminal: tmux, which shows what a program has drawn."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .waiting import until


@dataclass(frozen=True)
class Terminal:
    """A terminal of its own, with a shell that waits for commands."""

    socket: Path

    def tmux(self, *words: str) -> str:
        """Run a command of tmux and return what it prints."""
        done = subprocess.run(["tmux", "-S", self.socket, *words], check=True, capture_output=True, text=True)
        return done.stdout

    def run(self, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
        """Start a command; ``ended <status>`` is printed after it."""
        settings = [f"{name}={value}" for name, value in environment.items()]
        words = shlex.join(["env", *settings, *map(str, command)])
        self.tmux("send-keys", "-l", f" cd {shlex.quote(str(folder))}; clear; {words}; echo ended $?")
        self.tmux("send-keys", "Enter")

    def screen(self, colours: bool = False) -> list[str]:
        """Return the lines that are seen now."""
        return self.tmux("capture-pane", "-p", *(["-e"] if colours else [])).split("\n")

    def history(self) -> str:
        """Return all that was printed, with what has scrolled away, long lines in one piece."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait_for_foot(self, pattern: str, lines: int = 9) -> str:
        """Wait until the last lines of the screen match, and return them; a screen may be seen half painted before."""
        screen = self._wait_for(lambda screen: re.search(pattern, "\n".join(screen[-lines:])))
        return "\n".join(screen[-lines:])

    def wait_for(self, text: str, timeout: float = 300) -> list[str]:
        """Wait until a text is seen, and return the screen."""
        return self._wait_for(lambda screen: text in "\n".join(screen), timeout)

    def _wait_for(self, wanted: Callable[[list[str]], object], timeout: float = 300) -> list[str]:
        seen: list[str] = []

        def is_seen() -> object:
            seen[:] = self.screen()
            return wanted(seen)

        until(is_seen, lambda: "\n".join(seen), timeout)
        return seen


@contextmanager
def terminal(width: int = 100, rows: int = 30) -> Iterator[Terminal]:
    """Yield a terminal of this size; it is closed with the block."""
    with tempfile.TemporaryDirectory(prefix="gldtest-") as folder:
        made = Terminal(Path(folder) / "socket")
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        size = ["-x", str(width), "-y", str(rows)]
        subprocess.run(
            ["tmux", "-S", made.socket, "-f", "/dev/null", "new-session", "-d", *size, "sh"],
            check=True,
            env=environment,
        )
        try:
            yield made
        finally:
            made.tmux("kill-server")
