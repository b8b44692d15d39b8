"""Domain XML, edited: the few changes that we make to a definition; all else of it stays."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..errors import InvalidError
from ..vm.record import NAMESPACE, Record, to_element
from .domain_xml import Network
from .xml_elements import attribute, child, drop, text_of


def with_record(xml: str, record: Record) -> str:
    """Return the definition with this record in place of the one that it has."""
    domain = ET.fromstring(xml)
    set_record(domain, record)
    return text_of(domain)


def with_root(xml: str, target: str, path: str, record: Record) -> str:
    """Return the definition with another root volume at the disk ``target``, and the record that tells of it."""
    domain = ET.fromstring(xml)
    for disk in domain.iterfind("devices/disk"):
        if attribute(disk, "target", "dev") == target:
            set_source(disk, path, "qcow2")
            set_record(domain, record)
            return text_of(domain)
    raise InvalidError(f"the definition of VM {domain.findtext('name')!r} has no disk {target!r}")


def with_changes(
    xml: str,
    *,
    cpus: int | None = None,
    memory: int | None = None,
    networks: tuple[Network, ...] | None = None,
    description: str | None = None,
) -> str:
    """Return a definition, or a template's hardware, with other CPUs, memory (KiB), network cards, description."""
    domain = ET.fromstring(xml)
    if cpus is not None:
        vcpu = child(domain, "vcpu")
        vcpu.text = str(cpus)
        vcpu.attrib.pop("current", None)
        drop(domain, "vcpus", "cpu/topology", "cpu/numa")
    if memory is not None:
        drop(domain, "currentMemory")
        element = child(domain, "memory")
        element.text, element.attrib = str(memory), {"unit": "KiB"}
    if networks is not None:
        set_networks(child(domain, "devices"), networks)
    if description is not None:
        drop(domain, "description")
        if description:
            child(domain, "description").text = description
    return text_of(domain)


def new_vm(template: str, name: str, virt_type: str, path: str, record: Record) -> str:
    """Return the definition of a new VM from a template's hardware; ``path`` is that of its root volume."""
    domain = ET.fromstring(template)
    domain.set("type", virt_type)
    for tag, text in (("uuid", record.vm), ("name", name)):
        if text:
            element = ET.Element(tag)
            element.text = text
            domain.insert(0, element)
    cpu = domain.find("cpu")
    if virt_type != "kvm" and cpu is not None and cpu.get("mode") in ("host-model", "host-passthrough"):
        # Without KVM there is no host processor to show to the guest.
        domain.remove(cpu)
    disk = domain.find("devices/disk[@device='disk']")
    if disk is None:
        raise InvalidError(f"the template of VM {name!r} has no disk")
    set_source(disk, path, "qcow2")
    set_record(domain, record)
    return text_of(domain)


# --- parts ---------------------------------------------------------------------------------------------------------


def set_record(domain: ET.Element, record: Record) -> None:
    metadata = child(domain, "metadata")
    ours = metadata.find(f"{{{NAMESPACE}}}vm")
    if ours is None:
        metadata.append(to_element(record))
    else:
        metadata[list(metadata).index(ours)] = to_element(record)


def set_source(disk: ET.Element, path: str, image_format: str, *, block: bool = False) -> None:
    """Make it a disk on a file or a block device. Not on a volume: for those AppArmor does not let QEMU read the image
    below."""
    disk.set("type", "block" if block else "file")
    drop(disk, "source", "backingStore", "auth")
    driver = disk.find("driver")
    if driver is None:
        driver = ET.Element("driver", name="qemu")
        disk.insert(0, driver)
    driver.set("type", image_format)
    disk.insert(1, ET.Element("source", {"dev" if block else "file": path}))


def set_networks(devices: ET.Element, networks: tuple[Network, ...]) -> None:
    """Replace the network cards, each in its old place, so that the guest finds the card where it was."""
    old = devices.findall("interface")
    for nic in old:
        devices.remove(nic)
    for index, wanted in enumerate(networks):
        nic = ET.SubElement(devices, "interface", type="network")
        mac = wanted.mac or (attribute(old[index], "mac", "address") if index < len(old) else "")
        if mac:
            ET.SubElement(nic, "mac", address=mac)
        ET.SubElement(nic, "source", network=wanted.network)
        ET.SubElement(nic, "model", type=wanted.model)
        address = old[index].find("address") if index < len(old) else None
        if address is not None:
            nic.append(address)
