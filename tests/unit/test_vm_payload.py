"""Handing a payload to a VM, for all of its runs or for one, and taking it away."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    ExistsError,
    GoldenError,
    InvalidError,
    NotFoundError,
    RefusedError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import read
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload import (
    Content,
    PayloadRequest,
    ignition,
    seed,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import PayloadFile
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_volume import stray_payloads
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.vm_payload import (
    plan_no_payload,
    plan_payload,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Lease
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_vms
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.attachment import AttachRequest
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.volume_attach import plan_attach

from support.fake import Died, FakeHypervisor, FakePool
from unit.world import (
    Task,
    changes,
    do,
    ensuring,
    ensuring_pool,
    plan,
    record,
    refused,
    restoring,
    set_record,
    with_template,
    with_vm,
)

MARKER = "tell nobody"
OTHER_DISC = "/isos/other.iso"


def content(text: str = MARKER, medium: str = "cdrom") -> Content:
    """Return a payload with one file; a real medium is tested elsewhere."""
    if medium == "fw_cfg":
        return ignition({"text": text})
    if medium == "network":
        return seed([PayloadFile("user-data", text.encode()), PayloadFile("meta-data", b"x: 1")], 1024)
    data = text.encode()
    return Content(medium, data.ljust(4096, b"\0"), (PayloadFile("a.txt", data),))


def giving(text: str = MARKER, medium: str = "cdrom", *, pool: str | None = None, once: bool = False) -> Task:
    """Return the task of the module vm_payload."""
    availability = "run_once" if once else "permanent"
    request = PayloadRequest(lambda name, uuid: content(text, medium), availability, pool)
    return lambda hv: plan_payload(hv, "web-1", request)


def taking() -> Task:
    """Return the task with ``state: absent``."""
    return lambda hv: plan_no_payload(hv, "web-1")


def stopped(**wanted: Any) -> FakeHypervisor:
    """Return a hypervisor with the VM ``web-1``, which is down."""
    return with_vm(versions=1, state="present", **wanted)


def running() -> FakeHypervisor:
    """Return a hypervisor with the VM ``web-1``, which runs."""
    return with_vm(versions=1)


def volume(text: str = MARKER, medium: str = "cdrom") -> str:
    """Return the name of the volume of a payload."""
    end = {"cdrom": "iso", "floppy": "img", "fw_cfg": "ign", "network": "seed"}[medium]
    return f"web-1.payload.{content(text, medium).sha256[:12]}.{end}"


def payloads(hv: FakeHypervisor, pool: str = "default") -> list[str]:
    """Return the payload volumes that there are."""
    return [name for name in hv.names(pool) if ".payload." in name]


def drives(hv: FakeHypervisor, *, live: bool = False) -> dict[str, str]:
    """Return the CD and floppy drives of ``web-1``, with the names of the files in them."""
    vm = hv.vms["web-1"]
    xml = ET.fromstring((vm.live if live else vm.stored) or "<domain/>")
    found = {}
    for disk in xml.iterfind("devices/disk"):
        if disk.get("device") != "disk":
            source, target = disk.find("source"), disk.find("target")
            assert target is not None
            found[target.attrib["dev"]] = "" if source is None else source.attrib["file"].rpartition("/")[2]
    return found


def edit(hv: FakeHypervisor, change: Callable[[ET.Element], None], *, live: bool = False) -> None:
    """Change the definition of ``web-1`` as other tools do."""
    vm = hv.vms["web-1"]
    for which in ("stored", *(["live"] if live else [])):
        xml = ET.fromstring(getattr(vm, which))
        change(xml)
        setattr(vm, which, ET.tostring(xml, encoding="unicode"))


def with_drive(hv: FakeHypervisor, source: str = "", device: str = "cdrom", target: str = "sda") -> FakeHypervisor:
    """Give ``web-1`` a drive, empty or not."""

    def add(xml: ET.Element) -> None:
        disk = ET.SubElement(xml.find("devices"), "disk", type="file", device=device)  # type: ignore[arg-type]
        ET.SubElement(disk, "driver", name="qemu", type="raw")
        if source:
            ET.SubElement(disk, "source", file=source)
        ET.SubElement(disk, "target", dev=target, bus="fdc" if device == "floppy" else "sata")
        ET.SubElement(disk, "readonly")

    if source:
        hv.pools.setdefault("isos", FakePool("isos"))
        pool = hv.pools["isos"]
        made = copy.deepcopy(next(iter(hv.pools["default"].volumes.values())))
        made.name, made.path, made.backing = source.rpartition("/")[2], source, ""
        pool.volumes[made.name] = made
    edit(hv, add, live=hv.vms["web-1"].live is not None)
    return hv


def change_disc(hv: FakeHypervisor, target: str, source: str, *, live: bool = False) -> None:
    """Put another disc into a drive, as ``virsh change-media`` does."""

    def change(xml: ET.Element) -> None:
        for disk in xml.iterfind("devices/disk"):
            if disk.find(f"target[@dev='{target}']") is not None:
                for old in disk.findall("source"):
                    disk.remove(old)
                if source:
                    ET.SubElement(disk, "source", file=source)

    edit(hv, change, live=live)


def set_machine(hv: FakeHypervisor, arch: str, machine: str) -> None:
    """Make ``web-1`` one of another machine type."""

    def change(xml: ET.Element) -> None:
        os_type = xml.find("os/type")
        assert os_type is not None
        os_type.set("arch", arch)
        os_type.set("machine", machine)

    edit(hv, change)


# --- permanent, a stopped VM -----------------------------------------------------------------------------------------


def test_a_stopped_vm_gets_a_drive_with_the_payload() -> None:
    hv = stopped()
    result = do(hv, giving())
    assert result == {
        "type": "cdrom", "volume": volume(), "storage_pool": "default", "availability": "permanent",
        "sha256": content().sha256,
        "files": [{"name": "a.txt", "size": 11, "sha256": hashlib.sha256(MARKER.encode()).hexdigest()}],
    }  # fmt: skip
    assert drives(hv) == {"sda": volume()}
    assert hv.pools["default"].volumes[volume()].content == content().image
    payload = record(hv).payload
    assert payload is not None
    assert (payload.volume, payload.target, payload.drive, payload.sha256) == (
        volume(), "sda", "added", content().sha256
    )  # fmt: skip
    assert hv.claims == {}
    assert not changes(hv, giving())


def test_the_drive_comes_behind_the_root_and_is_not_booted_from() -> None:
    hv = stopped()
    do(hv, giving())
    xml = ET.fromstring(hv.vms["web-1"].stored)
    assert [disk.get("device") for disk in xml.iterfind("devices/disk")] == ["disk", "cdrom"]
    assert [boot.get("dev") for boot in xml.iterfind("os/boot")] == ["hd"]
    assert xml.find("devices/disk[@device='cdrom']/boot") is None
    assert xml.find("devices/disk[@device='cdrom']/readonly") is not None


@pytest.mark.parametrize(
    ("arch", "machine", "target", "bus"),
    [
        ("x86_64", "pc-q35-7.2", "sda", "sata"),
        ("x86_64", "pc-i440fx-7.2", "hda", "ide"),
        ("x86_64", "pc", "hda", "ide"),
        ("aarch64", "virt-7.2", "sda", "scsi"),
    ],
)
def test_the_drive_is_on_a_bus_that_the_machine_has(arch: str, machine: str, target: str, bus: str) -> None:
    hv = stopped()
    set_machine(hv, arch, machine)
    do(hv, giving())
    xml = ET.fromstring(hv.vms["web-1"].stored)
    found = xml.find("devices/disk[@device='cdrom']/target")
    assert found is not None
    assert (found.get("dev"), found.get("bus")) == (target, bus)
    assert (xml.find("devices/controller[@model='virtio-scsi']") is not None) == (bus == "scsi")


def test_the_target_and_the_place_on_the_bus_are_free() -> None:
    hv = stopped()

    def add(xml: ET.Element) -> None:
        devices = xml.find("devices")
        assert devices is not None
        for target, unit in (("sda", "0"), ("sdz", "1")):
            disk = ET.SubElement(devices, "disk", type="file", device="disk")
            ET.SubElement(disk, "target", dev=target, bus="sata")
            ET.SubElement(disk, "address", type="drive", controller="0", bus="0", target="0", unit=unit)

    edit(hv, add)
    do(hv, giving())
    assert drives(hv) == {"sdc": volume()}


def test_an_ide_bus_without_room_is_refused() -> None:
    hv = stopped()
    set_machine(hv, "x86_64", "pc")

    def add(xml: ET.Element) -> None:
        for target in ("hda", "hdb", "hdc", "hdd"):
            disk = ET.SubElement(xml.find("devices"), "disk", type="file", device="disk")  # type: ignore[arg-type]
            ET.SubElement(disk, "target", dev=target, bus="ide")

    edit(hv, add)
    refused(hv, giving(), "no room for one more drive at its bus 'ide'")


def test_an_empty_drive_is_used_and_left_empty() -> None:
    hv = with_drive(stopped())
    before = hv.state()["domains"]
    do(hv, giving())
    assert drives(hv) == {"sda": volume()}
    assert do(hv, taking()) == {}
    assert (drives(hv), payloads(hv)) == ({"sda": ""}, [])
    assert hv.state()["domains"] == before
    assert not changes(hv, taking())


def test_an_added_drive_goes_with_the_payload() -> None:
    hv = stopped()
    before = hv.state()
    do(hv, giving())
    do(hv, taking())
    assert hv.state() == before


def test_a_disc_of_the_user_is_left_alone() -> None:
    hv = with_drive(stopped(), OTHER_DISC)
    refused(hv, giving(), "has /isos/other.iso in its CD drive 'sda'.*change-media web-1 sda --eject")


def test_a_disc_that_only_the_running_instance_has_is_left_alone() -> None:
    hv = with_drive(running())
    change_disc(hv, "sda", OTHER_DISC, live=True)
    edit(hv, lambda xml: None)
    change_disc(hv, "sda", "")
    with_drive(stopped(), OTHER_DISC)
    refused(hv, giving(), "in its CD drive 'sda'")


def test_another_payload_replaces_it() -> None:
    hv = stopped()
    do(hv, giving("one"))
    do(hv, giving("two"))
    assert (drives(hv), payloads(hv)) == ({"sda": volume("two")}, [volume("two")])


def test_another_medium_replaces_it() -> None:
    hv = stopped()
    do(hv, giving())
    do(hv, giving(medium="floppy"))
    assert (drives(hv), payloads(hv)) == ({"fda": volume(medium="floppy")}, [volume(medium="floppy")])
    do(hv, giving())
    assert (drives(hv), payloads(hv)) == ({"sda": volume()}, [volume()])


def test_another_storage_pool_replaces_it() -> None:
    hv = stopped()
    hv.pools["fast"] = FakePool("fast")
    do(hv, giving())
    do(hv, giving(pool="fast"))
    assert (payloads(hv), payloads(hv, "fast")) == ([], [volume()])
    assert hv.disk_paths("web-1")[1] == f"/pools/fast/{volume()}"


def test_a_pool_whose_volumes_are_no_files_is_refused() -> None:
    hv = stopped()
    hv.pools["lvm"] = FakePool("lvm", "logical")
    refused(hv, giving(pool="lvm"), "is of the type 'logical'")


@pytest.mark.parametrize(("arch", "machine"), [("aarch64", "virt"), ("x86_64", "microvm")])
def test_a_machine_without_floppies_is_refused(arch: str, machine: str) -> None:
    hv = stopped()
    set_machine(hv, arch, machine)
    refused(hv, giving(medium="floppy"), "whose guests see no floppies; use 'type: cdrom'")


def test_a_half_written_volume_is_written_again() -> None:
    hv = stopped()
    do(hv, giving())
    hv.pools["default"].volumes[volume()].content = content().image[:5]
    assert changes(hv, giving())
    do(hv, giving())
    assert hv.pools["default"].volumes[volume()].content == content().image


def test_a_volume_that_is_gone_is_made_again() -> None:
    hv = stopped()
    do(hv, giving())
    del hv.pools["default"].volumes[volume()]
    do(hv, giving())
    assert hv.pools["default"].volumes[volume()].content == content().image


def test_a_volume_that_a_killed_task_has_left_goes() -> None:
    hv = stopped()
    do(hv, giving("one"))
    stray = hv.pools["default"].volumes[volume("one")]
    do(hv, giving("two"))
    hv.pools["default"].volumes[stray.name] = stray
    assert changes(hv, giving("two"))
    do(hv, giving("two"))
    assert payloads(hv) == [volume("two")]


def test_a_vm_of_a_longer_name_keeps_its_payload() -> None:
    hv = stopped()
    do(hv, giving("one"))
    other = copy.deepcopy(hv.pools["default"].volumes[volume("one")])
    other.name = f"web-1.payload.x.payload.{content().sha256[:12]}.iso"
    hv.pools["default"].volumes[other.name] = other
    do(hv, taking())
    assert payloads(hv) == [other.name]


def test_a_vm_that_is_not_ours_or_not_there_is_refused() -> None:
    hv = stopped()
    refused(hv, lambda hv: plan_payload(hv, "x", PayloadRequest(lambda *_: content())), "no VM 'x'", NotFoundError)
    edit(hv, lambda xml: xml.remove(xml.find("metadata")))  # type: ignore[arg-type]
    refused(hv, giving(), "was not made from a template")
    refused(hv, taking(), "was not made from a template")


def test_an_unfinished_restore_comes_first() -> None:
    hv = with_vm()
    hv.meanwhile("stop", lambda: hv.die_at(1))
    with pytest.raises(Died):
        plan(hv, restoring(template_version="2")).apply(lambda: 0.0)
    hv.revive()
    refused(hv, giving(), "has an unfinished switch")


# --- fw_cfg ----------------------------------------------------------------------------------------------------------


def entries(hv: FakeHypervisor) -> list[str]:
    """Return the files that the stored definition of ``web-1`` hands to its firmware."""
    xml = ET.fromstring(hv.vms["web-1"].stored)
    return [entry.attrib["file"] for entry in xml.iterfind("sysinfo[@type='fwcfg']/entry")]


def test_ignition_is_handed_over_as_a_file() -> None:
    hv = stopped()
    before = hv.state()
    result = do(hv, giving(medium="fw_cfg"))
    assert (result["type"], result["files"][0]["name"]) == ("fw_cfg", "ignition")
    assert entries(hv) == [f"/pools/default/{volume(medium='fw_cfg')}"]
    assert MARKER not in hv.vms["web-1"].stored
    assert not changes(hv, giving(medium="fw_cfg"))
    do(hv, giving())
    assert (entries(hv), payloads(hv)) == ([], [volume()])
    do(hv, giving(medium="fw_cfg"))
    assert (drives(hv), payloads(hv)) == ({}, [volume(medium="fw_cfg")])
    do(hv, taking())
    assert hv.state() == before


def test_an_ignition_config_of_the_user_is_left_alone() -> None:
    hv = stopped()

    def add(xml: ET.Element) -> None:
        ET.SubElement(ET.SubElement(xml, "sysinfo", type="fwcfg"), "entry", name="opt/com.coreos/config", file="/x.ign")

    edit(hv, add)
    refused(hv, giving(medium="fw_cfg"), "has an entry 'opt/com.coreos/config'")


def test_a_bad_ignition_config_is_not_shown() -> None:
    with pytest.raises(InvalidError, match="line 1, column 2") as error:
        ignition("{" + MARKER)
    assert MARKER not in error.value.message


# --- permanent, a running VM -----------------------------------------------------------------------------------------


def test_a_running_vm_without_a_drive_sees_it_when_it_is_next_started() -> None:
    hv = running()
    planned = plan(hv, giving())
    assert planned.warnings == ("VM 'web-1' runs: its guest sees the payload when it is next started",)
    do(hv, giving())
    assert (drives(hv), drives(hv, live=True)) == ({"sda": volume()}, {})
    assert not changes(hv, giving())
    assert plan(hv, giving()).warnings == ()


def test_the_disc_of_a_running_vm_is_swapped() -> None:
    hv = with_drive(running())
    do(hv, giving("one"))
    assert plan(hv, giving("two")).warnings == ()
    do(hv, giving("two"))
    assert (drives(hv), drives(hv, live=True)) == ({"sda": volume("two")}, {"sda": volume("two")})
    assert payloads(hv) == [volume("two")]
    do(hv, taking())
    assert (drives(hv), drives(hv, live=True), payloads(hv)) == ({"sda": ""}, {"sda": ""}, [])


def test_an_added_drive_stays_in_the_running_instance() -> None:
    hv = stopped()
    do(hv, giving())
    hv.start("web-1")
    do(hv, taking())
    assert (drives(hv), drives(hv, live=True), payloads(hv)) == ({}, {"sda": ""}, [])
    assert not changes(hv, taking())


@pytest.mark.parametrize("live", [True, False])
def test_a_disc_that_other_tools_have_put_in_is_noticed_and_replaced(live: bool) -> None:
    hv = with_drive(with_drive(running()), OTHER_DISC, target="sdb")
    del hv.pools["isos"]
    change_disc(hv, "sdb", "", live=True)
    do(hv, giving())
    change_disc(hv, "sda", OTHER_DISC, live=live)
    vm = list_vms(hv, Filters())[0]
    assert vm["payload"]["disc_changed"] is True
    planned = plan(hv, giving())
    assert planned.warnings == (
        "other tools have changed what is in the payload's drive of VM 'web-1': there is /isos/other.iso; "
        "it is put right",
    )
    do(hv, giving())
    assert (drives(hv)["sda"], drives(hv, live=True)["sda"]) == (volume(), volume())
    assert list_vms(hv, Filters())[0]["payload"]["disc_changed"] is False


def test_a_disc_of_the_user_in_the_drive_of_the_payload_stays_when_that_goes() -> None:
    hv = with_drive(stopped())
    do(hv, giving())
    change_disc(hv, "sda", OTHER_DISC)
    do(hv, taking())
    assert (drives(hv), payloads(hv), record(hv).payload) == ({"sda": "other.iso"}, [], None)


def test_a_lease_that_is_made_meanwhile_stays() -> None:
    hv = stopped()
    planned = plan(hv, giving())
    set_record(hv, lease=Lease("anna", "2026-11-20T07:00:00Z"))
    planned.apply(lambda: 0.0)
    assert record(hv).lease == Lease("anna", "2026-11-20T07:00:00Z")
    assert drives(hv) == {"sda": volume()}


# --- one run ---------------------------------------------------------------------------------------------------------


def stop(hv: FakeHypervisor) -> None:
    """Let the guest shut down."""
    hv.vms["web-1"].live = None


@pytest.mark.parametrize("medium", ["cdrom", "floppy", "fw_cfg", "network"])
def test_one_run_shows_the_payload_and_leaves_the_definition(medium: str) -> None:
    hv = stopped()
    before = hv.vms["web-1"].stored
    result = do(hv, giving(medium=medium, once=True))
    assert (result["availability"], result["volume"]) == ("run_once", volume(medium=medium))
    assert hv.vms["web-1"].stored == before
    live = hv.vms["web-1"].live
    assert live is not None
    assert volume(medium=medium) in live
    assert 'availability="run_once"' in live
    assert hv.claims == {}
    assert not changes(hv, giving(medium=medium, once=True))
    refused(hv, giving("other", medium, once=True), "stop the VM first")
    stop(hv)
    do(hv, ensuring(state="started"))
    assert payloads(hv) == []


def test_a_running_vm_is_refused_a_payload_for_one_run() -> None:
    refused(running(), giving(once=True), "VM 'web-1' runs; a payload for one run is there from its start")


def test_a_managed_save_is_refused_a_payload_for_one_run() -> None:
    hv = stopped()
    hv.vms["web-1"].managed_save = True
    refused(hv, giving(once=True), "managed save image")


def test_a_permanent_payload_is_back_after_the_run() -> None:
    hv = stopped()
    do(hv, giving("always"))
    do(hv, giving("once", once=True))
    assert (drives(hv), drives(hv, live=True)) == ({"sda": volume("always")}, {"sda": volume("once")})
    assert not changes(hv, giving("always"))
    stop(hv)
    assert changes(hv, giving("always")), "what the run has left is not seen"
    do(hv, giving("always"))
    assert payloads(hv) == [volume("always")]


def test_a_permanent_payload_on_another_medium_rests_during_the_run() -> None:
    hv = with_drive(stopped())
    do(hv, giving("always"))
    do(hv, giving("once", "floppy", once=True))
    assert drives(hv, live=True) == {"sda": "", "fda": volume("once", "floppy")}


def test_the_same_content_for_one_run_and_always() -> None:
    hv = stopped()
    do(hv, giving())
    before = hv.vms["web-1"].stored
    assert do(hv, giving(once=True))["availability"] == "permanent"
    assert hv.vms["web-1"].live == before
    assert not changes(hv, giving(once=True))


def test_a_payload_that_becomes_permanent_during_its_run() -> None:
    hv = stopped()
    do(hv, giving(once=True))
    do(hv, giving())
    assert (drives(hv), drives(hv, live=True), payloads(hv)) == ({"sda": volume()}, {"sda": volume()}, [volume()])
    stop(hv)
    assert not changes(hv, giving())
    assert payloads(hv) == [volume()]


def test_taking_away_the_payload_of_a_run() -> None:
    hv = stopped()
    do(hv, giving("always"))
    do(hv, giving("once", once=True))
    do(hv, taking())
    assert (drives(hv), drives(hv, live=True), payloads(hv)) == ({}, {"sda": ""}, [])


# --- together with the VM --------------------------------------------------------------------------------------------


def with_payload_from_birth(text: str = MARKER, medium: str = "cdrom", **wanted: Any) -> Task:
    """Return the task of the module vm that gives the VM a payload."""
    request = PayloadRequest(lambda name, uuid: content(f"{text} {name} {uuid}", medium))
    return ensuring(template="web", payload=request, **wanted)


def test_a_new_vm_has_its_payload_at_its_first_start() -> None:
    hv = with_template(1)
    made = do(hv, with_payload_from_birth(state="started"))
    uuid = hv.vms["web-1"].uuid
    expected = volume(f"{MARKER} web-1 {uuid}")
    assert made["payload"]["volume"] == expected
    assert made["payload"]["disc_changed"] is False
    assert (drives(hv, live=True), payloads(hv)) == ({"sda": expected}, [expected])
    assert not changes(hv, with_payload_from_birth(state="started"))
    assert not changes(hv, ensuring()), "a task without a payload leaves it"


def test_a_vm_that_is_there_gets_a_payload() -> None:
    hv = stopped()
    do(hv, with_payload_from_birth("old"))
    changed = do(hv, with_payload_from_birth("new", description="other"))
    assert payloads(hv) == [changed["payload"]["volume"]]
    assert not changes(hv, with_payload_from_birth("new"))


def test_the_payload_goes_with_the_vm() -> None:
    hv = stopped()
    do(hv, giving("always"))
    do(hv, giving("once", once=True))
    do(hv, ensuring(state="absent"))
    assert (hv.vms, payloads(hv)) == ({}, [])


def test_a_stop_takes_what_the_run_had() -> None:
    hv = stopped()
    do(hv, giving(once=True))
    do(hv, ensuring(state="stopped"))
    assert payloads(hv) == []


def test_a_restore_keeps_the_payload_and_takes_what_a_run_had() -> None:
    hv = with_vm(state="present")
    do(hv, giving("always"))
    do(hv, giving("once", once=True))
    do(hv, restoring(template_version="2"))
    assert (drives(hv), drives(hv, live=True)) == ({"sda": volume("always")},) * 2
    assert payloads(hv) == [volume("always")]
    hv.pools["default"].volumes[volume("stray")] = copy.deepcopy(hv.pools["default"].volumes[volume("always")])
    hv.pools["default"].volumes[volume("stray")].name = volume("stray")
    hv.pools["default"].volumes[volume("stray")].path = f"/pools/default/{volume('stray')}"
    do(hv, restoring(template_version="2"))
    assert payloads(hv) == [volume("always")]


def test_a_payload_that_changes_during_a_restore_stops_that() -> None:
    hv = with_vm(state="present")
    restore, other = plan(hv, restoring(template_version="2")), plan(hv, giving())
    other.apply(lambda: 0.0)
    with pytest.raises(GoldenError, match="the payload of VM 'web-1' was changed in the meantime"):
        restore.apply(lambda: 0.0)
    assert record(hv).payload is not None


def test_a_payload_is_not_given_during_a_restore() -> None:
    hv = with_vm()
    given = plan(hv, giving())

    def give() -> None:
        with pytest.raises(RefusedError, match="another task restores or removes VM 'web-1' at this moment"):
            given.apply(lambda: 0.0)

    hv.meanwhile("stop", give)
    do(hv, restoring(template_version="2"))
    assert (record(hv).payload, payloads(hv), drives(hv)) == (None, [], {})


# --- pools -----------------------------------------------------------------------------------------------------------


def test_each_member_of_a_pool_has_a_payload_of_its_own() -> None:
    hv = with_template(1)
    request = PayloadRequest(lambda name, uuid: content(f"I am {name}"))
    do(hv, ensuring_pool(template="web", count=2, prestarted=1, payload=request))
    expected = {name: content(f"I am {name}").sha256 for name in ("desk-1", "desk-2")}
    assert {name: record(hv, name).payload.sha256 for name in expected} == expected  # type: ignore[union-attr]
    assert not changes(hv, ensuring_pool(payload=request))
    assert not changes(hv, ensuring_pool())


def test_members_get_another_payload_unless_they_are_taken() -> None:
    hv = with_template(1)
    do(hv, ensuring_pool(template="web", count=3, prestarted=1))
    set_record(hv, "desk-2", lease=Lease("anna", "2026-11-20T07:00:00Z"))
    request = PayloadRequest(lambda name, uuid: content(f"I am {name}"))
    do(hv, ensuring_pool(payload=request))
    assert [record(hv, name).payload is not None for name in ("desk-1", "desk-2", "desk-3")] == [True, False, True]
    assert not changes(hv, ensuring_pool(payload=request))


# --- interrupted -----------------------------------------------------------------------------------------------------


def _with_payload(make: Callable[[], FakeHypervisor]) -> Callable[[], FakeHypervisor]:
    def made() -> FakeHypervisor:
        hv = make()
        do(hv, giving("old"))
        return hv

    return made


def _over_network(make: Callable[[], FakeHypervisor]) -> Callable[[], FakeHypervisor]:
    """Return what makes a VM that was told of a payload over the network when it was started, if it was."""

    def made() -> FakeHypervisor:
        hv = make()
        do(hv, giving("old", "network"))
        vm = hv.vms["web-1"]
        vm.live = vm.stored if vm.live is not None else None
        return hv

    return made


def _with_stray() -> FakeHypervisor:
    hv = _with_payload(stopped)()
    do(hv, giving("once", once=True))
    stop(hv)
    return hv


_SAME = PayloadRequest(lambda name, uuid: content(medium="fw_cfg"))
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SCENARIOS: dict[str, tuple[Callable[[], FakeHypervisor], Task]] = {
    "new": (stopped, giving()),
    "new, running": (running, giving()),
    "empty drive": (lambda: with_drive(stopped()), giving()),
    "replaced": (_with_payload(stopped), giving()),
    "swapped live": (_with_payload(lambda: with_drive(running())), giving()),
    "other medium": (_with_payload(lambda: with_drive(running())), giving(medium="floppy")),
    "ignition": (_with_payload(stopped), giving(medium="fw_cfg")),
    "network": (_with_payload(stopped), giving(medium="network")),
    "network, running": (_with_payload(lambda: with_drive(running())), giving(medium="network")),
    "network, one run": (stopped, giving(medium="network", once=True)),
    "no network any more": (_over_network(stopped), giving()),
    "no network any more, running": (_over_network(running), taking()),
    "one run": (stopped, giving(once=True)),
    "one run over a permanent one": (_with_payload(stopped), giving(once=True)),
    "taken": (_with_payload(stopped), taking()),
    "taken, running": (_with_payload(lambda: with_drive(running())), taking()),
    "left by a run": (_with_stray, giving("old")),
    "new vm": (with_template, ensuring(template="web", payload=_SAME, state="started")),
    "changed vm": (_with_payload(stopped), with_payload_from_birth(description="x")),
}


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> tuple[FakeHypervisor, Task, int]:
    """Yield a world, a task in it, and how many calls it takes."""
    make, task = SCENARIOS[request.param]
    hv = make()
    trial = copy.deepcopy(hv)
    planned = plan(trial, task)
    begin = trial.calls
    planned.apply(lambda: 0.0)
    return hv, task, trial.calls - begin


def end(hv: FakeHypervisor) -> dict[str, Any]:
    """Return the state without claims, which end by themselves, and without UUIDs."""
    state = {**hv.state(), "claims": {}}
    return {**state, "domains": _UUID.sub("", str(state["domains"]))}


def test_a_killed_task_is_finished_by_its_rerun(scenario: tuple[FakeHypervisor, Task, int]) -> None:
    world, task, calls = scenario
    undisturbed = copy.deepcopy(world)
    do(undisturbed, task)
    assert calls > 3
    for number in range(calls):
        for after in (False, True):
            hv = copy.deepcopy(world)
            planned = plan(hv, task)
            hv.die_at(number, after)
            with contextlib.suppress(Died):
                planned.apply(lambda: 0.0)
            hv.revive()
            do(hv, task)
            assert end(hv) == end(undisturbed), f"killed at call {number}, {after=}"
            assert not changes(hv, task)


def test_an_error_leaves_all_as_it_was_or_as_it_is_to_be(scenario: tuple[FakeHypervisor, Task, int]) -> None:
    world, task, calls = scenario
    undisturbed = copy.deepcopy(world)
    do(undisturbed, task)
    for number in range(calls):
        for after in (False, True):
            hv = copy.deepcopy(world)
            planned = plan(hv, task)
            hv.fail_at(number, after)
            rolled_back = False
            try:
                planned.apply(lambda: 0.0)
            except GoldenError as error:
                rolled_back = error.facts["rolled_back"]
            hv.revive()
            if rolled_back and world.vms:
                assert hv.state() == world.state(), f"not taken back at call {number}, {after=}"
            do(hv, task)
            assert end(hv) == end(undisturbed), f"failed at call {number}, {after=}"


def test_two_payloads_at_once_one_is_refused() -> None:
    hv = stopped()
    first, second = plan(hv, giving("one")), plan(hv, giving("two"))

    def them() -> None:
        with pytest.raises(ExistsError, match="is being changed by another task"):
            second.apply(lambda: 0.0)

    hv.meanwhile("define", them)
    first.apply(lambda: 0.0)
    assert (drives(hv), payloads(hv), hv.claims) == ({"sda": volume("one")}, [volume("one")], {})


def test_a_clean_up_leaves_what_is_just_being_handed_over() -> None:
    hv = stopped()
    cleaning, handing = plan(hv, giving("two")), plan(hv, giving("one"))

    def clean() -> None:
        for step in stray(hv):
            step.do()

    hv.meanwhile("define", clean)
    handing.apply(lambda: 0.0)
    assert (drives(hv), payloads(hv)) == ({"sda": volume("one")}, [volume("one")])
    with pytest.raises(ExistsError, match="another task has changed the payload"):
        cleaning.apply(lambda: 0.0)
    assert (drives(hv), payloads(hv)) == ({"sda": volume("one")}, [volume("one")])


def stray(hv: FakeHypervisor) -> Any:
    """Return the steps of a clean-up."""
    domain = hv.domain("web-1")
    assert domain is not None
    return stray_payloads(hv, read(replace(domain)), hv.live_xml("web-1"), hv.volume_names)


def test_nobody_else_gets_the_volume() -> None:
    hv = stopped()
    do(hv, giving())
    do(hv, ensuring("web-2", template="web"))
    refused(hv, lambda hv: plan_attach(hv, AttachRequest("web-2", volume())), "is in use by VM 'web-1'")
