"""A hypervisor behind TLS: a libvirtd of the tests' own on a high port, with certificates of its own.

It runs no guests: two libvirtds disturb each other's cgroups.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .virsh import PREFIX

SUPPORT = Path(__file__).resolve().parent
POOL = f"{PREFIX}tls"
NAMESPACES = ("unshare", "--mount", "--propagation", "private")


@dataclass(frozen=True)
class TlsHost:
    """The daemon: ``folder`` has all that it writes."""

    folder: Path
    port: int

    def uri(self, client: str = "client") -> str:
        """Return the URI for one who has the certificate of this folder."""
        return f"qemu+tls://localhost:{self.port}/system?pkipath={self.folder / client}"

    def virsh(self, *words: str, stdin: str | None = None) -> str:
        """Run virsh over the daemon's own socket and return what it prints."""
        uri = f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, *words], check=True, capture_output=True, text=True, input=stdin
        )
        return done.stdout.strip()


@contextmanager
def tls_host() -> Iterator[TlsHost]:
    """Start the daemon with one storage pool, and end it; skip where namespaces cannot be made."""
    if os.geteuid() != 0 or subprocess.run([*NAMESPACES, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a second libvirtd takes root and namespaces of its own")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            host = TlsHost(folder, any_port.getsockname()[1])
        _configure(host)
        with (folder / "output").open("wb") as output:
            command = [*NAMESPACES, "bash", str(SUPPORT / "tls.sh"), str(folder)]
            daemon = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        try:
            _wait_for(host)
            xml = f"<pool type='dir'><name>{POOL}</name><target><path>{folder}/pool</path></target></pool>"
            host.virsh("pool-create", "/dev/stdin", stdin=xml)
            yield host
        finally:
            daemon.communicate(timeout=30)  # its standard input ends, and with it the daemon
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _configure(host: TlsHost) -> None:
    folder = host.folder
    for name in ("pool", "etc", "server", "client", "stranger", "nobody"):
        (folder / name).mkdir()
    for authority in ("authority", "other"):
        _openssl(
            folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}",
            "-keyout", f"{authority}.key", "-out", f"{authority}.pem",
            "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip
    _certify(folder, "server", "authority", "server")
    _certify(folder, "client", "authority", "client")
    _certify(folder, "stranger", "other", "client")
    for client in ("client", "stranger", "nobody"):
        shutil.copy(folder / "authority.pem", folder / client / "cacert.pem")
    shutil.copy("/etc/libvirt/qemu.conf", folder / "etc")
    (folder / "etc" / "libvirtd.conf").write_text(
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "127.0.0.1"\ntls_port = "{host.port}"\nauth_tls = "none"\n'
        f'key_file = "{folder}/server/serverkey.pem"\ncert_file = "{folder}/server/servercert.pem"\n'
        f'ca_file = "{folder}/authority.pem"\nauth_unix_rw = "none"\n'
    )


def _certify(folder: Path, name: str, authority: str, kind: str) -> None:
    """Make the certificate of a server or a client, signed by an authority."""
    key, certificate = f"{name}/{kind}key.pem", f"{name}/{kind}cert.pem"
    _openssl(
        folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", f"{name}.csr"
    )
    (folder / f"{name}.ext").write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
        f"extendedKeyUsage={kind}Auth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n"
    )
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", certificate,
    )  # fmt: skip


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _wait_for(host: TlsHost) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            host.virsh("uri")
            socket.create_connection(("127.0.0.1", host.port)).close()
        except (subprocess.CalledProcessError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError((host.folder / "output").read_text())
