"""Storage volume and storage pool XML, to and from values."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ..errors import InvalidError
from ..hypervisor import StoragePool, Volume

_UNITS = {"bytes": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def parse_volume(xml: str, storage_pool: str) -> Volume:
    """Return the volume that libvirt describes."""
    volume = ET.fromstring(xml)
    return Volume(
        name=volume.findtext("name", ""),
        storage_pool=storage_pool,
        path=volume.findtext("target/path", ""),
        type=volume.get("type", "file"),
        format=_format(volume.find("target/format")),
        capacity=_bytes(volume.find("capacity")),
        allocation=_bytes(volume.find("allocation")),
        backing_path=volume.findtext("backingStore/path", ""),
        backing_format=_format(volume.find("backingStore/format")),
    )


def parse_storage_pool(xml: str, active: bool) -> StoragePool:
    """Return the storage pool that libvirt describes."""
    pool = ET.fromstring(xml)
    return StoragePool(
        name=pool.findtext("name", ""),
        type=pool.get("type", ""),
        active=active,
        path=pool.findtext("target/path", ""),
        capacity=_bytes(pool.find("capacity")),
        allocation=_bytes(pool.find("allocation")),
        available=_bytes(pool.find("available")),
    )


def new_volume(name: str, capacity: int, image_format: str, backing: Volume | None = None, mode: str = "") -> str:
    """Return the XML of a volume to create: ``capacity`` in bytes, nothing allocated beforehand.

    ``mode`` are octal permissions such as ``0444``; empty: libvirt's default.
    """
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = name
    ET.SubElement(volume, "capacity", unit="bytes").text = str(capacity)
    ET.SubElement(volume, "allocation", unit="bytes").text = "0"
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", type=image_format)
    if mode:
        ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = mode
    if image_format == "qcow2":
        # Without it libvirt writes the format of QEMU 0.10, which lacks what makes discarding and zeroing fast.
        ET.SubElement(target, "compat").text = "1.1"
    if backing is not None:
        below = ET.SubElement(volume, "backingStore")
        ET.SubElement(below, "path").text = backing.path
        ET.SubElement(below, "format", type=backing.format)
    return ET.tostring(volume, encoding="unicode")


def _format(element: ET.Element | None) -> str:
    return "raw" if element is None else element.get("type", "raw")


def _bytes(element: ET.Element | None) -> int:
    if element is None or not element.text:
        return 0
    unit = element.get("unit", "bytes")
    if unit not in _UNITS:
        raise InvalidError(f"libvirt gave a size in the unknown unit {unit!r}")
    return int(element.text) * _UNITS[unit]
