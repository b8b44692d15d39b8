"""What the core asks of a hypervisor: the values that it gets and the calls that it makes.

The calls raise ``HypervisorError`` with what libvirt said, unless their text names another error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .permissions import Needs

RUNNING, PAUSED, SHUT_OFF = "running", "paused", "shut off"

FILE_POOLS = frozenset({"dir", "fs", "netfs", "gluster", "vstorage"})
"""Types of storage pools whose volumes are files, and so can be qcow2 overlays."""

CREATING_POOLS = FILE_POOLS - {"gluster"} | {"logical", "disk", "rbd", "sheepdog", "zfs"}
"""Types of storage pools in which libvirt makes volumes."""


@dataclass(frozen=True)
class Host:
    """A hypervisor as such. ``arch`` is that of its processors, such as ``x86_64``."""

    name: str
    arch: str


@dataclass(frozen=True)
class StoragePool:
    """A storage pool; sizes are in bytes. The sizes of an inactive one are not known: 0."""

    name: str
    type: str
    active: bool
    path: str
    capacity: int
    allocation: int
    available: int

    @property
    def file_based(self) -> bool:
        """Whether its volumes are files."""
        return self.type in FILE_POOLS


@dataclass(frozen=True)
class Volume:
    """A storage volume; sizes are in bytes. ``backing_path`` is the path of the volume below it, or empty."""

    name: str
    storage_pool: str
    path: str
    type: str
    format: str
    capacity: int
    allocation: int
    backing_path: str = ""
    backing_format: str = ""


@dataclass(frozen=True)
class Domain:
    """A libvirt domain as it stands: ``xml`` is its stored definition (of a transient one: the live one)."""

    name: str
    uuid: str
    state: str
    persistent: bool
    autostart: bool
    managed_save: bool
    xml: str

    @property
    def active(self) -> bool:
        """Whether it has a running (or paused) instance."""
        return self.state != SHUT_OFF


@dataclass(frozen=True)
class LibvirtNetwork:
    """A libvirt network; ``address`` is the IPv4 address that the hypervisor has in it, empty where it has none."""

    active: bool
    address: str = ""


@dataclass(frozen=True)
class ImageFile:
    """A file where the module runs: its size, the bytes of it that are no holes, and its beginning."""

    path: str
    size: int
    allocation: int
    head: bytes


@dataclass(frozen=True)
class Shutdown:
    """How a VM is stopped. ``timeout`` is the time in seconds that the guest has."""

    mode: str = "graceful_then_force"
    timeout: int = 120


@dataclass(frozen=True)
class Health:
    """When a VM counts as up: see the options of ``vm_restore``. Times are in seconds."""

    check: str = "none"
    port: int | None = None
    command: tuple[str, ...] = ()
    timeout: int = 300
    stable_for: int = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to wait for."""
        return self.check != "none" or self.stable_for > 0


@dataclass(frozen=True)
class GuestResult:
    """How a command in a guest ended. Of long output the end is kept; ``truncated`` tells so."""

    rc: int
    stdout: str
    stderr: str
    truncated: bool = False


class Hypervisor(Protocol):
    """One libvirt connection."""

    def host(self) -> Host:
        """Return what this hypervisor is."""

    def check_allowed(self, needs: Needs) -> None:
        """Raise ``DeniedError``, naming them all, for permissions that are missing, as far as that can be told without
        a change; what cannot be told passes."""

    # domains ---------------------------------------------------------------------------------------------------
    def domains(self) -> list[Domain]:
        """Return all domains, sorted by name."""

    def domain(self, name: str) -> Domain | None:
        """Return one domain, or None where there is none."""

    def snapshots(self, name: str) -> list[str]:
        """Return the names of a domain's snapshots and checkpoints."""

    def define(self, xml: str) -> None:
        """Create or replace a stored definition. A name that another UUID has: ``ExistsError``."""

    def metadata(self, name: str) -> str | None:
        """Return our metadata element of a domain's stored definition, or None where there is none."""

    def set_metadata(self, name: str, xml: str) -> None:
        """Replace our metadata element of a domain, in its stored and, if it runs, in its live definition."""

    def undefine(self, name: str) -> None:
        """Remove a stored definition with its nvram and managed save; nothing happens where there is none."""

    def live_xml(self, name: str) -> str | None:
        """Return the definition of a domain's running instance, or None where none runs."""

    def start(self, name: str) -> None:
        """Start a domain; one that is active already is left as it is."""

    def start_once(self, xml: str) -> None:
        """Start a stopped domain with this definition for this one run; its stored definition stays as it is."""

    def stop(self, name: str, shutdown: Shutdown) -> None:
        """Stop a domain and wait until it is down. A guest that does not obey in time: ``TimedOutError``."""

    def drop_managed_save(self, name: str) -> None:
        """Remove the saved memory of a domain, if there is any."""

    def set_autostart(self, name: str, autostart: bool) -> None:
        """Let a domain start with its host, or not."""

    def wait_healthy(self, name: str, health: Health) -> None:
        """Wait until a VM passes its health check; one that does not: ``UnhealthyError`` that says what was wrong."""

    def run_in_guest(self, name: str, command: Sequence[str], timeout: int, stdin: str | None = None) -> GuestResult:
        """Run a program with its arguments in a guest, through its agent, and wait for its end.

        An agent that does not answer, or a command that does not end, within ``timeout`` seconds: ``TimedOutError``.
        """

    def addresses_of(self, names: list[str]) -> dict[str, dict[str, list[str]]]:
        """Return the IP addresses by MAC address that are known of running VMs; guests that hang hold up nobody."""

    def virt_type(self) -> str:
        """Return ``kvm`` where a KVM guest really runs, else ``qemu``."""

    # networks --------------------------------------------------------------------------------------------------
    def network(self, name: str) -> LibvirtNetwork | None:
        """Return a libvirt network, or None."""

    def serves_payloads(self) -> bool | None:
        """Return whether what serves payloads over the network is installed on the hypervisor; None: not known, as this
        is another machine."""

    # devices of a domain -------------------------------------------------------------------------------------------
    def attach_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        """Add a device to the running instance, the stored definition or both; both or neither get it."""

    def detach_device(self, name: str, xml: str, *, live: bool, timeout: int = 0) -> None:
        """Remove a device from the running instance (``live``) or else from the stored definition.

        A guest that does not let go of it within ``timeout`` seconds: ``TimedOutError``; it has the device still.
        """

    def update_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        """Change the medium of a drive in the running instance, the stored definition or both."""

    def resize_disk(self, name: str, target: str, capacity: int) -> None:
        """Grow a disk of a running domain to this many bytes; its guest sees it at once."""

    # claims --------------------------------------------------------------------------------------------------------
    def claimant(self) -> str:
        """Return the name under which this task claims what no other task may have, be it of the same user."""

    def claim(self, thing: str, claimant: str, wait: float = 0.0) -> str:
        """Claim a thing until it is released, and return who has it: of many that try at once exactly one.

        One that another claimant has is waited for as many seconds. It is for the short time in which what is to hold
        is not written yet. A claim outlives the task that made it by two minutes, or until the hypervisor's libvirt is
        restarted; one of a ``claimant()`` ends with the process, for those who can see it.
        """

    def release(self, thing: str, claimant: str) -> None:
        """End a claim of this claimant, if there is one."""

    # storage ---------------------------------------------------------------------------------------------------
    def storage_pools(self) -> list[StoragePool]:
        """Return all storage pools, sorted by name."""

    def storage_pool(self, name: str) -> StoragePool:
        """Return one storage pool. None of that name: ``NotFoundError``; an inactive one: ``RefusedError``."""

    def volume_names(self, storage_pool: str) -> list[str]:
        """Return the names of all volumes of a storage pool, sorted; errors as ``storage_pool``."""

    def volumes(self, storage_pool: str) -> list[Volume]:
        """Return all volumes of a storage pool, sorted by name."""

    def volume(self, storage_pool: str, name: str) -> Volume | None:
        """Return one volume, or None where there is none."""

    def volume_at(self, path: str) -> Volume | None:
        """Return the volume that has this path, or None where no active storage pool has one."""

    def create_volume(self, storage_pool: str, xml: str) -> Volume:
        """Create a volume. A name that is taken: ``ExistsError``; of many that try at once exactly one gets it."""

    def copy_volume(self, storage_pool: str, xml: str, source: Volume) -> Volume:
        """Create a volume with the content of another one and of all that backs it; errors as ``create_volume``."""

    def delete_volume(self, storage_pool: str, name: str) -> None:
        """Delete a volume; nothing happens where there is none."""

    def resize_volume(self, storage_pool: str, name: str, capacity: int) -> None:
        """Grow a volume that no running VM uses, to this many bytes."""

    def read_volume(self, storage_pool: str, name: str, size: int) -> bytes:
        """Return the first bytes of a volume."""

    def write_volume(self, storage_pool: str, name: str, content: bytes) -> None:
        """Write bytes at the beginning of a volume."""

    def volume_digest(self, storage_pool: str, name: str, sparse: bool = False) -> str:
        """Return the SHA-256 of a volume's bytes, or its ``SparseDigest``."""

    # files where the module runs -----------------------------------------------------------------------------------
    def image_file(self, path: str) -> ImageFile:
        """Return what a file is. One that cannot be read: ``InvalidError``."""

    def file_digest(self, path: str, sparse: bool = False) -> str:
        """Return the SHA-256 of a file, or its ``SparseDigest``."""

    def upload(self, storage_pool: str, name: str, path: str, sparse: bool = False) -> str:
        """Stream a file into a volume, holes as holes, and return the SHA-256 of its bytes, or its ``SparseDigest``."""

    def newest_files(self, folder: str, suffix: str, count: int) -> list[str]:
        """Return the texts of the newest files of a folder whose names end so; none of a folder that is not there."""

    # time ----------------------------------------------------------------------------------------------------------
    def now(self) -> str:
        """Return the time of day, UTC, as ``2026-11-20T07:00:00Z``."""

    def local_time(self) -> str:
        """Return the time of day where the module runs, as ``2026-11-20T08:00:00+01:00``."""
