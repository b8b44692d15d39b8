"""The XML of a disk, and how it is put into a definition and taken out of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..errors import InvalidError
from ..hypervisor import Volume
from ..vm.record import Record
from .domain_edit import set_record, set_source
from .xml_elements import attribute, child, drop, text_of

TARGET_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd"}
"""How the targets of each bus begin."""


def target_name(bus: str, index: int) -> str:
    """Return the name of a disk's target: ``vda`` for 0, ``vdz`` for 25, ``vdaa`` for 26."""
    letters = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return TARGET_PREFIX[bus] + letters


def disk_xml(
    volume: Volume, target: str, bus: str, *, read_only: bool = False, serial: str = "", model: str = ""
) -> str:
    """Return the XML of a disk on a volume; ``model`` is that of a disk whose other properties it gets."""
    disk = ET.fromstring(model) if model else ET.Element("disk", device="disk")
    if not model:
        ET.SubElement(disk, "driver", name="qemu", discard="unmap")
    if (attribute(disk, "target", "dev"), attribute(disk, "target", "bus")) != (target, bus):
        drop(disk, "address", "target")
        ET.SubElement(disk, "target", dev=target, bus=bus)
    if volume.path not in (attribute(disk, "source", "file"), attribute(disk, "source", "dev")):
        set_source(disk, volume.path, image_format(volume), block=volume.type == "block")
    if serial:
        child(disk, "serial").text = serial
    if read_only:
        child(disk, "readonly")
    return ET.tostring(disk, encoding="unicode")


def disk_at(target: str) -> str:
    """Return what names a disk to libvirt that is to be removed."""
    disk = ET.Element("disk", device="disk")
    ET.SubElement(disk, "target", dev=target)
    return ET.tostring(disk, encoding="unicode")


def find_disk(xml: str, target: str) -> str:
    """Return the XML of the disk at a target, or an empty text."""
    for disk in ET.fromstring(xml).iterfind("devices/disk"):
        if attribute(disk, "target", "dev") == target:
            return ET.tostring(disk, encoding="unicode")
    return ""


def scsi_controller() -> str:
    """Return the XML of the SCSI controller that guests have drivers for; libvirt's own choice is from 1992."""
    return ET.tostring(ET.Element("controller", type="scsi", index="0", model="virtio-scsi"), encoding="unicode")


def image_format(volume: Volume) -> str:
    """Return the format in which QEMU is to read a volume."""
    return "raw" if volume.type == "block" else volume.format


def with_disk(xml: str, disk_text: str) -> str:
    """Return the definition with one more disk, as it is going to be when libvirt has attached it."""
    domain = ET.fromstring(xml)
    child(domain, "devices").append(ET.fromstring(disk_text))
    return text_of(domain)


def without_root(xml: str, target: str, record: Record | None) -> str:
    """Return the definition without its root disk, and with the record that tells of it."""
    domain = ET.fromstring(xml)
    devices = child(domain, "devices")
    devices.remove(_disk(domain, target))
    if record is not None:
        set_record(domain, record)
    return text_of(domain)


def with_root_disk(xml: str, disk_text: str, record: Record | None) -> str:
    """Return the definition with this disk as its root: in front of the others, and first to boot."""
    domain, disk = ET.fromstring(xml), ET.fromstring(disk_text)
    _boot_first(domain, disk)
    address = disk.find("address")
    if address is not None and any(ET.canonicalize(ET.tostring(other)) == ET.canonicalize(ET.tostring(address))
                                   for other in domain.iterfind("devices/*/address")):  # fmt: skip
        disk.remove(address)  # another device was plugged in there in the meantime
    devices = child(domain, "devices")
    devices.insert(0, disk)
    if attribute(disk, "target", "bus") == "scsi" and domain.find("devices/controller[@type='scsi']") is None:
        devices.append(ET.fromstring(scsi_controller()))
    if record is not None:
        set_record(domain, record)
    return text_of(domain)


# --- parts -----------------------------------------------------------------------------------------------------------


def _disk(domain: ET.Element, target: str) -> ET.Element:
    for disk in domain.iterfind("devices/disk"):
        if attribute(disk, "target", "dev") == target:
            return disk
    raise InvalidError(f"the definition of VM {domain.findtext('name')!r} has no disk {target!r}")


def _boot_first(domain: ET.Element, disk: ET.Element) -> None:
    """Let the VM boot from a disk first, in the style that it has: libvirt does not let the two be mixed."""
    orders = domain.findall("devices/*/boot[@order]")
    if orders:
        if any(order.get("order") == "1" for order in orders):
            for order in orders:
                order.set("order", str(int(order.get("order", "0")) + 1))
        child(disk, "boot").set("order", "1")
        return
    os = child(domain, "os")
    if disk.find("boot") is not None and [boot.get("dev") for boot in os.findall("boot")] in ([], ["hd"]):
        # It was the only device with an order; "hd" is what libvirt put in when it went.
        drop(os, "boot")
        child(disk, "boot").set("order", "1")
        return
    drop(disk, "boot")
    if os.find("boot[@dev='hd']") is None:
        places = [place for place, element in enumerate(os) if element.tag == "boot"]
        os.insert(places[0] if places else len(os), ET.Element("boot", dev="hd"))
