"""Options that several modules have: their specs, and the values that they stand for."""

from __future__ import annotations

from typing import Any

from ._core.domain_xml import Network
from ._core.errors import InvalidError
from ._core.units import GIB, parse_memory
from ._core.vm_request import Size


def network_options(mac: bool = True) -> dict[str, Any]:
    """Return the spec of a list of network cards, with or without a MAC address each."""
    options = dict(network=dict(type="str", required=True), model=dict(type="str", default="virtio"))
    if mac:
        options["mac"] = dict(type="str")
    return dict(type="list", elements="dict", options=options)


def networks_of(networks: list[dict[str, Any]] | None) -> tuple[Network, ...] | None:
    """Return the network cards that were asked for, or None where none were given."""
    if networks is None:
        return None
    return tuple(Network(nic["network"], nic.get("mac") or "", nic["model"]) for nic in networks)


def size_options() -> dict[str, Any]:
    """Return the spec of a size."""
    options = dict(cpus=dict(type="int"), memory=dict(type="str"), storage_size_in_gb=dict(type="int"))
    return dict(type="dict", options=options)


def size_of(size: dict[str, Any] | None) -> Size:
    """Return the size that was asked for."""
    given = size or {}
    for name in ("cpus", "storage_size_in_gb"):
        if given.get(name) is not None and given[name] < 1:
            raise InvalidError(f"size.{name}: {given[name]} is less than 1")
    storage = given.get("storage_size_in_gb")
    return Size(
        cpus=given.get("cpus"),
        memory=parsed_memory(given.get("memory"), "size.memory"),
        storage=None if storage is None else storage * GIB,
    )


def parsed_memory(memory: str | None, option: str) -> int | None:
    """Return KiB, or None where nothing was given."""
    return None if memory is None else parse_memory(memory, option)
