"""A libvirtd of the tests' own that asks polkit about everything, and a user of it who is not root.

It runs beside the libvirtd of the machine, in namespaces of its own, and runs no guests: two libvirtds disturb each
other's cgroups.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .fixtures import make_disk
from .modules import ModuleFailed, Result
from .virsh import PREFIX

SUPPORT = Path(__file__).resolve().parent
USER = "nobody"
POOL = f"{PREFIX}pool"
NAMESPACES = ("unshare", "--mount", "--net", "--propagation", "private")
RULES = """polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.libvirt.") !== 0 || subject.user !== "@USER@")
        return polkit.Result.NOT_HANDLED;
    var name = action.lookup("domain_name") || action.lookup("vol_name") || action.lookup("pool_name");
    var denied = polkit.spawn(["cat", "@DENIED@"]).split("\\n");
    var no = denied.some(function(line) {
        var words = line.split(" ");
        if (words[0] !== action.id) return false;
        if (words[1] === "unless") return words[2] !== action.lookup("domain_uuid");
        return words.length === 1 || words[1] === name;
    });
    return no ? polkit.Result.NO : polkit.Result.YES;
});
"""


@dataclass(frozen=True)
class Guarded:
    """The daemon: ``pid`` is that of its script, ``folder`` has all that it writes."""

    pid: int
    folder: Path

    @property
    def uri(self) -> str:
        """Where root reaches it from outside of its namespaces; root is allowed everything."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    def virsh(self, *words: str, stdin: str | None = None) -> str:
        """Run virsh as root and return what it prints."""
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *words], check=True, capture_output=True, text=True, input=stdin
        )
        return done.stdout.strip()

    @contextmanager
    def denying(self, *actions: str) -> Iterator[None]:
        """Deny the user these actions, without their ``org.libvirt.``: ``action`` for all objects, ``action name`` for
        one, ``action unless uuid`` for all VMs but one."""
        self._deny(actions)
        try:
            yield
        finally:
            self._deny(())

    def _deny(self, actions: tuple[str, ...]) -> None:
        (self.folder / "denied").write_text("".join(f"org.libvirt.{action}\n" for action in actions))

    def run_module(self, module: str, /, *, check: bool = False, **options: object) -> Result:
        """Run a module as the user, at ``qemu:///system`` as the user sees it; a failed one raises ModuleFailed."""
        job = {"pid": self.pid, "user": USER, "module": module, "check": check, "options": options}
        command = [sys.executable, str(SUPPORT / "as_user.py"), json.dumps(job)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result: Result = json.loads(done.stdout)
        if result.get("failed"):
            raise ModuleFailed(result)
        return result

    def state(self) -> dict[str, str]:
        """Return all that there is, to be compared: definitions, and the bytes of the volumes."""
        domains = self.virsh("list", "--all", "--name").split()
        found = {name: self.virsh("dumpxml", name, "--security-info") for name in domains}
        found |= {f"{name} autostart": str("enable" in self.virsh("dominfo", name)) for name in domains}
        for volume in self.virsh("vol-list", POOL).split()[::2]:
            found[volume] = hashlib.sha256((self.folder / "pool" / volume).read_bytes()).hexdigest()
        return found

    def image(self, mark: str) -> str:
        """Return the path of a disk image that the user can read."""
        return str(make_disk(self.folder / f"{mark}.qcow2", "8M", mark=mark))


@contextmanager
def guarded_libvirtd(rules: str = RULES, settings: str = "") -> Iterator[Guarded]:
    """Start the daemon with one storage pool, and end it; skip where namespaces cannot be made.

    ``settings`` are added to its libvirtd.conf.
    """
    if os.geteuid() != 0 or subprocess.run([*NAMESPACES, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a second libvirtd takes root and namespaces of its own")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for name in ("rules", "pool"):
            (folder / name).mkdir()
        (folder / "denied").touch()
        (folder / "settings").write_text(settings)
        (folder / "rules" / "10-test.rules").write_text(
            rules.replace("@USER@", USER).replace("@DENIED@", str(folder / "denied"))
        )
        with (folder / "output").open("wb") as output:
            command = [*NAMESPACES, "bash", str(SUPPORT / "guarded.sh"), str(folder)]
            daemon = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        try:
            guarded = Guarded(daemon.pid, folder)
            _wait_for(guarded)
            xml = f"<pool type='dir'><name>{POOL}</name><target><path>{folder}/pool</path></target></pool>"
            guarded.virsh("pool-create", "/dev/stdin", stdin=xml)
            yield guarded
        finally:
            daemon.communicate(timeout=30)  # its standard input ends, and with it the daemon
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(guarded: Guarded) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            guarded.virsh("uri")
        except subprocess.CalledProcessError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError((guarded.folder / "output").read_text())
