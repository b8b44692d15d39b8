"""A hypervisor in memory: it takes the XML that libvirt takes, and keeps and refuses what libvirt does.

Tests look at its state (``state()``), not at its calls. Calls are only counted, so that any of them can be made
to fail.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    ExistsError,
    HypervisorError,
    InvalidError,
    NotFoundError,
    RefusedError,
    TimedOutError,
    UnhealthyError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import (
    PAUSED,
    RUNNING,
    SHUT_OFF,
    Domain,
    GuestResult,
    Health,
    Host,
    ImageFile,
    LibvirtNetwork,
    Shutdown,
    StoragePool,
    Volume,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.permissions import Needs, denied
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.digest import new_digest

NAMESPACE = "https://golden.libvirt/vm/1"
HEAD = 68 * 1024
NOW = "2026-11-20T07:00:00Z"
UNWRITTEN_OVERLAY = b"QFI\xfb" + struct.pack(">IQIIQIIQ", 3, 528, 11, 16, 2**31, 0, 4, 0x30000) + b"\0" * 0x30000
"""The beginning of an overlay on which nobody has written, as QEMU makes it: its table, at 192 KiB, is empty."""


class Died(BaseException):
    """The process was killed: whatever it still tries, no call reaches the hypervisor any more."""


@dataclass
class FakeVolume:
    """A volume; ``content`` is what was written into it, not what lies below it."""

    name: str
    path: str
    format: str
    capacity: int
    backing: str
    backing_format: str
    read_only: bool
    content: bytes = b""


@dataclass
class FakePool:
    """A storage pool. Every volume takes the bytes of its content."""

    name: str
    type: str = "dir"
    active: bool = True
    capacity: int = 100 * 1024**3
    volumes: dict[str, FakeVolume] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where its volumes are."""
        return f"/pools/{self.name}"

    @property
    def allocation(self) -> int:
        """The bytes that its volumes take."""
        return sum(len(volume.content) for volume in self.volumes.values())


@dataclass
class FakeDomain:
    """A domain: ``stored`` is its stored definition, ``live`` that of its running instance."""

    name: str
    uuid: str
    stored: str
    live: str | None = None
    paused: bool = False
    persistent: bool = True
    autostart: bool = False
    managed_save: bool = False
    snapshots: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Its state in libvirt's words."""
        if self.live is None:
            return SHUT_OFF
        return PAUSED if self.paused else RUNNING


Call = TypeVar("Call", bound=Callable[..., Any])


def counted(call: Call) -> Call:
    """Make a call of the hypervisor one that can be made to fail."""

    @functools.wraps(call)
    def wrapper(self: FakeHypervisor, *arguments: Any, **options: Any) -> Any:
        if self._dead:
            raise Died("a dead process makes no calls")
        for action in self.before.pop(call.__name__, []):
            action()
        number, self.calls = self.calls, self.calls + 1
        if self._interruption is not None and self._interruption[0] == number:
            (_number, action, but_not), self._interruption = self._interruption, None
            if call.__name__ not in but_not:
                action()
        if self._fault is None or self._fault[0] != number:
            return call(self, *arguments, **options)
        (_number, after, deadly), self._fault = self._fault, None
        if after:
            call(self, *arguments, **options)
        self._dead = deadly
        said = f"{call.__name__} was made to fail"
        raise Died(said) if deadly else HypervisorError(said)

    return wrapper  # type: ignore[return-value]


class FakeHypervisor:
    """One connection to a hypervisor that exists only here."""

    def __init__(self, *storage_pools: FakePool) -> None:
        self.pools = {pool.name: pool for pool in storage_pools or (FakePool("default"),)}
        self.vms: dict[str, FakeDomain] = {}
        self.files: dict[str, bytes] = {}
        self.claims: dict[str, str] = {}
        self.process = 0
        """The number of the process that uses the connection."""
        self.networks = {"default": "192.0.2.1"}
        """Libvirt networks, with the address that the hypervisor has in each."""
        self.inactive_networks: set[str] = set()
        self.payload_service: bool | None = True
        """Whether what serves payloads over the network is installed."""
        self.stubborn: set[str] = set()
        """VMs whose guests do not shut down when asked."""
        self.unhealthy: set[str] = set()
        """Names of volumes: a guest with one of them in its root's chain does not come up."""
        self.unstartable: set[str] = set()
        """Names of volumes: a VM with one of them in its root's chain cannot be started."""
        self.denied: set[str] = set()
        """Permissions that nobody has, such as ``domain.start``."""
        self.guest_results: dict[tuple[str, ...], GuestResult] = {}
        """How commands end in guests; all others end well and print nothing."""
        self.calls = 0
        self.before: dict[str, list[Callable[[], object]]] = {}
        self._fault: tuple[int, bool, bool] | None = None
        self._interruption: tuple[int, Callable[[], object], tuple[str, ...]] | None = None
        self._dead = False

    # --- what tests do to it, and look at --------------------------------------------------------------------------

    def fail_at(self, number: int, after: bool = False) -> None:
        """Let the call of this number, counted from now, be refused, or be carried out and yet reported as failed."""
        self._fault = (self.calls + number, after, False)

    def die_at(self, number: int, after: bool = False) -> None:
        """Let the process be killed at the call of this number, counted from now, before or after it is carried out."""
        self._fault = (self.calls + number, after, True)

    def meanwhile(self, call: str, action: Callable[[], object]) -> None:
        """Let another task do something just before the next call of this name."""
        self.before.setdefault(call, []).append(action)

    def interrupt_at(self, number: int, action: Callable[[], object], but_not: tuple[str, ...] = ()) -> None:
        """Let another task do something just before the call of this number, unless the call has one of these names."""
        self._interruption = (self.calls + number, action, but_not)

    def revive(self) -> None:
        """Let a new process use the connection, and nothing fail or be done by others any more.

        What the one of before has claimed as a task is free; what it has claimed for others, such as a user, is not.
        """
        self._fault, self._interruption, self._dead = None, None, False
        self.claims = {thing: claimant for thing, claimant in self.claims.items() if claimant != self.claimant()}
        self.process += 1

    def state(self) -> dict[str, Any]:
        """Return all that there is, to be compared."""
        return {
            "volumes": {
                (pool.name, volume.name): (volume.format, volume.capacity, volume.backing, volume.content)
                for pool in self.pools.values()
                for volume in pool.volumes.values()
            },
            "domains": {
                vm.name: (
                    _canonical(vm.stored),
                    vm.state,
                    vm.persistent,
                    vm.autostart,
                    None if vm.live is None else _canonical(vm.live),
                    vm.managed_save,
                )
                for vm in self.vms.values()
            },
            "claims": dict(self.claims),
        }

    def names(self, storage_pool: str = "default") -> list[str]:
        """Return the names of the volumes of a storage pool, without counting as a call."""
        return sorted(self.pools[storage_pool].volumes)

    def disk_paths(self, name: str, live: bool = False) -> list[str]:
        """Return the paths of a VM's disks."""
        vm = self.vms[name]
        xml = vm.live if live else vm.stored
        return [source.attrib["file"] for source in ET.fromstring(xml or "<x/>").iterfind("devices/disk/source[@file]")]

    def chain(self, path: str) -> list[FakeVolume]:
        """Return the volume at a path and those below it, top first; one that is missing is an error of libvirt."""
        found: list[FakeVolume] = []
        while path:
            volume = self._at(path)
            if volume is None:
                raise HypervisorError(f"Cannot access storage file '{path}'")
            found.append(volume)
            path = volume.backing
        return found

    @counted
    def check_allowed(self, needs: Needs) -> None:
        missing = [need for need in needs if f"{need.kind}.{need.permission}" in self.denied]
        if missing:
            raise denied(missing)

    # --- domains ---------------------------------------------------------------------------------------------------

    @counted
    def host(self) -> Host:
        return Host("fake", "x86_64")

    @counted
    def domains(self) -> list[Domain]:
        return [self._value(self.vms[name]) for name in sorted(self.vms)]

    @counted
    def domain(self, name: str) -> Domain | None:
        return self._value(self.vms[name]) if name in self.vms else None

    @counted
    def snapshots(self, name: str) -> list[str]:
        return list(self._vm(name).snapshots)

    @counted
    def define(self, xml: str) -> None:
        domain = ET.fromstring(xml)
        name, identity = domain.findtext("name", ""), domain.findtext("uuid")
        if domain.tag != "domain" or not domain.get("type") or not name or domain.find("memory") is None:
            raise HypervisorError("XML error: no type, name or memory")
        known = self.vms.get(name)
        if known is not None and known.uuid != identity:
            raise ExistsError(f"operation failed: domain '{name}' already exists with uuid {known.uuid}")
        for other in self.vms.values():
            if other.uuid == identity and other.name != name:
                raise HypervisorError(
                    f"operation failed: domain '{other.name}' is already defined with uuid {identity}"
                )
        identity = _complete(domain)
        stored = ET.tostring(domain, encoding="unicode")
        if known is None:
            self.vms[name] = FakeDomain(name, identity, stored)
        else:
            known.stored, known.persistent = stored, True

    @counted
    def metadata(self, name: str) -> str | None:
        found = ET.fromstring(self.vms[name].stored).find(f"metadata/{{{NAMESPACE}}}vm") if name in self.vms else None
        return None if found is None else ET.tostring(found, encoding="unicode")

    @counted
    def set_metadata(self, name: str, xml: str) -> None:
        vm = self._vm(name)
        vm.stored = _with_metadata(vm.stored, xml)
        if vm.live is not None:
            vm.live = _with_metadata(vm.live, xml)

    @counted
    def undefine(self, name: str) -> None:
        vm = self.vms.get(name)
        if vm is None:
            return
        if vm.snapshots:
            raise HypervisorError(
                f"Requested operation is not valid: cannot delete domain with {len(vm.snapshots)} snapshots"
            )
        vm.persistent = vm.managed_save = vm.autostart = False
        if vm.live is None:
            del self.vms[name]

    @counted
    def start(self, name: str) -> None:
        vm = self._vm(name)
        if vm.live is None:
            self._start(vm)

    def _start(self, vm: FakeDomain) -> None:
        for path in self.disk_paths(vm.name):
            chain = self.chain(path)
            if chain[0].read_only:
                raise HypervisorError(f"Could not open '{path}': Permission denied")
            if self.unstartable.intersection(volume.name for volume in chain):
                raise HypervisorError("internal error: process exited while connecting to monitor")
        vm.live, vm.paused, vm.managed_save = vm.stored, False, False

    @counted
    def live_xml(self, name: str) -> str | None:
        return self.vms[name].live if name in self.vms else None

    @counted
    def start_once(self, xml: str) -> None:
        vm = self._vm(ET.fromstring(xml).findtext("name", ""))
        if vm.live is not None:
            raise HypervisorError(f"operation failed: domain is already active as '{vm.name}'")
        stored, vm.stored = vm.stored, xml
        try:
            self._start(vm)
        finally:
            vm.stored = stored

    # --- devices ---------------------------------------------------------------------------------------------------

    @counted
    def attach_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        vm, device = self._vm(name), ET.fromstring(xml)
        definitions = self._definitions(vm, live, stored)
        for definition in definitions.values():
            if device.tag == "disk" and _find_disk(definition, device) is not None:
                raise HypervisorError(f"Requested operation is not valid: target {_target(device)} already exists")
            if any(other.get("type") == device.get("type") for other in definition.iterfind("devices/controller")):
                raise HypervisorError(f"operation failed: target {device.get('type')}:0 already exists")
            devices = definition.find("devices")
            assert devices is not None
            devices.append(ET.fromstring(xml))
        for which, definition in definitions.items():
            setattr(vm, which, ET.tostring(definition, encoding="unicode"))

    @counted
    def detach_device(self, name: str, xml: str, *, live: bool, timeout: int = 0) -> None:
        vm, device = self._vm(name), ET.fromstring(xml)
        for which, definition in self._definitions(vm, live, not live).items():
            found = _find_disk(definition, device) if device.tag == "disk" else _find_controller(definition, device)
            if found is None:
                raise HypervisorError(f"device not found: no target device {_target(device)}")
            if live and name in self.stubborn:
                raise TimedOutError(f"the guest of VM {name!r} did not let go within {timeout} seconds")
            definition.find("devices").remove(found)  # type: ignore[union-attr]
            setattr(vm, which, ET.tostring(definition, encoding="unicode"))

    @counted
    def update_device(self, name: str, xml: str, *, live: bool, stored: bool) -> None:
        vm, device = self._vm(name), ET.fromstring(xml)
        for which, definition in self._definitions(vm, live, stored).items():
            found = _find_disk(definition, device)
            if found is None:
                raise HypervisorError(f"device not found: no target device {_target(device)}")
            devices = definition.find("devices")
            devices[list(devices).index(found)] = ET.fromstring(xml)  # type: ignore[index,arg-type]
            setattr(vm, which, ET.tostring(definition, encoding="unicode"))

    @counted
    def resize_disk(self, name: str, target: str, capacity: int) -> None:
        vm = self._vm(name)
        if vm.live is None:
            raise HypervisorError("Requested operation is not valid: domain is not running")
        for disk in ET.fromstring(vm.live).iterfind("devices/disk"):
            source = disk.find("source")
            if _target(disk) == target and source is not None:
                volume = self._at(source.attrib["file"])
                assert volume is not None
                assert capacity >= volume.capacity
                volume.capacity = capacity
                return
        raise HypervisorError(f"invalid argument: disk '{target}' was not found in the domain config")

    # --- networks --------------------------------------------------------------------------------------------------

    @counted
    def network(self, name: str) -> LibvirtNetwork | None:
        if name not in self.networks:
            return None
        return LibvirtNetwork(name not in self.inactive_networks, self.networks[name])

    @counted
    def serves_payloads(self) -> bool | None:
        return self.payload_service

    # --- claims ----------------------------------------------------------------------------------------------------

    def claimant(self) -> str:
        return f"task {self.process}"

    @counted
    def claim(self, thing: str, claimant: str, wait: float = 0.0) -> str:
        return self.claims.setdefault(thing, claimant)

    @counted
    def release(self, thing: str, claimant: str) -> None:
        if self.claims.get(thing) == claimant:
            del self.claims[thing]

    # --- stopping --------------------------------------------------------------------------------------------------

    @counted
    def stop(self, name: str, shutdown: Shutdown) -> None:
        vm = self.vms.get(name)
        if vm is None or vm.live is None:
            return
        if name in self.stubborn and shutdown.mode == "graceful":
            raise TimedOutError(f"VM {name!r} did not shut down within {shutdown.timeout} seconds")
        vm.live = None
        if not vm.persistent:
            del self.vms[name]

    @counted
    def drop_managed_save(self, name: str) -> None:
        self._vm(name).managed_save = False

    @counted
    def set_autostart(self, name: str, autostart: bool) -> None:
        self._vm(name).autostart = autostart

    @counted
    def wait_healthy(self, name: str, health: Health) -> None:
        vm = self._vm(name)
        if vm.live is None:
            raise UnhealthyError(f"VM {name!r} went down while it was waited for")
        chain = self.chain(self.disk_paths(name, live=True)[0])
        if self.unhealthy.intersection(volume.name for volume in chain):
            raise UnhealthyError(f"VM {name!r} did not pass its health check {health.check!r}")

    @counted
    def run_in_guest(self, name: str, command: Sequence[str], timeout: int, stdin: str | None = None) -> GuestResult:
        if self._vm(name).live is None:
            raise HypervisorError("Requested operation is not valid: domain is not running")
        if name in self.stubborn:
            raise TimedOutError(f"the guest agent of VM {name!r} did not answer within {timeout} seconds")
        return self.guest_results.get(tuple(command), GuestResult(0, stdin or "", ""))

    @counted
    def addresses_of(self, names: list[str]) -> dict[str, dict[str, list[str]]]:
        lives = {name: self.vms[name].live for name in names if name in self.vms}
        return {
            name: {
                mac.attrib["address"]: [f"192.0.2.{index}"]
                for index, mac in enumerate(ET.fromstring(live).iterfind("devices/interface/mac"), 10)
            }
            for name, live in lives.items()
            if live
        }

    @counted
    def virt_type(self) -> str:
        return "qemu"

    # --- storage ---------------------------------------------------------------------------------------------------

    @counted
    def storage_pools(self) -> list[StoragePool]:
        return [_pool_value(self.pools[name]) for name in sorted(self.pools)]

    @counted
    def storage_pool(self, name: str) -> StoragePool:
        return _pool_value(self._pool(name))

    @counted
    def volume_names(self, storage_pool: str) -> list[str]:
        return sorted(self._pool(storage_pool).volumes)

    @counted
    def volumes(self, storage_pool: str) -> list[Volume]:
        pool = self._pool(storage_pool)
        return [_volume_value(pool.volumes[name], pool) for name in sorted(pool.volumes)]

    @counted
    def volume(self, storage_pool: str, name: str) -> Volume | None:
        pool = self._pool(storage_pool)
        return _volume_value(pool.volumes[name], pool) if name in pool.volumes else None

    @counted
    def volume_at(self, path: str) -> Volume | None:
        for pool in self.pools.values():
            for volume in pool.volumes.values():
                if volume.path == path and pool.active:
                    return _volume_value(volume, pool)
        return None

    @counted
    def create_volume(self, storage_pool: str, xml: str) -> Volume:
        return self._create(storage_pool, xml, b"")

    @counted
    def copy_volume(self, storage_pool: str, xml: str, source: Volume) -> Volume:
        content = b"".join(volume.content for volume in reversed(self.chain(source.path)))
        return self._create(storage_pool, xml, content)

    @counted
    def delete_volume(self, storage_pool: str, name: str) -> None:
        volume = self._pool(storage_pool).volumes.get(name)
        if volume is None:
            return
        for vm in self.vms.values():
            assert vm.live is None or volume.path not in self.disk_paths(vm.name, live=True), (
                f"{name} is deleted below the running VM {vm.name}"
            )
        for pool in self.pools.values():
            overlays = [other.name for other in pool.volumes.values() if other.backing == volume.path]
            assert not overlays, f"{name} is deleted below {overlays}"
        del self._pool(storage_pool).volumes[name]

    @counted
    def resize_volume(self, storage_pool: str, name: str, capacity: int) -> None:
        volume = self._volume(storage_pool, name)
        if capacity < volume.capacity:
            raise HypervisorError("invalid argument: Can't shrink capacity below current capacity unless shrink flag")
        volume.capacity = capacity

    @counted
    def read_volume(self, storage_pool: str, name: str, size: int) -> bytes:
        if name not in self._pool(storage_pool).volumes:
            raise NotFoundError(f"there is no volume {name!r} in storage pool {storage_pool!r}")
        return self._bytes(self._volume(storage_pool, name))[:size]

    @counted
    def write_volume(self, storage_pool: str, name: str, content: bytes) -> None:
        volume = self._volume(storage_pool, name)
        volume.content = content + volume.content[len(content) :]

    @counted
    def volume_digest(self, storage_pool: str, name: str, sparse: bool = False) -> str:
        return _digest(self._bytes(self._volume(storage_pool, name)), sparse)

    # --- files where the module runs -------------------------------------------------------------------------------

    @counted
    def image_file(self, path: str) -> ImageFile:
        content = self._file(path)
        return ImageFile(path, len(content), len(content), content[:HEAD])

    @counted
    def file_digest(self, path: str, sparse: bool = False) -> str:
        return _digest(self._file(path), sparse)

    @counted
    def upload(self, storage_pool: str, name: str, path: str, sparse: bool = False) -> str:
        content = self._file(path)
        self._volume(storage_pool, name).content = content
        return _digest(content, sparse)

    @counted
    def newest_files(self, folder: str, suffix: str, count: int) -> list[str]:
        found = [path for path in self.files if path.startswith(f"{folder}/") and path.endswith(suffix)]
        return [self.files[path].decode() for path in sorted(found, reverse=True)[:count]]

    @counted
    def now(self) -> str:
        return NOW

    @counted
    def local_time(self) -> str:
        return "2026-11-20T08:00:00+01:00"

    # --- parts -----------------------------------------------------------------------------------------------------

    def _vm(self, name: str) -> FakeDomain:
        if name not in self.vms:
            raise NotFoundError(f"there is no VM {name!r}")
        return self.vms[name]

    def _pool(self, name: str) -> FakePool:
        if name not in self.pools:
            raise NotFoundError(f"there is no storage pool {name!r}")
        if not self.pools[name].active:
            raise RefusedError(f"storage pool {name!r} is inactive")
        return self.pools[name]

    def _volume(self, storage_pool: str, name: str) -> FakeVolume:
        volume = self._pool(storage_pool).volumes.get(name)
        if volume is None:
            raise HypervisorError(f"Storage volume not found: no storage vol with matching name '{name}'")
        return volume

    def _at(self, path: str) -> FakeVolume | None:
        volumes = (volume for pool in self.pools.values() for volume in pool.volumes.values())
        return next((volume for volume in volumes if volume.path == path), None)

    def _file(self, path: str) -> bytes:
        if path not in self.files:
            raise InvalidError(f"cannot read {path}: No such file or directory")
        return self.files[path]

    def _create(self, storage_pool: str, xml: str, content: bytes) -> Volume:
        pool = self._pool(storage_pool)
        volume = ET.fromstring(xml)
        name, capacity = volume.findtext("name", ""), volume.find("capacity")
        if not name or "/" in name or capacity is None or capacity.get("unit") != "bytes":
            raise HypervisorError("XML error: a volume without a good name, or with another capacity than in bytes")
        if name in pool.volumes:
            raise ExistsError(f"storage volume '{name}' exists already")
        target = volume.find("target/format")
        backing = volume.findtext("backingStore/path", "")
        below = volume.find("backingStore/format")
        if backing and self._at(backing) is None:
            raise HypervisorError(f"inaccessible backing storage volume {backing}")
        made = FakeVolume(
            name=name,
            path=f"{pool.path}/{name}",
            format="raw" if target is None else target.get("type", "raw"),
            capacity=int(capacity.text or "0"),
            backing=backing,
            backing_format="raw" if below is None else below.get("type", "raw"),
            read_only=volume.findtext("target/permissions/mode") in ("0440", "0444"),
            content=content,
        )
        pool.volumes[name] = made
        return _volume_value(made, pool)

    @staticmethod
    def _definitions(vm: FakeDomain, live: bool, stored: bool) -> dict[str, ET.Element]:
        if live and vm.live is None:
            raise HypervisorError("Requested operation is not valid: domain is not running")
        wanted = {"live": live, "stored": stored}
        return {which: ET.fromstring(getattr(vm, which)) for which, affected in wanted.items() if affected}

    @staticmethod
    def _bytes(volume: FakeVolume) -> bytes:
        if volume.format == "qcow2" and volume.backing and not volume.content:
            return UNWRITTEN_OVERLAY
        return volume.content.ljust(volume.capacity, b"\0") if volume.capacity <= HEAD else volume.content

    @staticmethod
    def _value(vm: FakeDomain) -> Domain:
        xml = vm.stored if vm.persistent or vm.live is None else vm.live
        return Domain(vm.name, vm.uuid, vm.state, vm.persistent, vm.autostart, vm.managed_save, xml)


@functools.cache
def _canonical(xml: str) -> str:
    return ET.canonicalize(xml, strip_text=True)


def _complete(domain: ET.Element) -> str:
    """Fill in what libvirt fills in: UUID and MAC addresses; return the UUID."""
    name = domain.findtext("name", "")
    identity = domain.find("uuid")
    if identity is None:
        identity = ET.Element("uuid")
        identity.text = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        domain.insert(1, identity)
    for index, nic in enumerate(domain.iterfind("devices/interface")):
        if nic.find("mac") is None:
            digest = hashlib.sha256(f"{name} {index}".encode()).hexdigest()
            nic.insert(0, ET.Element("mac", address=f"52:54:00:{digest[:2]}:{digest[2:4]}:{digest[4:6]}"))
    return identity.text or ""


def _target(device: ET.Element) -> str:
    target = device.find("target")
    return "" if target is None else target.get("dev", "")


def _find_disk(definition: ET.Element, device: ET.Element) -> ET.Element | None:
    """Return the disk at the device's target, as libvirt looks for it."""
    return next((disk for disk in definition.iterfind("devices/disk") if _target(disk) == _target(device)), None)


def _find_controller(definition: ET.Element, device: ET.Element) -> ET.Element | None:
    return definition.find(f"devices/{device.tag}[@type='{device.get('type')}']")


def _with_metadata(definition: str, xml: str) -> str:
    """Replace our element; libvirt puts the namespace on all of an element that comes without one."""
    domain, ours = ET.fromstring(definition), ET.fromstring(xml)
    for element in ours.iter():
        element.tag = f"{{{NAMESPACE}}}{element.tag}"
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    for old in metadata.findall(f"{{{NAMESPACE}}}*"):
        metadata.remove(old)
    metadata.append(ours)
    return ET.tostring(domain, encoding="unicode")


def _pool_value(pool: FakePool) -> StoragePool:
    if not pool.active:
        return StoragePool(pool.name, pool.type, False, pool.path, 0, 0, 0)
    free = pool.capacity - pool.allocation
    return StoragePool(pool.name, pool.type, True, pool.path, pool.capacity, pool.allocation, free)


def _volume_value(volume: FakeVolume, pool: FakePool) -> Volume:
    return Volume(
        name=volume.name,
        storage_pool=pool.name,
        path=volume.path,
        type="file" if pool.type == "dir" else "block",
        format=volume.format,
        capacity=volume.capacity,
        allocation=len(volume.content),
        backing_path=volume.backing,
        backing_format=volume.backing_format if volume.backing else "raw",
    )


def _digest(content: bytes, sparse: bool) -> str:
    digest = new_digest(sparse)
    digest.data(content)
    return digest.hexdigest()
