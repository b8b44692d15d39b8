"""Domain XML: what a VM is, read from its definition, and the few edits that we make to it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

from .errors import InvalidError, RefusedError
from .hypervisor import Domain
from .record import NAMESPACE, Record, from_metadata, to_element

# Namespaces that libvirt and its tools use; registered, so that they keep their usual prefixes.
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
ET.register_namespace("libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")

BIOS, EFI, EFI_SECURE = "bios", "efi", "efi_secure"
"""The firmwares of a disk image that came without hardware."""

_BOOTABLE = ("raw", "qcow2")
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
    """A disk, CD or floppy drive; ``source`` is the path of its file or device, empty for an empty drive."""

    device: str
    bus: str
    target: str
    source: str
    format: str
    read_only: bool
    boot_order: int | None


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
        """The disk that the VM boots from: ours by its volume's name, else the first of its boot order."""
        disks = [disk for disk in self.disks if disk.device == "disk"]
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


def read(domain: Domain) -> Vm:
    """Return what a domain's definition says."""
    xml = ET.fromstring(domain.xml)
    return Vm(
        domain=domain,
        record=from_metadata(xml.find("metadata"), domain.name),
        cpus=int(xml.findtext("vcpu", "1")),
        memory=_kib(xml.find("memory")),
        description=xml.findtext("description", ""),
        disks=tuple(_disk(disk) for disk in xml.iterfind("devices/disk")),
        nics=tuple(_nic(nic) for nic in xml.iterfind("devices/interface")),
    )


def record_of(domain: Domain) -> Record | None:
    """Return only the record of a domain: what lists of many VMs need."""
    if NAMESPACE not in domain.xml:
        return None
    return from_metadata(ET.fromstring(domain.xml).find("metadata"), domain.name)


def disks_of(xml: str) -> tuple[Disk, ...]:
    """Return the disks of a template's hardware description."""
    return tuple(_disk(disk) for disk in ET.fromstring(xml).iterfind("devices/disk"))


def nics_of(xml: str) -> tuple[Nic, ...]:
    """Return the network cards of a template's hardware description."""
    return tuple(_nic(nic) for nic in ET.fromstring(xml).iterfind("devices/interface"))


def canonical(xml: str) -> str:
    """Return the XML in the one form in which equal descriptions are equal texts."""
    return ET.canonicalize(xml, strip_text=True)


# --- edits ---------------------------------------------------------------------------------------------------------


def with_record(xml: str, record: Record) -> str:
    """Return the definition with this record in place of the one that it has."""
    domain = ET.fromstring(xml)
    _set_record(domain, record)
    return _text(domain)


def with_root(xml: str, target: str, path: str, record: Record) -> str:
    """Return the definition with another root volume at the disk ``target``, and the record that tells of it."""
    domain = ET.fromstring(xml)
    for disk in domain.iterfind("devices/disk"):
        if _attribute(disk, "target", "dev") == target:
            _set_source(disk, path, "qcow2")
            _set_record(domain, record)
            return _text(domain)
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
        vcpu = _child(domain, "vcpu")
        vcpu.text = str(cpus)
        vcpu.attrib.pop("current", None)
        _drop(domain, "vcpus", "cpu/topology", "cpu/numa")
    if memory is not None:
        _drop(domain, "currentMemory")
        element = _child(domain, "memory")
        element.text, element.attrib = str(memory), {"unit": "KiB"}
    if networks is not None:
        _set_networks(_child(domain, "devices"), networks)
    if description is not None:
        _drop(domain, "description")
        if description:
            _child(domain, "description").text = description
    return _text(domain)


def template_of(vm: Vm) -> str:
    """Return the hardware description of a VM: its definition without what makes it that one VM on that one host."""
    domain = ET.fromstring(vm.domain.xml)
    domain.attrib = {}
    _drop(
        domain, "name", "uuid", "genid", "title", "description", "metadata", "seclabel", "resource",
        "sysinfo/system/entry[@name='uuid']", "sysinfo/system/entry[@name='serial']",
        "devices/emulator", "devices/hostdev", "devices/shmem", "devices/interface/mac", "devices/interface/target",
        "devices/interface/bandwidth", "devices/channel/source", "devices/serial/source", "devices/console/source",
        "devices/serial/log", "devices/console/log", "devices/tpm/backend/source",
    )  # fmt: skip
    _forget_firmware_files(domain)
    _forget_disks(domain, vm.root_disk)
    for graphics in domain.iterfind("devices/graphics"):
        for name in ("passwd", "passwdValidTo", "connected", "socket"):
            graphics.attrib.pop(name, None)
        if graphics.get("autoport") != "yes" and graphics.get("port"):
            graphics.attrib.pop("port")
            graphics.set("autoport", "yes")
    for alias in domain.findall(".//alias/.."):
        _drop(alias, "alias")
    return _text(domain)


def default_template(arch: str, firmware: str, graphics: str) -> str:
    """Return the hardware of a disk image that came without any: what is common to current operating systems."""
    domain = ET.Element("domain")
    ET.SubElement(domain, "memory", unit="KiB").text = str(1024**2)
    ET.SubElement(domain, "vcpu").text = "1"
    os = ET.SubElement(domain, "os")
    if firmware != BIOS:
        os.set("firmware", "efi")
        # Said explicitly: left to itself, libvirt takes the firmware that boots nothing but what Microsoft has signed.
        secure = "yes" if firmware == EFI_SECURE else "no"
        ET.SubElement(ET.SubElement(os, "firmware"), "feature", name="secure-boot", enabled=secure)
    os_type = ET.SubElement(os, "type", arch=arch)
    os_type.text = "hvm"
    if arch == "x86_64":
        os_type.set("machine", "q35")
    ET.SubElement(os, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    if arch in ("x86_64", "i686", "aarch64"):
        ET.SubElement(features, "acpi")
    ET.SubElement(domain, "cpu", mode="host-model")
    devices = ET.SubElement(domain, "devices")
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    _set_networks(devices, (Network("default"),))
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    ET.SubElement(devices, "console", type="pty")
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    if graphics != "none":
        ET.SubElement(devices, "graphics", type=graphics, autoport="yes")
    return _text(domain)


def new_vm(template: str, name: str, virt_type: str, path: str, record: Record) -> str:
    """Return the definition of a new VM from a template's hardware; ``path`` is that of its root volume."""
    domain = ET.fromstring(template)
    domain.set("type", virt_type)
    element = ET.Element("name")
    element.text = name
    domain.insert(0, element)
    cpu = domain.find("cpu")
    if virt_type != "kvm" and cpu is not None and cpu.get("mode") in ("host-model", "host-passthrough"):
        # Without KVM there is no host processor to show to the guest.
        domain.remove(cpu)
    disk = domain.find("devices/disk[@device='disk']")
    if disk is None:
        raise InvalidError(f"the template of VM {name!r} has no disk")
    _set_source(disk, path, "qcow2")
    _set_record(domain, record)
    return _text(domain)


def check_bootable(volume: str, image_format: str) -> None:
    """Refuse a disk image of a format that QEMU is not to boot a VM from."""
    if image_format not in _BOOTABLE:
        raise RefusedError(
            f"volume {volume!r} is in the format {image_format!r}, which this collection does not run VMs from; "
            "convert it to qcow2 first, for example with 'qemu-img convert -O qcow2'"
        )


# --- parts ---------------------------------------------------------------------------------------------------------


def _text(element: ET.Element) -> str:
    ET.indent(element)
    return ET.tostring(element, encoding="unicode")


def _child(parent: ET.Element, name: str) -> ET.Element:
    found = parent.find(name)
    return ET.SubElement(parent, name) if found is None else found


def _drop(root: ET.Element, *paths: str) -> None:
    for path in paths:
        parent_path, name = path.rpartition("/")[::2]
        parents = root.findall(parent_path) if parent_path else [root]
        for parent in parents:
            for child in parent.findall(name):
                parent.remove(child)


def _attribute(element: ET.Element, path: str, name: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(name, "")


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
    order = _attribute(disk, "boot", "order")
    return Disk(
        device=disk.get("device", "disk"),
        bus=_attribute(disk, "target", "bus"),
        target=_attribute(disk, "target", "dev"),
        source=path,
        format=_attribute(disk, "driver", "type") or "raw",
        read_only=disk.find("readonly") is not None,
        boot_order=int(order) if order else None,
    )


def _nic(nic: ET.Element) -> Nic:
    source = nic.find("source")
    attributes = {} if source is None else source.attrib
    return Nic(
        mac=_attribute(nic, "mac", "address"),
        network=attributes.get("network") or attributes.get("bridge") or attributes.get("dev") or "",
        model=_attribute(nic, "model", "type"),
    )


def _set_record(domain: ET.Element, record: Record) -> None:
    metadata = _child(domain, "metadata")
    ours = metadata.find(f"{{{NAMESPACE}}}vm")
    if ours is None:
        metadata.append(to_element(record))
    else:
        metadata[list(metadata).index(ours)] = to_element(record)


def _set_source(disk: ET.Element, path: str, image_format: str) -> None:
    """Make it a disk on a file. A file, not a volume: for those AppArmor does not let QEMU read the image below."""
    disk.set("type", "file")
    _drop(disk, "source", "backingStore", "auth")
    driver = disk.find("driver")
    if driver is None:
        driver = ET.Element("driver", name="qemu")
        disk.insert(0, driver)
    driver.set("type", image_format)
    disk.insert(1, ET.Element("source", file=path))


def _set_networks(devices: ET.Element, networks: tuple[Network, ...]) -> None:
    """Replace the network cards, each in its old place, so that the guest finds the card where it was."""
    old = devices.findall("interface")
    for nic in old:
        devices.remove(nic)
    for index, wanted in enumerate(networks):
        nic = ET.SubElement(devices, "interface", type="network")
        mac = wanted.mac or (_attribute(old[index], "mac", "address") if index < len(old) else "")
        if mac:
            ET.SubElement(nic, "mac", address=mac)
        ET.SubElement(nic, "source", network=wanted.network)
        ET.SubElement(nic, "model", type=wanted.model)
        address = old[index].find("address") if index < len(old) else None
        if address is not None:
            nic.append(address)


def _forget_firmware_files(domain: ET.Element) -> None:
    """Leave the choice of firmware files to the host, and give each VM variables (nvram) of its own."""
    os = domain.find("os")
    if os is None:
        return
    if os.get("firmware"):
        _drop(os, "loader", "nvram")
        return
    nvram = os.find("nvram")
    if nvram is not None:
        nvram.text = None
        _drop(nvram, "source")
        if not nvram.attrib:
            os.remove(nvram)


def _forget_disks(domain: ET.Element, root: Disk | None) -> None:
    """Keep the root disk's place and the empty drives: a version is one image."""
    devices = _child(domain, "devices")
    for disk in devices.findall("disk"):
        is_root = root is not None and _attribute(disk, "target", "dev") == root.target
        if not is_root and disk.get("device") != "cdrom":
            devices.remove(disk)
            continue
        _drop(disk, "source", "backingStore", "serial", "auth", "encryption", "iotune")
        disk.set("type", "file")
        if is_root:
            driver = _child(disk, "driver")
            driver.set("name", "qemu")
            driver.set("type", "qcow2")
