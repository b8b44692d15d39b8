"""What a task needs of libvirt's access control, and how a user is told what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import DeniedError


@dataclass(frozen=True)
class Need:
    """One permission on one object, in libvirt's words: ``kind`` is domain, storage_pool, storage_vol, secret or
    connect, ``permission`` such as ``write`` or ``init_control``; ``storage_pool`` is that of a volume."""

    kind: str
    name: str
    permission: str
    storage_pool: str = ""

    @property
    def action(self) -> str:
        """The polkit action that allows it."""
        return f"org.libvirt.api.{self.kind}.{self.permission}".replace("_", "-")

    def __str__(self) -> str:
        if self.kind == "connect":
            return f"{self.action} on the hypervisor"
        kind = {"domain": "VM", "storage_vol": "volume"}.get(self.kind, self.kind.replace("_", " "))
        place = f" in storage pool {self.storage_pool!r}" if self.storage_pool else ""
        return f"{self.action} on {f'{kind} {self.name!r}' if self.name else f'a {kind}'}{place}"


Needs = tuple[Need, ...]


def denied(needs: Iterable[Need], doing: str = "") -> DeniedError:
    """Return the error for permissions that are missing: ``doing`` is what failed for want of them."""
    missing = tuple(dict.fromkeys(needs))
    what = ", ".join(map(str, missing)) or "it"
    return DeniedError(
        f"{doing or 'nothing has been changed'}: libvirt's access control does not allow {what}; let a polkit rule on "
        "the hypervisor allow it to the user that connects, or connect as another user",
        missing_permissions=[
            {"action": need.action, "kind": need.kind, "name": need.name, "storage_pool": need.storage_pool}
            for need in missing
        ],
    )


# --- what the calls of the port need ---------------------------------------------------------------------------------


def may_write(vm: str) -> Needs:
    """Change the definition, the metadata, the devices or the autostart of a VM."""
    return _on_vm(vm, "write", "save")


def may_define(vm: str) -> Needs:
    """Make a VM that does not exist, for which it is looked whether KVM runs here."""
    return (Need("connect", "", "write"), *may_write(vm))


def may_resize_disk(vm: str) -> Needs:
    """Grow a disk of a running VM."""
    return _on_vm(vm, "block_write")


def may_start(vm: str) -> Needs:
    """Start a VM."""
    return _on_vm(vm, "start")


def may_stop(vm: str, mode: str = "graceful_then_force") -> Needs:
    """Stop a VM in one of the modes of ``Shutdown``."""
    permissions = {"graceful": ("init_control",), "force": ("stop",)}
    return _on_vm(vm, *permissions.get(mode, ("init_control", "stop")))


def may_drop_managed_save(vm: str) -> Needs:
    """Remove the saved memory of a VM."""
    return _on_vm(vm, "hibernate")


def may_undefine(vm: str) -> Needs:
    """Remove the definition of a VM."""
    return _on_vm(vm, "delete")


def may_create_volume(storage_pool: str, volume: str) -> Needs:
    """Create a volume."""
    return _on_volume(storage_pool, volume, "create")


def may_create_filled_volume(storage_pool: str, volume: str) -> Needs:
    """Create a volume and write into it."""
    return (*may_create_volume(storage_pool, volume), *may_write_volume(storage_pool, volume))


def may_write_volume(storage_pool: str, volume: str) -> Needs:
    """Write into a volume."""
    return _on_volume(storage_pool, volume, "data_write")


def may_resize_volume(storage_pool: str, volume: str) -> Needs:
    """Grow a volume."""
    return _on_volume(storage_pool, volume, "resize")


def may_delete_volume(storage_pool: str, volume: str) -> Needs:
    """Delete a volume."""
    return _on_volume(storage_pool, volume, "delete")


def _on_vm(vm: str, *permissions: str) -> Needs:
    return tuple(Need("domain", vm, permission) for permission in permissions)


def _on_volume(storage_pool: str, volume: str, permission: str) -> Needs:
    return (Need("storage_vol", volume, permission, storage_pool),)
