"""Attaching and detaching volumes: what is chosen, what is refused, and what is left of a VM afterwards."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    GoldenError,
    HypervisorError,
    InvalidError,
    NotFoundError,
    RefusedError,
    TimedOutError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.disk_xml import target_name
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import letter_index
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Payload, Pending

from support.fake import FakeHypervisor, FakePool
from unit.world import (
    GIB,
    MIB,
    attaching,
    changes,
    detaching,
    do,
    ensuring,
    plan,
    qcow2,
    record,
    refused,
    restoring,
    set_record,
    with_data,
)

ROOT = "web-1.root.1.qcow2"
POOL = "/pools/default"


def disks(hv: FakeHypervisor, vm: str = "web-1", live: bool = False) -> dict[str, str]:
    """Return the names of the files of a VM's drives by target, in their order."""
    xml = ET.fromstring((hv.vms[vm].live if live else hv.vms[vm].stored) or "<none/>")
    found = {}
    for disk in xml.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        assert target is not None
        found[target.attrib["dev"]] = "" if source is None else source.get("file", "").rpartition("/")[2]
    return found


def disk(hv: FakeHypervisor, target: str, vm: str = "web-1") -> ET.Element:
    """Return the disk at a target of a stored definition."""
    found = ET.fromstring(hv.vms[vm].stored).find(f"devices/disk/target[@dev='{target}']/..")
    assert found is not None
    return found


def canonical(hv: FakeHypervisor, vm: str = "web-1") -> str:
    """Return a stored definition in the form in which equal ones are equal."""
    return ET.canonicalize(hv.vms[vm].stored, strip_text=True)


def edit(hv: FakeHypervisor, old: str, new: str, vm: str = "web-1") -> None:
    """Change the stored definition of a VM as its administrator would."""
    assert old in hv.vms[vm].stored
    hv.vms[vm].stored = hv.vms[vm].stored.replace(old, new, 1)


def drive(source: str, target: str, bus: str = "virtio", device: str = "disk", inner: str = "") -> str:
    """Return the XML of a drive."""
    image_format = "raw" if device == "cdrom" else "qcow2"
    return (
        f"<disk type='file' device='{device}'><driver name='qemu' type='{image_format}'/><source file='{source}'/>"
        f"<target dev='{target}' bus='{bus}'/>{inner}</disk>"
    )


def give(hv: FakeHypervisor, xml: str, vm: str = "web-1") -> None:
    """Add a drive to the stored definition of a VM, as virsh would."""
    edit(hv, "</devices>", f"{xml}</devices>", vm)


def foreign(hv: FakeHypervisor, *drives: str, name: str = "db", os: str = "") -> None:
    """Define a VM that is none of ours."""
    hv.define(
        f"<domain type='qemu'><name>{name}</name><memory>1024</memory><os><type machine='pc-i440fx-7.2'>hvm</type>{os}"
        f"</os><devices>{''.join(drives)}</devices></domain>"
    )


@pytest.fixture
def hv() -> FakeHypervisor:
    """Return a hypervisor with the stopped VMs web-1 and web-2 and the free volumes data, logs and more."""
    return with_data("present", "data", "logs", "more")


# --- names of targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bus", "index", "target"),
    [
        ("virtio", 0, "vda"), ("virtio", 25, "vdz"), ("virtio", 26, "vdaa"), ("virtio", 51, "vdaz"),
        ("virtio", 52, "vdba"), ("virtio", 701, "vdzz"), ("virtio", 702, "vdaaa"), ("scsi", 1, "sdb"),
        ("sata", 2, "sdc"), ("usb", 3, "sdd"), ("ide", 1, "hdb"),
    ],
)  # fmt: skip
def test_names_of_targets(bus: str, index: int, target: str) -> None:
    assert target_name(bus, index) == target
    assert letter_index(target) == index


@pytest.mark.parametrize("target", ["", "vd", "vd1", "xda", "ubda", "vdA", "nvme0n1"])
def test_targets_without_a_place(target: str) -> None:
    assert letter_index(target) is None


# --- data volumes ----------------------------------------------------------------------------------------------------


def test_a_data_volume_gets_the_first_free_id(hv: FakeHypervisor) -> None:
    result = do(hv, attaching())
    assert result == {
        "name": "data", "storage_pool": "default", "path": f"{POOL}/data", "format": "qcow2", "capacity": GIB,
        "vm": "web-1", "device_id": 1, "target": "vdb", "bus": "virtio", "type": "DATADISK", "bootable": False,
        "read_only": False, "serial": "",
    }  # fmt: skip
    assert disks(hv) == {"vda": ROOT, "vdb": "data"}
    assert do(hv, attaching("logs", device_id=5))["target"] == "vdf"
    assert do(hv, attaching("more"))["device_id"] == 2
    assert disk(hv, "vdb").find("driver").attrib == {"name": "qemu", "type": "qcow2", "discard": "unmap"}  # type: ignore[union-attr]
    assert hv.claims == {}


def test_a_running_vm_gets_it_in_both_definitions() -> None:
    hv = with_data("started")
    planned = plan(hv, attaching(device_id=30))
    do(hv, attaching(device_id=30))
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT, "vdae": "data"}
    assert planned.after["target"] == "vdae"
    assert not changes(hv, attaching())
    assert not changes(hv, attaching(device_id=30, bus="virtio", read_only=False, serial=""))


@pytest.mark.parametrize("state", ["present", "started"])
def test_it_is_detached_by_name_or_by_id(state: str) -> None:
    for how in ({"volume": "data"}, {"device_id": 1}, {"volume": "data", "device_id": 1}):
        hv = with_data(state)
        before = hv.state()
        do(hv, attaching())
        result = do(hv, detaching(**how))
        assert hv.state() == before
        assert (result["name"], result["vm"], result["device_id"]) == ("data", None, None)
        assert (result["type"], result["bootable"], result["target"]) == ("DATADISK", False, None)
        assert not changes(hv, detaching(**how))


def test_detaching_what_is_not_there(hv: FakeHypervisor) -> None:
    assert do(hv, detaching(device_id=7)) == {}
    assert do(hv, detaching("data"))["name"] == "data"
    assert do(hv, detaching("no such volume")) == {}


def test_a_volume_that_was_deleted_or_whose_pool_is_unknown_can_be_detached(hv: FakeHypervisor) -> None:
    give(hv, drive(f"{POOL}/deleted", "vdb"))
    give(hv, drive("/elsewhere/disk", "vdc"))
    assert do(hv, detaching("deleted"))["path"] == f"{POOL}/deleted"
    assert do(hv, detaching(device_id=2))["path"] == "/elsewhere/disk"
    assert disks(hv) == {"vda": ROOT}


def test_a_disk_that_is_given_by_pool_and_volume(hv: FakeHypervisor) -> None:
    source = "<source pool='default' volume='data'/>"
    give(hv, f"<disk type='volume' device='disk'>{source}<target dev='vdb' bus='virtio'/></disk>")
    assert not changes(hv, attaching())
    refused(hv, attaching(vm="web-2"), "volume 'data' is in use by VM 'web-1'; detach it there first")
    do(hv, detaching("data"))
    assert disks(hv) == {"vda": ROOT}


def test_names_of_targets_go_on_after_z(hv: FakeHypervisor) -> None:
    for number in range(1, 26):
        give(hv, drive(f"/elsewhere/{number}", target_name("virtio", number)))
    assert do(hv, attaching())["target"] == "vdaa"
    assert do(hv, detaching(device_id=26))["name"] == "data"


def test_each_bus_has_its_targets(hv: FakeHypervisor) -> None:
    for name, bus, device_id, target in (
        ("data", "scsi", 1, "sdb"),
        ("logs", "sata", 2, "sdc"),
        ("more", "usb", 3, "sdd"),
    ):
        result = do(hv, attaching(name, bus=bus))
        assert (result["device_id"], result["target"], result["bus"]) == (device_id, target, bus)


def test_a_target_that_a_cd_drive_has_is_left_out(hv: FakeHypervisor) -> None:
    give(hv, drive("/pools/isos/a.iso", "sdb", "sata", "cdrom"))
    refused(
        hv,
        attaching(bus="scsi", device_id=1),
        "device id 1 of VM 'web-1' is target 'sdb' on bus 'scsi', which another drive has; choose another",
    )
    assert do(hv, attaching(bus="scsi"))["target"] == "sdc"
    assert do(hv, attaching("logs"))["target"] == "vdb"


def test_disks_of_others_with_one_number_have_different_ids(hv: FakeHypervisor) -> None:
    for target, bus in (("sda", "scsi"), ("sdb", "scsi"), ("vdb", "virtio"), ("weird", "virtio")):
        give(hv, drive(f"/elsewhere/{target}", target, bus))
    expected = {0: ROOT, 1: "sdb", 2: "sda", 3: "vdb", 4: "weird"}
    for number, name in expected.items():
        assert plan(hv, detaching(device_id=number)).before["name"] == name
    refused(hv, attaching(device_id=3), "device id 3 of VM 'web-1' is taken by /elsewhere/vdb; .* such as 5")


def test_properties(hv: FakeHypervisor) -> None:
    result = do(hv, attaching(read_only=True, serial="S-1.a_+", bus="usb"))
    assert (result["read_only"], result["serial"]) == (True, "S-1.a_+")
    assert disk(hv, "sdb").find("readonly") is not None
    assert disk(hv, "sdb").findtext("serial") == "S-1.a_+"
    for option, wanted, said in (
        ("device_id", 2, "device_id 1, not 2"),
        ("bus", "virtio", "bus 'usb', not 'virtio'"),
        ("read_only", False, "read_only True, not False"),
        ("serial", "other", r"serial 'S-1.a_\+', not 'other'"),
    ):
        refused(hv, attaching(**{option: wanted}), f"volume 'data' is attached to VM 'web-1' with {said}; detach it")


@pytest.mark.parametrize(
    ("serial", "bus", "said"),
    [
        ("x" * 21, "virtio", "has 21 characters; on bus 'virtio' there is room for 20"),
        ("x" * 37, "scsi", "has 37 characters; on bus 'scsi' there is room for 36"),
        ("a b", None, r"may hold letters, digits, '_', '-', '\+' and '\.' only"),
        ("ä", None, "may hold letters"),
        ("a,readonly=on", None, "may hold letters"),
    ],
)
def test_serials_that_guests_would_not_see(hv: FakeHypervisor, serial: str, bus: str | None, said: str) -> None:
    refused(hv, attaching(serial=serial, bus=bus), said, InvalidError)


@pytest.mark.parametrize(("bus", "length"), [("virtio", 20), ("scsi", 36)])
def test_the_longest_serials(hv: FakeHypervisor, bus: str, length: int) -> None:
    assert do(hv, attaching(serial="x" * length, bus=bus))["serial"] == "x" * length


def test_a_scsi_disk_gets_a_controller_that_guests_have_drivers_for() -> None:
    for state in ("present", "started"):
        hv = with_data(state, "data", "logs")
        do(hv, attaching(bus="scsi"))
        do(hv, attaching("logs", bus="scsi"))
        for xml in filter(None, (hv.vms["web-1"].stored, hv.vms["web-1"].live)):
            found = [
                controller.attrib for controller in ET.fromstring(xml).iterfind("devices/controller[@type='scsi']")
            ]
            assert found == [{"type": "scsi", "index": "0", "model": "virtio-scsi"}]


@pytest.mark.parametrize("other", [None, "logs"])
def test_the_controller_goes_again_when_the_disk_cannot_be_attached(other: str | None) -> None:
    """Unless another task has put a disk on it."""
    hv = with_data("started", "data", "logs")
    before = hv.state()
    planned = plan(hv, attaching(bus="scsi"))

    def meanwhile() -> None:
        if other:
            do(hv, attaching(other, bus="scsi", device_id=4))
        hv.fail_at(0)

    hv.meanwhile("claim", meanwhile)
    with pytest.raises(HypervisorError) as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    if other:
        assert disks(hv) == disks(hv, live=True) == {"vda": ROOT, "sde": "logs"}
    else:
        assert hv.state() == before


# --- what is refused -------------------------------------------------------------------------------------------------


def _overlay(hv: FakeHypervisor, name: str, below: str) -> None:
    xml = new_volume(name, GIB, "qcow2").replace(
        "</volume>",
        f"<backingStore><path>{below}</path><format type='qcow2'/></backingStore></volume>",
    )
    hv.create_volume("default", xml)


def _at_web_2(hv: FakeHypervisor) -> None:
    do(hv, attaching(vm="web-2"))


def _as_cd(hv: FakeHypervisor) -> None:
    give(hv, drive(f"{POOL}/data", "sda", "sata", "cdrom"))


def _live_only_at_web_2(hv: FakeHypervisor) -> None:
    do(hv, ensuring("web-2", state="started"))
    hv.attach_device("web-2", drive(f"{POOL}/data", "vdb"), live=True, stored=False)


def _kept(hv: FakeHypervisor) -> None:
    do(hv, restoring(template_version="2", keep_previous=True))


def _payload(hv: FakeHypervisor) -> None:
    set_record(hv, "web-2", payload=Payload("data", "default", "cdrom", "permanent", "00"))


def _format(image_format: str) -> Callable[[FakeHypervisor], None]:
    def change(hv: FakeHypervisor) -> None:
        hv.pools["default"].volumes["data"].format = image_format

    return change


def _external(hv: FakeHypervisor) -> None:
    hv.pools["default"].volumes["data"].content = qcow2(incompatible=4)


def _external_below(hv: FakeHypervisor) -> None:
    hv.pools["default"].volumes["logs"].content = qcow2(incompatible=4)
    _overlay(hv, "middle", f"{POOL}/logs")
    hv.pools["default"].volumes["data"].backing = f"{POOL}/middle"


def _outside(hv: FakeHypervisor) -> None:
    hv.pools["default"].volumes["data"].backing = "/etc/shadow"


def _outside_below(hv: FakeHypervisor) -> None:
    hv.pools["default"].volumes["logs"].backing = "/etc/shadow"
    hv.pools["default"].volumes["data"].backing = f"{POOL}/logs"


def _inactive_below(hv: FakeHypervisor) -> None:
    hv.pools["other"] = FakePool("other")
    below = hv.create_volume("other", new_volume("below", GIB, "qcow2"))
    hv.pools["default"].volumes["data"].backing = below.path
    hv.pools["other"].active = False


def _saved(hv: FakeHypervisor) -> None:
    hv.vms["web-1"].managed_save = True


def _snapshots(hv: FakeHypervisor) -> None:
    hv.vms["web-1"].snapshots += ["before", "after"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_at_web_2, "volume 'data' is in use by VM 'web-2'; detach it there first"),
        (_live_only_at_web_2, "volume 'data' is in use by VM 'web-2'; detach it there first"),
        (_as_cd, "volume 'data' is in use by VM 'web-1'; detach it there first"),
        (_payload, "volume 'data' is kept by VM 'web-2', as a root to go back to or as its payload"),
        (lambda hv: _overlay(hv, "above", f"{POOL}/data"), "volume 'data' backs 'above', which a change to it would"),
        *((_format(name), f"'data' is in the format {name!r}, which a VM cannot use as a disk; convert it")
          for name in ("vmdk", "vdi", "vhd", "qcow", "qed", "iso", "luks")),
        (_external, "volume 'data' keeps its content in an external data file"),
        (_external_below, "volume 'logs' keeps its content in an external data file"),
        (_outside, "volume 'data' lies on /etc/shadow, which is no volume of an active storage pool"),
        (_outside_below, "volume 'data' lies on /etc/shadow, which is no volume of an active storage pool"),
        (_inactive_below, "volume 'data' lies on /pools/other/below, which is no volume of an active storage pool"),
        (_saved, r"VM 'web-1' has a managed save image.*virsh managedsave-remove web-1"),
        (_snapshots, r"VM 'web-1' has snapshots or checkpoints \(before, after\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("device_id", [1, 0])
def test_a_volume_that_is_not_attached(
    hv: FakeHypervisor, change: Callable[[FakeHypervisor], None], said: str, device_id: int
) -> None:
    if device_id == 0:
        do(hv, detaching(device_id=0))
    change(hv)
    refused(hv, attaching(device_id=device_id), said, GoldenError)


@pytest.mark.parametrize("name", ["web.v1.qcow2", "web.v1.json"])
def test_a_template_is_not_attached(hv: FakeHypervisor, name: str) -> None:
    refused(hv, attaching(name), f"volume '{name}' belongs to a template, whose versions never change; make a VM")


def test_a_root_that_is_kept_to_go_back_to_is_not_attached(hv: FakeHypervisor) -> None:
    _kept(hv)
    refused(hv, attaching(ROOT, vm="web-2"), f"volume '{ROOT}' is kept by VM 'web-1', as a root to go back to")


def test_a_root_that_is_in_use_is_not_attached(hv: FakeHypervisor) -> None:
    refused(hv, attaching(ROOT, vm="web-2"), f"volume '{ROOT}' is in use by VM 'web-1'; detach it there first")
    refused(hv, attaching("web-2.root.1.qcow2"), "is in use by VM 'web-2'; detach it there first")


@pytest.mark.parametrize(
    ("wanted", "said", "kind"),
    [
        ({"volume": "nothing"}, "there is no volume 'nothing' in storage pool 'default'", NotFoundError),
        ({"storage_pool": "none"}, "there is no storage pool 'none'", NotFoundError),
        ({"vm": "none"}, "there is no VM 'none'; 'virsh list --all' shows", NotFoundError),
        ({"device_id": -1}, "device_id: -1 is less than 0", InvalidError),
        ({"device_id": 0}, f"VM 'web-1' has a root already, {POOL}/{ROOT}; detach it first", RefusedError),
        ({"bus": "floppy"}, "bus: 'floppy' is not one of virtio, scsi, sata, ide, usb", InvalidError),
        ({"bus": "ide"}, "of a machine type without bus 'ide'; use 'sata'", RefusedError),
        ({"bus": "sata", "read_only": True}, "a disk on bus 'sata' cannot be read-only; use one of", RefusedError),
    ],
)
def test_what_cannot_be_attached(hv: FakeHypervisor, wanted: dict[str, Any], said: str, kind: Any) -> None:
    refused(hv, attaching(**wanted), said, kind)


def test_options_that_are_missing(hv: FakeHypervisor) -> None:
    refused(hv, attaching(None), "attaching needs 'volume'", InvalidError)  # type: ignore[arg-type]
    refused(hv, detaching(), "detaching needs 'volume' or 'device_id'", InvalidError)


def test_an_id_that_is_taken(hv: FakeHypervisor) -> None:
    do(hv, attaching())
    refused(
        hv,
        attaching("logs", device_id=1),
        f"device id 1 of VM 'web-1' is taken by {POOL}/data; detach that first, or use another device_id, such as 2",
    )
    refused(hv, detaching("data", device_id=2), "volume 'data' is at device id 1 of VM 'web-1', not 2", InvalidError)


def test_a_running_vm(hv: FakeHypervisor) -> None:
    do(hv, attaching("logs", bus="sata"))
    do(hv, ensuring(state="started"))
    for bus in ("sata", "ide"):
        refused(hv, attaching(bus=bus), f"VM 'web-1' runs, and nothing can be plugged into bus '{bus}' then; stop it")
    refused(hv, detaching("logs"), "VM 'web-1' runs, and nothing can be plugged into bus 'sata' then; stop it")
    refused(hv, detaching(device_id=0), "VM 'web-1' runs; stop it to detach its root")
    refused(hv, detaching(ROOT), "VM 'web-1' runs; stop it to detach its root")


def test_a_running_vm_gets_no_root() -> None:
    hv = with_data("present")
    do(hv, detaching(device_id=0))
    hv.start("web-1")
    refused(hv, attaching(device_id=0), "VM 'web-1' runs; stop it to attach a root")
    assert do(hv, attaching())["device_id"] == 1


@pytest.mark.parametrize(("change", "said"), [(_saved, "has a managed save image"), (_snapshots, "has snapshots or")])
def test_a_vm_from_which_nothing_is_detached(hv: FakeHypervisor, change: Callable[..., None], said: str) -> None:
    do(hv, attaching())
    change(hv)
    refused(hv, detaching("data"), said)
    refused(hv, detaching(device_id=0), said)
    assert not changes(hv, attaching())


def test_the_root_of_an_unfinished_job_stays(hv: FakeHypervisor) -> None:
    set_record(hv, pending=Pending("settle", True))
    refused(hv, detaching(device_id=0), "VM 'web-1' has an unfinished settle; run the task that made it")


# --- a guest that does not let go ------------------------------------------------------------------------------------


def test_a_guest_that_does_not_let_go_keeps_the_disk() -> None:
    hv = with_data("started")
    do(hv, attaching())
    hv.stubborn.add("web-1")
    before = hv.state()
    with pytest.raises(TimedOutError, match="did not let go") as caught:
        plan(hv, detaching("data")).apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert hv.state() == before
    hv.stubborn.clear()
    do(hv, detaching("data"))
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT}


def test_a_paused_guest_is_not_asked_to_let_go() -> None:
    hv = with_data("started", "data", "logs")
    do(hv, attaching())
    do(hv, attaching("logs", bus="scsi"))
    hv.vms["web-1"].paused = True
    refused(hv, detaching("data"), r"VM 'web-1' is paused, so its guest cannot let go of disk 'vdb'; go on with it")
    do(hv, detaching("logs"))
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT, "vdb": "data"}


def test_a_guest_that_let_go_later_is_finished_by_the_next_run() -> None:
    hv = with_data("started")
    do(hv, attaching())
    hv.detach_device("web-1", drive("", "vdb"), live=True)
    do(hv, detaching("data"))
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT}


# --- one definition of the two ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", ["virtio", "scsi"])
@pytest.mark.parametrize("live", [False, True])
def test_a_disk_of_only_one_definition_is_attached_in_both(live: bool, bus: str) -> None:
    hv = with_data("started")
    target = target_name(bus, 2)
    hv.attach_device(
        "web-1",
        drive(f"{POOL}/data", target, bus, inner="<serial>S1</serial><readonly/>"),
        live=live,
        stored=not live,
    )
    result = do(hv, attaching())
    assert (result["device_id"], result["serial"], result["read_only"]) == (2, "S1", True)
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT, target: "data"}
    for xml in (hv.vms["web-1"].stored, hv.vms["web-1"].live or ""):
        assert ET.fromstring(xml).findtext(f"devices/disk/target[@dev='{target}']/../serial") == "S1"
    assert not changes(hv, attaching())


@pytest.mark.parametrize("live", [False, True])
def test_a_disk_of_only_one_definition_is_detached(live: bool) -> None:
    hv = with_data("started")
    before = hv.state()
    hv.attach_device("web-1", drive(f"{POOL}/data", "vdb"), live=live, stored=not live)
    do(hv, detaching("data"))
    assert hv.state() == before


def test_two_volumes_at_one_target() -> None:
    hv = with_data("started", "data", "logs")
    hv.attach_device("web-1", drive(f"{POOL}/data", "vdb"), live=True, stored=False)
    hv.attach_device("web-1", drive(f"{POOL}/logs", "vdb"), live=False, stored=True)
    refused(
        hv, attaching("data"), f"VM 'web-1' is stored with another volume, {POOL}/logs, at the target vdb of volume"
    )
    refused(
        hv, attaching("logs"), f"VM 'web-1' runs with another volume, {POOL}/data, at the target vdb of volume 'logs'"
    )
    do(hv, detaching("data"))
    assert (disks(hv), disks(hv, live=True)) == ({"vda": ROOT, "vdb": "logs"}, {"vda": ROOT})
    do(hv, detaching("logs"))
    assert disks(hv) == {"vda": ROOT}


def test_a_transient_vm() -> None:
    hv = with_data("started")
    hv.undefine("web-1")
    assert do(hv, attaching())["target"] == "vdb"
    assert disks(hv, live=True) == {"vda": ROOT, "vdb": "data"}
    do(hv, detaching("data"))
    assert disks(hv, live=True) == {"vda": ROOT}


# --- the root --------------------------------------------------------------------------------------------------------

ADDRESS = "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>"


def _decorated() -> FakeHypervisor:
    """Return a world in which the root has properties that nobody would guess, and other drives beside it."""
    hv = with_data("present", "data", "logs")
    edit(
        hv, "</disk>", f"<serial>ROOT</serial><iotune><read_iops_sec>9</read_iops_sec></iotune>{ADDRESS}</disk>"
    )  # of the root, which is the first
    edit(hv, "<source ", "<source startupPolicy='mandatory' ")
    hv.pools["isos"] = FakePool("isos")
    hv.create_volume("isos", new_volume("a.iso", MIB, "raw"))
    give(hv, drive("/pools/isos/a.iso", "sda", "sata", "cdrom"))
    do(hv, attaching())
    return hv


def test_a_root_that_comes_back_is_as_it_was() -> None:
    hv = _decorated()
    before, stored = canonical(hv), record(hv)
    gone = do(hv, detaching(device_id=0))
    assert (gone["name"], gone["type"], gone["bootable"], gone["vm"]) == (ROOT, "DATADISK", False, None)
    assert disks(hv) == {"sda": "a.iso", "vdb": "data"}
    back = do(hv, attaching(ROOT, device_id=0))
    assert (back["device_id"], back["target"], back["type"], back["bootable"]) == (0, "vda", "ROOT", True)
    assert canonical(hv) == before
    assert record(hv) == stored


def test_it_comes_back_as_root_when_nothing_is_said_with_a_warning(hv: FakeHypervisor) -> None:
    do(hv, detaching(ROOT))
    planned = plan(hv, attaching(ROOT))
    assert planned.warnings == (
        f"VM 'web-1' has no root, so volume '{ROOT}' is attached as its root; "
        "give device_id to say so, or another one for a data volume",
    )
    assert plan(hv, attaching(ROOT, device_id=0)).warnings == ()
    assert do(hv, attaching(ROOT))["type"] == "ROOT"
    assert plan(hv, attaching()).warnings == ()


def _with_orders(*drives: tuple[str, str]) -> FakeHypervisor:
    """Return a world whose VM has boot orders: of its root and of other drives."""
    hv = with_data("present")
    edit(hv, '<boot dev="hd" />', "")
    for target, order in drives:
        if target != "vda":
            give(hv, drive(f"/elsewhere/{target}", target, "sata", "cdrom"))
        tag = f'<target dev="{target}"' if target == "vda" else f"<target dev='{target}'"
        edit(hv, tag, f"<boot order='{order}'/>{tag}")
    return hv


def orders(hv: FakeHypervisor, vm: str = "web-1") -> dict[str, str]:
    """Return the boot order of a VM's drives."""
    found = {}
    for target in disks(hv, vm):
        boot = disk(hv, target, vm).find("boot")
        if boot is not None:
            found[target] = boot.attrib["order"]
    return found


def boots(hv: FakeHypervisor, vm: str = "web-1") -> list[str]:
    """Return the devices of the ``os`` element, first to boot first."""
    return [boot.attrib["dev"] for boot in ET.fromstring(hv.vms[vm].stored).iterfind("os/boot")]


def test_a_root_with_a_boot_order_is_first_again() -> None:
    hv = _with_orders(("vda", "1"), ("sda", "2"))
    before = canonical(hv)
    do(hv, detaching(device_id=0))
    assert orders(hv) == {"sda": "2"}
    do(hv, attaching(ROOT, device_id=0))
    assert canonical(hv) == before


def test_the_others_move_when_they_were_first() -> None:
    hv = _with_orders(("vda", "2"), ("sda", "1"), ("sdb", "3"))
    do(hv, detaching(device_id=0))
    do(hv, attaching(ROOT, device_id=0))
    assert orders(hv) == {"vda": "1", "sda": "2", "sdb": "4"}
    assert boots(hv) == []


@pytest.mark.parametrize("filled_in", [False, True])
def test_a_root_with_the_only_boot_order(filled_in: bool) -> None:
    """libvirt puts a boot device into a definition that has none."""
    hv = _with_orders(("vda", "1"))
    before = canonical(hv)
    do(hv, detaching(device_id=0))
    if filled_in:
        edit(hv, "</os>", "<boot dev='hd'/></os>")
    do(hv, attaching(ROOT, device_id=0))
    assert canonical(hv) == before


def test_the_style_of_boot_devices_that_was_chosen_meanwhile_stays() -> None:
    hv = _with_orders(("vda", "1"))
    do(hv, detaching(device_id=0))
    edit(hv, "</os>", "<boot dev='cdrom'/><boot dev='network'/></os>")
    do(hv, attaching(ROOT, device_id=0))
    assert boots(hv) == ["hd", "cdrom", "network"]
    assert orders(hv) == {}


def test_a_boot_device_is_added_where_disks_are_not_booted_from(hv: FakeHypervisor) -> None:
    do(hv, detaching(device_id=0))
    edit(hv, '<boot dev="hd" />', "<boot dev='network'/>")
    do(hv, attaching(ROOT, device_id=0))
    assert boots(hv) == ["hd", "network"]


def test_a_root_is_replaced_by_any_volume_and_stays_as_data() -> None:
    hv = _decorated()
    do(hv, detaching("data"))
    before, kept = canonical(hv), record(hv)
    do(hv, detaching(device_id=0))
    new = do(hv, attaching("data", device_id=0))
    assert (new["type"], new["target"], new["serial"]) == ("ROOT", "vda", "ROOT")
    assert disks(hv) == {"vda": "data", "sda": "a.iso"}
    old = do(hv, attaching(ROOT))
    assert (old["type"], old["device_id"], old["target"]) == ("DATADISK", 1, "vdb")
    hv.start("web-1")
    assert disks(hv, live=True) == {"vda": "data", "sda": "a.iso", "vdb": ROOT}
    do(hv, ensuring(state="stopped"))
    refused(hv, attaching(ROOT, device_id=0), "is attached to VM 'web-1' with device_id 1, not 0; detach it first")
    do(hv, detaching(ROOT))
    do(hv, detaching("data"))
    do(hv, attaching(ROOT, device_id=0))
    assert canonical(hv) == before
    assert record(hv) == kept


@pytest.mark.parametrize("bus", ["virtio", "scsi", "sata", "usb"])
def test_a_stand_in_for_the_root_on_any_bus(bus: str) -> None:
    hv = with_data("present", "data", "logs", "more")
    give(hv, drive("/elsewhere/disk", "sda" if bus == "virtio" else "vdb", "virtio"))  # of another tool
    before = canonical(hv)
    do(hv, detaching(device_id=0))
    planned = plan(hv, attaching("data", device_id=0, bus=bus))
    assert do(hv, attaching("data", device_id=0, bus=bus))["device_id"] == 0
    assert planned.after["target"] == target_name(bus, 0)
    refused(hv, attaching("logs", device_id=0), f"VM 'web-1' has a root already, {POOL}/data; detach it first")
    assert do(hv, attaching("logs"))["type"] == "DATADISK"
    do(hv, detaching("logs"))
    do(hv, detaching(device_id=0))
    do(hv, attaching(ROOT, device_id=0))
    if bus == "scsi":
        hv.detach_device("web-1", "<controller type='scsi'/>", live=False)
    assert canonical(hv) == before


def test_a_vm_without_its_root_is_not_restored_nor_is_one_with_another_root(hv: FakeHypervisor) -> None:
    said = rf"the root '{ROOT}' of VM 'web-1' is detached; attach it at device id 0 again \(volume_attach\) first"
    do(hv, detaching(device_id=0))
    refused(hv, restoring(template_version="2"), said)
    do(hv, attaching("data", device_id=0))
    refused(hv, restoring(template_version="2"), said)
    do(hv, detaching(device_id=0))
    do(hv, attaching(ROOT, device_id=0))
    do(hv, restoring(template_version="2"))
    assert record(hv).root.version == 2


def test_a_restored_vm_of_which_a_data_volume_was_attached_keeps_it(hv: FakeHypervisor) -> None:
    do(hv, attaching())
    do(hv, restoring(template_version="2"))
    assert disks(hv) == {"vda": "web-1.root.2.qcow2", "vdb": "data"}


def test_a_root_goes_through_another_vm_and_comes_back(hv: FakeHypervisor) -> None:
    before = hv.state()
    do(hv, detaching(device_id=0))
    hv.start("web-2")
    assert do(hv, attaching(ROOT, vm="web-2"))["type"] == "DATADISK"
    refused(hv, attaching(ROOT, device_id=0), f"volume '{ROOT}' is in use by VM 'web-2'; detach it there first")
    do(hv, detaching(ROOT, vm="web-2"))
    do(hv, ensuring("web-2", state="stopped"))
    do(hv, attaching(ROOT, device_id=0))
    assert hv.state() == before


def test_another_vm_that_goes_does_not_take_a_root_along(hv: FakeHypervisor) -> None:
    do(hv, detaching(device_id=0))
    do(hv, attaching(ROOT, vm="web-2"))
    refused(
        hv,
        ensuring("web-2", state="absent", delete_data_volumes=True),
        f"volume '{ROOT}' at VM 'web-2' is the root of VM 'web-1'; detach it, and attach it there",
    )
    do(hv, ensuring("web-2", state="absent"))
    assert ROOT in hv.names()
    do(hv, attaching(ROOT, device_id=0))


def test_a_vm_that_goes_leaves_its_detached_root_and_a_stand_in(hv: FakeHypervisor) -> None:
    do(hv, detaching(device_id=0))
    do(hv, attaching("data", device_id=0))
    do(hv, attaching(ROOT))
    planned = plan(hv, ensuring(state="absent"))
    kept = [{"storage_pool": "default", "volume": name} for name in ("data", ROOT)]
    assert planned.facts({}) == {"data_volumes_kept": kept}
    planned.apply(lambda: 0.0)
    assert {"data", ROOT} < set(hv.names())


def test_a_root_that_was_detached_with_virsh_comes_back(hv: FakeHypervisor) -> None:
    kept = record(hv)
    hv.detach_device("web-1", drive("", "vda"), live=False)
    refused(hv, restoring(template_version="2"), "is detached; attach it at device id 0")
    assert not changes(hv, detaching(device_id=0))
    assert do(hv, attaching(ROOT, device_id=0))["bootable"]
    assert record(hv) == kept
    do(hv, restoring(template_version="2"))


def test_a_stand_in_for_a_root_that_was_detached_with_virsh(hv: FakeHypervisor) -> None:
    kept = record(hv)
    hv.detach_device("web-1", drive("", "vda"), live=False)
    assert do(hv, attaching("data", device_id=0))["type"] == "ROOT"
    refused(hv, attaching("logs", device_id=0), "has a root already")
    refused(hv, restoring(template_version="2"), "is detached; attach it at device id 0")
    assert do(hv, detaching(device_id=0))["name"] == "data"
    do(hv, attaching(ROOT, device_id=0))
    assert record(hv) == kept


def test_an_address_that_another_device_got_meanwhile_is_left_to_it() -> None:
    hv = _decorated()
    do(hv, detaching(device_id=0))
    give(hv, drive("/elsewhere/disk", "vdc", inner=ADDRESS))
    do(hv, attaching(ROOT, device_id=0))
    assert disk(hv, "vda").find("address") is None
    assert disk(hv, "vda").findtext("serial") == "ROOT"


def test_a_target_that_a_cd_drive_got_meanwhile() -> None:
    hv = with_data("present")
    edit(hv, '<target dev="vda" bus="virtio"', '<target dev="sdc" bus="sata"')
    do(hv, detaching(device_id=0))
    give(hv, drive("/pools/isos/a.iso", "sdc", "sata", "cdrom"))
    assert do(hv, attaching(ROOT, device_id=0))["target"] == "sda"
    assert disks(hv) == {"sda": ROOT, "sdc": "a.iso"}


def test_a_root_on_a_block_device(hv: FakeHypervisor) -> None:
    hv.pools["lvm"] = FakePool("lvm", type="logical")
    hv.create_volume("lvm", new_volume("disk", GIB, "raw"))
    do(hv, detaching(device_id=0))
    assert do(hv, attaching("disk", storage_pool="lvm", device_id=0))["format"] == "raw"
    root = disk(hv, "vda")
    assert root.get("type") == "block"
    assert root.find("source").attrib == {"dev": "/pools/lvm/disk"}  # type: ignore[union-attr]
    assert root.find("driver").get("type") == "raw"  # type: ignore[union-attr]


# --- VMs of others ---------------------------------------------------------------------------------------------------


def test_a_vm_of_others_has_its_root_detached_and_attached() -> None:
    hv = with_data("present", "data", "logs")
    foreign(hv, drive(f"{POOL}/logs", "vda"), drive("/elsewhere/more", "vdb"), os="<boot dev='network'/>")
    assert do(hv, detaching(device_id=0, vm="db"))["name"] == "logs"
    assert disks(hv, "db") == {"vdb": "more"}
    assert not changes(hv, detaching(device_id=0, vm="db"))
    assert do(hv, attaching("logs", vm="db", device_id=0))["target"] == "vda"
    assert disks(hv, "db") == {"vda": "logs", "vdb": "more"}
    assert boots(hv, "db") == ["hd", "network"]
    assert "golden" not in hv.vms["db"].stored


def test_a_vm_of_others_has_data_volumes_on_ide() -> None:
    hv = with_data("present")
    foreign(hv, drive("/elsewhere/root", "hda", "ide"))
    result = do(hv, attaching(vm="db", bus="ide"))
    assert (result["device_id"], result["target"]) == (1, "hdb")
    refused(hv, attaching("web-1.root.1.qcow2", vm="db", bus="ide"), "is in use by VM 'web-1'")


def test_ide_has_room_for_four() -> None:
    hv = with_data("present", "data", "logs")
    foreign(hv, *(drive(f"/elsewhere/{letter}", f"hd{letter}", "ide") for letter in "abc"))
    assert do(hv, attaching(vm="db", bus="ide"))["target"] == "hdd"
    for wanted in ({}, {"device_id": 4}):
        refused(
            hv, attaching("logs", vm="db", bus="ide", **wanted), "'ide' of VM 'db' has room for the device ids 0 to 3"
        )


def test_a_vm_of_others_without_disks_gets_a_root() -> None:
    hv = with_data("present")
    foreign(hv)
    assert do(hv, attaching(vm="db", bus="scsi"))["type"] == "ROOT"
    assert disks(hv, "db") == {"sda": "data"}
    controller = ET.fromstring(hv.vms["db"].stored).find("devices/controller")
    assert controller is not None
    assert controller.get("model") == "virtio-scsi"


# --- others at the same time -----------------------------------------------------------------------------------------


def holders(hv: FakeHypervisor, name: str = "data") -> list[str]:
    """Return the VMs that have a volume in one of their definitions."""
    return [vm for vm in hv.vms if name in {**disks(hv, vm), **disks(hv, vm, live=True)}.values()]


@pytest.mark.parametrize("call", ["claim", "domains", "attach_device"])
def test_of_two_vms_that_take_one_volume_one_gets_it(call: str) -> None:
    hv = with_data("started")
    ours, theirs = plan(hv, attaching()), plan(hv, attaching(vm="web-2"))
    failed: list[GoldenError] = []

    def them() -> None:
        try:
            theirs.apply(lambda: 0.0)
        except GoldenError as error:
            failed.append(error)

    hv.meanwhile(call, them)
    try:
        ours.apply(lambda: 0.0)
    except GoldenError as error:
        failed.append(error)
    assert len(holders(hv)) == 1
    assert len(failed) == 1
    assert failed[0].facts["rolled_back"] is True
    if call == "claim":  # they were quicker
        assert failed[0].message.startswith("volume 'data' was given to VM 'web-2' by another task in the meantime")
        assert holders(hv) == ["web-2"]
    else:
        assert failed[0].message.startswith("volume 'data' is being attached to VM 'web-1' by another task")
        assert holders(hv) == ["web-1"]
    assert hv.claims == {}


def test_a_root_is_attached_to_one_of_two_vms(hv: FakeHypervisor) -> None:
    do(hv, detaching(device_id=0))
    do(hv, detaching(device_id=0, vm="web-2"))
    theirs = plan(hv, attaching(vm="web-2", device_id=0))
    hv.meanwhile("claim", lambda: theirs.apply(lambda: 0.0))
    with pytest.raises(GoldenError, match="was given to VM 'web-2' by another task"):
        plan(hv, attaching(device_id=0)).apply(lambda: 0.0)
    assert holders(hv) == ["web-2"]


def test_the_same_task_twice_at_once(hv: FakeHypervisor) -> None:
    theirs = plan(hv, attaching())
    hv.meanwhile("claim", lambda: theirs.apply(lambda: 0.0))
    with pytest.raises(GoldenError, match="another task in the meantime; run this task again"):
        plan(hv, attaching()).apply(lambda: 0.0)
    assert disks(hv) == {"vda": ROOT, "vdb": "data"}
    assert not changes(hv, attaching())


@pytest.mark.parametrize("change", ["start", "disk"])
def test_a_vm_that_was_started_or_changed_meanwhile_keeps_its_root(hv: FakeHypervisor, change: str) -> None:
    def meanwhile() -> None:
        if change == "start":
            hv.start("web-1")
        else:
            give(hv, drive("/elsewhere/disk", "vdb"))

    planned = plan(hv, detaching(device_id=0))
    meanwhile()
    before = hv.state()
    with pytest.raises(RefusedError, match="was started or changed by another task in the meantime; run this"):
        planned.apply(lambda: 0.0)
    assert hv.state() == before


def test_a_root_that_another_vm_got_meanwhile_is_not_put_back(hv: FakeHypervisor) -> None:
    def take() -> None:
        hv.attach_device("web-2", drive(f"{POOL}/{ROOT}", "vdb"), live=False, stored=True)

    def meanwhile() -> None:
        hv.meanwhile("domain", take)
        hv.fail_at(0, after=True)

    planned = plan(hv, detaching(device_id=0))
    hv.meanwhile("define", meanwhile)
    with pytest.raises(HypervisorError):
        planned.apply(lambda: 0.0)
    assert holders(hv, ROOT) == ["web-2"]


def test_a_disk_that_another_task_attached_at_the_target_is_not_taken_back() -> None:
    hv = with_data("started", "data", "logs")
    planned = plan(hv, attaching())
    hv.meanwhile("attach_device", lambda: do(hv, attaching("logs")))
    with pytest.raises(HypervisorError, match="already exists") as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert disks(hv) == disks(hv, live=True) == {"vda": ROOT, "vdb": "logs"}


@pytest.mark.parametrize("running", [False, True])
def test_a_target_that_has_another_volume_by_now_is_left_alone(running: bool) -> None:
    hv = with_data("started" if running else "present", "data", "logs")
    do(hv, attaching())
    planned = plan(hv, detaching("data"))
    do(hv, detaching("data"))
    do(hv, attaching("logs"))
    before = hv.state()
    with pytest.raises(RefusedError, match="its disk vdb changed by another task in the meantime; run this task again"):
        planned.apply(lambda: 0.0)
    assert hv.state() == before


@pytest.mark.parametrize("state", ["present", "started"])
def test_what_another_task_detached_is_not_put_back(state: str) -> None:
    hv = with_data(state)
    do(hv, attaching())
    planned = plan(hv, detaching("data"))
    do(hv, detaching("data"))
    before = hv.state()
    with pytest.raises(RefusedError, match="run this task again") as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert hv.state() == before


def test_a_claim_of_a_task_that_was_killed_is_used_by_the_same_vm_only(hv: FakeHypervisor) -> None:
    hv.claim(f"volume {POOL}/data", "web-1")
    with pytest.raises(GoldenError, match="is being attached to VM 'web-1' by another task; if that was killed, run"):
        plan(hv, attaching(vm="web-2")).apply(lambda: 0.0)
    assert holders(hv) == []
    do(hv, attaching())
    assert hv.claims == {}


@pytest.mark.parametrize("gone", [False, True])
def test_a_storage_pool_that_goes_meanwhile_does_not_matter(hv: FakeHypervisor, gone: bool) -> None:
    hv.pools["another"] = FakePool("another")

    def meanwhile() -> None:
        if gone:
            del hv.pools["another"]
        else:
            hv.pools["another"].active = False

    hv.meanwhile("volumes", meanwhile)
    attaching()(hv).apply(lambda: 0.0)
    assert disks(hv)["vdb"] == "data"


def test_small_volumes_too(hv: FakeHypervisor) -> None:
    hv.create_volume("default", new_volume("small", MIB, "raw"))
    assert do(hv, attaching("small"))["format"] == "raw"
    assert disk(hv, "vdb").find("driver").get("type") == "raw"  # type: ignore[union-attr]
