"""What a payload is: its content, what a user wants of it, and what tasks return of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InvalidError
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..libvirt_xml.payload_drive import FW_CFG, file_in
from ..libvirt_xml.payload_seed import NETWORK
from ..vm.record import Payload
from .payload_files import PayloadFile, check_size, describe, utf8

PERMANENT, RUN_ONCE = "permanent", "run_once"


@dataclass(frozen=True)
class Content:
    """What is on the volume: a medium of a type (``cdrom``, ``floppy``), the bytes for ``fw_cfg``, or the files to be
    served over the ``network``."""

    type: str
    image: bytes = field(repr=False)
    files: tuple[PayloadFile, ...]

    @property
    def sha256(self) -> str:
        """The digest of the volume."""
        return hashlib.sha256(self.image).hexdigest()


Build = Callable[[str, str], Content]
"""Makes the content for a VM, from its name and UUID."""


@dataclass(frozen=True)
class PayloadRequest:
    """What the user wants of a payload; without a storage pool, the volume goes where the VM's root is."""

    build: Build = field(repr=False)
    availability: str = PERMANENT
    storage_pool: str | None = None


def ignition(config: str | Mapping[str, Any]) -> Content:
    """Return the configuration for Ignition as QEMU's fw_cfg is to show it; an error in it does not show it."""
    if isinstance(config, Mapping):
        text = json.dumps(config, sort_keys=True, ensure_ascii=False)
    else:
        text = config
        try:
            json.loads(text)
        except ValueError as error:
            at = f": see line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise InvalidError(
                f"ignition is no valid JSON{at}; give what 'butane' makes of a configuration, or a dictionary"
            ) from None
    file = PayloadFile("ignition", utf8(text, "ignition"))
    return Content(FW_CFG, file.content, (file,))


def seed(files: Sequence[PayloadFile], max_file_size: int) -> Content:
    """Return the files of a seed for cloud-init, all of them texts, as they are served over the network."""
    for file in files:
        check_size(file, max_file_size)
    texts = {file.name: file.content.decode("utf-8") for file in files}
    return Content(NETWORK, json.dumps(texts, sort_keys=True, ensure_ascii=False).encode("utf-8"), tuple(files))


def describe_payload(payload: Payload | None, content: Content) -> dict[str, Any]:
    """Return a payload as the task returns it that handed it over."""
    return {} if payload is None else {**describe_stored(payload), "files": describe(content.files)}


def describe_stored(payload: Payload) -> dict[str, Any]:
    """Return what is known of a payload without its content."""
    url = {"url": payload.url} if payload.type == NETWORK else {}
    return {
        "type": payload.type,
        "volume": payload.volume,
        "storage_pool": payload.storage_pool,
        "availability": payload.availability,
        "sha256": payload.sha256,
        **url,
    }


def describe_payload_of(vm: Vm, live: str | None = None) -> dict[str, Any] | None:
    """Return the payload of a VM as tasks return it with the VM; ``disc_changed`` tells that other tools have put
    something else into its drive, or taken it out."""
    payload = vm.record.payload if vm.record is not None else None
    if payload is None:
        return None
    return {**describe_stored(payload), "disc_changed": disc_changed(vm, payload, live) != ""}


def disc_changed(vm: Vm, payload: Payload, live: str | None) -> str:
    """Return what is in the drive of a payload in its place, in the stored or the live definition, or an empty text.

    A drive that the running instance does not have, or in which the payload of one run is, counts as right, and so does
    a place in the network: the instance has that from its start to its end.
    """
    stored = _other(vm.domain.xml, payload)
    if stored or live is None or live_payload(vm, live) != payload or not _has_drive(live, payload):
        return stored
    return _other(live, payload)


def live_payload(vm: Vm, live: str) -> Payload | None:
    """Return the payload that a running instance was started with, or was given since."""
    record = domain_xml.read(replace(vm.domain, xml=live)).record
    return record.payload if record is not None else None


def _other(xml: str, payload: Payload) -> str:
    there = file_in(xml, payload)
    return "" if there.rpartition("/")[2] == payload.volume else there or "nothing"


def _has_drive(xml: str, payload: Payload) -> bool:
    return any(disk.target == payload.target for disk in domain_xml.disks_of(xml))
