"""The IP addresses of running VMs."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import queue
import re
import threading
import time
from typing import Any

from .library import libvirt, libvirt_qemu

_MAC = re.compile("[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MOST = 64
"""Interfaces of a guest, and addresses of each, that are looked at."""

Addresses = dict[str, list[str]]
"""IP addresses by MAC address."""

_PATIENCE = 10.0
"""Seconds that all guest agents together have. libvirt waits 5 for one that hangs, and 30 for its turn on a busy VM."""
_AGENT_TIMEOUT = 5
_AT_ONCE = 5
"""Agents that are asked at the same time: as many calls of one client libvirtd carries out at once by default."""


def addresses(domain: Any) -> Addresses:
    """Return the IP addresses of a VM: the leases of libvirt's networks, else what the guest agent says."""
    return _leases(domain) or _agent(domain)


def addresses_of(domains: dict[str, Any]) -> dict[str, Addresses]:
    """Return the IP addresses of many VMs by name; a VM whose agent does not answer in time is missing."""
    found = {name: _leases(domain) for name, domain in domains.items()}
    known = {name: leases for name, leases in found.items() if leases}
    return known | _ask_agents({name: domain for name, domain in domains.items() if name not in known})


def _ask_agents(domains: dict[str, Any]) -> dict[str, Addresses]:
    waiting: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, Addresses]] = queue.SimpleQueue()
    for item in domains.items():
        waiting.put(item)

    def work() -> None:
        while True:
            try:
                name, domain = waiting.get_nowait()
            except queue.Empty:
                return
            answers.put((name, _agent(domain)))

    deadline = time.monotonic() + _PATIENCE
    for _number in range(min(_AT_ONCE, len(domains))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[str, Addresses] = {}
    while len(found) < len(domains):
        try:
            name, told = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            with contextlib.suppress(queue.Empty):
                while True:  # who was not asked yet is not asked any more
                    waiting.get_nowait()
            break
        found[name] = told
    return found


def _leases(domain: Any) -> Addresses:
    try:
        interfaces = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
    except libvirt.libvirtError:
        return {}  # not running, or not supported: the agent may know
    return _useful(
        {
            interface["hwaddr"]: [address["addr"] for address in interface["addrs"] or []]
            for interface in interfaces.values()
        }
    )


def _agent(domain: Any) -> Addresses:
    """Return what the guest agent says.

    It is asked directly: libvirt's own call waits for ever for an agent that hangs, and holds a thread of libvirtd.
    """
    question = '{"execute": "guest-network-get-interfaces"}'
    try:
        reply = json.loads(libvirt_qemu.qemuAgentCommand(domain, question, _AGENT_TIMEOUT, 0))
        found: Addresses = {}
        for interface in reply["return"][:_MOST]:
            told = [address["ip-address"] for address in interface.get("ip-addresses", [])[:_MOST]]
            mac = interface.get("hardware-address", "").lower()
            if _MAC.fullmatch(mac):
                found.setdefault(mac, []).extend(filter(_is_address, told))
    except libvirt.libvirtError:
        return {}  # no agent, or one that does not answer
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # its answer makes no sense
    return _useful(found)


def _is_address(told: Any) -> bool:
    """Whether a guest has told an address: it can say anything."""
    try:
        ipaddress.ip_address(told if isinstance(told, str) else "")
    except ValueError:
        return False
    return "%" not in told  # behind it is free text


def _useful(found: Addresses) -> Addresses:
    """Return the addresses of network cards; loopback interfaces have no MAC address, or one of zeros."""
    cards = {mac: known for mac, known in found.items() if mac.strip("0:")}
    return cards if any(cards.values()) else {}
