"""Definitions as libvirt gives them: read, edited, and made into templates. The examples are of a real libvirt."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError, RefusedError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import SHUT_OFF, Domain
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml import (
    domain_edit,
    domain_xml,
    hardware_xml,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import Disk, Network, Nic, Vm
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Record, Root

DATA = Path(__file__).with_name("data")
EXAMPLES = ["desktop", "server", "loader"]
IMAGES = "/var/lib/libvirt/images"
RECORD = Record(Root("desktop.root.4.qcow2", "default", "desktop", "default", 3), 4, "latest", stateless=True)


def text(name: str) -> str:
    """Return an example's definition."""
    return (DATA / f"{name}.xml").read_text()


def example(name: str) -> Vm:
    """Return an example as it is read."""
    return domain_xml.read(Domain(name, "", SHUT_OFF, True, False, False, text(name)))


def template(name: str) -> ET.Element:
    """Return what becomes of an example as a template."""
    return ET.fromstring(hardware_xml.template_of(example(name)))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_vm_of_ours() -> None:
    vm = example("desktop")
    assert (vm.name, vm.cpus, vm.memory, vm.description) == ("desktop", 4, 2097152, "Golden master")
    assert vm.record is not None
    assert vm.record.root.version == 2
    assert vm.disks == (
        Disk("disk", "virtio", "vda", f"{IMAGES}/desktop.root.3.qcow2", "qcow2", False, 1, "ROOT-1"),
        Disk("disk", "virtio", "vdb", f"{IMAGES}/desktop.data.raw", "raw", False, None, "DATA-1"),
        Disk("cdrom", "sata", "sda", f"{IMAGES}/install.iso", "raw", True, 2),
    )
    assert vm.nics == (
        Nic("52:54:00:aa:bb:01", "default", "virtio"),
        Nic("52:54:00:aa:bb:02", "br0", "e1000e"),
    )
    assert vm.root_disk == vm.disks[0]


def test_a_vm_that_is_not_ours_boots_from_its_first_disk() -> None:
    vm = example("server")
    assert vm.record is None
    assert vm.root_disk == Disk("disk", "scsi", "sda", "/dev/vg0/server", "raw", False, None)
    with pytest.raises(RefusedError, match="VM 'server' was not made from a template by this collection; publish it"):
        vm.managed()


def test_the_root_of_a_vm_that_is_not_ours_is_the_first_of_its_boot_order() -> None:
    xml = ET.fromstring(text("desktop"))
    for metadata in xml.findall("metadata"):
        xml.remove(metadata)
    for target, order in (("vda", "3"), ("vdb", "1")):
        disk = xml.find(f"devices/disk/target[@dev='{target}']/..")
        assert disk is not None
        for boot in disk.findall("boot"):
            disk.remove(boot)
        ET.SubElement(disk, "boot", order=order)
    vm = domain_xml.read(Domain("x", "", SHUT_OFF, True, False, False, ET.tostring(xml, encoding="unicode")))
    assert vm.root_disk is not None
    assert vm.root_disk.target == "vdb"


def test_a_vm_of_ours_without_its_root_has_none() -> None:
    xml = text("desktop").replace("desktop.root.3.qcow2'/>", "rescue.qcow2'/>")
    assert domain_xml.read(Domain("x", "", SHUT_OFF, True, False, False, xml)).root_disk is None


def test_only_the_record() -> None:
    assert domain_xml.record_of(example("desktop").domain) == example("desktop").record
    assert domain_xml.record_of(example("server").domain) is None


@pytest.mark.parametrize(
    ("memory", "kib"),
    [
        ("<memory>5</memory>", 5), ("<memory unit='b'>2048</memory>", 2), ("<memory unit='k'>5</memory>", 5),
        ("<memory unit='MiB'>5</memory>", 5120), ("<memory unit='G'>1</memory>", 1048576),
        ("<memory unit='KB'>1024</memory>", 1000), ("<memory unit='bytes'>1048576</memory>", 1024),
    ],
)  # fmt: skip
def test_memory_in_any_unit_of_libvirt(memory: str, kib: int) -> None:
    xml = f"<domain><name>x</name>{memory}</domain>"
    assert domain_xml.read(Domain("x", "", SHUT_OFF, True, False, False, xml)).memory == kib


@pytest.mark.parametrize("memory", ["", "<memory/>", "<memory unit='furlong'>5</memory>"])
def test_memory_that_cannot_be_told(memory: str) -> None:
    with pytest.raises(InvalidError, match=r"memory"):
        domain_xml.read(Domain("x", "", SHUT_OFF, True, False, False, f"<domain><name>x</name>{memory}</domain>"))


# --- a template of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(
    "path",
    [
        "name", "uuid", "title", "description", "metadata", "genid", "seclabel", "devices/emulator", "devices/hostdev",
        "devices/interface/mac", "devices/interface/bandwidth", "devices/interface/target", "devices/disk/source",
        "devices/disk/serial", "devices/serial/log", "devices/console/log", "devices/channel/source",
        "devices/disk[@device='floppy']", "sysinfo/system/entry[@name='uuid']", "sysinfo/system/entry[@name='serial']",
        "devices//alias",
    ],
)  # fmt: skip
def test_a_template_has_no_identity(name: str, path: str) -> None:
    assert template(name).findall(path) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_template_tells_no_secret_and_nothing_of_its_host(name: str) -> None:
    told = hardware_xml.template_of(example(name))
    for secret in (
        "s3cret",
        "SN-0815",
        "6a1f4a0e",
        "0e0a7f4e",
        "52:54:00",
        IMAGES,
        "/dev/vg0",
        "VARS.fd<",
        "5911",
        "/var/log",
    ):
        assert secret not in told


def test_a_template_keeps_its_hardware() -> None:
    xml = template("desktop")
    assert xml.find("os[@firmware='efi']/type[@machine='pc-q35-7.2']") is not None
    assert xml.findtext("vcpu") == "4"
    assert xml.findtext("sysinfo/system/entry[@name='manufacturer']") == "Example"
    assert [d.get("device") for d in xml.iterfind("devices/disk")] == ["disk", "cdrom"]
    assert [s.attrib for s in xml.iterfind("devices/interface/source")] == [{"network": "default"}, {"bridge": "br0"}]
    assert xml.find("devices/graphics[@autoport='yes']") is not None
    assert xml.find("devices/disk[@device='disk']/boot[@order='1']") is not None
    addresses = [a.attrib for a in ET.fromstring(text("desktop")).iterfind("devices/interface/address")]
    assert [a.attrib for a in xml.iterfind("devices/interface/address")] == addresses


def test_a_template_of_a_vm_on_a_block_device_is_one_of_a_qcow2_file() -> None:
    disk = template("server").find("devices/disk[@device='disk']")
    assert disk is not None
    assert disk.get("type") == "file"
    assert disk.find("driver[@type='qcow2']") is not None


def test_a_template_keeps_the_loader_and_leaves_its_variables_to_each_vm() -> None:
    xml = template("loader")
    assert xml.findtext("os/loader") == "/usr/share/OVMF/OVMF_CODE_4M.fd"
    nvram = xml.find("os/nvram")
    assert nvram is not None
    assert nvram.attrib == {"template": "/usr/share/OVMF/OVMF_VARS_4M.fd"}
    assert not (nvram.text or "").strip()


def test_the_command_line_of_qemu_survives() -> None:
    told = hardware_xml.template_of(example("desktop"))
    assert "<qemu:commandline>" in told
    assert 'xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"' in told
    assert '<qemu:arg value="extra"' in domain_edit.with_record(text("desktop"), RECORD)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_template_of_a_vm_of_a_template_is_that_template(name: str) -> None:
    first = hardware_xml.template_of(example(name))
    made = domain_edit.new_vm(first, "web-1", "qemu", "/pool/web-1.root.1.qcow2", RECORD)
    made = made.replace("desktop.root.4.qcow2", "web-1.root.1.qcow2")
    again = hardware_xml.template_of(domain_xml.read(Domain("web-1", "", SHUT_OFF, True, False, False, made)))
    assert domain_xml.canonical(again) == domain_xml.canonical(first)


# --- edits -----------------------------------------------------------------------------------------------------------


def test_another_root_changes_the_root_and_the_record_and_nothing_else() -> None:
    told = domain_edit.with_root(text("desktop"), "vda", "/elsewhere/desktop.root.4.qcow2", RECORD)
    back = example("desktop").record
    assert back is not None
    restored = told.replace("/elsewhere/desktop.root.4.qcow2", f"{IMAGES}/desktop.root.3.qcow2")
    assert domain_xml.canonical(domain_edit.with_record(restored, back)) == domain_xml.canonical(text("desktop"))
    vm = domain_xml.read(Domain("desktop", "", SHUT_OFF, True, False, False, told))
    assert vm.record == RECORD
    assert vm.root_disk is not None
    assert vm.root_disk.source == "/elsewhere/desktop.root.4.qcow2"


def test_there_is_one_record_at_most() -> None:
    told = domain_edit.with_record(domain_edit.with_record(text("server"), RECORD), RECORD.changed(generation=9))
    assert told.count("<golden:vm ") == 1


def test_a_root_of_a_block_device_becomes_a_qcow2_file() -> None:
    told = ET.fromstring(domain_edit.with_root(text("server"), "sda", "/pool/x.qcow2", RECORD))
    disk = told.find("devices/disk[@device='disk']")
    assert disk is not None
    assert [child.tag for child in disk] == ["driver", "source", "target", "address"]
    assert (disk.get("type"), disk.find("driver[@type='qcow2']") is not None) == ("file", True)


def test_a_root_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidError, match="definition of VM 'server' has no disk 'vdx'"):
        domain_edit.with_root(text("server"), "vdx", "/pool/x.qcow2", RECORD)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_change_is_no_difference(name: str) -> None:
    assert domain_xml.canonical(domain_edit.with_changes(text(name))) == domain_xml.canonical(text(name))


def test_the_record_that_it_has_is_no_difference() -> None:
    vm = example("desktop")
    assert vm.record is not None
    assert domain_xml.canonical(domain_edit.with_record(text("desktop"), vm.record)) == domain_xml.canonical(
        text("desktop")
    )


def test_other_cpus_and_memory() -> None:
    told = ET.fromstring(domain_edit.with_changes(text("desktop"), cpus=8, memory=4194304))
    assert told.findtext("vcpu") == "8"
    assert told.find("vcpu[@current]") is None
    assert told.find("cpu/topology") is None
    assert told.findtext("memory[@unit='KiB']") == "4194304"
    assert told.find("currentMemory") is None


@pytest.mark.parametrize("description", ["new & <better>", ""])
def test_another_description(description: str) -> None:
    told = ET.fromstring(domain_edit.with_changes(text("desktop"), description=description))
    assert told.findtext("description", "") == description


def test_other_networks_keep_mac_addresses_and_places() -> None:
    networks = (Network("lab"), Network("default", "52:54:00:00:00:09", "e1000e"), Network("third"))
    told = domain_edit.with_changes(text("desktop"), networks=networks)
    vm = domain_xml.read(Domain("x", "", SHUT_OFF, True, False, False, told))
    assert vm.nics == (
        Nic("52:54:00:aa:bb:01", "lab", "virtio"),
        Nic("52:54:00:00:00:09", "default", "e1000e"),
        Nic("", "third", "virtio"),
    )
    addresses = [a.get("bus") for a in ET.fromstring(told).iterfind("devices/interface/address")]
    assert addresses == ["0x01", "0x02"]


def test_no_networks() -> None:
    assert domain_xml.nics_of(domain_edit.with_changes(text("desktop"), networks=())) == ()


# --- new ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("virt_type", "mode", "kept"),
    [
        ("kvm", "host-model", True),
        ("qemu", "host-model", False),
        ("qemu", "host-passthrough", False),
        ("qemu", "custom", True),
    ],
)
def test_without_kvm_a_guest_is_not_promised_the_processor_of_the_host(virt_type: str, mode: str, kept: bool) -> None:
    hardware = hardware_xml.default_template("x86_64", "bios", "none").replace("host-model", mode)
    told = ET.fromstring(domain_edit.new_vm(hardware, "web-1", virt_type, "/pool/x.qcow2", RECORD))
    assert told.get("type") == virt_type
    assert (told.find("cpu") is not None) == kept


@pytest.mark.parametrize("firmware", ["bios", "efi"])
@pytest.mark.parametrize("graphics", ["none", "vnc", "spice"])
@pytest.mark.parametrize(("arch", "machine"), [("x86_64", "q35"), ("aarch64", None)])
def test_the_hardware_of_an_image_without_any(firmware: str, graphics: str, arch: str, machine: str | None) -> None:
    xml = ET.fromstring(hardware_xml.default_template(arch, firmware, graphics))
    os_type = xml.find("os/type")
    assert os_type is not None
    assert (os_type.get("arch"), os_type.get("machine")) == (arch, machine)
    assert xml.find("os[@firmware='efi']") is not None or firmware == "bios"
    assert [g.get("type") for g in xml.iterfind("devices/graphics")] == ([] if graphics == "none" else [graphics])
    assert xml.find("devices/channel/target[@name='org.qemu.guest_agent.0']") is not None
    ports = xml.findall("devices/controller[@model='pcie-root-port']")
    assert len(ports) == (16 if machine == "q35" else 0), "disks can be plugged in"


def test_a_template_without_a_disk_is_an_error() -> None:
    with pytest.raises(InvalidError, match="the template of VM 'web-1' has no disk"):
        domain_edit.new_vm("<domain><devices/></domain>", "web-1", "qemu", "/x", RECORD)


@pytest.mark.parametrize("image_format", ["vmdk", "iso", "luks", "dir"])
def test_a_format_that_no_vm_is_run_from(image_format: str) -> None:
    with pytest.raises(RefusedError, match=f"volume 'x' is in the format '{image_format}'.*qemu-img convert"):
        hardware_xml.check_bootable("x", image_format)
