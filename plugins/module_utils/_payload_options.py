"""The options of a payload that several modules have, and the request that they stand for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ._core.errors import InvalidError, NotFoundError
from ._core.libvirt_xml.payload_seed import NETWORK
from ._core.payload.payload import PERMANENT, RUN_ONCE, Build, Content, PayloadRequest, ignition, seed
from ._core.payload.payload_files import BASE64, CDROM, DEFAULT_VOLUME_ID, FLOPPY, UTF8, PayloadFile, file_of
from ._core.payload.payload_presets import SYSPREP_FILENAMES, cloud_init, sysprep
from ._core.units import parse_size
from ._media.image import build_image, missing_library

CONTENTS = ("files", "cloud_init", "sysprep", "ignition")
"""The options that say what a payload holds. What they hold is never shown."""

_PLACES = re.compile("@(?:vm|vm_pool|number)@")


def payload_options(availability: bool = False) -> dict[str, Any]:
    """Return the specs of the options of a payload, with or without that which says for which runs it is."""
    options: dict[str, Any] = dict(
        type=dict(type="str", choices=[CDROM, FLOPPY, NETWORK]),
        files=dict(
            type="list",
            elements="dict",
            no_log=True,
            options=dict(
                name=dict(type="str", required=True),
                content=dict(type="str", required=True),
                encoding=dict(type="str", choices=[UTF8, BASE64], default=UTF8),
            ),
        ),
        cloud_init=dict(
            type="dict",
            no_log=True,
            options=dict(user_data=dict(type="raw"), meta_data=dict(type="raw"), network_config=dict(type="raw")),
        ),
        sysprep=dict(
            type="dict",
            no_log=True,
            options=dict(
                filename=dict(type="str", choices=list(SYSPREP_FILENAMES), default=SYSPREP_FILENAMES[0]),
                content=dict(type="str", required=True),
            ),
        ),
        ignition=dict(type="raw", no_log=True),
        volume_id=dict(type="str"),
        max_file_size=dict(type="str", default="16KiB"),
        storage_pool=dict(type="str"),
    )
    if availability:
        options["availability"] = dict(type="str", choices=[PERMANENT, RUN_ONCE], default=PERMANENT)
    return options


def payload_of(options: dict[str, Any]) -> PayloadRequest:
    """Return the payload that was asked for; what can be known to be wrong without the VM is refused."""
    given = [name for name in CONTENTS if options[name] is not None]
    if len(given) != 1:
        raise InvalidError(
            f"a payload needs exactly one of {', '.join(CONTENTS)}; given are {', '.join(given) or 'none of them'}"
        )
    build = _building(options, given[0])
    return PayloadRequest(build, options.get("availability") or PERMANENT, options["storage_pool"] or None)


def member_payload_of(options: dict[str, Any], vm_pool: str) -> PayloadRequest:
    """Return the payload that was asked for the members of a pool: in its texts, each has its own values."""
    request = payload_of(options)

    def build(name: str, uuid: str) -> Content:
        values = {"@vm@": name, "@vm_pool@": vm_pool, "@number@": name.rpartition("-")[2]}
        own = {kind: _replaced(options[kind], values) for kind in CONTENTS}
        return payload_of({**options, **own}).build(name, uuid)

    return replace(request, build=build)


def _replaced(value: Any, values: dict[str, str]) -> Any:
    """Return a content with the values of a member in all of its texts; what is written in base64 is no text."""
    if isinstance(value, str):
        return _PLACES.sub(lambda found: values[found[0]], value)
    if isinstance(value, list):
        return [_replaced(part, values) for part in value]
    if not isinstance(value, dict):
        return value
    kept = ("content",) if value.get("encoding") == BASE64 else ()
    return {name: part if name in kept else _replaced(part, values) for name, part in value.items()}


def _building(options: dict[str, Any], kind: str) -> Build:
    if kind == "ignition":
        _check_without_medium(options)
        if not isinstance(options["ignition"], (str, dict)):
            raise InvalidError("ignition: it must be a text or a dictionary")
        content = ignition(options["ignition"])
        return lambda name, uuid: content
    medium, limit = options["type"] or CDROM, parse_size(options["max_file_size"], "max_file_size")
    if medium == NETWORK:
        _check_for_network(options, kind)
        return lambda name, uuid: seed(_files(options, kind, name, uuid)[0], limit)
    missing = missing_library(medium)
    if missing is not None:
        raise NotFoundError(
            f"the Python library {missing[0]!r} is missing where the module runs; install it there (pip install "
            f"{missing[0]}), or run the module on the controller with a remote uri"
        )

    def build(name: str, uuid: str) -> Content:
        files, volume_id = _files(options, kind, name, uuid)
        image = build_image(files, medium, options["volume_id"] or volume_id, limit)
        return Content(medium, image, tuple(files))

    return build


def _check_without_medium(options: dict[str, Any]) -> None:
    for option in ("type", "volume_id"):
        if options[option] is not None:
            raise InvalidError(f"{option}: a payload for Ignition is on no medium; leave it out")


def _check_for_network(options: dict[str, Any], kind: str) -> None:
    if kind != "cloud_init":
        raise InvalidError(f"a payload over the network is for cloud-init; give cloud_init, or put {kind} on a CD")
    if options["volume_id"] is not None:
        raise InvalidError("volume_id: a payload over the network is on no medium; leave it out")


def _files(options: dict[str, Any], kind: str, name: str, uuid: str) -> tuple[list[PayloadFile], str]:
    if kind == "cloud_init":
        return cloud_init(name, uuid, **options["cloud_init"])
    if kind == "sysprep":
        return sysprep(**options["sysprep"])
    return [file_of(**file) for file in options["files"]], DEFAULT_VOLUME_ID
