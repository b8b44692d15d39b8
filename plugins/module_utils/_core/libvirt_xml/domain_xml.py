"""Domain XML, read: what a VM is, as its definition has it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..errors import InvalidError, RefusedError
from ..hypervisor import Domain
from ..vm.record import ANY_NAMESPACE, Record, from_metadata
from .xml_elements import attribute

_KIB = {
    "b": 1 / 1024,
    "bytes": 1 / 1024,
    "KB": 1000 / 1024,
    "k": 1,
    "KiB": 1,
    "M": 1024,
    "MiB": 1024,
    "G": 1024**2,
    "GiB": 1024**2,
}


@dataclass(frozen=True)
class Disk:
    """A disk, CD or floppy drive; ``source`` is the path of its file or device, empty for an empty drive.

    Of a disk that is given by storage pool and volume ``volume`` has these two, and ``source`` is empty.
    """

    device: str
    bus: str
    target: str
    source: str
    format: str
    read_only: bool
    boot_order: int | None
    serial: str = ""
    volume: tuple[str, str] | None = None


@dataclass(frozen=True)
class Nic:
    """A network card. ``network`` is the libvirt network, or the bridge or device that it is connected to."""

    mac: str
    network: str
    model: str


@dataclass(frozen=True)
class Network:
    """A network card that is asked for; an empty MAC address is left to libvirt."""

    network: str
    mac: str = ""
    model: str = "virtio"


@dataclass(frozen=True)
class Vm:
    """A VM as its stored definition has it; ``memory`` is in KiB. ``record`` is None for a VM that is not ours."""

    domain: Domain
    record: Record | None
    cpus: int
    memory: int
    description: str
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]

    @property
    def name(self) -> str:
        """The name of the domain."""
        return self.domain.name

    @property
    def root_disk(self) -> Disk | None:
        """The disk that the VM boots from: ours by its volume's name, else the first of its boot order.

        While our root is detached, another one may be in its place.
        """
        disks = [disk for disk in self.disks if disk.device == "disk"]
        if self.record is not None and self.record.detached_disk:
            return next((disk for disk in disks if disk.target == self.record.stand_in), None)
        if self.record is not None:
            volume = self.record.root.volume
            return next((disk for disk in disks if disk.source.rpartition("/")[2] == volume), None)
        ordered = sorted((disk for disk in disks if disk.boot_order), key=lambda disk: disk.boot_order or 0)
        return next(iter([*ordered, *disks]), None)

    def managed(self) -> Record:
        """Return its record, or refuse a VM that is not ours."""
        if self.record is None:
            raise RefusedError(
                f"VM {self.name!r} was not made from a template by this collection; "
                "publish it as a template version and make a new VM from that"
            )
        return self.record


_TARGET = re.compile(r"(?:xv|[vshf])d([a-z]+)")


def letter_index(target: str) -> int | None:
    """Return the place of a disk's target among those of its bus: 0 of ``vda``, 25 of ``sdz``, 26 of ``sdaa``."""
    match = _TARGET.fullmatch(target)
    if match is None:
        return None
    index = 0
    for letter in match[1]:
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


@lru_cache(maxsize=4096)
def read(domain: Domain) -> Vm:
    """Return what a domain's definition says. One that a task has looked at before is not parsed again."""
    xml = ET.fromstring(domain.xml)
    return Vm(
        domain=domain,
        record=from_metadata(xml.find("metadata"), domain.name, domain.uuid),
        cpus=int(xml.findtext("vcpu", "1")),
        memory=_kib(xml.find("memory")),
        description=xml.findtext("description", ""),
        disks=tuple(_disk(disk) for disk in xml.iterfind("devices/disk")),
        nics=tuple(_nic(nic) for nic in xml.iterfind("devices/interface")),
    )


def record_of(domain: Domain) -> Record | None:
    """Return the record of a domain; those of others are not parsed for it."""
    return read(domain).record if ANY_NAMESPACE in domain.xml else None


def managed_of(domains: Iterable[Domain]) -> tuple[list[tuple[Domain, Record]], dict[str, str]]:
    """Return the domains that are ours with their records, and of those that cannot be read what is wrong, by name."""
    found, damaged = [], {}
    for domain in domains:
        try:
            record = record_of(domain)
        except InvalidError as error:
            damaged[domain.name] = error.message
            continue
        if record is not None:
            found.append((domain, record))
    return found, damaged


def disks_of(xml: str) -> tuple[Disk, ...]:
    """Return the disks of a template's hardware description."""
    return tuple(_disk(disk) for disk in ET.fromstring(xml).iterfind("devices/disk"))


def disk_of(xml: str) -> Disk:
    """Return the one disk that this XML describes."""
    return _disk(ET.fromstring(xml))


def machine_of(xml: str) -> str:
    """Return the machine type of a definition, such as ``pc-q35-7.2``."""
    return attribute(ET.fromstring(xml), "os/type", "machine")


def has_scsi(xml: str) -> bool:
    """Whether a definition has a SCSI controller."""
    return ET.fromstring(xml).find("devices/controller[@type='scsi']") is not None


def nics_of(xml: str) -> tuple[Nic, ...]:
    """Return the network cards of a template's hardware description."""
    return tuple(_nic(nic) for nic in ET.fromstring(xml).iterfind("devices/interface"))


def networks_of(xml: str) -> list[str]:
    """Return the libvirt networks that a definition's network cards are on, the first first."""
    cards = ET.fromstring(xml).findall("devices/interface[@type='network']/source")
    return list(dict.fromkeys(source.get("network", "") for source in cards))


def agent_state(live_xml: str) -> str:
    """Return whether the guest agent of a running VM is ``connected`` or ``disconnected``; empty: not known."""
    target = ET.fromstring(live_xml).find("devices/channel/target[@name='org.qemu.guest_agent.0']")
    return "" if target is None else target.get("state", "")


def canonical(xml: str) -> str:
    """Return the XML in the one form in which equal descriptions are equal texts."""
    return ET.canonicalize(xml, strip_text=True)


# --- parts ---------------------------------------------------------------------------------------------------------


def _kib(memory: ET.Element | None) -> int:
    if memory is None or not memory.text:
        raise InvalidError("a definition without an amount of memory")
    unit = memory.get("unit", "KiB")
    if unit not in _KIB:
        raise InvalidError(f"a definition has its memory in the unknown unit {unit!r}")
    return int(int(memory.text) * _KIB[unit])


def _disk(disk: ET.Element) -> Disk:
    source = disk.find("source")
    path = "" if source is None else source.get("file") or source.get("dev") or source.get("name") or ""
    order = attribute(disk, "boot", "order")
    return Disk(
        device=disk.get("device", "disk"),
        bus=attribute(disk, "target", "bus"),
        target=attribute(disk, "target", "dev"),
        source=path,
        format=attribute(disk, "driver", "type") or "raw",
        read_only=disk.find("readonly") is not None,
        boot_order=int(order) if order else None,
        serial=disk.findtext("serial", ""),
        volume=None
        if source is None or not source.get("volume")
        else (source.get("pool", ""), source.get("volume", "")),
    )


def _nic(nic: ET.Element) -> Nic:
    source = nic.find("source")
    attributes = {} if source is None else source.attrib
    return Nic(
        mac=attribute(nic, "mac", "address"),
        network=attributes.get("network") or attributes.get("bridge") or attributes.get("dev") or "",
        model=attribute(nic, "model", "type"),
    )
