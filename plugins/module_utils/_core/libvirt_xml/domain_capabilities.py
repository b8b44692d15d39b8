"""Whether a host's KVM can be trusted to run a guest, told from what libvirt says of it."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

# A processor that cannot show the least 64-bit model to a guest does not run one, although /dev/kvm is there.
_BASELINE = ("kvm64", "qemu64")


def kvm_usable(capabilities: str) -> bool:
    """Whether domain capabilities for KVM have a processor that a current guest runs on."""
    xml = ET.fromstring(capabilities)
    if xml.findtext("domain") != "kvm":
        return False
    if xml.findtext("arch") != "x86_64":
        return True
    models = xml.findall("cpu/mode[@name='custom']/model")
    usable = {model.text for model in models if model.get("usable") == "yes"}
    return bool(usable.intersection(_BASELINE))


def kvm_probe() -> str:
    """Return a domain without disks that shows whether QEMU may use KVM."""
    domain = ET.Element("domain", type="kvm")
    ET.SubElement(domain, "name").text = f"golden-kvm-probe-{uuid.uuid4()}"
    ET.SubElement(domain, "memory", unit="MiB").text = "16"
    ET.SubElement(ET.SubElement(domain, "os"), "type").text = "hvm"
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(devices, "memballoon", model="none")
    return ET.tostring(domain, encoding="unicode")
