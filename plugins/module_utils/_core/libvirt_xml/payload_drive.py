"""How a payload is shown to a VM: the drive that it is in, the entry of fw_cfg, or the place in the network that the
VM's definition tells of."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .. import names
from ..errors import RefusedError
from ..payload.payload_files import CDROM, FLOPPY
from ..vm.record import Payload, Record
from .disk_xml import find_disk, scsi_controller, target_name
from .domain_edit import set_record, set_source
from .domain_xml import Disk
from .payload_seed import NETWORK, seed_in, serial_for, serial_of, set_serial
from .xml_elements import attribute, child, drop, text_of

FW_CFG = "fw_cfg"
ADDED, EXISTING = "added", "existing"

IGNITION_ENTRY = "opt/com.coreos/config"

_CALLED = {CDROM: "CD drive", FLOPPY: "floppy drive"}
_FLOPPIES = ("fda", "fdb")
_IDE_PLACES = 4
_PC = ("x86_64", "i686")
_WITH_FW_CFG = (*_PC, "aarch64", "armv7l", "riscv64")


@dataclass(frozen=True)
class Drive:
    """A drive for a payload: the target of one that the VM has, or of one that it gets, at ``bus``."""

    target: str
    bus: str
    added: bool


@dataclass(frozen=True)
class Change:
    """What of a definition is changed: drives by their targets (their XML; empty: gone), the file of fw_cfg and the
    serial number (empty: gone; None: left alone)."""

    drives: Mapping[str, str] = field(default_factory=dict)
    fw_cfg: str | None = None
    serial: str | None = None


# --- choosing --------------------------------------------------------------------------------------------------------


def choose_drive(vm: str, xml: str, disks: Iterable[Disk], payload_type: str, present: Payload | None) -> Drive:
    """Return the drive for a payload; ``disks`` are those of the stored definition ``xml`` and of the live one,
    ``present`` is the payload that the VM has.

    A CD or a floppy that the user has put in is left alone: the VM is refused.
    """
    disks = tuple(disks)
    ours = {disk.target for disk in disks if names.payload_vm(disk.source.rpartition("/")[2]) == vm}
    drives = [disk for disk in disks if disk.device == payload_type]
    own = present.target if present is not None and present.type == payload_type else ""
    for disk in drives:
        if disk.target not in {own, *ours} and (disk.source or disk.volume):
            called, source = _CALLED[payload_type], disk.source or "/".join(disk.volume or ())
            raise RefusedError(
                f"VM {vm!r} has {source} in its {called} {disk.target!r}, and a payload needs the only one; take that "
                f"out ('virsh change-media {vm} {disk.target} --eject') first"
            )
    stored = [disk for disk in drives if find_disk(xml, disk.target)]
    for disk in sorted(stored, key=lambda disk: disk.target != own):
        added = disk.target == own and present is not None and present.drive == ADDED
        return Drive(disk.target, disk.bus, added)
    bus = _bus_of_floppies(vm, xml) if payload_type == FLOPPY else _bus_of_cds(xml)
    taken = {disk.target for disk in disks if find_disk(xml, disk.target) or disk.target not in ours}
    return Drive(_free_target(vm, xml, taken, bus), bus, added=True)


def check_fw_cfg(vm: str, xml: str, present: Payload | None) -> None:
    """Refuse a VM that has no fw_cfg, or something else in its place for Ignition."""
    arch = attribute(ET.fromstring(xml), "os/type", "arch")
    if arch not in _WITH_FW_CFG:
        raise RefusedError(f"VM {vm!r} is of the architecture {arch!r}, which has no fw_cfg; use a CD (type: cdrom)")
    if _fw_cfg_entries(ET.fromstring(xml)) and not (present is not None and present.type == FW_CFG):
        raise RefusedError(
            f"VM {vm!r} has an entry {IGNITION_ENTRY!r} for Ignition in its definition already; remove it "
            f"('virsh edit {vm}', element sysinfo) first"
        )


def _bus_of_cds(xml: str) -> str:
    os_type = ET.fromstring(xml).find("os/type")
    machine, arch = ("", "") if os_type is None else (os_type.get("machine", ""), os_type.get("arch", ""))
    if "q35" in machine:
        return "sata"
    return "ide" if arch in _PC and (machine.startswith("pc") or not machine) else "scsi"


def _bus_of_floppies(vm: str, xml: str) -> str:
    os_type = ET.fromstring(xml).find("os/type")
    machine, arch = ("", "") if os_type is None else (os_type.get("machine", ""), os_type.get("arch", ""))
    if arch not in _PC or not ("q35" in machine or machine.startswith("pc") or not machine):
        raise RefusedError(
            f"VM {vm!r} is of the machine type {machine or arch!r}, whose guests see no floppies; use 'type: cdrom'"
        )
    return "fdc"


def _free_target(vm: str, xml: str, targets: set[str], bus: str) -> str:
    if bus == "fdc":
        free = next((target for target in _FLOPPIES if target not in targets), None)
    else:
        taken = _places(xml, bus)
        places = _IDE_PLACES if bus == "ide" else len(targets) + len(taken) + 1
        indexes = (index for index in range(places) if index not in taken)
        free = next((target for index in indexes if (target := target_name(bus, index)) not in targets), None)
    if free is None:
        raise RefusedError(
            f"VM {vm!r} has no room for one more drive at its bus {bus!r}; detach a disk from that bus, or give the VM "
            "an empty drive"
        )
    return free


def _places(xml: str, bus: str) -> set[int]:
    """Return the places on a bus that disks have, whatever the letters of their targets say."""
    taken = set()
    for disk in ET.fromstring(xml).iterfind("devices/disk"):
        address = disk.find("address[@type='drive']")
        if attribute(disk, "target", "bus") == bus and address is not None:
            controller, channel, unit = (int(address.get(name, "0")) for name in ("controller", "bus", "unit"))
            taken.add(channel * 2 + unit if bus == "ide" else controller * (6 if bus == "sata" else 7) + unit)
    return taken


# --- drives ----------------------------------------------------------------------------------------------------------


def filled(xml: str, drive: Drive, payload_type: str, path: str) -> str:
    """Return the drive of a definition, or the new one, with this file in it."""
    present = find_disk(xml, drive.target)
    if not present:
        disk = ET.Element("disk", type="file", device=payload_type)
        ET.SubElement(disk, "driver", name="qemu", type="raw")
        ET.SubElement(disk, "target", dev=drive.target, bus=drive.bus)
        ET.SubElement(disk, "readonly")
        present = ET.tostring(disk, encoding="unicode")
    return with_source(present, path)


def with_source(disk_text: str, path: str) -> str:
    """Return a drive with this file in it, read-only, or with nothing."""
    disk = ET.fromstring(disk_text)
    if path and source_of(disk_text) == path and attribute(disk, "driver", "type") == "raw":
        return disk_text
    set_source(disk, path, "raw")
    if path:
        child(disk, "readonly")
    else:
        drop(disk, "source")
    return ET.tostring(disk, encoding="unicode")


def source_of(disk_text: str) -> str:
    """Return the file in a drive, or an empty text."""
    return attribute(ET.fromstring(disk_text), "source", "file") if disk_text else ""


def file_in(xml: str, payload: Payload) -> str:
    """Return what a definition has in the drive of a payload, in its entry of fw_cfg, or in the place in the network
    that it tells of; empty for nothing."""
    if payload.type == NETWORK:
        serial = serial_of(ET.fromstring(xml))
        return payload.path if serial == serial_for(payload.url) else serial
    if payload.type == FW_CFG:
        return next((entry.get("file", "") for entry in _fw_cfg_entries(ET.fromstring(xml))), "")
    disk = find_disk(xml, payload.target)
    if not disk:
        return ""
    source = ET.fromstring(disk).find("source")
    return "" if source is None else next((source.attrib[name] for name in _NAMING if name in source.attrib), "")


_NAMING = ("file", "dev", "volume", "name", "dir")
"""The attributes by which a source names what is in a drive."""


def files_of(xml: str) -> set[str]:
    """Return the files that a definition names: those of its disks, of fw_cfg, and of a payload over the network."""
    domain = ET.fromstring(xml)
    found = {source.get("file", "") for source in domain.iterfind("devices/disk/source")}
    found |= {entry.get("file", "") for entry in domain.iterfind("sysinfo[@type='fwcfg']/entry")}
    return (found | {seed_in(domain)}) - {""}


# --- definitions -----------------------------------------------------------------------------------------------------


def changed(xml: str, change: Change, record: Record) -> str:
    """Return a definition with a change, and the record that tells of it."""
    domain = ET.fromstring(xml)
    devices = child(domain, "devices")
    for target, disk_text in change.drives.items():
        _set_disk(devices, target, disk_text)
    if change.fw_cfg is not None:
        _set_fw_cfg(domain, change.fw_cfg)
    if change.serial is not None:
        set_serial(domain, change.serial)
    set_record(domain, record)
    return text_of(domain)


def reverse(xml: str, change: Change) -> Change:
    """Return the change that brings back what a change takes from this definition."""
    domain = ET.fromstring(xml)
    present = next((entry.get("file", "") for entry in _fw_cfg_entries(domain)), "")
    return Change(
        {target: find_disk(xml, target) for target in change.drives},
        None if change.fw_cfg is None else present,
        None if change.serial is None else serial_of(domain),
    )


def _set_disk(devices: ET.Element, target: str, disk_text: str) -> None:
    places = [place for place, device in enumerate(devices) if device.tag == "disk"]
    present = next((place for place in places if attribute(devices[place], "target", "dev") == target), None)
    if present is not None:
        del devices[present]
    if not disk_text:
        return
    disk = ET.fromstring(disk_text)
    if present is None:
        present = places[-1] + 1 if places else len(devices)
    devices.insert(present, disk)
    if attribute(disk, "target", "bus") == "scsi" and devices.find("controller[@type='scsi']") is None:
        devices.append(ET.fromstring(scsi_controller()))


def _set_fw_cfg(domain: ET.Element, path: str) -> None:
    entries = _fw_cfg_entries(domain)
    if path:
        sysinfo = domain.find("sysinfo[@type='fwcfg']")
        if sysinfo is None:
            sysinfo = ET.SubElement(domain, "sysinfo", type="fwcfg")
        entry = entries[0] if entries else ET.SubElement(sysinfo, "entry", name=IGNITION_ENTRY)
        entry.text = None
        entry.set("file", path)
        return
    for sysinfo in domain.findall("sysinfo[@type='fwcfg']"):
        for entry in sysinfo.findall(f"entry[@name='{IGNITION_ENTRY}']"):
            sysinfo.remove(entry)
        if not len(sysinfo):
            domain.remove(sysinfo)


def _fw_cfg_entries(domain: ET.Element) -> list[ET.Element]:
    return domain.findall(f"sysinfo[@type='fwcfg']/entry[@name='{IGNITION_ENTRY}']")
