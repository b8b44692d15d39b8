"""Libvirt networks, and what serves payloads in them."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from urllib.parse import urlsplit

from .._core.hypervisor import LibvirtNetwork
from .connection import Connection, translated
from .library import libvirt

_SERVING = ("/etc/libvirt/hooks/qemu.d/golden-payload", "/etc/libvirt/hooks/golden-payload-service")
"""Where the role hypervisor installs the hook and what it starts."""
_LOCAL = ("qemu", "qemu+unix")


class NetworkCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about networks."""

    connection: Connection

    def network(self, name: str) -> LibvirtNetwork | None:
        with translated(f"cannot look at network {name!r}"):
            try:
                network = self.connection.libvirt.networkLookupByName(name)
                active, xml = bool(network.isActive()), network.XMLDesc()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                    raise
                return None
        for ip in ET.fromstring(xml).iterfind("ip"):
            if ip.get("family", "ipv4") == "ipv4":
                return LibvirtNetwork(active, ip.get("address", ""))
        return LibvirtNetwork(active)

    def serves_payloads(self) -> bool | None:
        uri = urlsplit(self.connection.uri)
        if uri.scheme not in _LOCAL or uri.netloc or uri.path != "/system":
            return None
        try:
            for path in _SERVING:
                os.stat(path)
        except FileNotFoundError:
            return False
        except OSError:  # only root may look there
            return None
        return True
