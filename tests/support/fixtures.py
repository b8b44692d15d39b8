"""Things of libvirt for tests: with a prefix of their own, removed afterwards, whatever happened."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .virsh import PREFIX, domains, virsh, volumes

REPOSITORY = Path(__file__).resolve().parents[2]
GUESTS = REPOSITORY / ".cache" / "guests"


@dataclass(frozen=True)
class Site:
    """A storage pool of a test's own, and the prefix that its VMs have."""

    storage_pool: str
    folder: Path
    prefix: str

    def vm(self, name: str) -> str:
        """Return the name of a VM of this site."""
        return f"{self.prefix}{name}"

    @property
    def vms(self) -> list[str]:
        """The VMs of this site."""
        return [name for name in domains() if name.startswith(self.prefix)]

    @property
    def volumes(self) -> list[str]:
        """The volumes of the storage pool."""
        return volumes(self.storage_pool)

    def remove(self) -> None:
        """Remove everything that the test has made."""
        for vm in self.vms:
            virsh("destroy", vm, check=False)
            for snapshot in virsh("snapshot-list", vm, "--name", check=False).split():
                virsh("snapshot-delete", vm, snapshot, "--metadata", check=False)
            virsh("undefine", vm, "--nvram", "--managed-save", check=False)
        virsh("pool-destroy", self.storage_pool, check=False)


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a storage pool and a prefix for VMs, both of this test alone."""
    key = f"{PREFIX}{uuid.uuid4().hex[:6]}"
    base = tmp_path_factory.mktemp("site")
    for folder in (base, *base.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder.owner() == "root" and str(folder) != "/":
            folder.chmod(folder.stat().st_mode | 0o011)  # QEMU runs as another user and must get through
    made = Site(key, base / "pool", f"{key}-")
    made.folder.mkdir()
    xml = f"<pool type='dir'><name>{key}</name><target><path>{made.folder}</path></target></pool>"
    virsh("pool-create", "/dev/stdin", stdin=xml)
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """Yield the name of an isolated network with DHCP."""
    name = f"{PREFIX}net"
    xml = f"""<network><name>{name}</name><ip address='10.213.213.1' netmask='255.255.255.0'>
      <dhcp><range start='10.213.213.10' end='10.213.213.250'/></dhcp></ip></network>"""
    virsh("net-destroy", name, check=False)
    virsh("net-create", "/dev/stdin", stdin=xml)
    try:
        yield name
    finally:
        virsh("net-destroy", name, check=False)


def build_guest(version: str, *flags: str) -> Path:
    """Return a tiny bootable guest image, built once and kept."""
    image = GUESTS / f"tiny-{version}.qcow2"
    if not image.exists():
        GUESTS.mkdir(parents=True, exist_ok=True)
        script = REPOSITORY / "scripts" / "build-guest.sh"
        subprocess.run(
            ["bash", script, "--version", version, "--output", image, *flags], check=True, capture_output=True
        )
    return image


@pytest.fixture(scope="session")
def guest_v1() -> Path:
    """A guest that says version 1."""
    return build_guest("1")


@pytest.fixture(scope="session")
def guest_v2() -> Path:
    """A guest that says version 2."""
    return build_guest("2")


@pytest.fixture(scope="session")
def guest_broken() -> Path:
    """A guest that never comes up."""
    return build_guest("broken", "--broken")


@pytest.fixture(scope="session")
def empty_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disk image without an operating system, for tests that start nothing."""
    return make_disk(tmp_path_factory.mktemp("disk") / "disk.qcow2")


def make_disk(path: Path, size: str = "64M", mark: str = "") -> Path:
    """Make a small qcow2 image; ``mark`` makes its content differ from others."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, size], check=True)
    pattern = 1 + sum(mark.encode()) % 255 if mark else 1
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {pattern} 1M 1M", path], check=True, capture_output=True)
    return path
