"""Pools on a real libvirtd: made, grown, shrunk, pinned, removed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.replay import replay
from support.virsh import definition, state, virsh

GOLDEN = "{https://golden.libvirt/vm/1}"


def pool(site: Site) -> str:
    """Return the name of the pool."""
    return site.vm("desk")


def take(vm: str, user: str = "ada") -> None:
    """Note in a VM's metadata that somebody holds it, as a lease does."""
    xml = definition(vm)
    ours = xml.find(f"metadata/{GOLDEN}vm")
    assert ours is not None
    ET.SubElement(ours, f"{GOLDEN}lease", user=user, since="2026-11-20T07:00:00Z")
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))


def make(site: Site, count: int = 3, **options: Any) -> dict[str, Any]:
    """Make a pool and return the result."""
    done: dict[str, Any] = replay(
        "vm_pool", vm_pool=pool(site), template="web", count=count, storage_pools=[site.storage_pool], **options
    )
    return done


def refused(site: Site, **options: Any) -> str:
    """Run vm_pool, which must fail and change no member, and return the message."""
    before = site.vms, site.volumes
    with pytest.raises(ModuleFailed) as failure:
        run_module("vm_pool", vm_pool=pool(site), **options)
    assert (site.vms, site.volumes) == before
    return str(failure.value)


def test_make_grow_shrink_remove(site: Site, template: str) -> None:
    done = make(site)
    members = [f"{pool(site)}-{n}" for n in (1, 2, 3)]
    assert site.vms == members
    assert done["created"] == members
    assert (done["vm_pool"]["wanted_version"], done["vm_pool"]["stateless"]) == (2, True)
    replay("vm_pool", vm_pool=pool(site), count=5)
    assert len(site.vms) == 5
    take(f"{pool(site)}-5")
    done = replay("vm_pool", vm_pool=pool(site), count=2)
    assert site.vms == [f"{pool(site)}-1", f"{pool(site)}-5"], "a taken VM stays"
    assert sorted(done["removed"]) == [f"{pool(site)}-{n}" for n in (2, 3, 4)]
    replay("vm_pool", vm_pool=pool(site), count=3)
    assert site.vms == [f"{pool(site)}-{n}" for n in (1, 2, 5)], "a free number is used again"
    listed = run_module("vm_pool_info", vm_pool=pool(site))["vm_pools"]
    assert listed[0]["taken"] == {f"{pool(site)}-5": "ada"}
    assert listed[0]["free"] == [f"{pool(site)}-1", f"{pool(site)}-2"]
    assert "must be returned first" in refused(site, state="absent")
    xml = definition(f"{pool(site)}-5")
    ours = xml.find(f"metadata/{GOLDEN}vm")
    assert ours is not None
    lease = ours.find(f"{GOLDEN}lease")
    assert lease is not None
    ours.remove(lease)
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))
    replay("vm_pool", vm_pool=pool(site), state="absent")
    assert site.vms == []
    assert [name for name in site.volumes if ".root." in name] == []


def test_prestarted_members_run(site: Site, template: str) -> None:
    make(site, prestarted=1)
    running = [vm for vm in site.vms if state(vm) == "running"]
    assert running == [f"{pool(site)}-1"]
    replay("vm_pool", vm_pool=pool(site), prestarted=2)
    assert [state(vm) for vm in site.vms] == ["running", "running", "shut off"]


def test_following_latest_and_pinned(site: Site, template: str) -> None:
    make(site, 2)
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", lifecycle="candidate")
    listed = run_module("vm_pool_info", vm_pool=pool(site))["vm_pools"][0]
    assert (listed["wanted_version"], listed["outdated"]) == (1, site.vms)
    replay("vm_pool", vm_pool=pool(site), template_version="2")
    listed = run_module("vm_pool_info", vm_pool=pool(site))["vm_pools"][0]
    assert (listed["wanted_version"], listed["outdated"]) == (2, [])
    replay("vm_pool", vm_pool=pool(site), template_version="latest")
    assert run_module("vm_pool_info", vm_pool=pool(site))["vm_pools"][0]["outdated"] == site.vms


def test_a_name_that_is_taken_is_left_out(site: Site, template: str) -> None:
    foreign = f"{pool(site)}-2"
    xml = f"<domain type='qemu'><name>{foreign}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
    virsh("define", "/dev/stdin", stdin=xml)
    before = virsh("dumpxml", foreign)
    make(site, 2)
    assert site.vms == [f"{pool(site)}-{n}" for n in (1, 2, 3)]
    assert virsh("dumpxml", foreign) == before


def test_what_is_refused(site: Site, template: str) -> None:
    assert "give 'template' and 'count'" in refused(site)
    assert "state: absent" in refused(site, template="web", count=0)
    make(site, 2)
    assert "make another pool" in refused(site, template="other")
    assert "make another pool" in refused(site, stateless=False)
    assert "more than the 2 VMs" in refused(site, prestarted=3)
    assert "less than 1" in refused(site, vm_per_user=0)
    take(f"{pool(site)}-1")
    take(f"{pool(site)}-2")
    assert "only 0 are free" in refused(site, count=1)


def test_a_pool_that_is_not_stateless_is_pinned(site: Site, template: str) -> None:
    done = make(site, 1, stateless=False)
    assert done["vm_pool"]["use_latest_template_version"] is False
    assert done["vm_pool"]["wanted_version"] == 2
