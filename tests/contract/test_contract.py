"""The hypervisor in memory and libvirt's own test driver, side by side: the same calls, the same to be seen.

The test driver keeps no bytes of volumes and redefines no running domain: those are seen on a real libvirtd only.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health, Hypervisor, Shutdown
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import (
    Lease,
    Pending,
    Record,
    Root,
    from_metadata,
    to_text,
)
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor.connection import translated

from support.fake import FakeHypervisor, FakePool

POOL = "default-pool"
RECORD = Record(
    root=Root("web-1.root.1.qcow2", POOL, "web", POOL, 1),
    generation=1,
    follows="latest",
    pending=Pending("settle", True, (Root("web-1.root.0.qcow2", POOL, "web", POOL, 1),)),
    lease=Lease('anna "a" & <b>', "2026-11-20T07:00:00Z"),
)
NETWORKS = """
<network><name>default</name><ip family='ipv6' address='2001:db8::1' prefix='64'/>
  <ip address='192.0.2.1' netmask='255.255.255.0'/></network>
<network><name>bridged</name><forward mode='bridge'/><bridge name='br0'/></network>
"""
UUID = "9d7a1c5e-0000-4000-8000-000000000001"


class Side(Protocol):
    """A hypervisor, and what others than the collection do to it."""

    hv: Hypervisor

    def save(self, name: str) -> None:
        """Stop a running domain and keep its memory."""

    def snapshot(self, name: str) -> None:
        """Make a snapshot called ``s1``."""

    def deactivate(self, storage_pool: str) -> None:
        """Stop a storage pool."""


class InMemory:
    """The fake."""

    def __init__(self) -> None:
        self.fake = FakeHypervisor(FakePool(POOL))
        self.fake.networks["bridged"], self.fake.payload_service = "", None
        self.hv: Hypervisor = self.fake  # mypy sees here that the fake is one

    def save(self, name: str) -> None:
        self.fake.vms[name].live, self.fake.vms[name].managed_save = None, True

    def snapshot(self, name: str) -> None:
        self.fake.vms[name].snapshots.append("s1")

    def deactivate(self, storage_pool: str) -> None:
        self.fake.pools[storage_pool].active = False


class _WithoutNvram(LibvirtHypervisor):
    """The test driver knows no nvram, and refuses the flag that takes it away."""

    def undefine(self, name: str) -> None:
        with translated(f"cannot undefine VM {name!r}"):
            domain = self._lookup(name)
            if domain is not None:
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


class TestDriver:
    """What libvirt has for tests."""

    __test__ = False

    def __init__(self, node: Path) -> None:
        # With a node of its own each connection begins anew; that of test:///default is one per process.
        node.write_text(
            f"<node><pool type='dir'><name>{POOL}</name><target><path>/{POOL}</path></target></pool>{NETWORKS}</node>"
        )
        self.real = _WithoutNvram(f"test://{node}")
        self.hv: Hypervisor = self.real

    def _domain(self, name: str) -> Any:
        return self.real.connection.libvirt.lookupByName(name)

    def save(self, name: str) -> None:
        self._domain(name).managedSave(0)

    def snapshot(self, name: str) -> None:
        self._domain(name).snapshotCreateXML("<domainsnapshot><name>s1</name></domainsnapshot>")

    def deactivate(self, storage_pool: str) -> None:
        self.real.connection.libvirt.storagePoolLookupByName(storage_pool).destroy()


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """Yield both."""
    driver = TestDriver(tmp_path / "node.xml")
    with driver.real:
        yield InMemory(), driver


Scenario = Callable[[Side, Callable[..., None]], None]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Run this with both, and compare what it sees."""
    SCENARIOS.append(function)
    return function


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_both_are_alike(run: Scenario, sides: tuple[Side, Side]) -> None:
    fake, driver = (observed(run, side) for side in sides)
    assert fake == driver


def observed(run: Scenario, side: Side) -> list[Any]:
    """Return what a scenario sees: results, and the kinds of errors."""
    seen: list[Any] = []

    def see(call: Callable[..., Any], *arguments: Any) -> None:
        try:
            seen.append((call.__name__, plain(side, call(*arguments))))
        except GoldenError as error:
            seen.append((call.__name__, type(error).__name__))

    run(side, see)
    return seen


def plain(side: Side, value: Any) -> Any:
    """Return a result without what differs by nature: the folder of the pool, MAC addresses, the form of XML."""
    if isinstance(value, list):
        return [plain(side, part) for part in value]
    if hasattr(value, "__dataclass_fields__"):
        fields = asdict(value)
        fields.pop("available", None)
        if "xml" in fields:
            fields["xml"] = definition(fields["xml"])
        return {
            name: re.sub(r"^/(pools/)?default-pool", "P", part) if isinstance(part, str) else part
            for name, part in fields.items()
        }
    return value


def definition(xml: str) -> dict[str, Any]:
    """Return what we read of a definition."""
    domain = ET.fromstring(xml)
    macs = [mac.get("address", "") for mac in domain.iterfind("devices/interface/mac")]
    return {
        "uuid": domain.findtext("uuid"),
        "description": domain.findtext("description"),
        "record": from_metadata(domain.find("metadata"), "x", ""),
        "others": [element.tag for element in domain.iterfind("metadata/*") if "golden" not in element.tag],
        "macs": [bool(re.fullmatch("(..:){5}..", mac)) for mac in macs],
        "disks": [source.attrib for source in domain.iterfind("devices/disk/source")],
    }


def domain(name: str = "web-1", content: str = "", uuid: str = UUID) -> str:
    """Return a definition."""
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return (
        f"<domain type='test'><name>{name}</name>{identity}<memory unit='KiB'>1024</memory><vcpu>1</vcpu>"
        f"<os><type arch='i686'>hvm</type></os>{content}</domain>"
    )


NIC = "<devices><interface type='network'><source network='default'/></interface></devices>"


# --- domains ---------------------------------------------------------------------------------------------------------


@scenario
def defining(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.domain, "web-1")
    see(hv.define, domain(content=NIC))
    see(hv.domain, "web-1")
    see(hv.define, domain(content="<description>new</description>" + NIC))
    see(hv.domain, "web-1")


@scenario
def defining_what_is_there(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.define, domain())
    see(hv.define, domain(uuid=UUID.replace("1", "2")))
    see(hv.define, domain(uuid=""))
    see(hv.define, domain("web-2"))
    see(hv.domain, "web-2")
    see(hv.domain, "web-1")


@scenario
def defining_nonsense(side: Side, see: Callable[..., None]) -> None:
    for xml in (
        "<domain/>",
        "<domain type='test'><name>x</name></domain>",
        "<domain type='test'><memory>1</memory></domain>",
    ):
        see(side.hv.define, xml)


@scenario
def an_identity_is_given(side: Side, see: Callable[..., None]) -> None:
    side.hv.define(domain(uuid=""))
    made = side.hv.domain("web-1")
    assert made is not None
    see(lambda: (len(made.uuid), made.uuid == ET.fromstring(made.xml).findtext("uuid")))


@scenario
def metadata(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.set_metadata, "web-1", to_text(RECORD))
    see(hv.define, domain(content="<metadata><o:note xmlns:o='http://other'>x</o:note></metadata>"))
    see(hv.set_metadata, "web-1", to_text(RECORD))
    see(hv.domain, "web-1")
    see(hv.set_metadata, "web-1", to_text(RECORD.changed(pending=None, stateless=True)))
    see(hv.domain, "web-1")
    see(hv.start, "web-1")
    see(hv.set_metadata, "web-1", to_text(RECORD.changed(generation=2)))
    see(hv.domain, "web-1")
    see(hv.stop, "web-1", Shutdown("force"))
    see(hv.domain, "web-1")


@scenario
def a_definition_that_was_read_can_be_defined_again(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    hv.define(domain(content=NIC))
    hv.set_metadata("web-1", to_text(RECORD))
    before = hv.domain("web-1")
    assert before is not None
    see(hv.define, before.xml)
    after = hv.domain("web-1")
    see(lambda: after is not None and ET.canonicalize(before.xml) == ET.canonicalize(after.xml))


@scenario
def starting_and_stopping(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.start, "web-1")
    see(hv.stop, "web-1", Shutdown())
    see(hv.define, domain())
    for mode in ("force", "graceful", "graceful_then_force"):
        see(hv.start, "web-1")
        see(hv.start, "web-1")
        see(hv.domain, "web-1")
        see(hv.stop, "web-1", Shutdown(mode, 5))
        see(hv.stop, "web-1", Shutdown(mode, 5))
        see(hv.domain, "web-1")


@scenario
def health(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.wait_healthy, "web-1", Health())
    see(
        hv.define,
        domain(
            content="<devices><disk type='file' device='disk'><source file='P'/><target dev='vda'/></disk></devices>"
        ),
    )
    see(hv.wait_healthy, "web-1", Health(timeout=1))


@scenario
def autostart(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.set_autostart, "web-1", True)
    see(hv.define, domain())
    for wanted in (True, True, False):
        see(hv.set_autostart, "web-1", wanted)
        see(hv.domain, "web-1")


@scenario
def undefining(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.undefine, "web-1")
    see(hv.define, domain())
    see(hv.undefine, "web-1")
    see(hv.domain, "web-1")


@scenario
def running_with_another_definition(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv

    def live() -> list[Any]:
        xml = hv.live_xml("web-1")
        return [definition(xml)] if xml is not None else []

    see(live)
    see(hv.define, domain())
    see(live)
    see(hv.start_once, domain(content="<description>once</description>"))
    see(live)
    see(hv.domain, "web-1")
    see(hv.start_once, domain())
    see(hv.stop, "web-1", Shutdown("force"))
    see(live)
    see(hv.domain, "web-1")


@scenario
def undefining_a_running_one(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.define, domain())
    see(hv.start, "web-1")
    see(hv.undefine, "web-1")
    see(hv.domain, "web-1")
    see(hv.stop, "web-1", Shutdown("force"))
    see(hv.domain, "web-1")


@scenario
def managed_save(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.drop_managed_save, "web-1")
    see(hv.define, domain())
    see(hv.start, "web-1")
    side.save("web-1")
    see(hv.domain, "web-1")
    see(hv.drop_managed_save, "web-1")
    see(hv.drop_managed_save, "web-1")
    see(hv.domain, "web-1")
    see(hv.start, "web-1")
    side.save("web-1")
    see(hv.start, "web-1")
    see(hv.domain, "web-1")
    side.save("web-1")
    see(hv.undefine, "web-1")
    see(hv.domain, "web-1")


@scenario
def snapshots(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.snapshots, "web-1")
    see(hv.define, domain())
    see(hv.snapshots, "web-1")
    side.snapshot("web-1")
    see(hv.snapshots, "web-1")
    see(hv.undefine, "web-1")
    see(hv.domain, "web-1")


@scenario
def many_domains(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    for number in (3, 1, 2):
        hv.define(domain(f"web-{number}", uuid=UUID.replace("1", str(number + 1))))
    hv.start("web-2")
    hv.set_autostart("web-3", True)
    see(lambda: [(d.name, d.state, d.autostart, d.persistent) for d in hv.domains()])


# --- networks --------------------------------------------------------------------------------------------------------


@scenario
def networks(side: Side, see: Callable[..., None]) -> None:
    for name in ("default", "bridged", "none"):
        see(side.hv.network, name)
    see(side.hv.serves_payloads)


# --- storage ---------------------------------------------------------------------------------------------------------


@scenario
def volumes(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.volume_names, POOL)
    see(hv.create_volume, POOL, new_volume("web.v1.json", 65536, "raw"))
    image = hv.create_volume(POOL, new_volume("web.v1.qcow2", 1 << 20, "qcow2", mode="0444"))
    see(lambda: image)
    see(hv.create_volume, POOL, new_volume("web-1.root.1.qcow2", 2 << 20, "qcow2", image))
    see(hv.volume_names, POOL)
    see(hv.volumes, POOL)
    see(hv.volume, POOL, "web-1.root.1.qcow2")
    see(hv.volume, POOL, "none")
    see(hv.volume_at, image.path)
    see(hv.volume_at, "/none")
    see(hv.delete_volume, POOL, "web-1.root.1.qcow2")
    see(hv.delete_volume, POOL, "web-1.root.1.qcow2")
    see(hv.volume_names, POOL)


@scenario
def claims(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    for _ in range(2):
        see(hv.create_volume, POOL, new_volume("web.v1.json", 65536, "raw"))
    see(hv.delete_volume, POOL, "web.v1.json")
    see(hv.create_volume, POOL, new_volume("web.v1.json", 65536, "raw"))


@scenario
def copies(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    image = hv.create_volume(POOL, new_volume("a.qcow2", 1 << 20, "qcow2"))
    overlay = hv.create_volume(POOL, new_volume("b.qcow2", 1 << 20, "qcow2", image))
    see(hv.copy_volume, POOL, new_volume("c.qcow2", 1 << 20, "qcow2", mode="0444"), overlay)
    see(hv.volume_names, POOL)


@scenario
def copies_onto_a_name_that_is_taken(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    image = hv.create_volume(POOL, new_volume("a.qcow2", 1 << 20, "qcow2"))
    see(hv.copy_volume, POOL, new_volume("a.qcow2", 1 << 20, "qcow2"), image)
    see(hv.volume_names, POOL)


@scenario
def volumes_that_are_not_there(side: Side, see: Callable[..., None]) -> None:
    hv = side.hv
    see(hv.read_volume, POOL, "none", 10)
    see(hv.write_volume, POOL, "none", b"x")
    see(hv.volume_digest, POOL, "none")
    see(hv.resize_volume, POOL, "none", 10)


@scenario
def a_storage_pool(side: Side, see: Callable[..., None]) -> None:
    see(side.hv.storage_pool, POOL)
    see(side.hv.storage_pools)


@scenario
def storage_pools_that_are_not_there(side: Side, see: Callable[..., None]) -> None:
    _every_storage_call(side.hv, see, "none")


@scenario
def storage_pools_that_are_not_active(side: Side, see: Callable[..., None]) -> None:
    made = side.hv.create_volume(POOL, new_volume("a", 1024, "raw"))
    side.deactivate(POOL)
    _every_storage_call(side.hv, see, POOL)
    see(side.hv.volume_at, made.path)
    see(lambda: [(pool.name, pool.active) for pool in side.hv.storage_pools()])


def _every_storage_call(hv: Hypervisor, see: Callable[..., None], pool: str) -> None:
    see(hv.storage_pool, pool)
    see(hv.volume_names, pool)
    see(hv.volumes, pool)
    see(hv.volume, pool, "a")
    see(hv.create_volume, pool, new_volume("b", 1024, "raw"))
    see(hv.delete_volume, pool, "a")
    see(hv.read_volume, pool, "a", 10)
    see(hv.write_volume, pool, "a", b"x")
