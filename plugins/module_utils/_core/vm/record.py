"""What we keep about a VM in the metadata of its libvirt domain."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidError
from ..names import LATEST

NAMESPACE = "https://golden.libvirt/vm/1"
PREFIX = "golden"
ANY_NAMESPACE = "https://golden.libvirt/vm/"
"""How the namespaces of all versions of this collection begin."""
ET.register_namespace(PREFIX, NAMESPACE)


@dataclass(frozen=True)
class Root:
    """A root volume: where it is, and which template version it is an overlay of."""

    volume: str
    storage_pool: str
    template: str
    template_storage_pool: str
    version: int

    @property
    def template_version(self) -> tuple[str, str, int]:
        """The identity of the version: storage pool, template and number."""
        return self.template_storage_pool, self.template, self.version


@dataclass(frozen=True)
class Pending:
    """A job on the VM that has begun; whoever finds it finishes it or takes it back.

    ``job`` is one of the four below. ``was_running`` tells whether the VM ran when the job began. ``doomed`` are the
    roots that go once the job has succeeded.
    """

    job: str
    was_running: bool
    doomed: tuple[Root, ...] = ()


CREATE = "create"
"""The VM is defined, its root volume is not complete yet."""
SWITCH = "switch"
"""The root is about to be replaced and still is the old one; the VM may have been stopped for it."""
SETTLE = "settle"
"""The root is replaced; whether the VM comes up with it is not known yet, and ``previous`` is there to go back to."""
REMOVE = "remove"
"""The VM is about to go: nobody can take it any more."""

TRIES = 3
"""How often a free member of a pool is started for nothing before it is set aside."""


@dataclass(frozen=True)
class PoolSettings:
    """What a VM pool was asked to be; every member carries it, so that any member can tell."""

    name: str
    count: int
    prestarted: int = 0
    vm_per_user: int = 1
    auto_refresh: bool = True


@dataclass(frozen=True)
class Lease:
    """Who holds the VM, and since when (UTC, ISO 8601)."""

    user: str
    since: str


@dataclass(frozen=True)
class Payload:
    """The volume with the files that the VM is shown.

    ``target`` is the drive that it is in (none of the types ``fw_cfg`` and ``network``), and ``drive`` tells whether
    the VM had that before (``existing``) or got it for the payload (``added``). One of the type ``network`` has the
    ``url`` that the guest fetches it from, and the ``path`` of the volume, for the hook that has it served.
    """

    volume: str
    storage_pool: str
    type: str
    availability: str
    sha256: str
    target: str = ""
    drive: str = ""
    url: str = ""
    path: str = ""


@dataclass(frozen=True)
class Record:
    """All that the collection knows about a VM beyond what libvirt knows.

    ``vm`` is the UUID of the VM that the record was written for: a copy of the VM made by other tools has the metadata,
    too, and is none of ours. ``generation`` is the highest number that a root volume of the VM ever had; a volume with
    a higher one was made by a task that did not get to use it. ``follows`` is ``latest``, or the number of the version
    that the VM is to be on. ``detached_disk`` is empty unless the root is detached: then it is the XML of the disk that
    it was, for the root that comes back in its place; ``stand_in`` is the target of a
    disk that is root meanwhile. ``failed_starts`` is how often a member of a pool did not come up
    since it last did.
    """

    root: Root
    generation: int
    follows: str
    stateless: bool = False
    previous: Root | None = None
    pending: Pending | None = None
    rolled_back: bool = False
    vm_pool: PoolSettings | None = None
    lease: Lease | None = None
    payload: Payload | None = None
    detached_disk: str = ""
    stand_in: str = ""
    failed_starts: int = 0
    vm: str = ""

    @property
    def set_aside(self) -> bool:
        """Whether it did not come up so often that nobody gets it."""
        return self.failed_starts >= TRIES

    @property
    def going(self) -> bool:
        """Whether the VM is about to be removed."""
        return self.pending is not None and self.pending.job == REMOVE

    @property
    def follows_latest(self) -> bool:
        """Whether the VM is to be on the latest version of its template, whichever that is."""
        return self.follows == LATEST

    def changed(self, **changes: Any) -> Record:
        """Return a copy with these fields changed."""
        return replace(self, **changes)


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def to_element(record: Record) -> ET.Element:
    """Return the metadata element of a record."""
    vm = ET.Element(
        _tag("vm"),
        {
            **({"uuid": record.vm} if record.vm else {}),
            **({"failed_starts": str(record.failed_starts)} if record.failed_starts else {}),
        },
        follows=record.follows,
        stateless=_yes(record.stateless),
        generation=str(record.generation),
        rolled_back=_yes(record.rolled_back),
    )
    vm.append(_root_element("root", record.root))
    if record.previous is not None:
        vm.append(_root_element("previous", record.previous))
    if record.pending is not None:
        pending = ET.SubElement(
            vm, _tag("pending"), job=record.pending.job, was_running=_yes(record.pending.was_running)
        )
        pending.extend([_root_element("doomed", root) for root in record.pending.doomed])
    if record.detached_disk:
        stand_in = {"stand_in": record.stand_in} if record.stand_in else {}
        ET.SubElement(vm, _tag("detached_disk"), stand_in).text = record.detached_disk
    if record.vm_pool is not None:
        ET.SubElement(
            vm,
            _tag("vm_pool"),
            name=record.vm_pool.name,
            count=str(record.vm_pool.count),
            prestarted=str(record.vm_pool.prestarted),
            vm_per_user=str(record.vm_pool.vm_per_user),
            auto_refresh=_yes(record.vm_pool.auto_refresh),
        )
    if record.lease is not None:
        ET.SubElement(vm, _tag("lease"), user=record.lease.user, since=record.lease.since)
    if record.payload is not None:
        ET.SubElement(
            vm,
            _tag("payload"),
            {"url": record.payload.url, "path": record.payload.path} if record.payload.url else {},
            volume=record.payload.volume,
            storage_pool=record.payload.storage_pool,
            type=record.payload.type,
            availability=record.payload.availability,
            sha256=record.payload.sha256,
            target=record.payload.target,
            drive=record.payload.drive,
        )
    return vm


def _root_element(name: str, root: Root) -> ET.Element:
    return ET.Element(
        _tag(name),
        volume=root.volume,
        storage_pool=root.storage_pool,
        template=root.template,
        template_storage_pool=root.template_storage_pool,
        version=str(root.version),
    )


def to_text(record: Record) -> str:
    """Return the metadata element of a record as XML text, without the namespace: libvirt's API adds it by itself."""
    vm = to_element(record)
    for element in vm.iter():
        element.tag = element.tag.rpartition("}")[2]
    return ET.tostring(vm, encoding="unicode")


def from_text(text: str, vm_name: str) -> Record:
    """Return the record in our metadata element, as libvirt's API gives it."""
    vm = ET.fromstring(text)
    for element in vm.iter():
        element.tag = _tag(element.tag.rpartition("}")[2])
    return _record(vm, vm_name)


def from_metadata(metadata: ET.Element | None, vm_name: str, uuid: str) -> Record | None:
    """Return the record in a domain's ``<metadata>``, or None when the VM is not one of ours."""
    if metadata is None:
        return None
    for element in metadata:
        if element.tag == _tag("vm"):
            record = _record(element, vm_name)
            return record if record.vm in ("", uuid) else None
        if element.tag.startswith("{" + ANY_NAMESPACE):
            raise InvalidError(
                f"VM {vm_name!r} was made by another version of this collection (its metadata is {element.tag}); "
                "use that version or a newer one for it"
            )
    return None


def _record(vm: ET.Element, vm_name: str) -> Record:
    try:
        root, previous, detached = (vm.find(_tag(name)) for name in ("root", "previous", "detached_disk"))
        if root is None:
            raise KeyError("root")
        return Record(
            root=_root(root),
            generation=int(vm.attrib["generation"]),
            follows=_follows(vm.attrib["follows"]),
            stateless=_bool(vm, "stateless"),
            rolled_back=_bool(vm, "rolled_back"),
            previous=None if previous is None else _root(previous),
            pending=_pending(vm.find(_tag("pending"))),
            vm_pool=_pool_settings(vm.find(_tag("vm_pool"))),
            lease=_plain(Lease, vm.find(_tag("lease"))),
            payload=_plain(Payload, vm.find(_tag("payload"))),
            detached_disk="" if detached is None else _disk(detached.text or ""),
            stand_in="" if detached is None else detached.get("stand_in", ""),
            failed_starts=int(vm.get("failed_starts", "0")),
            vm=vm.get("uuid", ""),
        )
    except (KeyError, ValueError, TypeError, ET.ParseError) as error:
        raise InvalidError(
            f"the metadata of VM {vm_name!r} is damaged ({error}); look at it with 'virsh dumpxml {vm_name}' "
            "and mend it"
        ) from error


def _bool(element: ET.Element, name: str) -> bool:
    value = element.attrib[name]
    if value not in ("yes", "no"):
        raise ValueError(f"{name}={value!r}")
    return value == "yes"


def _disk(text: str) -> str:
    if text and ET.fromstring(text).tag != "disk":
        raise ValueError("detached_disk")
    return text


def _follows(value: str) -> str:
    if value != LATEST and not (value.isdecimal() and int(value) >= 0):  # int also refuses what is endless
        raise ValueError(f"follows={value!r}")
    return value


def _root(element: ET.Element) -> Root:
    return Root(**{**element.attrib, "version": int(element.attrib["version"])})  # type: ignore[arg-type]


def _pending(element: ET.Element | None) -> Pending | None:
    if element is None:
        return None
    if element.attrib["job"] not in (CREATE, SWITCH, SETTLE, REMOVE):
        raise ValueError(f"job={element.attrib['job']!r}")
    doomed = tuple(_root(root) for root in element.iterfind(_tag("doomed")))
    return Pending(element.attrib["job"], _bool(element, "was_running"), doomed)


def _pool_settings(element: ET.Element | None) -> PoolSettings | None:
    if element is None:
        return None
    return PoolSettings(
        name=element.attrib["name"],
        count=int(element.attrib["count"]),
        prestarted=int(element.attrib["prestarted"]),
        vm_per_user=int(element.attrib["vm_per_user"]),
        auto_refresh=_bool(element, "auto_refresh"),
    )


def _plain(kind: type, element: ET.Element | None) -> Any:
    return None if element is None else kind(**element.attrib)
