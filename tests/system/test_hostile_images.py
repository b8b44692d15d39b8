"""Disk images that lie, on a real libvirtd: nothing is left behind, and no file of the host is read through them."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site, make_disk
from support.modules import ModuleFailed, run_module
from support.virsh import image_info, virsh

HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}
MARK = b"of the host, and nobody else's business: "
SIZE = 4 * 1024**2


@pytest.fixture
def secret(site: Site) -> Path:
    """Return a file of the host in no storage pool, as /etc/shadow is one."""
    path = site.folder.parent / "shadow"
    path.write_bytes((MARK + hashlib.sha256(str(site).encode()).digest()).ljust(SIZE, b"s"))
    return path


def qemu_img(*words: str | Path) -> None:
    """Run qemu-img."""
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def truncated(path: Path, _secret: Path) -> None:
    """An image of which half is missing."""
    make_disk(path)
    with path.open("r+b") as file:
        file.truncate(200)


def cut_tables(path: Path, _secret: Path) -> None:
    """An image whose tables lie behind its end."""
    make_disk(path)
    with path.open("r+b") as file:
        file.truncate(100_000)


def backing(path: Path, secret: Path) -> None:
    """An overlay on a file of the host."""
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", path)


def backing_without_format(path: Path, secret: Path) -> None:
    """An overlay that does not tell the format below it."""
    backing(path, secret)
    content = bytearray(path.read_bytes())
    at = content.find(struct.pack(">I", 0xE2792ACA))  # the header extension with the format
    content[at : at + 8] = struct.pack(">II", 0, 0)
    path.write_bytes(content)


def backing_in_json(path: Path, secret: Path) -> None:
    """An overlay that names the file below it as QEMU names block devices."""
    below = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(secret)}})
    qemu_img("create", "-u", "-f", "qcow2", "-b", f"json:{below}", "-F", "raw", path, str(SIZE))


def data_file(path: Path, secret: Path) -> None:
    """An image whose content is in another file: after it is made, the name of that is changed."""
    own = path.with_name("x" * len(secret.name))
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={own},data_file_raw=on", path, str(SIZE))
    own.unlink()
    path.write_bytes(path.read_bytes().replace(str(own).encode(), str(secret).encode().ljust(len(str(own)), b"\0")))


def in_disguise(path: Path, secret: Path) -> None:
    """A raw disk that begins as an overlay does: what a guest writes on it."""
    backing(path, secret)
    with path.open("ab") as file:
        file.truncate(SIZE)


def vmdk(path: Path, _secret: Path) -> None:
    """An image of another hypervisor."""
    qemu_img("create", "-f", "vmdk", path, str(SIZE))


def flat_vmdk(path: Path, secret: Path) -> None:
    """A description of a disk that is a file of the host."""
    path.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        f'RW {SIZE // 512} FLAT "{secret}" 0\n'
    )


def iso(path: Path, _secret: Path) -> None:
    """A CD."""
    subprocess.run(["genisoimage", "-quiet", "-o", path, "/etc/hostname"], check=True, capture_output=True)


def empty(path: Path, _secret: Path) -> None:
    """Nothing."""
    path.write_bytes(b"")


def noise(path: Path, _secret: Path) -> None:
    """A million bytes that mean nothing."""
    path.write_bytes(b"".join(hashlib.sha512(bytes([n % 256, n // 256])).digest() for n in range(15_625)))


IMAGES: list[Callable[[Path, Path], None]] = [
    truncated, cut_tables, backing, backing_without_format, backing_in_json, data_file, in_disguise, vmdk, flat_vmdk,
    iso, empty, noise,
]  # fmt: skip
LEADS_TO_THE_HOST = (backing, backing_without_format, backing_in_json, data_file, in_disguise)


def publish(site: Site, check: bool = False, hardware: Any = HARDWARE, **source: str) -> dict[str, Any]:
    """Publish a version of a template that is not there yet."""
    return run_module(
        "template_version",
        check=check,
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        hardware=hardware,
        source=source,
    )


def everything(site: Site) -> list[bytes]:
    """Return the bytes of all files of the storage pool, as a guest would get them, by any name."""
    return [path.read_bytes() for path in site.folder.iterdir()]


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)
def test_a_file_that_lies_is_no_source(
    site: Site, secret: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "image"
    make(path, secret)
    for check in (True, False):
        with pytest.raises(ModuleFailed) as failure:
            publish(site, check=check, path=str(path))
        assert str(path) in str(failure.value)
        assert MARK.decode() not in json.dumps(failure.value.result)
    assert site.volumes == []
    assert everything(site) == []


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)
def test_a_volume_that_lies_gives_nothing_of_the_host_away(
    site: Site, secret: Path, make: Callable[[Path, Path], None]
) -> None:
    volume = site.folder / "volume"
    make(volume, secret)
    virsh("pool-refresh", site.storage_pool)
    before = {path.name for path in site.folder.iterdir()}
    vm = site.vm("a")
    xml = f"<domain type='qemu'><name>{vm}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
    virsh("define", "/dev/stdin", stdin=xml)
    attach = {"vm": vm, "volume": "volume", "storage_pool": site.storage_pool, "device_id": 1}
    for ask in (lambda: publish(site, volume="volume"), lambda: run_module("volume_attach", **attach)):
        try:
            done, said = ask(), ""
        except ModuleFailed as failure:
            done, said = None, str(failure)
        if done is not None:
            assert make not in LEADS_TO_THE_HOST, done
            assert all(MARK not in content for content in everything(site))
            run_module("template_version", template="web", storage_pool=site.storage_pool, state="absent")
            continue
        assert "volume" in said
        assert {path.name for path in site.folder.iterdir()} == before
        assert "volume" not in virsh("domblklist", vm)
    assert MARK not in volume.read_bytes()


def test_a_data_volume_that_lies_is_not_given_to_a_vm_that_wants_one(
    site: Site, secret: Path, empty_disk: Path
) -> None:
    publish(site, path=str(empty_disk))
    for number, make in enumerate((backing, data_file, in_disguise)):
        make(site.folder / f"free-{number}", secret)
    virsh("pool-refresh", site.storage_pool)
    vm = site.vm("a")
    wanted = {"size": "4MiB", "device_id": 1}
    run_module("vm", name=vm, template="web", storage_pools=[site.storage_pool], volumes=[wanted])
    assert f"{vm}.data.1.qcow2" in virsh("domblklist", vm)


def test_a_disk_that_a_guest_has_made_look_like_an_overlay_is_not_followed(site: Site) -> None:
    """A guest with a raw disk writes on it the header of an overlay on another VM's disk, and hopes to be published."""
    others = make_disk(site.folder / "others.qcow2", "4M", mark="others")
    root = site.folder / "root.img"
    in_disguise(root, others)
    virsh("pool-refresh", site.storage_pool)
    vm = site.vm("a")
    xml = f"""<domain type='qemu'><name>{vm}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os><devices>
      <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root}'/>
      <target dev='vda' bus='virtio'/></disk></devices></domain>"""
    virsh("define", "/dev/stdin", stdin=xml)
    assert image_info(site.storage_pool, "root.img")["backing-filename"] == str(others)
    with pytest.raises(ModuleFailed, match=r"root\.img.* raw .* qcow2"):
        publish(site, vm=vm, hardware=None)
    with pytest.raises(ModuleFailed, match=r"root\.img.* raw .* qcow2"):
        publish(site, volume="root.img")
    assert site.volumes == ["others.qcow2", "root.img"]


def test_a_volume_that_looks_like_an_overlay_on_anothers_disk_is_not_attached(site: Site) -> None:
    """A guest writes the header of an overlay on a raw data volume, and gets it again after a refresh of the pool."""
    others = make_disk(site.folder / "others.qcow2", "4M", mark="others")
    in_disguise(site.folder / "data.img", others)
    virsh("pool-refresh", site.storage_pool)
    for name, disk in (("a", ""), ("b", f"<source file='{others}'/>")):
        device = f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>{disk}<target dev='vda'/></disk>"
        xml = f"""<domain type='qemu'><name>{site.vm(name)}</name><memory unit='MiB'>32</memory>
          <os><type>hvm</type></os><devices>{device if disk else ""}</devices></domain>"""
        virsh("define", "/dev/stdin", stdin=xml)
    with pytest.raises(ModuleFailed, match=f"lies on 'others.qcow2', which is a disk of VM '{site.vm('b')}'"):
        run_module("volume_attach", vm=site.vm("a"), volume="data.img", storage_pool=site.storage_pool, device_id=1)
    assert virsh("domblklist", site.vm("a")).count("/") == 0


def test_overlays_that_lie_on_each_other_are_no_endless_way(site: Site) -> None:
    ring = {"one": "two", "two": "one", "top": "one"}
    for name, below in ring.items():
        path = site.folder / below
        qemu_img("create", "-u", "-f", "qcow2", "-b", path, "-F", "qcow2", site.folder / name, str(SIZE))
    virsh("pool-refresh", site.storage_pool)
    vm = site.vm("a")
    xml = f"<domain type='qemu'><name>{vm}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
    virsh("define", "/dev/stdin", stdin=xml)
    attach = {"vm": vm, "storage_pool": site.storage_pool, "device_id": 1}
    for volume in ring:
        with pytest.raises(ModuleFailed, match=f"volume '{volume}'"):
            run_module("volume_attach", volume=volume, **attach)
        with pytest.raises(ModuleFailed, match=r"volume '(?:one|two|top)'"):
            publish(site, volume=volume)
    assert site.volumes == ["one", "top", "two"]
