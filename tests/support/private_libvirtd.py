"""A libvirtd of the tests' own beside the one of the machine, in namespaces of its own.

It runs no guests: two libvirtds disturb each other's cgroups.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .virsh import PREFIX
from .waiting import until

SCRIPT = Path(__file__).with_suffix(".sh")


@dataclass(frozen=True)
class PrivateLibvirtd:
    """The daemon: ``pid`` is that of its script, ``folder`` has all that it writes."""

    pid: int
    folder: Path

    @property
    def uri(self) -> str:
        """Where root reaches it from outside of its namespaces."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    def virsh(self, *words: str, stdin: str | None = None) -> str:
        """Run virsh as root and return what it prints."""
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *words], check=True, capture_output=True, text=True, input=stdin
        )
        return done.stdout.strip()

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait until something no longer fails."""

        def is_ready() -> bool:
            try:
                ready()
            except (subprocess.CalledProcessError, OSError):
                return False
            return True

        until(is_ready, (self.folder / "output").read_text)


@contextmanager
def private_libvirtd(
    kind: str, namespaces: tuple[str, ...], pool: str, configure: Callable[[Path], None]
) -> Iterator[PrivateLibvirtd]:
    """Start the daemon with one storage pool, and end it; skip where namespaces cannot be made.

    ``kind`` is ``tls`` or ``polkit`` (see the script), ``configure`` fills ``etc`` of its folder.
    """
    unshare = ("unshare", *namespaces, "--propagation", "private")
    if os.geteuid() != 0 or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a second libvirtd takes root and namespaces of its own")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        for name in ("pool", "etc"):
            (folder / name).mkdir()
        configure(folder)
        with (folder / "output").open("wb") as output:
            command = [*unshare, "bash", str(SCRIPT), str(folder), kind]
            script = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        try:
            daemon = PrivateLibvirtd(script.pid, folder)
            daemon.wait_until(lambda: daemon.virsh("uri"))
            xml = f"<pool type='dir'><name>{pool}</name><target><path>{folder}/pool</path></target></pool>"
            daemon.virsh("pool-create", "/dev/stdin", stdin=xml)
            yield daemon
        finally:
            script.communicate(timeout=120)  # its standard input ends, and with it the daemon
    finally:
        shutil.rmtree(folder, ignore_errors=True)
