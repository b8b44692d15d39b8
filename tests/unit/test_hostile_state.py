"""Stored state that is damaged or newer than we are: refused by name, never guessed, and in nobody else's way."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from functools import cache
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError, RefusedError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.inventory import read_hosts
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake import NAMESPACE, FakeHypervisor
from support.in_memory import Asked
from support.modules import ModuleFailed, Result

from .world import (
    GIB,
    attaching,
    do,
    ensuring,
    ensuring_pool,
    qcow2,
    refused,
    returning,
    taking,
    with_template,
)  # fmt: skip


@cache
def made_world() -> FakeHypervisor:
    """Return two templates, a pool of the first with one VM taken, and a VM of the second; nobody changes it."""
    hv = with_template(3)
    hv.files["/images/db.qcow2"] = qcow2("database")
    asked = Asked(hv)
    asked.run("template_version", template="db", source={"path": "/images/db.qcow2"}, create_base=True)
    do(hv, ensuring_pool("desk", template="web", count=3))
    do(hv, ensuring("db-1", template="db", stateless=True, use_latest_template_version=True))
    do(hv, taking("anna"))
    hv.create_volume("default", new_volume("data", GIB, "qcow2"))
    return hv


@pytest.fixture
def asked() -> Asked:
    """Return a copy of that world, behind the modules."""
    return Asked(copy.deepcopy(made_world()))


def manifest_of(asked: Asked, volume: str = "web.v3.json") -> dict[str, Any]:
    """Return what is stored of a version."""
    found: dict[str, Any] = json.loads(asked.hypervisor.pools["default"].volumes[volume].content)
    return found


def store(asked: Asked, content: bytes, volume: str = "web.v3.json") -> None:
    """Put something else into the volume of a manifest."""
    asked.hypervisor.pools["default"].volumes[volume].content = content.ljust(64 * 1024)


def damage(asked: Asked, vm: str, change: Any) -> None:
    """Change the stored metadata of a VM as an editor would."""
    domain = ET.fromstring(asked.hypervisor.vms[vm].stored)
    element = domain.find(f"metadata/{{{NAMESPACE}}}vm")
    assert element is not None
    change(element)
    asked.hypervisor.vms[vm].stored = ET.tostring(domain, encoding="unicode")


def warned(result: Result) -> str:
    """Return the warnings of a task, in one text."""
    return " ".join(str(warning) for warning in result.get("warnings", []))


# --- manifests -------------------------------------------------------------------------------------------------------

DAMAGED = {
    "newer": lambda stored: {**stored, "format": "golden.libvirt/template-version/2"},
    "no format": lambda stored: {name: part for name, part in stored.items() if name != "format"},
    "other": lambda stored: [],
    "hardware": lambda stored: {**stored, "domain_xml": "<domain>"},
    "entities": lambda stored: {**stored, "domain_xml": "<!DOCTYPE d [<!ENTITY a 'x'>]><d>&a;</d>"},
    "capacity": lambda stored: {**stored, "image": {**stored["image"], "capacity": -1}},
    "another's image": lambda stored: {**stored, "image": {**stored["image"], "volume": "db-1.root.1.qcow2"}},
    "a path": lambda stored: {**stored, "image": {**stored["image"], "volume": "../web.v1.qcow2"}},
    "a number": lambda stored: {**stored, "version": "3"},
    "renamed": lambda stored: {**stored, "version": 7},
}


def deep(_stored: Any) -> Any:
    """Return what no reader of JSON can follow."""
    found: list[Any] = []
    for _level in range(900):
        found = [found]
    return found


@pytest.mark.parametrize("how", DAMAGED)
def test_a_manifest_that_cannot_be_used_is_named_and_hides_no_other(asked: Asked, how: str) -> None:
    store(asked, json.dumps(DAMAGED[how](manifest_of(asked))).encode())
    before = asked.hypervisor.state()

    listed = asked.run("template_version_info", all_versions=True)
    states = {(found["template"], found["version"]): found["status"] for found in listed["template_versions"]}
    assert states == {("db", 1): "ready", ("web", 1): "ready", ("web", 2): "ready", ("web", 3): "unreadable"}
    assert "web.v3.json" in warned(listed)

    vms = asked.run("vm_info")
    assert [vm["name"] for vm in vms["vms"]] == ["db-1", "desk-1", "desk-2", "desk-3"]
    # Whether the version that cannot be read is the latest is not guessed.
    assert [vm["wanted_version"] for vm in vms["vms"]] == [1, None, None, None]
    assert not any(vm["outdated"] for vm in vms["vms"])
    assert "web.v3.json" in warned(vms)
    assert len(asked.run("vm_pool_info")["vm_pools"]) == 1
    hosts, problems = read_hosts(asked.hypervisor, "qemu:///system", [])
    assert len(hosts) == 4
    assert any("web.v3.json" in problem for problem in problems)

    for module, options in (
        ("template_version", {"template": "web", "version": "1", "state": "absent"}),
        ("template_version", {"template": "web", "version": "2", "description": "other"}),
        ("template_version", {"template": "web", "source": {"path": "/images/db.qcow2"}}),
        ("vm", {"name": "web-1", "template": "web"}),
        ("vm_restore", {"vm": "desk-2", "force": True}),
    ):
        with pytest.raises(ModuleFailed, match=r"web\.v3\.json"):
            asked.run(module, **options)
    assert asked.hypervisor.state() == before
    assert asked.run("vm", name="db-2", template="db")["changed"]
    assert asked.run("vm_restore", vm="db-1", force=True)["changed"]


def test_a_manifest_that_no_reader_can_follow_is_damaged(asked: Asked) -> None:
    store(asked, b"[" * 60_000)
    listed = asked.run("template_version_info", all_versions=True)
    assert [found["version"] for found in listed["template_versions"]] == [1, 1, 2, 3]


def test_a_version_below_one_that_cannot_be_read_is_not_taken_for_the_latest(asked: Asked) -> None:
    store(asked, json.dumps(DAMAGED["newer"](manifest_of(asked))).encode())
    assert [found["template"] for found in asked.run("template_version_info")["template_versions"]] == ["db"]


def test_a_version_that_cannot_be_read_does_not_hide_a_later_latest(asked: Asked) -> None:
    store(asked, json.dumps(DAMAGED["newer"](manifest_of(asked, "web.v2.json"))).encode(), "web.v2.json")
    listed = asked.run("template_version_info")["template_versions"]
    assert [(found["template"], found["version"]) for found in listed] == [("db", 1), ("web", 3)]


@settings(max_examples=80)
@given(data=st.data())
def test_no_damage_of_a_manifest_breaks_what_only_looks(data: st.DataObject) -> None:
    asked = Asked(copy.deepcopy(made_world()))
    text = json.dumps(manifest_of(asked)).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    cut = data.draw(st.integers(0, 30))
    put = data.draw(st.binary(max_size=4) | st.sampled_from([b"null", b"-1", b"1e999", b"[]", b'"\\ud800"', b"{"]))
    store(asked, text[:at] + put + text[at + cut :])
    before = asked.hypervisor.state()
    assert len(asked.run("template_version_info", all_versions=True)["template_versions"]) == 4
    assert len(asked.run("vm_info")["vms"]) == 4
    assert len(read_hosts(asked.hypervisor, "qemu:///system", [])[0]) == 4
    assert asked.hypervisor.state() == before


# --- metadata of VMs -------------------------------------------------------------------------------------------------


def rename(element: ET.Element) -> None:
    """Make it metadata of a newer format."""
    for part in element.iter():
        part.tag = part.tag.replace("/vm/1}", "/vm/2}")


METADATA = {
    "newer": rename,
    "no root": lambda element: element.remove(element[0]),
    "no number": lambda element: element[0].set("version", "one"),
    "no truth": lambda element: element.set("stateless", "perhaps"),
    "unknown": lambda element: element[0].set("colour", "red"),
    "empty": lambda element: element.attrib.clear(),
    "a disk": lambda element: setattr(
        ET.SubElement(element, f"{{{NAMESPACE}}}detached_disk"), "text", "<disk><source file='/etc/shadow'>"
    ),
}


@pytest.mark.parametrize("how", METADATA)
def test_a_vm_that_cannot_be_read_is_named_and_hides_no_other(asked: Asked, how: str) -> None:
    damage(asked, "desk-2", METADATA[how])
    for module, key, names in (
        ("vm_info", "vms", ["db-1", "desk-1", "desk-3"]),
        ("vm_pool_info", "vm_pools", ["desk"]),
    ):
        listed = asked.run(module)
        assert [found["name"] for found in listed[key]] == names
        assert "desk-2" in warned(listed)
    assert asked.run("vm_pool_info")["vm_pools"][0]["count"] == 2
    assert "desk-2" in warned(asked.run("template_version_info"))
    assert asked.run("storage_pool_info")["storage_pools"][0]["candidates"]
    hosts, problems = read_hosts(asked.hypervisor, "qemu:///system", [])
    assert [host["golden_vm"] for host in hosts] == ["db-1", "desk-1", "desk-3"]
    assert any("desk-2" in problem and "left out" in problem for problem in problems)

    before = asked.hypervisor.state()
    for module, options in (
        ("vm", {"name": "desk-2", "state": "started"}),
        ("vm", {"name": "desk-2", "state": "absent"}),
        ("vm_restore", {"vm": "desk-2"}),
        ("vm_pool", {"vm_pool": "desk", "count": 4}),
        ("vm_pool", {"vm_pool": "desk", "state": "absent"}),
        ("template_version", {"template": "web", "version": "1", "state": "absent"}),
    ):
        with pytest.raises(ModuleFailed, match="desk-2"):
            asked.run(module, **options)
    assert asked.hypervisor.state() == before


def test_a_pool_goes_on_with_a_member_that_cannot_be_read(asked: Asked) -> None:
    damage(asked, "desk-2", METADATA["newer"])
    taken = asked.run("vm_lease", vm_pool="desk", user="ben")
    assert taken["lease"]["vm"] == "desk-3"
    assert "desk-2" in warned(taken)
    with pytest.raises(ModuleFailed, match="no free VM"):
        asked.run("vm_lease", vm_pool="desk", user="carl")
    assert asked.run("vm_lease", vm_pool="desk", user="ben", state="returned")["changed"]
    assert asked.run("vm_pool", vm_pool="lab", template="db", count=1)["changed"]


def test_what_is_a_vms_that_cannot_be_read_is_given_to_no_other(asked: Asked) -> None:
    hv = asked.hypervisor
    damage(asked, "desk-2", METADATA["newer"])
    root = "desk-2.root.1.qcow2"
    refused(hv, attaching(root, "db-1"), "is in use by VM 'desk-2'", RefusedError)
    domain = ET.fromstring(hv.vms["desk-2"].stored)
    devices = domain.find("devices")
    assert devices is not None
    for disk in devices.findall("disk"):
        devices.remove(disk)
    hv.vms["desk-2"].stored = ET.tostring(domain, encoding="unicode")
    refused(hv, attaching(root, "db-1"), "is kept by VM 'desk-2'", RefusedError)
    assert do(hv, attaching("data", "db-1"))["vm"] == "db-1"


@settings(max_examples=80)
@given(data=st.data())
def test_no_damage_of_metadata_breaks_what_only_looks(data: st.DataObject) -> None:
    asked = Asked(copy.deepcopy(made_world()))
    text = data.draw(st.text(max_size=6) | st.sampled_from(["-1", "9" * 5000, "٣", "latest", "yes", "../x"]))

    def change(element: ET.Element) -> None:
        part = data.draw(st.sampled_from(list(element.iter())))
        name = data.draw(st.sampled_from(sorted(part.attrib) or ["x"]))
        part.set(name, "".join(char for char in text if char.isprintable()))

    damage(asked, "desk-1", change)
    others = {"db-1", "desk-2", "desk-3"}
    assert {vm["name"] for vm in asked.run("vm_info")["vms"]} >= others
    assert {host["golden_vm"] for host in read_hosts(asked.hypervisor, "qemu:///system", [])[0]} >= others
    asked.run("vm_pool_info")
    asked.run("storage_pool_info")


def test_returning_a_vm_that_cannot_be_read_is_refused_by_name(asked: Asked) -> None:
    damage(asked, "desk-1", METADATA["no number"])
    refused(asked.hypervisor, returning("anna", vm="desk-1"), "desk-1", Exception)  # type: ignore[arg-type]


def test_the_error_of_a_damaged_vm_says_how_to_look_at_it(asked: Asked) -> None:
    damage(asked, "desk-2", METADATA["no number"])
    refused(asked.hypervisor, ensuring("desk-2"), "virsh dumpxml desk-2", InvalidError)
