"""The hardware description of a template: taken from a VM, or made for an image that came without any."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..errors import RefusedError
from .domain_edit import set_networks
from .domain_xml import Disk, Network, Vm
from .xml_elements import attribute, child, drop, text_of

BIOS, EFI, EFI_SECURE = "bios", "efi", "efi_secure"
"""The firmwares of a disk image that came without hardware."""

_PCI_PORTS = 16
"""As many places for PCI devices does new hardware have: left to itself, libvirt leaves one to be plugged into."""

_BOOTABLE = ("raw", "qcow2")


def template_of(vm: Vm) -> str:
    """Return the hardware description of a VM: its definition without what makes it that one VM on that one host."""
    domain = ET.fromstring(vm.domain.xml)
    domain.attrib = {}
    drop(
        domain, "name", "uuid", "genid", "title", "description", "metadata", "seclabel", "resource",
        "sysinfo[@type='fwcfg']", "sysinfo/system/entry[@name='uuid']", "sysinfo/system/entry[@name='serial']",
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
        drop(alias, "alias")
    return text_of(domain)


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
    set_networks(devices, (Network("default"),))
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    ET.SubElement(devices, "console", type="pty")
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    if graphics != "none":
        ET.SubElement(devices, "graphics", type=graphics, autoport="yes")
    if arch == "x86_64":
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for port in range(1, 1 + _PCI_PORTS):
            ET.SubElement(devices, "controller", type="pci", index=str(port), model="pcie-root-port")
    return text_of(domain)


def check_bootable(volume: str, image_format: str) -> None:
    """Refuse a disk image of a format that QEMU is not to boot a VM from."""
    if image_format not in _BOOTABLE:
        raise RefusedError(
            f"volume {volume!r} is in the format {image_format!r}, which this collection does not run VMs from; "
            "convert it to qcow2 first, for example with 'qemu-img convert -O qcow2'"
        )


# --- parts ---------------------------------------------------------------------------------------------------------


def _forget_firmware_files(domain: ET.Element) -> None:
    """Leave the choice of firmware files to the host, and give each VM variables (nvram) of its own."""
    os = domain.find("os")
    if os is None:
        return
    if os.get("firmware"):
        drop(os, "loader", "nvram")
        return
    nvram = os.find("nvram")
    if nvram is not None:
        nvram.text = None
        drop(nvram, "source")
        if not nvram.attrib:
            os.remove(nvram)


def _forget_disks(domain: ET.Element, root: Disk | None) -> None:
    """Keep the root disk's place and the empty drives: a version is one image."""
    devices = child(domain, "devices")
    for disk in devices.findall("disk"):
        is_root = root is not None and attribute(disk, "target", "dev") == root.target
        if not is_root and disk.get("device") != "cdrom":
            devices.remove(disk)
            continue
        drop(disk, "source", "backingStore", "serial", "auth", "encryption", "iotune")
        disk.set("type", "file")
        if is_root:
            driver = child(disk, "driver")
            driver.set("name", "qemu")
            driver.set("type", "qcow2")
