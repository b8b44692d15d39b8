"""What a user wants of a VM."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidError
from ..hypervisor import Health
from ..libvirt_xml.domain_xml import Network
from ..payload.payload import PayloadRequest
from .record import PoolSettings

PRESENT, ABSENT, STARTED, STOPPED = "present", "absent", "started", "stopped"


@dataclass(frozen=True)
class Size:
    """The hardware of a VM: ``memory`` in KiB, ``storage`` (of the root) in bytes; None leaves it as it is."""

    cpus: int | None = None
    memory: int | None = None
    storage: int | None = None


@dataclass(frozen=True)
class WantedVolume:
    """A data volume that a VM is to have; ``size`` in bytes."""

    size: int
    device_id: int
    bus: str = "virtio"
    serial: str = ""


@dataclass(frozen=True)
class VmRequest:
    """What the user wants of a VM; None leaves a part as it is, or as the template has it."""

    name: str
    state: str = PRESENT
    template: str | None = None
    template_version: str | None = None
    use_latest_template_version: bool | None = None
    stateless: bool | None = None
    size: Size = field(default_factory=Size)
    networks: tuple[Network, ...] | None = None
    storage_pools: tuple[str, ...] = ()
    description: str | None = None
    autostart: bool | None = None
    volumes: tuple[WantedVolume, ...] = ()
    delete_data_volumes: bool = False
    wait_timeout: int = 120
    vm_pool: PoolSettings | None = None
    template_storage_pool: str | None = None
    payload: PayloadRequest | None = None
    health: Health = field(default_factory=Health)
    """What is waited for when the task starts the VM."""


def check_follows(request: VmRequest) -> None:
    """Refuse a VM that is to follow latest and to keep its root's changes: it cannot do both."""
    if request.use_latest_template_version and request.stateless is False:
        raise InvalidError(
            f"VM {request.name!r} is not stateless, so it cannot follow the latest version: moving it would "
            "lose what is "
            "on its root; set 'stateless: true', or move it deliberately with vm_restore"
        )
    if request.use_latest_template_version and not request.stateless:
        raise InvalidError(
            f"VM {request.name!r}: use_latest_template_version needs 'stateless: true', as each move loses "
            "what is on the root"
        )
