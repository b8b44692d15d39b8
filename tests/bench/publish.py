#!/usr/bin/env python3
"""What publishing costs: from a file and from a VM, beside a bare script, qemu-img convert and plain copying; and
whether the virtual size of an image matters.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/publish.py [MIB]

The image holds so many MiB (default 256) that cannot be compressed. The bare script works through libvirt, too, and
computes the SHA-256 of the image; converting and copying go past libvirt and compute none.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import bare
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from measure import Figure, duration, in_turn, module, ratio, show

from support.fixtures import Site, made_site, make_disk
from support.modules import run_module
from support.virsh import root_path

MIB = 1024**2
BARE_LIMIT, SIZE_LIMIT, MEMORY_LIMIT = 1.5, 1.25, 1.25
HARDWARE = {"networks": [], "graphics": "none"}


class Publisher:
    """Publishes versions of the template ``web``, each under another name, so that none is there already."""

    def __init__(self, site: Site, libvirt: Any) -> None:
        self.site = site
        self.libvirt = libvirt
        self.published = 0

    def publish(self, **source: str) -> None:
        """Publish one version in this process."""
        run_module("template_version", **self._options(source))

    def peak(self, **source: str) -> int:
        """Publish one version in a process of its own, and return its peak of memory in bytes."""
        return module("template_version", **self._options(source))

    def _options(self, source: dict[str, str]) -> dict[str, object]:
        self.published += 1
        hardware = {} if "vm" in source else {"hardware": HARDWARE}
        pool = {"template": "web", "storage_pool": self.site.storage_pool, "create_base": True}
        return {**pool, "version_name": f"n{self.published}", "source": source, **hardware}


def make_image(path: Path, mib: int, virtual: str) -> Path:
    """Make a qcow2 image with so much in it that cannot be compressed."""
    raw = path.with_suffix(".raw")
    with raw.open("wb") as file:
        for _mib in range(mib):
            file.write(os.urandom(MIB))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, path], check=True)
    subprocess.run(["qemu-img", "resize", "-q", path, virtual], check=True)
    raw.unlink()
    return path


def make_raw(path: Path, size: str) -> Path:
    """Make a sparse raw image with a boot sector and 1 MiB in it."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", path, size], check=True)
    with path.open("r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaa" + bytes(MIB // 2) + b"x" * MIB)
    return path


def speed(mib: int, times: list[float]) -> str:
    """Return the throughput in words."""
    return f"{mib / statistics.median(times):.0f} MiB/s"


def of_a_file(publisher: Publisher, image: Path, mib: int) -> Iterator[Figure]:
    """Measure publishing a file."""
    target = image.with_name("target.qcow2")
    ours, script, convert, copy = in_turn(
        5,
        lambda: publisher.publish(path=str(image)),
        lambda: bare.upload(publisher.libvirt, publisher.site.storage_pool, image),
        lambda: subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, target], check=True),
        lambda: shutil.copyfile(image, target),
    )
    what = f"publish a file of {mib} MiB"
    cost = speed(mib, ours)
    yield Figure(what, cost, f"bare script, {speed(mib, script)}", ratio(ours, script), BARE_LIMIT)
    yield Figure(what, cost, f"qemu-img convert, {speed(mib, convert)}", ratio(ours, convert))
    yield Figure(what, cost, f"copying, {speed(mib, copy)}", ratio(ours, copy))
    small = make_disk(image.with_name("small.qcow2"))
    peak, least = publisher.peak(path=str(image)), publisher.peak(path=str(small))
    cost, beside = f"{peak // MIB} MiB", f"a file of 1 MiB, {least // MIB} MiB"
    yield Figure(f"{what}: peak of memory", cost, beside, peak / least, MEMORY_LIMIT)


def of_a_vm(publisher: Publisher, image: Path, mib: int) -> Iterator[Figure]:
    """Measure publishing a VM whose root lies on a version."""
    site, vm, target = publisher.site, publisher.site.vm("builder"), image.with_name("target.qcow2")
    run_module("vm", name=vm, template="web", template_version="n1", storage_pools=[site.storage_pool])
    root = root_path(vm)
    write = f"write -P 7 0 {mib // 4}M"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, root], check=True, stdout=subprocess.DEVNULL)
    ours, script, convert = in_turn(
        5,
        lambda: publisher.publish(vm=vm),
        lambda: bare.flatten(publisher.libvirt, site.storage_pool, Path(root).name),
        lambda: subprocess.run(["qemu-img", "convert", "-O", "qcow2", root, target], check=True),
    )
    what, cost = f"publish a VM with {mib} MiB", speed(mib, ours)
    yield Figure(what, cost, f"bare script, {speed(mib, script)}", ratio(ours, script), BARE_LIMIT)
    yield Figure(what, cost, f"qemu-img convert, {speed(mib, convert)}", ratio(ours, convert))
    peak, least = publisher.peak(vm=vm), publisher.peak(path=str(image.with_name("small.qcow2")))
    cost, beside = f"{peak // MIB} MiB", f"a file of 1 MiB, {least // MIB} MiB"
    yield Figure(f"{what}: peak of memory", cost, beside, peak / least, MEMORY_LIMIT)


def of_large_disks(publisher: Publisher, folder: Path) -> Iterator[Figure]:
    """Measure whether an image of 100 GiB costs more than one of 1 GiB with the same in it."""
    site = publisher.site
    sizes = ("1G", "100G")
    images = [make_disk(folder / f"{size}.qcow2", size) for size in sizes]
    raws = [make_raw(folder / f"{size}.raw", size) for size in sizes]
    vms = [site.vm(size.lower()) for size in sizes]
    for image, vm in zip(images, vms):
        publisher.publish(path=str(image))
        run_module("vm", name=vm, template="web", storage_pools=[site.storage_pool])
    calls = {
        "publish a qcow2 file": [lambda path=str(image): publisher.publish(path=path) for image in images],
        "publish a raw file": [lambda path=str(raw): publisher.publish(path=path) for raw in raws],
        "publish a VM": [lambda vm=vm: publisher.publish(vm=vm) for vm in vms],
        "restore a VM": [lambda vm=vm: run_module("vm_restore", vm=vm, force=True) for vm in vms],
    }
    for what, (small, large) in calls.items():
        times = in_turn(7, large, small)
        cost, beside = duration(times[0]), f"1 GiB, {duration(times[1])}"
        yield Figure(f"{what} of 100 GiB virtual size", cost, beside, ratio(*times), SIZE_LIMIT)


def figures(mib: int) -> Iterator[Figure]:
    """Measure with an image of so many MiB."""
    with made_site() as site, LibvirtHypervisor(bare.URI) as hv:
        folder, publisher = site.folder.parent, Publisher(site, hv.connection.libvirt)
        image = make_image(folder / "image.qcow2", mib, "4G")
        yield from of_a_file(publisher, image, mib)
        yield from of_a_vm(publisher, image, mib)
        yield from of_large_disks(publisher, folder)


def main() -> int:
    """Measure and print."""
    return show(figures(int(sys.argv[1]) if sys.argv[1:] else 256))


if __name__ == "__main__":
    sys.exit(main())
