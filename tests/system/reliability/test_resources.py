"""What a task needs is missing: space, memory, a network, a storage pool, speed.

Each time the error names what it is and what to do about it, nothing is lost, and once the cause is gone the same task
ends well.
"""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.faults import RUN, SLOW, Fault, has_own_libvirtd
from support.fixtures import Site
from support.scenarios import HARDWARE, a_kept_root, a_vm, image, make_vm, restoring, two_versions
from support.states import Kept, assert_starts, keep
from support.tasks import Task, Tasks, task
from support.trial import assert_equal, assert_whole
from support.virsh import PREFIX, definition, state, virsh

SPACE = 100 * 1024**2
"""Bytes of the storage pool that is filled."""


@pytest.fixture
def small(site: Site) -> Iterator[Site]:
    """Yield a site whose storage pool is a small file system of its own."""
    if not has_own_libvirtd():
        pytest.skip("a file system of the tests' own takes namespaces of their own (scripts/own-libvirt.sh)")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SPACE},mode=0755", "tmpfs", site.folder], check=True)
    virsh("pool-refresh", site.storage_pool)
    try:
        yield site
    finally:
        site.remove()
        subprocess.run(["umount", site.folder], check=True)


def filler(site: Site) -> Path:
    """Return the file that takes what is left; it is not in the storage pool's list until that is refreshed."""
    return site.folder / "filler"


def fill_at(site: Site, calls: tuple[str, ...], function: str, turn: int) -> Fault:
    """Return the fault that fills the storage pool before one of the calls of a function; the last ones are those that
    do something, as permissions are asked for before."""
    number = [number for number, call in enumerate(calls) if call == function][turn]
    return Fault(RUN, number, command=("sh", "-c", f"cat /dev/zero >'{filler(site)}' 2>/dev/null || true"))


def calls_of(tasks: Tasks, kept: Kept, wanted: Task) -> tuple[str, ...]:
    """Return the calls that a task makes undisturbed, with everything as it was before."""
    ended = tasks.run(wanted)
    ended.succeeded()
    kept.put_back()
    return ended.calls


def assert_mended(tasks: Tasks, kept: Kept, wanted: Task) -> None:
    """Now that the cause is gone, the task ends as it ends undisturbed."""
    tasks.rerun(wanted)
    found = kept.look()
    kept.put_back()
    tasks.run(wanted).succeeded()
    assert_equal(found, kept.look())
    assert_starts(kept.site)


# --- space -----------------------------------------------------------------------------------------------------------


def publishing_a_file(site: Site) -> Task:
    """Return what publishes an image with some content."""
    disk = Path(image(site, "full"))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 2M 8M", disk], check=True, capture_output=True)
    source = {"path": str(disk)}
    return task("template_version", template="web", storage_pool=site.storage_pool, source=source, hardware=HARDWARE)


def publishing_a_vm(site: Site) -> Task:
    """Return what publishes a VM."""
    return task("template_version", template="web", storage_pool=site.storage_pool, source={"vm": site.vm("a")})


@pytest.mark.parametrize(
    ("wanted", "function", "turn"),
    [
        (publishing_a_file, "virStorageVolCreateXML", -2),
        (publishing_a_file, "virStorageVolUpload", -2),
        (publishing_a_vm, "virStorageVolCreateXMLFrom", -1),
        (restoring(template_version="2"), "virStorageVolCreateXML", -1),
        (
            lambda site: task("vm_payload", vm=site.vm("a"), files=[{"name": "a", "content": "b"}]),
            "virStorageVolCreateXML",
            -1,
        ),
    ],
    ids=["claim a version", "publish a file", "publish a VM", "restore", "payload"],
)
def test_the_storage_pool_is_full(
    small: Site, tasks: Tasks, wanted: Callable[[Site], Task], function: str, turn: int
) -> None:
    a_vm()(small)
    kept = keep(small)
    before = kept.look()
    doing = wanted(small)
    ended = tasks.run(doing, fill_at(small, calls_of(tasks, kept, doing), function, turn))
    filler(small).unlink()
    virsh("pool-refresh", small.storage_pool)  # libvirt may have seen the file
    assert re.search("No space left .*; delete what is not needed", ended.message), ended.message
    assert small.storage_pool in ended.message
    assert ended.rolled_back
    assert_equal(kept.look(), before)
    assert_mended(tasks, kept, doing)


def test_what_cannot_fit_is_refused_before_anything_is_made(small: Site, tasks: Tasks) -> None:
    a_vm("started")(small)
    kept = keep(small)
    before = kept.look()
    with filler(small).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, SPACE - 40 * 1024**2)
    virsh("pool-refresh", small.storage_pool)
    restore = tasks.run(restoring(template_version="2")(small))
    assert small.storage_pool in restore.message
    assert "delete what is not needed" in restore.message
    with filler(small).open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, SPACE - 8 * 1024**2)
    virsh("pool-refresh", small.storage_pool)
    publish = tasks.run(publishing_a_file(small))
    assert small.storage_pool in publish.message
    assert "delete what is not needed" in publish.message
    filler(small).unlink()
    virsh("pool-refresh", small.storage_pool)
    assert_equal(kept.look(), before)
    tasks.run(restoring(template_version="2")(small)).succeeded()


# --- memory and networks ---------------------------------------------------------------------------------------------


def change(vm: str, edit: Callable[[ET.Element], None]) -> None:
    """Change the stored definition of a VM, as an administrator would."""
    xml = definition(vm)
    edit(xml)
    for _twice in range(2):  # libvirt puts the controllers that it adds in order at the next time only
        virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))
        xml = definition(vm)


def much_memory(xml: ET.Element) -> None:
    """Give a VM more memory than there can be."""
    for tag in ("memory", "currentMemory"):
        found = xml.find(tag)
        assert found is not None
        found.text = str(2**40)


def test_a_vm_has_too_little_memory(site: Site, tasks: Tasks) -> None:
    a_kept_root("present")(site)
    vm = site.vm("a")
    whole = virsh("dumpxml", vm, "--inactive")
    change(vm, much_memory)
    kept = keep(site)
    before = kept.look()
    for wanted in (
        task("vm", name=vm, state="started"),
        restoring(template_version="1", start="yes")(site),
        restoring(state="rolled_back", start="yes")(site),
    ):
        ended = tasks.run(wanted)
        assert re.search(r"memory.*; give the VM less memory", ended.message), ended.message
        assert vm in ended.message
        assert ended.rolled_back
        assert_equal(kept.look(), before)
        assert state(vm) == "shut off"
    virsh("define", "/dev/stdin", stdin=whole)
    tasks.run(restoring(template_version="1", start="yes")(site)).succeeded()
    assert state(vm) == "running"


def test_a_running_vm_whose_network_has_gone(site: Site, tasks: Tasks) -> None:
    network = f"{PREFIX}net-{site.storage_pool[-6:]}"
    xml = f"<network><name>{network}</name><bridge name='gld{site.storage_pool[-6:]}'/></network>"
    virsh("net-create", "/dev/stdin", stdin=xml)
    try:
        two_versions(site)
        vm = make_vm(site, networks=[{"network": network}])
        virsh("start", vm)
        kept = keep(site)
        before = kept.look()
    finally:
        virsh("net-destroy", network)
    another = task(
        "vm",
        name=site.vm("b"),
        template="web",
        storage_pools=[site.storage_pool],
        networks=[{"network": network}],
    )
    for wanted in (restoring(template_version="2")(site), another):
        ended = tasks.run(wanted)
        assert re.search(rf"no network '{network}'.*virsh net-list", ended.message), ended.message
        assert_equal(kept.look(), before)
        assert state(vm) == "running"
    assert_whole(site)
    virsh("net-create", "/dev/stdin", stdin=xml)
    try:
        tasks.rerun(restoring(template_version="2")(site))
        assert state(vm) == "running"
        assert_mended(tasks, kept, restoring(template_version="2")(site))
    finally:
        virsh("net-destroy", network)


# --- storage pools ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [False, True], ids=["inactive", "gone"])
def test_the_storage_pool_is_not_there(site: Site, tasks: Tasks, gone: bool) -> None:
    a_vm()(site)
    kept = keep(site)
    before = kept.look()
    pool = site.storage_pool
    xml = virsh("pool-dumpxml", pool)
    wanted = [
        publishing_a_file(site),
        restoring(template_version="2")(site),
        task("vm", name=site.vm("b"), template="web", storage_pools=[pool]),
        task("vm_payload", vm=site.vm("a"), files=[{"name": "a", "content": "b"}]),
        task("volume_attach", vm=site.vm("a"), storage_pool=pool, volume="data.qcow2"),
    ]
    virsh("pool-destroy", pool)
    if not gone:
        virsh("pool-define", "/dev/stdin", stdin=xml)
    try:
        for one in wanted:
            message = tasks.run(one).message
            assert pool in message, message
            assert ("there is no" if gone else f"virsh pool-start {pool}") in message, message
    finally:
        if gone:
            virsh("pool-create", "/dev/stdin", stdin=xml)
        else:
            virsh("pool-start", pool)
    assert_equal(kept.look(), before)
    assert_mended(tasks, kept, wanted[1])


@pytest.mark.parametrize("name", ["publish", "restore"])
def test_the_storage_pool_goes_in_the_middle(site: Site, tasks: Tasks, name: str) -> None:
    a_vm()(site)
    kept = keep(site)
    pool = site.storage_pool
    xml = virsh("pool-dumpxml", pool)
    wanted = publishing_a_vm(site) if name == "publish" else restoring(template_version="2")(site)
    calls = calls_of(tasks, kept, wanted)
    writes = [number for number, call in enumerate(calls) if call.startswith("virStorageVolCreate")]
    for call in (writes[0], writes[-1] + 1):
        ended = tasks.run(
            wanted, Fault(RUN, call, command=("virsh", "-q", "-c", "qemu:///system", "pool-destroy", pool))
        )
        virsh("pool-create", "/dev/stdin", stdin=xml)
        assert pool in ended.message, ended.message
        assert_whole(site)
        tasks.rerun(wanted)
        kept.put_back()


# --- speed -----------------------------------------------------------------------------------------------------------


def test_libvirtd_is_slow(site: Site, tasks: Tasks) -> None:
    a_vm("started")(site)
    kept = keep(site)
    ended = tasks.run(restoring(template_version="2")(site), Fault(SLOW, seconds=0.05))
    ended.succeeded()
    found = kept.look()
    kept.put_back()
    tasks.run(restoring(template_version="2")(site)).succeeded()
    assert_equal(found, kept.look())
