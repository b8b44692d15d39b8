"""Volumes at real VMs without an operating system: every bus, both definitions, what is refused, who is quicker.

Such a guest lets go of SCSI and USB disks, which QEMU takes by itself, but never of a virtio disk.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import ExistsError
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import Site
from support.modules import ModuleFailed, Result, run_module
from support.replay import replay
from support.virsh import definition, image_info, metadata, root_path, state, virsh, volume_path

BUSES = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd", "usb": "sd"}
HOT_PLUG = ("virtio", "scsi", "usb")
GOLDEN = "{https://golden.libvirt/vm/1}"


def make_vm(site: Site, template: str, name: str = "a") -> str:
    """Make a VM of the template that is down, and return its name."""
    run_module("vm", name=site.vm(name), template=template, storage_pools=[site.storage_pool])
    return site.vm(name)


@pytest.fixture
def vm(site: Site, template: str) -> str:
    """Yield a VM that is down; a free volume ``data`` is there, too."""
    make_volume(site)
    return make_vm(site, template)


def make_volume(site: Site, name: str = "data", image_format: str = "qcow2") -> None:
    """Make a free volume."""
    virsh("vol-create-as", site.storage_pool, name, "1M", "--format", image_format)


def to_pc(vm: str) -> None:
    """Make a VM one of the old machine type, which has IDE."""
    xml = definition(vm)
    os_type = xml.find("os/type")
    assert os_type is not None
    os_type.set("machine", "pc")
    devices = xml.find("devices")
    assert devices is not None
    for device in list(devices):
        for address in device.findall("address"):
            device.remove(address)
        if device.tag == "controller":
            devices.remove(device)
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))


def blocks(vm: str, live: bool = False) -> dict[str, str]:
    """Return the files of a VM's disks by target, as virsh lists them."""
    lines = virsh("domblklist", vm, *([] if live else ["--inactive"])).splitlines()
    return {target: Path(source).name for target, source in (line.split(maxsplit=1) for line in lines if line.strip())}


def attach(site: Site, vm: str, volume: str = "data", **options: Any) -> Result:
    """Attach a volume of the site."""
    return run_module("volume_attach", vm=vm, storage_pool=site.storage_pool, volume=volume, **options)


def detach(site: Site, vm: str, **options: Any) -> Result:
    """Detach a volume of the site."""
    options = {"volume": None if "device_id" in options else "data", "wait_timeout": 2, **options}
    return run_module("volume_attach", vm=vm, storage_pool=site.storage_pool, state="detached", **options)


def refused(site: Site, vm: str, how: Any = attach, **options: Any) -> str:
    """Attach or detach, which must fail and leave all as it was, in check mode, too; return the message."""
    live = state(vm) != "shut off"
    before = virsh("dumpxml", "--inactive", vm), blocks(vm, live)
    messages = []
    for check in (True, False):
        with pytest.raises(ModuleFailed) as failure:
            how(site, vm, check=check, **options)
        messages.append(str(failure.value))
    assert (virsh("dumpxml", "--inactive", vm), blocks(vm, live)) == before
    assert messages[0] == messages[1]
    return messages[0]


def canonical(vm: str) -> str:
    """Return the stored definition of a VM, in the form in which equal ones are equal."""
    return ET.canonicalize(ET.tostring(definition(vm), encoding="unicode"), strip_text=True)


# --- the matrix ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", list(BUSES))
def test_data_of_a_stopped_vm(site: Site, vm: str, bus: str) -> None:
    if bus == "ide":
        to_pc(vm)
    root, target = blocks(vm), f"{BUSES[bus]}c"
    options = {"vm": vm, "storage_pool": site.storage_pool, "volume": "data"}
    done = replay("volume_attach", **options, bus=bus, device_id=2, serial="S1")["volume"]
    assert blocks(vm) == {**root, target: "data"}
    assert done == {
        "name": "data", "storage_pool": site.storage_pool, "path": volume_path(site.storage_pool, "data"), "vm": vm,
        "device_id": 2, "target": target, "bus": bus, "type": "DATADISK", "bootable": False, "format": "qcow2",
        "capacity": 1024**2, "read_only": False, "serial": "S1",
    }  # fmt: skip
    virsh("start", vm)
    assert blocks(vm, live=True) == {**root, target: "data"}
    virsh("destroy", vm)
    gone = replay("volume_attach", **options, state="detached")["volume"]
    assert blocks(vm) == root
    assert (gone["vm"], gone["device_id"], gone["target"]) == (None, None, None)


@pytest.mark.parametrize("bus", list(BUSES))
def test_data_of_a_running_vm(site: Site, vm: str, bus: str) -> None:
    if bus == "ide":
        to_pc(vm)
    virsh("start", vm)
    root, target = blocks(vm), f"{BUSES[bus]}b"
    options = {"vm": vm, "storage_pool": site.storage_pool, "volume": "data"}
    if bus not in HOT_PLUG:
        assert f"nothing can be plugged into bus '{bus}' then; stop it" in refused(site, vm, bus=bus)
        virsh("destroy", vm)
        attach(site, vm, bus=bus)
        virsh("start", vm)
        assert f"nothing can be plugged into bus '{bus}' then; stop it" in refused(site, vm, detach)
        return
    replay("volume_attach", **options, bus=bus, serial="S1")
    assert blocks(vm) == blocks(vm, live=True) == {**root, target: "data"}
    assert definition(vm, live=True).findtext(f"devices/disk/target[@dev='{target}']/../serial") == "S1"
    if bus == "virtio":
        assert_does_not_let_go(site, vm, {**root, target: "data"})
        virsh("destroy", vm)
    replay("volume_attach", **options, state="detached")
    assert blocks(vm) == root
    if bus != "virtio":
        assert blocks(vm, live=True) == root


def assert_does_not_let_go(site: Site, vm: str, blocks_before: dict[str, str]) -> None:
    """Detaching fails within its time, each time, and the disk is where it was."""
    for _time in range(2):
        begin = time.monotonic()
        with pytest.raises(
            ModuleFailed, match=f"the guest of VM {vm!r} did not let go of disk 'vdb' within 1 sec"
        ) as e:
            detach(site, vm, wait_timeout=1)
        assert time.monotonic() - begin < 10, "libvirt itself waits up to 5 seconds"
        assert e.value.result["rolled_back"] is True
        assert blocks(vm) == blocks(vm, live=True) == blocks_before
    assert not attach(site, vm)["changed"]


@pytest.mark.parametrize("bus", list(BUSES))
def test_the_root_of_a_stopped_vm(site: Site, vm: str, bus: str) -> None:
    if bus == "ide":
        to_pc(vm)
    before, root = canonical(vm), blocks(vm)["vda"]
    options = {"vm": vm, "storage_pool": site.storage_pool, "volume": root}
    gone = replay("volume_attach", **options, state="detached")["volume"]
    assert (gone["type"], gone["bootable"]) == ("DATADISK", False)
    assert blocks(vm) == {}
    assert not detach(site, vm, device_id=0)["changed"]
    back = replay("volume_attach", **options, device_id=0, bus=bus)["volume"]
    target = f"{BUSES[bus]}a"
    assert (back["type"], back["bootable"], back["target"], back["device_id"]) == ("ROOT", True, target, 0)
    assert blocks(vm) == {target: root}
    assert definition(vm).find("os/boot[@dev='hd']") is not None
    assert metadata(vm).find(f"{GOLDEN}detached_disk") is None
    if bus == "virtio":
        assert canonical(vm) == before
    virsh("start", vm)
    assert blocks(vm, live=True) == {target: root}


def test_the_root_of_a_running_vm(site: Site, vm: str) -> None:
    root = blocks(vm)["vda"]
    virsh("start", vm)
    for options in ({"device_id": 0}, {"volume": root}):
        assert refused(site, vm, detach, **options) == f"VM {vm!r} runs; stop it to detach its root"
    virsh("destroy", vm)
    detach(site, vm, device_id=0)
    virsh("start", vm)
    assert refused(site, vm, volume=root, device_id=0) == f"VM {vm!r} runs; stop it to attach a root"
    virsh("destroy", vm)
    assert "warnings" in attach(site, vm, volume=root)
    assert blocks(vm) == {"vda": root}


# --- boot order ------------------------------------------------------------------------------------------------------


def set_orders(vm: str, **orders: str) -> None:
    """Let a VM boot by an order of its devices."""
    xml = definition(vm)
    os = xml.find("os")
    assert os is not None
    for boot in os.findall("boot"):
        os.remove(boot)
    for target, order in orders.items():
        disk = xml.find(f"devices/disk/target[@dev='{target}']/..")
        assert disk is not None
        ET.SubElement(disk, "boot", order=order)
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))


@pytest.mark.parametrize("orders", [{"vda": "1"}, {"vda": "1", "vdb": "2"}])
def test_a_root_with_a_boot_order_comes_back_as_it_was(site: Site, vm: str, orders: dict[str, str]) -> None:
    attach(site, vm)
    set_orders(vm, **orders)
    before, root = canonical(vm), blocks(vm)["vda"]
    detach(site, vm, device_id=0)
    assert canonical(vm) != before
    attach(site, vm, volume=root, device_id=0)
    assert canonical(vm) == before


def test_a_root_that_was_not_first_in_the_order_is_first_then(site: Site, vm: str) -> None:
    attach(site, vm)
    set_orders(vm, vda="2", vdb="1")
    root = blocks(vm)["vda"]
    detach(site, vm, device_id=0)
    attach(site, vm, volume=root, device_id=0)
    found = {
        target.attrib["dev"]: boot.attrib["order"]
        for disk in definition(vm).iterfind("devices/disk")
        if (target := disk.find("target")) is not None and (boot := disk.find("boot")) is not None
    }
    assert found == {"vda": "1", "vdb": "2"}
    virsh("start", vm)


# --- the root, replaced ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", ["virtio", "sata"])
def test_a_root_is_replaced_and_the_old_one_stays_as_data(site: Site, vm: str, bus: str) -> None:
    before, root = canonical(vm), blocks(vm)["vda"]
    detach(site, vm, device_id=0)
    new = replay("volume_attach", vm=vm, storage_pool=site.storage_pool, volume="data", device_id=0, bus=bus)["volume"]
    old = replay("volume_attach", vm=vm, storage_pool=site.storage_pool, volume=root, device_id=1)["volume"]
    assert (new["type"], old["type"]) == ("ROOT", "DATADISK")
    virsh("start", vm)
    assert blocks(vm, live=True) == {f"{BUSES[bus]}a": "data", "vdb": root}
    virsh("destroy", vm)
    with pytest.raises(
        ModuleFailed, match=rf"the root {root!r} of VM {vm!r} is detached; attach it at device id 0 again"
    ):
        run_module("vm_restore", vm=vm, template_version="2", shutdown={"mode": "force"}, force=True)
    for number in (1, 0):
        detach(site, vm, device_id=number)
    attach(site, vm, volume=root, device_id=0)
    assert canonical(vm) == before


def test_a_vm_that_goes_keeps_the_volumes_that_stood_in(site: Site, vm: str) -> None:
    root = blocks(vm)["vda"]
    detach(site, vm, device_id=0)
    attach(site, vm, device_id=0)
    done = run_module("vm", name=vm, state="absent")
    assert done["data_volumes_kept"] == [{"storage_pool": site.storage_pool, "volume": "data"}]
    assert {root, "data"} < set(site.volumes)


def test_a_root_at_another_vm(site: Site, vm: str, template: str) -> None:
    other, root = make_vm(site, template, "b"), blocks(vm)["vda"]
    detach(site, vm, device_id=0)
    virsh("start", other)
    attach(site, other, volume=root, bus="scsi")
    assert blocks(other, live=True)["sdb"] == root
    said = f"volume {root!r} is in use by VM {other!r}; detach it there first"
    assert refused(site, vm, volume=root, device_id=0) == said
    with pytest.raises(ModuleFailed, match=f"is the root of VM {vm!r}; detach it, and attach it there again"):
        run_module("vm", name=other, state="absent", delete_data_volumes=True)
    detach(site, other, volume=root)
    attach(site, vm, volume=root, device_id=0)
    assert blocks(vm) == {"vda": root}


# --- VMs of others ---------------------------------------------------------------------------------------------------


def test_a_vm_of_others(site: Site) -> None:
    name = site.vm("plain")
    make_volume(site)
    make_volume(site, "more", "raw")
    xml = f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>
      <os><type machine='pc'>hvm</type></os></domain>"""
    virsh("define", "/dev/stdin", stdin=xml)
    assert "warnings" in attach(site, name, bus="ide")
    attach(site, name, volume="more", bus="ide")
    assert blocks(name) == {"hda": "data", "hdb": "more"}
    virsh("start", name)
    virsh("destroy", name)
    detach(site, name, device_id=0)
    assert blocks(name) == {"hdb": "more"}
    attach(site, name, device_id=0, bus="ide")
    assert blocks(name) == {"hda": "data", "hdb": "more"}
    assert "golden" not in virsh("dumpxml", name)


def test_a_transient_vm(site: Site, vm: str) -> None:
    virsh("start", vm)
    virsh("undefine", vm)
    before = blocks(vm, live=True)
    attach(site, vm, bus="usb")
    assert blocks(vm, live=True) == {**before, "sdb": "data"}
    detach(site, vm)
    assert blocks(vm, live=True) == before


# --- one definition of the two ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", ["scsi", "usb"])
@pytest.mark.parametrize("where", ["--live", "--config"])
def test_a_disk_of_only_one_definition(site: Site, vm: str, where: str, bus: str) -> None:
    make_volume(site, "first")
    attach(site, vm, volume="first", bus=bus)  # with the controller
    virsh("start", vm)
    before = blocks(vm)
    path = volume_path(site.storage_pool, "data")

    def with_virsh() -> None:
        options = ("--targetbus", bus, "--driver", "qemu", "--subdriver", "qcow2", "--serial", "S1")
        virsh("attach-disk", vm, path, "sdc", where, *options)

    with_virsh()
    replay("volume_attach", vm=vm, storage_pool=site.storage_pool, volume="data")
    assert blocks(vm) == blocks(vm, live=True) == {**before, "sdc": "data"}
    detach(site, vm)
    with_virsh()
    detach(site, vm)
    assert blocks(vm) == blocks(vm, live=True) == before


def test_a_root_that_was_detached_with_virsh(site: Site, vm: str) -> None:
    root = blocks(vm)["vda"]
    virsh("detach-disk", vm, "vda", "--config")
    attach(site, vm, device_id=0)
    detach(site, vm, device_id=0)
    attach(site, vm, volume=root, device_id=0)
    assert blocks(vm) == {"vda": root}
    run_module("vm_restore", vm=vm, template_version="2")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["vmdk", "vdi", "qcow", "vpc"])
def test_foreign_formats(site: Site, vm: str, image_format: str) -> None:
    qemu_img(site, "create", "-f", image_format, "foreign", "4M")
    said = refused(site, vm, volume="foreign", device_id=1)
    assert "which a VM cannot use as a disk; convert it first, for example with 'qemu-img convert -O qcow2" in said
    detach(site, vm, device_id=0)
    assert refused(site, vm, volume="foreign", device_id=0) == said


def qemu_img(site: Site, *words: str) -> None:
    """Run qemu-img in the folder of the storage pool, and let libvirt see what it made."""
    subprocess.run(["qemu-img", *words], check=True, capture_output=True, cwd=site.folder)
    virsh("pool-refresh", site.storage_pool)


def test_volumes_that_must_not_change_or_be_read(site: Site, vm: str, template: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.qcow2"
    qemu_img(site, "create", "-f", "qcow2", str(outside), "4M")
    qemu_img(site, "create", "-f", "qcow2", "-b", "data", "-F", "qcow2", "overlay")
    qemu_img(site, "create", "-f", "qcow2", "-b", str(outside), "-F", "qcow2", "leads-out")
    qemu_img(site, "create", "-f", "qcow2", "-b", str(outside), "-F", "qcow2", "middle")
    qemu_img(site, "create", "-f", "qcow2", "-b", "middle", "-F", "qcow2", "leads-out-below")
    qemu_img(site, "create", "-f", "qcow2", "-o", f"data_file={tmp_path}/content", "external", "4M")
    other = make_vm(site, template, "b")
    for volume, said in (
        ("web.v1.qcow2", "belongs to a template, whose versions never change"),
        ("web.v1.json", "belongs to a template, whose versions never change"),
        (f"{other}.root.1.qcow2", f"is in use by VM {other!r}; detach it there first"),
        ("data", "backs 'overlay', which a change to it would destroy"),
        ("leads-out", f"lies on {outside}, which is no volume of an active storage pool"),
        ("leads-out-below", f"lies on {outside}, which is no volume of an active storage pool"),
        ("external", "keeps its content in an external data file"),
        ("none", "there is no volume 'none' in storage pool"),
    ):
        assert said in refused(site, vm, volume=volume)
    attach(site, vm, volume="overlay")
    virsh("start", vm)


def test_a_volume_that_a_process_has_open(site: Site, vm: str) -> None:
    virsh("start", vm)
    before = blocks(vm)
    words = ["qemu-io", "-f", "qcow2", volume_path(site.storage_pool, "data")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"length\n")
        other.stdin.flush()
        other.stdout.read(1)  # it has the volume open
        with pytest.raises(ModuleFailed, match=f"the volume for VM '{vm}' is open in a process on the hypervisor"):
            attach(site, vm)
        other.stdin.close()
    assert blocks(vm) == blocks(vm, live=True) == before
    assert attach(site, vm)["changed"]


def test_vms_that_keep_their_disks(site: Site, vm: str) -> None:
    attach(site, vm)
    make_volume(site, "more")
    virsh("start", vm)
    virsh("managedsave", vm)
    for how, options in ((attach, {"volume": "more"}), (detach, {}), (detach, {"device_id": 0})):
        assert "managed save image" in refused(site, vm, how, **options)
    virsh("managedsave-remove", vm)
    virsh("snapshot-create-as", vm, "s1")
    for how, options in ((attach, {"volume": "more"}), (detach, {}), (detach, {"device_id": 0})):
        assert "has snapshots or checkpoints (s1)" in refused(site, vm, how, **options)


def test_options_that_do_not_fit(site: Site, vm: str) -> None:
    attach(site, vm)
    make_volume(site, "more")
    for options, said in (
        ({"device_id": 0}, f"has a root already, {root_path(vm)}; detach it first"),
        ({"device_id": 1}, "is taken by"),
        ({"bus": "ide"}, "of a machine type without bus 'ide'; use 'sata'"),
        ({"bus": "sata", "read_only": True}, "cannot be read-only"),
        ({"serial": "x" * 21}, "there is room for 20"),
    ):
        assert said in refused(site, vm, volume="more", **options)
    for options, said in (({"bus": "scsi"}, "bus 'virtio', not 'scsi'"), ({"device_id": 5}, "device_id 1, not 5")):
        assert said in refused(site, vm, **options)
    with pytest.raises(ModuleFailed, match="any of the following are missing: volume, device_id"):
        run_module("volume_attach", vm=vm, state="detached")


def test_no_more_can_be_plugged_in_than_there_is_room_for(site: Site, vm: str) -> None:
    virsh("start", vm)
    for number in range(20):
        make_volume(site, f"d{number}")
    plugged = 0
    said = ""
    while not said:
        try:
            attach(site, vm, volume=f"d{plugged}")
            plugged += 1
        except ModuleFailed as failure:
            said = str(failure)
    assert said.startswith(f"VM {vm!r} has no free place for a PCI device while it runs; stop it, or use bus 'usb'")
    assert plugged >= 8
    assert blocks(vm) == blocks(vm, live=True)
    assert len(blocks(vm)) == 1 + plugged


def test_names_beyond_z(site: Site, vm: str) -> None:
    for number in (25, 26, 27):
        make_volume(site, f"d{number}")
        attach(site, vm, volume=f"d{number}", device_id=number, bus="scsi")
    assert list(blocks(vm))[1:] == ["sdz", "sdaa", "sdab"]
    virsh("start", vm)
    assert detach(site, vm, device_id=26)["volume"]["name"] == "d26"
    assert sorted(blocks(vm, live=True)) == ["sdab", "sdz", "vda"]


def test_properties_reach_qemu(site: Site, vm: str) -> None:
    attach(site, vm, read_only=True, serial="SERIAL-1", bus="scsi")
    virsh("start", vm)
    nodes = json.loads(virsh("qemu-monitor-command", vm, json.dumps({"execute": "query-block"})))["return"]
    data = next(node for node in nodes if node.get("inserted", {}).get("file", "").endswith('data"}}') or "data" in str(
        node.get("inserted", {}).get("image", {}).get("filename", "")))  # fmt: skip
    assert data["inserted"]["ro"] is True
    assert image_info(site.storage_pool, "data")["format"] == "qcow2"
    controllers = definition(vm).iterfind("devices/controller[@type='scsi']")
    assert [controller.get("model") for controller in controllers] == ["virtio-scsi"]


# --- others at the same time -----------------------------------------------------------------------------------------

WORKER = """
import json, os, signal, sys
from support.modules import ModuleFailed, run_module
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

def dies(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
for line in sys.stdin:
    options = json.loads(line)
    deadly = options.pop("dies_at", None)
    if deadly:
        setattr(LibvirtHypervisor, deadly, dies)
    try:
        print(json.dumps(run_module("volume_attach", **options)), flush=True)
    except ModuleFailed as failure:
        print(json.dumps(failure.result), flush=True)
"""


class Worker:
    """A process that runs the module whenever it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, **options: Any) -> None:
        """Let it run the module."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(options) + "\n")
        self.process.stdin.flush()

    def result(self) -> Result:
        """Return what the module said; nothing when the process was killed."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def workers() -> Iterator[tuple[Worker, Worker]]:
    """Yield two processes."""
    both = Worker(), Worker()
    yield both
    for worker in both:
        worker.end()


@pytest.mark.parametrize("device_id", [1, 0])
def test_of_two_processes_one_gets_the_volume(
    site: Site, vm: str, template: str, workers: tuple[Worker, Worker], device_id: int
) -> None:
    vms = (vm, make_vm(site, template, "b"))
    if device_id == 0:
        for name in vms:
            detach(site, name, device_id=0)
    winners = []
    for _round in range(20):
        for name, worker in zip(vms, workers):
            worker.begin(vm=name, storage_pool=site.storage_pool, volume="data", device_id=device_id)
        results = [worker.result() for worker in workers]
        have = [name for name in vms if "data" in blocks(name).values()]
        assert [name for name, result in zip(vms, results) if not result.get("failed")] == have
        assert len(have) == 1
        loser = next(result for result in results if result.get("failed"))
        how = "is in use by|was given to|is being attached to"
        assert re.match(rf"volume 'data' ({how}) VM '{have[0]}'( by another task|; detach it)", loser["msg"])
        detach(site, have[0])
        winners += have
    assert claims(site) == []


def claims(site: Site) -> list[str]:
    """Return the UUIDs of the claims on volumes of the site."""
    lines = [line.split(maxsplit=1) for line in virsh("secret-list").splitlines() if line.strip()]
    return [uuid for uuid, usage in lines if str(site.folder) in usage]


@pytest.mark.parametrize("dies_at", ["attach_device", "release"])
def test_a_task_that_was_killed_is_run_again(
    site: Site, vm: str, template: str, workers: tuple[Worker, Worker], dies_at: str
) -> None:
    options = {"storage_pool": site.storage_pool, "volume": "data", "device_id": 1}
    killed(workers[0], vm=vm, **options, dies_at=dies_at)
    assert len(claims(site)) == 1
    other = make_vm(site, template, "b")
    said = refused_by_running(site, other)
    expected = "is being attached to VM" if dies_at == "attach_device" else "is in use by VM"
    assert f"volume 'data' {expected} {vm!r}" in said
    attach(site, vm)
    assert blocks(vm)["vdb"] == "data"
    detach(site, vm)
    assert claims(site) == []
    attach(site, other)
    assert blocks(other)["vdb"] == "data"


def killed(worker: Worker, **options: Any) -> None:
    """Let a process run the module and be killed in it."""
    worker.begin(**options)
    assert worker.result() == {}
    assert worker.process.wait() == -9


def refused_by_running(site: Site, vm: str) -> str:
    """Attach, which fails once it acts, and return the message."""
    before = canonical(vm)
    with pytest.raises(ModuleFailed) as failure:
        attach(site, vm)
    assert canonical(vm) == before
    return str(failure.value)


def test_what_a_killed_task_has_claimed_is_free_after_two_minutes(
    site: Site, vm: str, template: str, workers: tuple[Worker, Worker]
) -> None:
    killed(workers[0], vm=vm, storage_pool=site.storage_pool, volume="data", dies_at="attach_device")
    (uuid,) = claims(site)
    claim = ET.fromstring(virsh("secret-dumpxml", uuid))
    description = claim.find("description")
    assert description is not None
    at, who = (description.text or "").split(maxsplit=1)
    assert who == vm
    assert abs(int(at) - time.time()) < 60
    description.text = f"{int(at) - 121} {who}"
    virsh("secret-define", "/dev/stdin", stdin=ET.tostring(claim, encoding="unicode"))
    other = make_vm(site, template, "b")
    attach(site, other)
    assert blocks(other)["vdb"] == "data"
    assert claims(site) == []


@pytest.mark.parametrize("live", [False, True], ids=["stopped", "running"])
def test_a_place_that_another_task_has_filled_meanwhile(site: Site, vm: str, live: bool) -> None:
    if live:
        virsh("start", vm)
    attach(site, vm, bus="usb")
    (xml,) = (
        disk for disk in definition(vm, live).iterfind("devices/disk") if disk.find("target[@bus='usb']") is not None
    )
    with LibvirtHypervisor("qemu:///system") as hypervisor, pytest.raises(ExistsError, match="run this task again"):
        hypervisor.attach_device(vm, ET.tostring(xml, encoding="unicode"), live=live, stored=not live)
