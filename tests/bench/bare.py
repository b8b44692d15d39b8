"""The references: bare libvirt-python scripts that make the calls without which a thing cannot be done, and no others.

They decide nothing, check little and take back nothing. `bare.py restore …` runs one as a process of its own, which
loads nothing of the collection; `bare.py --as-module restore …` loads what every module of Ansible does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMESPACE = "https://golden.libvirt/vm/1"
URI = "qemu:///system"


def restore(libvirt: Any, storage_pool: str, vm: str) -> None:
    """Give a stopped VM a fresh root of version 1 of the template web, and note it in its metadata."""
    domain = libvirt.lookupByName(vm)
    pool = libvirt.storagePoolLookupByName(storage_pool)
    stream = libvirt.newStream()
    pool.storageVolLookupByName("web.v1.json").download(stream, 0, 65536)
    content = b""
    while piece := stream.recv(65536):
        content += piece
    stream.finish()
    assert json.loads(content)["status"] == "ready"
    assert not domain.listAllSnapshots()
    assert not domain.listAllCheckpoints()
    assert ET.fromstring(pool.XMLDesc()).findtext("available") != "0"
    assert pool.storageVolLookupByName("web.v1.qcow2").XMLDesc()
    assert pool.listAllVolumes()
    xml = ET.fromstring(domain.XMLDesc(2))
    source = xml.find("devices/disk/source")
    assert source is not None
    old = Path(source.attrib["file"])
    generation = int(old.name.split(".")[-2]) + 1
    name = f"{vm}.root.{generation}.qcow2"
    new = pool.createXML(overlay(name, old.parent / "web.v1.qcow2"))
    source.set("file", new.path())
    ours = xml.find(f"metadata/{{{NAMESPACE}}}vm")
    assert ours is not None
    root = ours.find(f"{{{NAMESPACE}}}root")
    assert root is not None
    root.set("volume", name)
    ours.set("generation", str(generation))
    libvirt.defineXML(ET.tostring(xml, encoding="unicode"))
    pool.storageVolLookupByName(old.name).delete()
    for element in ours.iter():
        element.tag = element.tag.rpartition("}")[2]
    libvirt.lookupByName(vm).setMetadata(2, ET.tostring(ours, encoding="unicode"), "golden", NAMESPACE, 2)


def roll(libvirt: Any, batch: str, storage_pool: str, image: str, *vms: str) -> None:
    """Move running VMs, so many at once, onto fresh roots on an image, and wait for their guest agents."""
    for some in _batches(batch, vms):
        _roll(libvirt, storage_pool, Path(image), some)


def _batches(size: str, vms: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for first in range(0, len(vms), int(size)):
        yield vms[first : first + int(size)]


def _roll(libvirt: Any, storage_pool: str, image: Path, vms: tuple[str, ...]) -> None:
    pool = libvirt.storagePoolLookupByName(storage_pool)
    capacity = pool.storageVolLookupByName(image.name).info()[1]
    domains = [libvirt.lookupByName(vm) for vm in vms]
    old, definitions = [], []
    for domain in domains:
        xml = ET.fromstring(domain.XMLDesc(2))
        source = xml.find("devices/disk/source")
        ours = xml.find(f"metadata/{{{NAMESPACE}}}vm")
        assert source is not None
        assert ours is not None
        before = Path(source.attrib["file"])
        number = int(before.name.split(".")[-2]) + 1
        new = pool.createXML(overlay(f"{domain.name()}.root.{number}.qcow2", image, capacity))
        source.set("file", new.path())
        ours.set("generation", str(number))
        root = ours.find(f"{{{NAMESPACE}}}root")
        assert root is not None
        root.set("volume", f"{domain.name()}.root.{number}.qcow2")
        old.append(before.name)
        definitions.append(ET.tostring(xml, encoding="unicode"))
    _restart(libvirt, domains, definitions)
    for name in old:
        pool.storageVolLookupByName(name).delete()


def reboot(libvirt: Any, batch: str, *vms: str) -> None:
    """Shut running VMs down, so many at once, start them again, and wait for their guest agents."""
    for some in _batches(batch, vms):
        domains = [libvirt.lookupByName(vm) for vm in some]
        _restart(libvirt, domains, [domain.XMLDesc(2) for domain in domains])


def _restart(libvirt: Any, domains: list[Any], definitions: list[str]) -> None:
    for domain in domains:
        _shut_down(domain)
    for domain, definition in zip(domains, definitions):
        asked = time.monotonic()
        while domain.isActive():
            time.sleep(0.05)
            if time.monotonic() - asked > 5:  # early in its boot a guest does not listen
                asked = time.monotonic()
                _shut_down(domain)
        libvirt.defineXML(definition).create()
    for domain in domains:
        while not _answers(domain):
            time.sleep(0.1)


def _shut_down(domain: Any) -> None:
    with contextlib.suppress(Exception):  # it may be down before its agent has answered
        domain.shutdown()


def _answers(domain: Any) -> bool:
    try:
        libvirt_qemu.qemuAgentCommand(domain, '{"execute": "guest-ping"}', 5, 0)
    except Exception:  # libvirt's own, which is not imported here
        return False
    return True


def overlay(name: str, image: Path, capacity: int = 64 * 1024**2) -> str:
    """Return the XML of an overlay of an image."""
    return (
        f"<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>"
        f"<target><format type='qcow2'/><compat>1.1</compat></target>"
        f"<backingStore><path>{image}</path><format type='qcow2'/></backingStore></volume>"
    )


def upload(libvirt: Any, storage_pool: str, path: Path) -> None:
    """Bring a file into a storage pool, and compute its digest."""
    pool = libvirt.storagePoolLookupByName(storage_pool)
    volume = pool.createXML(f"<volume><name>uploaded</name><capacity>{path.stat().st_size}</capacity></volume>")
    stream, digest = libvirt.newStream(), hashlib.sha256()
    volume.upload(stream, 0, 0)
    with path.open("rb") as file:
        while piece := file.read(256 * 1000):
            digest.update(piece)
            stream.send(piece)
    stream.finish()
    volume.delete()


def flatten(libvirt: Any, storage_pool: str, root: str) -> None:
    """Copy a volume with all that it lies on into one volume, and compute the digest of that."""
    pool = libvirt.storagePoolLookupByName(storage_pool)
    source = pool.storageVolLookupByName(root)
    volume = pool.createXMLFrom(
        f"<volume><name>flat</name><capacity>{source.info()[1]}</capacity><allocation>0</allocation>"
        "<target><format type='qcow2'/><compat>1.1</compat></target></volume>",
        source,
    )
    stream, digest = libvirt.newStream(), hashlib.sha256()
    volume.download(stream, 0, 0)
    while piece := stream.recv(256 * 1000):
        digest.update(piece)
    stream.finish()
    volume.delete()


def look_at_vms(libvirt: Any) -> None:
    """List the domains as one must to know them."""
    for flags in (0, 2, 4, 256):
        found = libvirt.listAllDomains(flags)
    assert found is not None
    for domain in libvirt.listAllDomains():
        domain.state()
        ET.fromstring(domain.XMLDesc(2))


def look_at_volumes(libvirt: Any) -> None:
    """List the volumes of all active storage pools as one must to know them."""
    for pool in libvirt.listAllStoragePools(2):
        for volume in pool.listAllVolumes():
            ET.fromstring(volume.XMLDesc())


def make(libvirt: Any, storage_pool: str, image: Path, names: list[str]) -> None:
    """Define domains with an overlay each."""
    pool = libvirt.storagePoolLookupByName(storage_pool)
    for name in names:
        volume = pool.createXML(overlay(f"{name}.qcow2", image))
        libvirt.defineXML(
            f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{volume.path()}'/><target dev='vda'/>"
            "</disk></devices></domain>"
        )


def remove(libvirt: Any, storage_pool: str, names: list[str]) -> None:
    """Remove what ``make`` has made."""
    pool = libvirt.storagePoolLookupByName(storage_pool)
    for name in names:
        libvirt.lookupByName(name).undefine()
        pool.storageVolLookupByName(f"{name}.qcow2").delete()


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--as-module":
        import ansible.module_utils.basic
        import ansible.module_utils.testing  # noqa: F401 - as support.modules

        words.pop(0)
    import libvirt

    if words[0] in ("roll", "reboot"):
        import libvirt_qemu

    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # that an agent does not answer yet is no news
    calls = {
        "restore": restore,
        "look_at_vms": look_at_vms,
        "look_at_volumes": look_at_volumes,
        "roll": roll,
        "reboot": reboot,
    }
    calls[words[0]](libvirt.open(URI), *words[1:])
