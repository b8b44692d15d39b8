"""Options that several modules have: their specs, and the values that they stand for."""

from __future__ import annotations

from typing import Any

from ._core.errors import InvalidError
from ._core.hypervisor import Health, Shutdown
from ._core.libvirt_xml.domain_xml import Network
from ._core.text import storable
from ._core.units import GIB, check_countable, parse_memory, parse_size
from ._core.vm.vm_request import Size, WantedVolume
from ._core.volume.attachment import BUSES, VIRTIO


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
    for nic in networks:
        for name in ("network", "mac", "model"):
            storable(nic.get(name) or "", f"networks: the {name}")
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
        storage=None if storage is None else check_countable(storage * GIB, storage, "size.storage_size_in_gb"),
    )


def volume_options() -> dict[str, Any]:
    """Return the spec of the data volumes of a VM."""
    options = dict(
        size=dict(type="str", required=True),
        device_id=dict(type="int"),
        bus=dict(type="str", choices=list(BUSES), default=VIRTIO),
        serial=dict(type="str"),
    )
    return dict(type="list", elements="dict", options=options)


def volumes_of(volumes: list[dict[str, Any]] | None) -> tuple[WantedVolume, ...]:
    """Return the data volumes that were asked for; those without a device id are numbered from 1."""
    return tuple(
        WantedVolume(
            size=parse_size(volume["size"], f"volumes[{place}].size"),
            device_id=place + 1 if volume["device_id"] is None else volume["device_id"],
            bus=volume["bus"],
            serial=volume["serial"] or "",
        )
        for place, volume in enumerate(volumes or [])
    )


def shutdown_options() -> dict[str, Any]:
    """Return the spec of how a VM is stopped."""
    modes = ["graceful", "force", "graceful_then_force"]
    options = dict(
        mode=dict(type="str", choices=modes, default="graceful_then_force"),
        timeout=dict(type="int", default=120),
    )
    return dict(type="dict", options=options, apply_defaults=True)


def shutdown_of(shutdown: dict[str, Any]) -> Shutdown:
    """Return how a VM is to be stopped."""
    return Shutdown(**shutdown)


def health_options() -> dict[str, Any]:
    """Return the spec of when a VM counts as up."""
    options = dict(
        check=dict(type="str", choices=["none", "agent", "port", "command"], default="none"),
        port=dict(type="int"),
        command=dict(type="raw"),
        timeout=dict(type="int", default=300),
        stable_for=dict(type="int", default=0),
    )
    needs = [("check", "port", ["port"]), ("check", "command", ["command"])]
    return dict(type="dict", options=options, apply_defaults=True, required_if=needs)


def health_of(health: dict[str, Any]) -> Health:
    """Return when a VM counts as up."""
    command = health["command"]
    if isinstance(command, str):
        command = ["/bin/sh", "-c", command]
    if command is not None and not (isinstance(command, list) and all(isinstance(word, str) for word in command)):
        raise InvalidError("health.command: it must be a string or a list of strings")
    if health["port"] is not None and not 0 < health["port"] < 2**16:
        raise InvalidError(f"health.port: {health['port']} is no port; give one from 1 to 65535")
    for name in ("timeout", "stable_for"):
        if health[name] < 0:
            raise InvalidError(f"health.{name}: {health[name]} is less than 0")
    return Health(**{**health, "command": tuple(command or ())})


def parsed_memory(memory: str | None, option: str) -> int | None:
    """Return KiB, or None where nothing was given."""
    return None if memory is None else parse_memory(memory, option)
