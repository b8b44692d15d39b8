"""Restores on a real libvirtd, of VMs without an operating system: what stays, what goes, what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, Result, run_module
from support.replay import replay
from support.virsh import definition, identity, image_info, metadata, root_path, state, virsh, volume_path

FORCE = {"mode": "force"}
GOLDEN = "{https://golden.libvirt/vm/1}"


@pytest.fixture
def vm(site: Site, template: str, network: str) -> str:
    """Yield a VM on version 1 with a data volume and much that must stay."""
    name = site.vm("a")
    run_module(
        "vm",
        name=name,
        template=template,
        template_version="1",
        storage_pools=[site.storage_pool],
        networks=[{"network": network}],
        description="mine",
        autostart=True,
    )
    virsh("vol-create-as", site.storage_pool, "data", "1M")
    virsh("attach-disk", name, volume_path(site.storage_pool, "data"), "vdb", "--config")
    virsh("desc", name, "--title", "--config", "the title")
    return name


def restore(vm: str, **options: Any) -> Result:
    """Restore a VM, switching it off if it runs."""
    return run_module("vm_restore", **{"vm": vm, "shutdown": FORCE, **options})


def refused(vm: str, **options: Any) -> str:
    """Restore a VM, which must be refused before anything has changed, and return the message."""
    before = virsh("dumpxml", "--inactive", vm), state(vm)
    with pytest.raises(ModuleFailed) as failure:
        restore(vm, **options)
    assert (virsh("dumpxml", "--inactive", vm), state(vm)) == before
    return str(failure.value)


def without_root(vm: str) -> str:
    """Return a definition without what a restore may change."""
    xml = definition(vm)
    disk = xml.find("devices/disk/source")
    ours = xml.find(f"metadata/{GOLDEN}vm")
    assert disk is not None
    assert ours is not None
    disk.attrib.clear()
    ours.clear()
    return ET.canonicalize(ET.tostring(xml, encoding="unicode"), strip_text=True)


@pytest.mark.parametrize("running", [False, True])
def test_only_the_root_changes(site: Site, vm: str, running: bool) -> None:
    if running:
        virsh("start", vm)
    before, rest = identity(vm), without_root(vm)
    done = replay("vm_restore", vm=vm, template_version="latest", shutdown=FORCE)
    assert identity(vm) == before
    assert without_root(vm) == rest
    assert state(vm) == ("running" if running else "shut off")
    assert image_info(site.storage_pool, f"{vm}.root.2.qcow2")["full-backing-filename"] == volume_path(
        site.storage_pool, "web.v2.qcow2"
    )
    assert root_path(vm) == volume_path(site.storage_pool, f"{vm}.root.2.qcow2")
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.2.qcow2"]
    assert "data" in site.volumes
    assert done["previous"]["volume"] == f"{vm}.root.1.qcow2"
    assert done["previous"]["template_version"] == 1
    assert (done["downtime"] > 0) is running
    assert done["vm"]["template_version"] == 2
    assert metadata(vm).find(f"{GOLDEN}pending") is None
    assert [child.tag for child in metadata(vm)] == [f"{GOLDEN}root"]


def test_force_resets_the_root(site: Site, vm: str) -> None:
    root = root_path(vm)
    subprocess.run(["qemu-io", "-c", "write -P 9 8M 1M", root], check=True, capture_output=True)
    assert not restore(vm)["changed"]
    assert restore(vm, force=True)["changed"]
    compared = ["qemu-img", "compare", root_path(vm), volume_path(site.storage_pool, "web.v1.qcow2")]
    assert subprocess.run(compared, check=False, capture_output=True).returncode == 0


def test_an_enlarged_root_stays_large(site: Site, vm: str) -> None:
    run_module("vm", name=vm, size={"storage_size_in_gb": 1})
    restore(vm, template_version="2")
    assert image_info(site.storage_pool, f"{vm}.root.2.qcow2")["virtual-size"] == 1024**3
    restore(vm, template_version="1", root_size="2GiB")
    assert image_info(site.storage_pool, f"{vm}.root.3.qcow2")["virtual-size"] == 2 * 1024**3
    assert "less than" in refused(vm, template_version="2", root_size="1MiB")


@pytest.mark.parametrize(("start", "expected"), [("yes", "running"), ("no", "shut off")])
@pytest.mark.parametrize("running", [False, True])
def test_start(vm: str, running: bool, start: str, expected: str) -> None:
    if running:
        virsh("start", vm)
    restore(vm, template_version="2", start=start)
    assert state(vm) == expected


def digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_an_unhealthy_vm_is_put_back(site: Site, vm: str) -> None:
    root = root_path(vm)
    before, content, volumes = virsh("dumpxml", "--inactive", vm), digest(root), site.volumes
    virsh("start", vm)
    with pytest.raises(ModuleFailed) as failure:
        restore(vm, template_version="2", health={"check": "agent", "timeout": 2})
    result = failure.value.result
    assert result["rolled_back"] is True
    assert "health check 'agent'" in result["msg"]
    assert set(result["phases"]) >= {"prepare", "stop", "switch", "boot", "verify"}
    assert state(vm) == "running"
    virsh("destroy", vm)
    assert virsh("dumpxml", "--inactive", vm) == before
    assert digest(root) == content
    assert site.volumes == volumes


def test_an_unhealthy_vm_is_kept_to_be_looked_at(site: Site, vm: str) -> None:
    options = {"template_version": "2", "start": "yes", "health": {"check": "agent", "timeout": 1}}
    with pytest.raises(ModuleFailed) as failure:
        restore(vm, on_failure="keep", **options)
    assert failure.value.result["rolled_back"] is False
    assert state(vm) == "running"
    assert root_path(vm).endswith(".root.2.qcow2")
    assert f"{vm}.root.1.qcow2" in site.volumes
    with pytest.raises(ModuleFailed):  # the same task again: not healthy still, and now rolled back
        restore(vm, **options)
    assert root_path(vm).endswith(".root.1.qcow2")
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.1.qcow2"]


def test_a_kept_root_is_rolled_back_to(site: Site, vm: str) -> None:
    content = digest(root_path(vm))
    restore(vm, template_version="2", keep_previous=True)
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.1.qcow2", f"{vm}.root.2.qcow2"]
    replay("vm_restore", vm=vm, state="rolled_back", shutdown=FORCE)
    assert root_path(vm).endswith(".root.1.qcow2")
    assert digest(root_path(vm)) == content
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.1.qcow2"]
    assert run_module("vm_info", name=vm)["vms"][0]["template_version"] == 1


def test_only_the_last_root_is_kept(site: Site, vm: str) -> None:
    for version in ("2", "1", "2"):
        restore(vm, template_version=version, keep_previous=True)
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.3.qcow2", f"{vm}.root.4.qcow2"]


def test_a_kept_root_is_deleted_while_the_vm_runs(site: Site, vm: str) -> None:
    virsh("start", vm)
    restore(vm, template_version="2", keep_previous=True)
    before, path = without_root(vm), root_path(vm)
    size = image_info(site.storage_pool, f"{vm}.root.1.qcow2")["actual-size"]
    done = replay("vm_restore", vm=vm, state="settled")
    assert (done["previous"]["volume"], done["freed"]) == (f"{vm}.root.1.qcow2", size)
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.2.qcow2"]
    assert (state(vm), without_root(vm), root_path(vm), root_path(vm, live=True)) == ("running", before, path, path)
    assert [child.tag for child in metadata(vm)] == [f"{GOLDEN}root"]
    assert "no previous root to go back to" in refused(vm, state="rolled_back")
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="1", state="absent")


def test_a_version_that_a_kept_root_needs_is_not_deleted(site: Site, vm: str) -> None:
    restore(vm, template_version="2", keep_previous=True)
    with pytest.raises(ModuleFailed) as failure:
        run_module("template_version", template="web", storage_pool=site.storage_pool, version="1", state="absent")
    assert failure.value.result["users"] == [f"VM {vm!r}"]


def test_a_kept_root_that_another_vm_uses_is_not_touched(site: Site, vm: str) -> None:
    restore(vm, template_version="2", keep_previous=True)
    other = site.vm("rescue")
    run_module("vm", name=other, template="web", storage_pools=[site.storage_pool])
    virsh("attach-disk", other, volume_path(site.storage_pool, f"{vm}.root.1.qcow2"), "vdb", "--config")
    for options in ({"template_version": "1"}, {"state": "rolled_back"}, {"state": "settled"}):
        assert f"in use by VM {other!r}" in refused(vm, **options)
    with pytest.raises(ModuleFailed, match="detach it there first"):
        run_module("vm", name=vm, state="absent")
    assert f"{vm}.root.1.qcow2" in site.volumes


def test_managed_save_is_dropped_only_with_force(vm: str) -> None:
    virsh("start", vm)
    virsh("managedsave", vm)
    assert "managed save" in refused(vm, template_version="2")
    restore(vm, template_version="2", force=True)
    assert "no" in virsh("dominfo", vm).split("Managed save:")[1].split()[0]
    assert root_path(vm).endswith(".root.2.qcow2")


def test_another_template(site: Site, vm: str, empty_disk: Path) -> None:
    run_module(
        "template_version",
        template="other",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": str(empty_disk)},
    )
    before = identity(vm)
    replay("vm_restore", vm=vm, template="other", shutdown=FORCE)
    assert identity(vm) == before, "the hardware stays that of the VM"
    assert run_module("vm_info", name=vm)["vms"][0]["template"] == "other"


def test_what_is_refused(site: Site, vm: str) -> None:
    assert "keep_previous: true" in refused(vm, state="rolled_back")
    assert "it has the versions 1, 2" in refused(vm, template_version="9")
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", lifecycle="revoked")
    assert "revoked" in refused(vm, template_version="2")
    run_module("template_version", template="web", storage_pool=site.storage_pool, version="2", lifecycle="active")
    virsh("detach-disk", vm, "vdb", "--config")  # raw disks have no internal snapshots
    virsh("snapshot-create-as", vm, "one")
    assert "snapshot" in refused(vm, template_version="2")


def test_a_guest_that_does_not_shut_down_goes_on(site: Site, vm: str) -> None:
    virsh("start", vm)
    with pytest.raises(ModuleFailed, match="did not shut down within 1 seconds") as failure:
        restore(vm, template_version="2", shutdown={"mode": "graceful", "timeout": 1})
    assert failure.value.result["rolled_back"] is True
    assert state(vm) == "running"
    assert [name for name in site.volumes if ".root." in name] == [f"{vm}.root.1.qcow2"]
    assert metadata(vm).find(f"{GOLDEN}pending") is None


def test_a_taken_vm_is_refused(vm: str) -> None:
    xml = definition(vm)
    ours = xml.find(f"metadata/{GOLDEN}vm")
    assert ours is not None
    ET.SubElement(ours, f"{GOLDEN}lease", user="ada", since="2026-11-20T07:00:00Z")
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))
    assert "taken by 'ada'" in refused(vm, template_version="2")
    with pytest.raises(ModuleFailed, match="taken by 'ada'"):
        run_module("vm", name=vm, state="absent")


def test_a_detached_root_is_refused(vm: str) -> None:
    virsh("detach-disk", vm, "vda", "--config")
    assert "attach it at device id 0" in refused(vm, template_version="2")
