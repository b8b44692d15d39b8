"""The names of templates and of the volumes that hold them, and how a version is selected.

Storage pools have thousands of volumes, most of which are not meant: so how a name begins or ends is looked at first.
"""

from __future__ import annotations

import re

from .errors import InvalidError

LATEST = "latest"

_TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION_SUFFIX = re.compile(r"\.v[0-9]+\Z")
_MANIFEST = re.compile(r"(?P<template>.+)\.v(?P<version>[1-9][0-9]*)\.json")
_ROOT = re.compile(r"(?P<vm>.+)\.root\.(?P<generation>[1-9][0-9]*)\.qcow2")
_PAYLOAD = re.compile(r"(?P<vm>.+)\.payload\.[0-9a-f]{12}\.(?:iso|img|ign|seed)")
_PAYLOAD_ENDS = {"cdrom": "iso", "floppy": "img", "fw_cfg": "ign", "network": "seed"}
_DIGITS = re.compile("([0-9]+)")
_VM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def natural(name: str) -> list[str | int]:
    """Return a key that sorts desk-2 before desk-10."""
    return [int(part) if index % 2 else part for index, part in enumerate(_DIGITS.split(name))]


def check_template_name(template: str) -> str:
    """Return the name of a template, or say what is wrong with it."""
    if _TEMPLATE.fullmatch(template) is None:
        raise InvalidError(
            f"template {template!r} is no valid name; use 1 to 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    if _VERSION_SUFFIX.search(template):
        raise InvalidError(
            f"template {template!r} looks like a version of a template; give the template's name without '.v<number>'"
        )
    return template


def check_vm_name(name: str) -> str:
    """Return the name of a VM, which also is the beginning of its volumes' names, or say what is wrong with it."""
    if _VM.fullmatch(name) is None:
        raise InvalidError(
            f"VM name {name!r} is not valid; use 1 to 128 letters, digits, '.', '_', '+' and '-', "
            "beginning with a letter or a digit"
        )
    return name


def manifest_volume(template: str, version: int) -> str:
    """Return the name of the volume that holds a version's manifest."""
    return f"{template}.v{version}.json"


def image_volume(template: str, version: int, file_based: bool) -> str:
    """Return the name of the volume that holds a version's disk image."""
    return f"{template}.v{version}.qcow2" if file_based else f"{template}.v{version}"


def is_image_volume(template: str, volume: str) -> bool:
    """Whether a volume has the name of the image of some version of a template."""
    return re.fullmatch(re.escape(template) + r"\.v[1-9][0-9]*(?:\.qcow2)?", volume) is not None


def upload_volume(image: str) -> str:
    """Return the name of the volume that a raw file is uploaded to before it becomes the image."""
    return image.removesuffix(".qcow2") + ".upload"


def parse_manifest_volume(volume: str) -> tuple[str, int] | None:
    """Return template and version of a manifest volume's name, or None for any other volume."""
    match = _MANIFEST.fullmatch(volume) if volume.endswith(".json") else None
    if match is None or _TEMPLATE.fullmatch(match["template"]) is None:
        return None
    return match["template"], int(match["version"])


def root_volume(vm: str, generation: int) -> str:
    """Return the name of a VM's root volume."""
    return f"{vm}.root.{generation}.qcow2"


def root_generation(vm: str, volume: str) -> int | None:
    """Return the generation in the name of one of the VM's root volumes, or None for any other volume."""
    match = _ROOT.fullmatch(volume) if volume.startswith(f"{vm}.root.") else None
    return int(match["generation"]) if match and match["vm"] == vm else None


def root_vm(volume: str) -> str:
    """Return the VM in the name of a root volume; any other volume has none."""
    match = _ROOT.fullmatch(volume)
    return match["vm"] if match else ""


def is_root_volume(volume: str) -> bool:
    """Whether a volume has the name of some VM's root."""
    return _ROOT.fullmatch(volume) is not None


def is_own_volume_of(vm: str, volume: str) -> bool:
    """Whether a volume has the name of a root or a payload of this VM."""
    return root_generation(vm, volume) is not None or is_payload_of(vm, volume)


def is_payload_of(vm: str, volume: str) -> bool:
    """Whether a volume has the name of a payload of this VM."""
    return volume.startswith(f"{vm}.payload.") and payload_vm(volume) == vm


def data_volume(vm: str, number: int, file_based: bool) -> str:
    """Return the name of a new data volume of a VM."""
    return f"{vm}.data.{number}.qcow2" if file_based else f"{vm}.data.{number}"


def is_data_volume_of(vm: str, volume: str) -> bool:
    """Whether a volume has the name of a data volume that was made for this VM."""
    return volume.startswith(f"{vm}.data.")


def payload_volume(vm: str, payload_type: str, sha256: str) -> str:
    """Return the name of the volume that holds a payload: it tells what is on it, so equal payloads are one volume."""
    return f"{vm}.payload.{sha256[:12]}.{_PAYLOAD_ENDS[payload_type]}"


def payload_vm(volume: str) -> str:
    """Return the VM in the name of a payload volume; any other volume has none."""
    match = _PAYLOAD.fullmatch(volume)
    return match["vm"] if match else ""
