"""Running playbooks and inventories as a user does: the real commands, from a folder outside of the repository."""

from __future__ import annotations

import json
import os
import re
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
        given = ["-e", json.dumps(variables)]
        return self.run("ansible-playbook", f"golden.libvirt.{playbook}", "-i", str(self.inventory()), *given, *words)

    def run(self, command: str, *words: str, **environment: str) -> Run:
        """Run a command of Ansible; everything that it prints is in the output."""
        settings = {
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
            "COLUMNS": "500",
            **environment,
        }
        program = Path(sys.executable).parent / command
        done = subprocess.run(
            [program, *words],
            cwd=self.folder,
            env={**os.environ, **settings},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Run(done.returncode, "\n" + done.stdout)


def _plain(value: Variables) -> Any:
    """Take the mark off a text that Ansible does not trust."""
    return value.get("__ansible_unsafe", value)
