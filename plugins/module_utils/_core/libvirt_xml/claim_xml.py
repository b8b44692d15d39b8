"""Claims, as libvirt keeps them.

libvirt has no locks. But it refuses a second secret for the same use: so a secret without a value, kept in memory only,
is a claim, and its description says whose.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

_PREFIX = "golden.libvirt "


def usage(thing: str) -> str:
    """Return the use of the secret that stands for the claim on a thing."""
    return _PREFIX + thing


def claim_xml(thing: str, claimant: str, at: int) -> str:
    """Return the definition of the secret that is the claim, made ``at`` this second of the Unix time."""
    secret = ET.Element("secret", ephemeral="yes", private="no")
    ET.SubElement(secret, "description").text = f"{at} {claimant}"
    ET.SubElement(ET.SubElement(secret, "usage", type="tls"), "name").text = usage(thing)
    return ET.tostring(secret, encoding="unicode")


def parse_claim(xml: str) -> tuple[str, int]:
    """Return who made a claim, and when."""
    at, _blank, claimant = ET.fromstring(xml).findtext("description", "").partition(" ")
    return claimant, int(at) if at.isdecimal() and len(at) < 20 else 0
