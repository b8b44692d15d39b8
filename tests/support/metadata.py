"""Writing our metadata of a VM as virsh would, to make states that another task would leave."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from . import virsh

SINCE = "2026-11-20T07:00:00Z"


def set_metadata(vm: str, element: ET.Element) -> None:
    """Replace our metadata element of a VM, stored and live."""
    for part in element.iter():
        part.tag = part.tag.rpartition("}")[2]  # virsh adds the namespace by itself
    text = ET.tostring(element, encoding="unicode")
    live = [] if virsh.state(vm) == "shut off" else ["--live"]
    virsh.virsh("metadata", vm, virsh.NAMESPACE[1:-1], "--key", "golden", "--set", text, "--config", *live)


def set_lease(vm: str, user: str | None) -> None:
    """Let a user hold a VM, or nobody."""
    element = virsh.metadata(vm)
    for lease in element.findall(f"{virsh.NAMESPACE}lease"):
        element.remove(lease)
    if user is not None:
        ET.SubElement(element, "lease", user=user, since=SINCE)
    set_metadata(vm, element)
