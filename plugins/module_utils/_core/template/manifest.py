"""The manifest of a template version: a value, and the text that is stored in its volume."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import InvalidError
from ..names import is_image_volume

FORMAT = "golden.libvirt/template-version/1"
CAPACITY = 64 * 1024
"""Bytes of a manifest's volume; what the JSON does not fill is padded with spaces."""

CREATING, READY, DELETED = "creating", "ready", "deleted"
ACTIVE, CANDIDATE, REVOKED = "active", "candidate", "revoked"
LIFECYCLES = (ACTIVE, CANDIDATE, REVOKED)
_STATUSES = (CREATING, READY, DELETED)


@dataclass(frozen=True)
class Image:
    """The disk image of a version. ``capacity`` is in bytes, ``sha256`` is that of the volume's bytes."""

    volume: str
    format: str
    capacity: int
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """One version of a template, as it is stored."""

    template: str
    version: int
    created: str
    source: dict[str, str]
    image: Image
    domain_xml: str
    version_name: str = ""
    description: str = ""
    status: str = CREATING
    lifecycle: str = ACTIVE
    labels: dict[str, str] = field(default_factory=dict)
    source_sha256: str = ""
    """Digest of the source as it was read, to tell whether it has changed since; empty where it is the image's. That of
    what is raw is a ``SparseDigest``."""

    @property
    def ready(self) -> bool:
        """Whether readers may use it."""
        return self.status == READY

    def revised(self, **changes: Any) -> Manifest:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the stored fields in the order in which people read them."""
        return {
            "format": FORMAT,
            "template": self.template,
            "version": self.version,
            "version_name": self.version_name,
            "description": self.description,
            "status": self.status,
            "lifecycle": self.lifecycle,
            "labels": dict(self.labels),
            "created": self.created,
            "source": dict(self.source),
            "image": {
                "volume": self.image.volume,
                "format": self.image.format,
                "capacity": self.image.capacity,
                "sha256": self.image.sha256,
            },
            "domain_xml": self.domain_xml,
            **({"source_sha256": self.source_sha256} if self.source_sha256 else {}),
        }

    def to_bytes(self) -> bytes:
        """Return what is written into the volume: UTF-8 JSON, padded with spaces to its capacity."""
        try:
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1).encode()
        except UnicodeEncodeError as error:
            raise InvalidError(
                f"the manifest of {self.template} version {self.version} would hold half of a character in its "
                "description, its labels, or another text; take it out"
            ) from error
        if len(text) > CAPACITY:
            raise InvalidError(
                f"the manifest of {self.template} version {self.version} would take {len(text)} of {CAPACITY} bytes; "
                "shorten its description, its labels or the hardware description"
            )
        return text.ljust(CAPACITY)


def parse(text: bytes) -> Manifest | None:
    """Return the manifest in a volume's bytes, or None while it is being written.

    A reader may see a volume before its publisher has filled it: what does not parse whole is not there yet.
    A whole manifest of another format is an error, because guessing could delete or boot the wrong thing.
    """
    try:
        stored = json.loads(text.decode())
    except ValueError:
        return None
    except RecursionError as error:
        raise InvalidError("it is no manifest of a template version") from error
    if not isinstance(stored, dict) or "format" not in stored:
        raise InvalidError("it is no manifest of a template version")
    if stored["format"] != FORMAT:
        raise InvalidError(
            f"its format {stored['format']!r} is not {FORMAT!r}; use the version of this collection that "
            "wrote it, or newer"
        )
    try:
        return _manifest(stored)
    except (KeyError, TypeError) as error:
        raise InvalidError(f"the field {error} of the manifest is missing or of the wrong type") from error


def check_sensible(found: Manifest) -> None:
    """Refuse a manifest whose fields are of the right types and yet cannot have been written by us."""
    # Else the disk of a VM could go with a version that is deleted.
    if not is_image_volume(found.template, found.image.volume):
        raise InvalidError(f"its image {found.image.volume!r} is none of template {found.template!r}")
    if found.image.capacity < 0:
        raise InvalidError(f"its image has a capacity of {found.image.capacity}")
    try:
        is_domain = not found.domain_xml or ET.fromstring(found.domain_xml).tag == "domain"
    except (ET.ParseError, ValueError):
        is_domain = False
    if not is_domain:
        raise InvalidError("its domain_xml is no hardware description")


_TYPES = {
    "template": str, "version": int, "version_name": str, "description": str, "status": str, "lifecycle": str,
    "labels": dict, "created": str, "source": dict, "image": dict, "domain_xml": str,
}  # fmt: skip


def _manifest(stored: dict[str, Any]) -> Manifest:
    for name, kind in _TYPES.items():
        if not isinstance(stored[name], kind) or isinstance(stored[name], bool):
            raise TypeError(name)
    for name, known in (("status", _STATUSES), ("lifecycle", LIFECYCLES)):
        if stored[name] not in known:
            raise TypeError(name)
    for name in ("labels", "source"):
        if not all(isinstance(value, str) for value in stored[name].values()):
            raise TypeError(name)
    image = Image(**{part.name: stored["image"][part.name] for part in fields(Image)})
    if not all(isinstance(text, str) for text in (image.volume, image.format, image.sha256)) or not isinstance(
        image.capacity, int
    ):
        raise TypeError("image")
    digest = stored.get("source_sha256", "")
    if not isinstance(digest, str):
        raise TypeError("source_sha256")
    values = {name: stored[name] for name in _TYPES if name != "image"}
    return Manifest(image=image, source_sha256=digest, **values)
