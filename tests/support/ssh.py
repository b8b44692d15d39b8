"""A hypervisor behind SSH: an sshd of the tests' own on a high port, with keys of its own."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .waiting import until


@contextmanager
def ssh_uri(folder: Path) -> Iterator[str]:
    """Yield the URI of this machine's libvirt as a controller far away would use it; the host key is checked."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = _free_port()
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "known_hosts").write_text(f"[localhost]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nPidFile none\n"
    )
    ssh = folder / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nexec ssh -F none -i "{folder}/user" -o IdentitiesOnly=yes '
        f'-o UserKnownHostsFile="{folder}/known_hosts" -o StrictHostKeyChecking=yes "$@"\n'
    )
    ssh.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"])
    try:
        until(lambda: _listens(port))
        yield f"qemu+ssh://{getpass.getuser()}@localhost:{port}/system?command={ssh}&no_tty=1"
    finally:
        sshd.terminate()
        sshd.wait()


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port: int = any_port.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
