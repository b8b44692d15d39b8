"""Devices of a domain: added, removed and changed, in its running instance and in its stored definition."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from typing import Any

from .._core.errors import ExistsError, HypervisorError, TimedOutError
from .connection import Connection, translated
from .library import libvirt

_FULL = {
    "No more available PCI slots": "place for a PCI device while it runs; stop it, or use bus 'usb', or bus 'scsi' if "
    "it has a SCSI controller",
    "No free USB ports": "USB port; use another bus",
}
"""What libvirt says when nothing more can be plugged in, and what is missing, with the remedy."""
_TAKEN = ("already exists", "duplicated")
"""What libvirt says of a target that has a device."""
_OPEN = re.compile('Failed to get (shared )?"[a-z]+" lock')
"""What QEMU says of a volume that another process has open."""


class DeviceCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about devices."""

    connection: Connection

    def attach_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        with translated(f"cannot attach a device to VM {name!r}"):
            try:
                self._domain(name).attachDeviceFlags(xml, _affected(live, stored))
            except libvirt.libvirtError as error:
                for said, remedy in _FULL.items():
                    if said in str(error):
                        raise HypervisorError(f"VM {name!r} has no free {remedy}") from error
                if _OPEN.search(str(error)):
                    raise HypervisorError(
                        f"the volume for VM {name!r} is open in a process on the hypervisor ('fuser -v' with its path "
                        "names it): a tool such as qemu-img, or QEMU of a VM that let go of it only when it was asked "
                        "again, which closes it when that VM is stopped"
                    ) from error
                if any(said in str(error) for said in _TAKEN):  # maybe by libvirt itself, for a task that was killed
                    raise ExistsError(
                        f"VM {name!r} was given a device in the same place by another task in the meantime; "
                        "run this task again"
                    ) from error
                raise

    def detach_device(self, name: str, xml: str, *, live: bool, timeout: int = 0) -> None:
        with translated(f"cannot detach a device from VM {name!r}"):
            domain = self._domain(name)
            if not live:
                domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
                return
            self.connection.listen(domain)  # before it is asked for: the guest may be quick
            target, deadline = _target(xml), time.monotonic() + timeout
            self._ask_to_let_go(domain, xml)  # libvirt waits some seconds itself
            if not self.connection.wait_until(domain, lambda: not _has(domain, target), deadline - time.monotonic()):
                raise TimedOutError(
                    f"the guest of VM {name!r} did not let go of disk {target!r} within {timeout} seconds: it is "
                    "attached still; see that nothing in the guest uses it and that its operating system is up, or "
                    "stop the VM, and run this task again"
                )

    def update_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        with translated(f"cannot change a medium of VM {name!r}"):
            domain = self._domain(name)
            flags = _affected(live, stored)
            try:
                domain.updateDeviceFlags(xml, flags)
            except libvirt.libvirtError as error:
                # A guest that has mounted the medium locks the tray: it goes all the same, as with a paper clip.
                if not live or error.get_error_code() != libvirt.VIR_ERR_OPERATION_FAILED:
                    raise
                domain.updateDeviceFlags(xml, flags | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)

    def resize_disk(self, name: str, target: str, capacity: int) -> None:
        with translated(f"cannot grow disk {target!r} of VM {name!r}"):
            self._domain(name).blockResize(target, capacity, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def _domain(self, name: str) -> Any:
        return self.connection.libvirt.lookupByName(name)

    def _ask_to_let_go(self, domain: Any, xml: str) -> None:
        try:
            domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            # Asked for before, by a task that did not wait long enough: the guest is still at it.
            if "unplug" not in str(error):
                raise


def _affected(live: bool, stored: bool) -> int:
    return int((libvirt.VIR_DOMAIN_AFFECT_LIVE if live else 0) | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if stored else 0))


def _target(xml: str) -> str:
    target = ET.fromstring(xml).find("target")
    return "" if target is None else target.get("dev", "")


def _has(domain: Any, target: str) -> bool:
    try:
        live = ET.fromstring(domain.XMLDesc())
    except libvirt.libvirtError:
        if domain.isActive():
            raise
        return False
    return any(found.get("dev") == target for found in live.iterfind("devices/disk/target"))
