"""The small moves on XML trees that reading and editing definitions share."""

from __future__ import annotations

import xml.etree.ElementTree as ET

# Namespaces that libvirt and its tools use; registered, so that they keep their usual prefixes.
ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
ET.register_namespace("libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")


def text_of(element: ET.Element) -> str:
    ET.indent(element)
    return ET.tostring(element, encoding="unicode")


def child(parent: ET.Element, name: str) -> ET.Element:
    found = parent.find(name)
    return ET.SubElement(parent, name) if found is None else found


def drop(root: ET.Element, *paths: str) -> None:
    for path in paths:
        parent_path, name = path.rpartition("/")[::2]
        parents = root.findall(parent_path) if parent_path else [root]
        for parent in parents:
            for child in parent.findall(name):
                parent.remove(child)


def attribute(element: ET.Element, path: str, name: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(name, "")
