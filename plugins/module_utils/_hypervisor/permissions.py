"""Asking libvirt's access control what a user may do, without doing it.

libvirt has no call for that. But each call checks access before it looks at what it was given, so that a call which
cannot succeed, whatever others do at that moment, tells by its error: access denied, or that it makes no sense. For
stopping, undefining and dropping a managed save there is no such call; those are not asked for, nor is anything about
what does not exist yet or about volumes that are no files. Seen on libvirt 9.0 with its polkit driver.
"""

from __future__ import annotations

import contextlib
import uuid
import xml.etree.ElementTree as ET
from typing import Any

from .._core.permissions import Need, Needs, denied
from .connection import Connection, translated
from .library import libvirt

_NO_SUCH_FLAG = 1 << 30
_NO_SUCH_METADATA = 1000
_BEYOND_ANY_FILE = 2**63 - 1
_NOWHERE = "/nonexistent/golden-permission-probe"


class PermissionCalls:
    """The call of ``_core.hypervisor.Hypervisor`` that is about permissions."""

    connection: Connection

    def check_allowed(self, needs: Needs) -> None:
        conn = self.connection.libvirt
        with translated("cannot ask what the user may do"):
            guarded = needs and conn.getType() == "QEMU"  # the other drivers have no access control, and other calls
        missing = [need for need in needs if _is_denied(conn, need)] if guarded else []
        if missing:
            raise denied(missing)


def _is_denied(conn: Any, need: Need) -> bool:
    asked = _ASK.get((need.kind, need.permission))
    if asked is None:
        return False
    try:
        if need.kind != "storage_vol" or _holds_files(conn, need.storage_pool):
            asked(conn, need)
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED)
    return False


# --- domains: none of these calls can succeed ------------------------------------------------------------------------


def _ask_write(conn: Any, need: Need) -> None:
    _set_no_metadata(conn, need, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _ask_save(conn: Any, need: Need) -> None:
    if not _is_denied(conn, Need(need.kind, need.name, "write")):  # which the call needs besides
        _set_no_metadata(conn, need, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _set_no_metadata(conn: Any, need: Need, flags: int) -> None:
    domain = conn.lookupByName(need.name)
    domain.setMetadata(_NO_SUCH_METADATA, "<a/>", "a", "https://golden.libvirt/nothing", flags)


def _ask_start(conn: Any, need: Need) -> None:
    """Have a definition started that takes the name or the UUID of the domain from it, which libvirt refuses.

    Should the domain go away just then, there is a kernel that no host has to keep it from starting. A rule may go by
    the name or by the UUID: only what is denied under both is surely denied.
    """
    if _is_denied(conn, Need(need.kind, need.name, "write")):  # which the call needs besides
        return
    domain = conn.lookupByName(need.name)
    kind = ET.fromstring(domain.XMLDesc()).get("type", "")
    other = str(uuid.uuid4())
    try:
        _start_impostor(conn, kind, need.name, other)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED:
            _start_impostor(conn, kind, f"{need.name}-{other}", domain.UUIDString())


def _start_impostor(conn: Any, kind: str, name: str, identity: str) -> None:
    domain = ET.Element("domain", type=kind)
    for tag, text in (("name", name), ("uuid", identity), ("memory", "1024")):
        ET.SubElement(domain, tag).text = text
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type").text = "hvm"
    ET.SubElement(system, "kernel").text = _NOWHERE
    conn.createXML(
        ET.tostring(domain, encoding="unicode"),
        libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY,
    )


def _ask_block_write(conn: Any, need: Need) -> None:
    conn.lookupByName(need.name).blockResize(_NOWHERE, 1, 0)


# --- volumes that are files: neither can these -----------------------------------------------------------------------


def _holds_files(conn: Any, storage_pool: str) -> bool:
    """Whether a storage pool is of one driver, for whose volumes the calls below are known to be refused."""
    pool = conn.storagePoolLookupByName(storage_pool)
    return ET.fromstring(pool.XMLDesc()).get("type") in ("dir", "fs", "netfs")


def _volume(conn: Any, need: Need) -> Any:
    return conn.storagePoolLookupByName(need.storage_pool).storageVolLookupByName(need.name)


def _ask_create(conn: Any, need: Need) -> None:
    pool = conn.storagePoolLookupByName(need.storage_pool)
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = f"{need.name}/"  # never a name of a file
    ET.SubElement(volume, "capacity", unit="bytes").text = "512"
    pool.createXML(ET.tostring(volume, encoding="unicode"), 0)


def _ask_data_write(conn: Any, need: Need) -> None:
    stream = conn.newStream(0)
    try:
        _volume(conn, need).upload(stream, _BEYOND_ANY_FILE, 1, 0)
    finally:
        with contextlib.suppress(libvirt.libvirtError):  # it never began
            stream.abort()


def _ask_resize(conn: Any, need: Need) -> None:
    _volume(conn, need).resize(1)  # to shrink takes a flag


def _ask_delete(conn: Any, need: Need) -> None:
    _volume(conn, need).delete(_NO_SUCH_FLAG)


# --- the hypervisor --------------------------------------------------------------------------------------------------


def _ask_connect_write(conn: Any, need: Need) -> None:
    conn.getDomainCapabilities()  # it only looks, and yet takes this permission


_ASK = {
    ("domain", "write"): _ask_write,
    ("domain", "save"): _ask_save,
    ("domain", "start"): _ask_start,
    ("domain", "block_write"): _ask_block_write,
    ("storage_vol", "create"): _ask_create,
    ("storage_vol", "data_write"): _ask_data_write,
    ("storage_vol", "resize"): _ask_resize,
    ("storage_vol", "delete"): _ask_delete,
    ("connect", "write"): _ask_connect_write,
}
