"""What libvirt's errors say about permissions: which call was denied, and what it would have needed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from .._core.errors import DeniedError, GoldenError, HypervisorError, ReadOnlyError
from .._core.permissions import Need, Needs, denied
from .library import libvirt

_NEEDED: dict[str, tuple[str, str, dict[str, str]]] = {
    # class: kind of its objects, what its other calls need, what these calls need
    "virDomain": (
        "domain",
        "read",
        {
            "XMLDesc": "read read_secure",
            "attachDeviceFlags": "write save",
            "blockResize": "block_write",
            "create": "start",
            "destroy": "stop",
            "detachDeviceFlags": "write save",
            "managedSaveRemove": "hibernate",
            "setAutostart": "write",
            "setMetadata": "write save",
            "shutdown": "init_control",
            "undefineFlags": "delete",
            "updateDeviceFlags": "write save",
        },
    ),
    "virStoragePool": (
        "storage_pool",
        "read",
        {"listVolumes": "search_storage_vols", "listAllVolumes": "search_storage_vols"},
    ),
    "virStorageVol": (
        "storage_vol",
        "read",
        {"delete": "delete", "download": "data_read", "resize": "resize", "upload": "data_write"},
    ),
    "virNetwork": ("network", "read", {}),
    "virSecret": ("secret", "read", {"undefine": "delete"}),
}
_NEEDED_OF_OTHERS = {
    # calls of one object that need permissions on another: its kind, the permissions
    "createXML": ("domain", "write start"),
    "createXMLFrom": ("storage_vol", "create"),
    "defineXML": ("domain", "write save"),
    "domainEventRegisterAny": ("connect", "search_domains"),
    "getDomainCapabilities": ("connect", "write"),
    "getHostname": ("connect", "getattr"),
    "getInfo": ("connect", "read"),
    "listAllDomains": ("connect", "search_domains"),
    "listAllStoragePools": ("connect", "search_storage_pools"),
    "lookupByName": ("domain", "getattr"),
    "networkLookupByName": ("network", "getattr"),
    "open": ("connect", "getattr"),
    "openReadOnly": ("connect", "getattr"),
    "secretDefineXML": ("secret", "write save"),
    "secretLookupByUsage": ("secret", "getattr"),
    "storagePoolLookupByName": ("storage_pool", "getattr"),
    "storageVolLookupByName": ("storage_vol", "getattr"),
    "storageVolLookupByPath": ("storage_vol", "getattr"),
}

_BROKEN = (
    "the connection to libvirt broke: see that libvirtd (or virtqemud) runs on the hypervisor, and run this task again"
)
_REMEDIES = {
    "Cannot write data": _BROKEN,
    "Cannot recv data": _BROKEN,
    "End of file while reading data": _BROKEN,
    "client socket is closed": _BROKEN,
    "is still being allocated": "another task is making it, or was killed just now: run this task again",
    "No space left on device": "delete what is not needed there, and run this task again",
    "cannot set up guest memory": "give the VM less memory (module vm: size.memory), or stop others",
    "no network with matching name": "make it, or give the VM another one (module vm: networks); "
    "'virsh net-list --all' shows those that there are",
    "network '.*' is not active": "start it with 'virsh net-start'",
}
"""What libvirt says, as patterns, and what its user can do."""


def told(doing: str, error: Any) -> GoldenError:
    """Return our error for one of libvirt; ``doing`` says what was being done."""
    code, said = error.get_error_code(), (error.get_error_message() or "").strip()
    if code == libvirt.VIR_ERR_ACCESS_DENIED:
        return denied(_needs_of(error), doing)
    if code == libvirt.VIR_ERR_OPERATION_DENIED:
        return ReadOnlyError(
            f"{doing}: {said}. The connection may only read; let a polkit rule on the hypervisor allow "
            "org.libvirt.unix.manage to the user that connects, or connect as another user"
        )
    remedy = next((f"; {remedy}" for pattern, remedy in _REMEDIES.items() if re.search(pattern, said)), "")
    return HypervisorError(f"{doing}: {said}{remedy}", libvirt_code=code)


def refused_connection(doing: str, error: Any) -> DeniedError:
    """Return the error of a user who may not connect, or only to read."""
    return DeniedError(
        f"{doing}: {error.get_error_message()}. Changing things takes the right org.libvirt.unix.manage: let a polkit "
        "rule on the hypervisor allow it to the user that connects, let that user be of the group that owns libvirt's "
        "socket, or connect as another user (become: true)",
        missing_permissions=[{"action": "org.libvirt.unix.manage", "kind": "connect", "name": "", "storage_pool": ""}],
    )


def is_refused_connection(error: Any) -> bool:
    """Whether polkit, or the mode of libvirt's socket, keeps a user from connecting."""
    said = error.get_error_message() or ""
    if error.get_error_code() in (
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
    ):
        return "polic" in said or "polkit" in said or "cancelled" in said
    return said.startswith("Failed to connect socket") and said.endswith("Permission denied")


def _needs_of(error: Any) -> Needs:
    """Return what the call that was denied needs; libvirt says no more than that it was denied.

    The innermost frame is that of libvirt's Python class which made the call.
    """
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    call, values = trace.tb_frame.f_code.co_name, trace.tb_frame.f_locals
    owner = values.get("self")
    kind, usual, special = _NEEDED.get(type(owner).__name__, ("", "", {}))
    storage_pool = str(owner.name()) if kind == "storage_pool" else ""
    if call == "createXML" and kind == "storage_pool":
        kind, permissions, name = "storage_vol", "create", _name_in(values)
    elif call in _NEEDED_OF_OTHERS:
        kind, permissions = _NEEDED_OF_OTHERS[call]
        name = _name_in(values)
    elif kind:
        permissions = special.get(call, usual)
        name = "" if kind == "secret" else str(owner.name())
    else:
        return ()
    if kind != "storage_vol":
        storage_pool = ""
    return tuple(Need(kind, name, permission, storage_pool) for permission in permissions.split())


def _name_in(values: dict[str, Any]) -> str:
    """Return the name of the object that a call was given by its name or its XML."""
    if isinstance(values.get("name"), str):
        return str(values["name"])
    text = next((values[key] for key in ("xmlDesc", "xml", "xmldesc") if isinstance(values.get(key), str)), "<none/>")
    return ET.fromstring(text).findtext("name", "")
