"""Things of libvirt for tests: with a prefix of their own, removed afterwards, whatever happened."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
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
        # All at once: each takes a second or two.
        command = ["virsh", "-q", "-c", "qemu:///system", "destroy"]
        ending = [subprocess.Popen([*command, vm], stderr=subprocess.DEVNULL) for vm in self.vms]
        for process in ending:
            process.wait()
        for vm in self.vms:
            for snapshot in virsh("snapshot-list", vm, "--name", check=False).split():
                virsh("snapshot-delete", vm, snapshot, "--metadata", check=False)
            virsh("undefine", vm, "--nvram", "--managed-save", check=False)
        virsh("pool-destroy", self.storage_pool, check=False)


@contextmanager
def made_site() -> Iterator[Site]:
    """Yield a storage pool and a prefix for VMs, of their own."""
    key = f"{PREFIX}{uuid.uuid4().hex[:6]}"
    # Not in pytest's own folder, which only root can enter: QEMU runs as another user.
    base = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/var/tmp"))
    base.chmod(0o755)
    made = Site(key, base / "pool", f"{key}-")
    made.folder.mkdir()
    xml = f"<pool type='dir'><name>{key}</name><target><path>{made.folder}</path></target></pool>"
    virsh("pool-create", "/dev/stdin", stdin=xml)
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(base)


@pytest.fixture
def site() -> Iterator[Site]:
    """Yield a site of this test alone."""
    with made_site() as made:
        yield made


@pytest.fixture(scope="session")
def network() -> Iterator[str]:
    """Yield the name of an isolated network with DHCP, on a subnet that no other network has."""
    used = "".join(virsh("net-dumpxml", name, check=False) for name in virsh("net-list", "--name").split())
    subnet = random.choice([n for n in range(1, 255) if f"10.213.{n}." not in used])
    name = f"{PREFIX}net-{uuid.uuid4().hex[:6]}"
    xml = f"""<network><name>{name}</name><ip address='10.213.{subnet}.1' netmask='255.255.255.0'>
      <dhcp><range start='10.213.{subnet}.10' end='10.213.{subnet}.250'/></dhcp></ip></network>"""
    virsh("net-create", "/dev/stdin", stdin=xml)
    try:
        yield name
    finally:
        virsh("net-destroy", name)


def build_guest(version: str, *flags: str) -> Path:
    """Return a tiny bootable guest image; what is common to all versions is built once and kept."""
    image = GUESTS / f"tiny-{version}-{os.environ.get('PYTEST_XDIST_WORKER', 'gw0')}.qcow2"
    GUESTS.mkdir(parents=True, exist_ok=True)
    script = REPOSITORY / "scripts" / "build-guest.sh"
    subprocess.run(["bash", script, "--version", version, "--output", image, *flags], check=True, capture_output=True)
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
