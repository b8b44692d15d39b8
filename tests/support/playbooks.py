"""Running playbooks and inventories as a user does: the real commands, from a folder outside of the repository."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Variables = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a command did."""

    rc: int
    output: str

    @property
    def text(self) -> str:
        """The output with every run of blanks as one space, to look for sentences."""
        return " ".join(self.output.split())

    @property
    def changed(self) -> int:
        """The number of tasks that changed something, of all hosts."""
        return sum(int(number) for number in re.findall(r"changed=(\d+)", self.output))

    @property
    def artifact(self) -> Variables:
        """What the playbook recorded with set_stats, as AWX keeps it."""
        found = re.search(r"CUSTOM STATS: \*+\s+RUN: (.*)", self.output)
        assert found, self.output
        stats: Variables = json.loads(found[1])
        return stats


class Started:
    """A command that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._said: list[str] = []

    def wait_for(self, text: str) -> None:
        """Wait until it prints a line with this text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if text in line:
                return
        raise AssertionError(f"it never came to {text!r}: {''.join(self._said)}")

    def kill(self) -> None:
        """Kill it with its children, as ``kill -9`` does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def end(self) -> Run:
        """Wait until it ends, and return what it did."""
        try:
            rest = self._process.communicate()[0]
        except BaseException:  # the test is broken off
            self.kill()
            raise
        return Run(self._process.returncode, "\n" + "".join(self._said) + rest)


@dataclass(frozen=True)
class Controller:
    """A folder with an inventory, from which ansible is run. ``uris`` are those of its hypervisors."""

    folder: Path
    uris: tuple[str, ...] = ("qemu:///system",)

    def inventory(self, name: str = "golden.yml", **options: Any) -> Path:
        """Write an inventory and return its path."""
        path = self.folder / name
        path.write_text(yaml.safe_dump({"plugin": "golden.libvirt.vms", "uris": list(self.uris), **options}))
        return path

    def hosts(self, path: Path | None = None, **options: Any) -> Variables:
        """Return what ansible-inventory says; one that cannot be read is an assertion error."""
        run = self.run("ansible-inventory", "-i", str(path or self.inventory(**options)), "--list")
        assert run.rc == 0, run.output
        listed: Variables = json.loads(run.output[run.output.index("\n{") :], object_hook=_plain)
        return listed

    def play(self, playbook: str, *words: str, **variables: Any) -> Run:
        """Run a playbook of the collection with these extra variables."""
        return self.start_play(playbook, *words, **variables).end()

    def run(self, command: str, *words: str, **environment: str) -> Run:
        """Run a command of Ansible; everything that it prints is in the output."""
        return self.start(command, *words, **environment).end()

    def start_play(self, playbook: str, *words: str, **variables: Any) -> Started:
        """Start a playbook of the collection with these extra variables."""
        given = ["-i", str(self.inventory()), "-e", json.dumps(variables)]
        return self.start("ansible-playbook", f"golden.libvirt.{playbook}", *given, *words)

    def start(self, command: str, *words: str, **environment: str) -> Started:
        """Start a command of Ansible."""
        settings = {
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
            "COLUMNS": "500",
            **environment,
        }
        process = subprocess.Popen(
            [Path(sys.executable).parent / command, *words],
            cwd=self.folder,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return Started(process)


def _plain(value: Variables) -> Any:
    """Take the mark off a text that Ansible does not trust."""
    return value.get("__ansible_unsafe", value)
