"""The IP addresses of running VMs."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

from .connection import libvirt

Addresses = dict[str, list[str]]
"""IP addresses by MAC address."""

_PATIENCE = 10.0
"""Seconds that all guest agents together have: libvirt gives up on one that hangs after 5, on a busy VM after 30."""
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
    return _addresses(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)


def _agent(domain: Any) -> Addresses:
    return _addresses(domain, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)


def _addresses(domain: Any, source: int) -> Addresses:
    try:
        interfaces = domain.interfaceAddresses(source)
    except libvirt.libvirtError:
        return {}  # not running, no agent, or not supported: another source may know
    found = {
        interface["hwaddr"]: [address["addr"] for address in interface["addrs"] or []]
        for name, interface in interfaces.items()
        if interface.get("hwaddr") and name != "lo"
    }
    return found if any(found.values()) else {}
