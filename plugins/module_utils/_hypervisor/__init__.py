"""The hypervisor behind a libvirt URI: the only code of the collection that imports libvirt."""

from __future__ import annotations

from .claims import ClaimCalls
from .connection import Connection
from .devices import DeviceCalls
from .domains import DomainCalls
from .guest import GuestCalls
from .library import LIBVIRT_IMPORT_ERROR
from .local_files import LocalFiles
from .networks import NetworkCalls
from .permissions import PermissionCalls
from .storage import StorageCalls

__all__ = ["LIBVIRT_IMPORT_ERROR", "LibvirtHypervisor"]


class LibvirtHypervisor(
    PermissionCalls, DomainCalls, DeviceCalls, GuestCalls, ClaimCalls, NetworkCalls, StorageCalls, LocalFiles
):
    """One libvirt connection with all the calls that the core makes (``_core.hypervisor.Hypervisor``).

    One that is to ``only_look`` may be read-only, and does not ask for the passwords in definitions.
    """

    def __init__(self, uri: str, only_look: bool = False) -> None:
        DomainCalls.__init__(self, Connection(uri, only_look))
        ClaimCalls.__init__(self)
        StorageCalls.__init__(self)

    def __enter__(self) -> LibvirtHypervisor:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.connection.close()
