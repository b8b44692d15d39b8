"""A hypervisor behind TLS: a libvirtd of the tests' own on a high port, with certificates of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .private_libvirtd import PrivateLibvirtd, private_libvirtd
from .virsh import PREFIX

POOL = f"{PREFIX}tls"


@dataclass(frozen=True)
class TlsHost:
    """The daemon, and the port at which it listens."""

    daemon: PrivateLibvirtd
    port: int

    def uri(self, client: str = "client") -> str:
        """Return the URI for one who has the certificate of this folder."""
        return f"qemu+tls://localhost:{self.port}/system?pkipath={self.daemon.folder / client}"


@contextmanager
def tls_host() -> Iterator[TlsHost]:
    """Start the daemon with one storage pool, and end it."""
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    with private_libvirtd("tls", ("--mount",), POOL, lambda folder: _configure(folder, port)) as daemon:
        daemon.wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close())
        yield TlsHost(daemon, port)


def _configure(folder: Path, port: int) -> None:
    for name in ("server", "client", "stranger", "nobody"):
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
        f'listen_tls = 1\nlisten_tcp = 0\nlisten_addr = "127.0.0.1"\ntls_port = "{port}"\nauth_tls = "none"\n'
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
