"""How a guest is told where it fetches its payload from: the serial number in the SMBIOS of a VM's definition."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET

from ..errors import RefusedError
from ..vm.record import NAMESPACE, Payload
from .xml_elements import attribute, child, drop

NETWORK = "network"
PORT = 330
"""Where payloads are served: on one port for all VMs, below 1024, so that no mere user can be there first."""

_SERIAL = "sysinfo[@type='smbios']/system/entry[@name='serial']"
_WITH_SMBIOS = ("x86_64", "i686", "aarch64", "armv7l")


def seed_url(address: str, uuid: str, sha256: str, path: str) -> str:
    """Return the URL of a payload at an address of the hypervisor: the same for the same volume of the same VM, and not
    one that another guest could guess."""
    token = hashlib.sha256("\n".join((uuid, sha256, path)).encode()).hexdigest()[:32]
    return f"http://{address}:{PORT}/{token}/"


def check_smbios(vm: str, xml: str, present: Payload | None) -> None:
    """Refuse a VM whose serial number cannot tell its guest of a payload, or tells it something else."""
    domain = ET.fromstring(xml)
    arch, mode = attribute(domain, "os/type", "arch"), attribute(domain, "os/smbios", "mode")
    if arch not in _WITH_SMBIOS:
        raise RefusedError(
            f"VM {vm!r} is of the architecture {arch!r}, which has no SMBIOS to tell the guest of a payload over the "
            "network; use a CD (type: cdrom)"
        )
    if present is not None and present.type == NETWORK:
        return
    if serial_of(domain):
        raise RefusedError(
            f"VM {vm!r} has a serial number in its SMBIOS already, in which a payload over the network is told; remove "
            f"it ('virsh edit {vm}', element sysinfo), or use a CD (type: cdrom)"
        )
    if mode == "host" or (mode != "sysinfo" and domain.find("sysinfo[@type='smbios']") is not None):
        shown = "that of its host" if mode == "host" else "not that of its element sysinfo"
        raise RefusedError(
            f"VM {vm!r} shows its guest an SMBIOS that is {shown}, where a payload over the network cannot be told; "
            f"change that ('virsh edit {vm}', element smbios) to mode='sysinfo', or use a CD (type: cdrom)"
        )


def serial_of(domain: ET.Element) -> str:
    """Return the serial number that a definition gives its VM, or an empty text."""
    return (domain.findtext(_SERIAL) or "").strip()


def serial_for(url: str) -> str:
    """Return the serial number by which cloud-init learns where its data are.

    Without the mode, older versions, such as 22.4 of Debian 12, fetch them and then do nothing with them.
    """
    return f"ds=nocloud;s={url};dsmode=net"


def set_serial(domain: ET.Element, serial: str) -> None:
    """Give a definition this serial number, or with an empty text none; what it has besides in its SMBIOS stays."""
    sysinfo = domain.find("sysinfo[@type='smbios']")
    if sysinfo is None:
        sysinfo = ET.SubElement(domain, "sysinfo", type="smbios")
    system = child(sysinfo, "system")
    drop(system, "entry[@name='serial']")
    if serial:
        ET.SubElement(system, "entry", name="serial").text = serial
        child(child(domain, "os"), "smbios").set("mode", "sysinfo")
        return
    if not len(system):
        sysinfo.remove(system)
    if not len(sysinfo):  # nothing is left that libvirt could show
        domain.remove(sysinfo)
        drop(domain, "os/smbios")


def seed_in(domain: ET.Element) -> str:
    """Return the path of the volume that a definition tells its guest to fetch, or an empty text."""
    payload = domain.find(f"metadata/{{{NAMESPACE}}}vm/{{{NAMESPACE}}}payload[@type='{NETWORK}']")
    if payload is None or serial_of(domain) != serial_for(payload.get("url", "")):
        return ""
    return payload.get("path", "")
