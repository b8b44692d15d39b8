"""Stored state on a real libvirtd that is damaged, newer, or no file at all: named, and in nobody else's way."""

from __future__ import annotations

import json

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.virsh import definition, metadata, state, virsh


def test_what_bears_the_name_of_a_manifest_and_is_none(site: Site, template: str) -> None:
    stored = json.loads((site.folder / "web.v1.json").read_text())
    (site.folder / "web.v3.json").mkdir()
    (site.folder / "web.v4.json").symlink_to("/etc/passwd")
    (site.folder / "web.v5.json").write_bytes(b"")
    (site.folder / "web.v6.json").write_text(json.dumps({**stored, "format": "golden.libvirt/template-version/2"}))
    (site.folder / "web.v7.json").symlink_to("/nonexistent")
    virsh("pool-refresh", site.storage_pool)
    listed = run_module("template_version_info", storage_pool=site.storage_pool, all_versions=True)
    found = {version["version"]: version["status"] for version in listed["template_versions"]}
    assert found == {1: "ready", 2: "ready", 3: "unreadable", 4: "creating", 5: "creating", 6: "unreadable"}
    assert "root:" not in json.dumps(listed)
    warnings = " ".join(map(str, listed["warnings"]))
    assert "web.v3.json" in warnings
    assert "web.v6.json" in warnings
    for options in ({"state": "absent", "version": "1"}, {"version": "1", "description": "other"}):
        with pytest.raises(ModuleFailed, match=r"web\.v[36]\.json"):
            run_module("template_version", template=template, storage_pool=site.storage_pool, **options)
    assert (site.folder / "web.v1.qcow2").exists()


def test_a_member_of_a_pool_that_is_of_a_newer_format(site: Site, template: str) -> None:
    pool = site.vm("desk")
    run_module("vm_pool", vm_pool=pool, template=template, count=2, storage_pools=[site.storage_pool])
    text = virsh("dumpxml", f"{pool}-1", "--inactive").replace("golden.libvirt/vm/1", "golden.libvirt/vm/2")
    virsh("define", "/dev/stdin", stdin=text)
    before = virsh("dumpxml", f"{pool}-1", "--inactive")

    for module in ("vm_info", "vm_pool_info"):
        assert f"VM '{pool}-1' was made by another version" in str(run_module(module)["warnings"])
    assert [vm["name"] for vm in run_module("vm_info", vm_pool=pool)["vms"]] == [f"{pool}-2"]
    taken = run_module("vm_lease", vm_pool=pool, user="anna")
    assert (taken["lease"]["vm"], state(f"{pool}-2")) == (f"{pool}-2", "running")
    assert f"{pool}-1" in str(taken["warnings"])
    assert metadata(f"{pool}-2").find("{*}lease") is not None
    for module, options in (
        ("vm", {"name": f"{pool}-1", "state": "absent"}),
        ("vm_restore", {"vm": f"{pool}-1", "force": True}),
        ("vm_pool", {"vm_pool": pool, "count": 3}),
        ("volume_attach", {"vm": f"{pool}-1", "device_id": 0, "state": "detached"}),
    ):
        with pytest.raises(ModuleFailed, match="another version of this collection"):
            run_module(module, **options)
    assert virsh("dumpxml", f"{pool}-1", "--inactive") == before
    assert definition(f"{pool}-1").find("devices/disk/source") is not None
    assert sorted(site.vms) == [f"{pool}-1", f"{pool}-2"]
