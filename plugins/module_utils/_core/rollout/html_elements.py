"""HTML and SVG as elements: what is put in is text, never markup, so no name and no message can become code."""

from __future__ import annotations

import base64
import hashlib
import xml.etree.ElementTree as ET
from typing import Union

from ..text import readable

Child = Union[ET.Element, str, None]


def element(tag: str, *children: Child, **attributes: str | float | None) -> ET.Element:
    """Return an element; attributes without a value are left out.

    Names of attributes have ``_`` for ``-``, and one at the end where Python has the word (``class_``).
    """
    made = ET.Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), readable(_text(value)))
    return add(made, *children)


def add(parent: ET.Element, *children: Child) -> ET.Element:
    """Add elements and texts to an element, and return it."""
    for child in children:
        if isinstance(child, ET.Element):
            parent.append(child)
        elif child:
            text = readable(child)
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + text
            else:
                parent.text = (parent.text or "") + text
    return parent


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def percent(share: float) -> str:
    """Return a share as a length of SVG."""
    return f"{100 * share:.3f}%"


def document(title: str, style: str, body: ET.Element) -> str:
    """Return a whole page. Nothing but this style is allowed in it: no script, no image, no other file."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
    )
    sheet = ET.SubElement(head, "style")
    sheet.text = style
    page = element("html", head, body, lang="en")
    return "<!DOCTYPE html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"
