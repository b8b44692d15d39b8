"""The IP addresses of a running VM."""

from __future__ import annotations

from typing import Any

from .library import libvirt


def addresses(domain: Any) -> dict[str, list[str]]:
    """Return the IP addresses by MAC address: what the guest agent says, else the leases of libvirt's networks."""
    for source in (
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    ):
        try:
            interfaces = domain.interfaceAddresses(source)
        except libvirt.libvirtError:
            continue  # not running, or no agent: the next source may know
        found = {
            interface["hwaddr"]: [address["addr"] for address in interface["addrs"] or []]
            for name, interface in interfaces.items()
            if interface.get("hwaddr") and name != "lo"
        }
        if any(found.values()):
            return found
    return {}
