"""VMs on a real libvirtd: made, changed, started, stopped, removed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.replay import replay
from support.virsh import definition, identity, image_info, metadata, root_path, state, virsh, volume_path


def make(site: Site, name: str = "a", **options: Any) -> str:
    """Make a VM of the template and return its name."""
    run_module("vm", **{"name": site.vm(name), "template": "web", "storage_pools": [site.storage_pool], **options})
    return site.vm(name)


def refused(**options: Any) -> str:
    """Run the module vm, which must fail, and return its message."""
    with pytest.raises(ModuleFailed) as failure:
        run_module("vm", **options)
    return str(failure.value)


def test_make_start_stop_remove(site: Site, template: str) -> None:
    vm = site.vm("a")
    replay("vm", name=vm, template=template, storage_pools=[site.storage_pool], description="Für <alle> & jeden")
    assert state(vm) == "shut off"
    assert definition(vm).findtext("description") == "Für <alle> & jeden"
    info = image_info(site.storage_pool, f"{vm}.root.1.qcow2")
    assert info["full-backing-filename"] == volume_path(site.storage_pool, "web.v2.qcow2")
    assert info["backing-filename-format"] == "qcow2"
    assert info["virtual-size"] == 96 * 1024**2
    replay("vm", name=vm, state="started", autostart=True)
    assert state(vm) == "running"
    assert "enable" in virsh("dominfo", vm).split("Autostart:")[1]
    assert "storage" not in [part.tag for part in metadata(vm)]
    replay("vm", name=vm, state="stopped", wait_timeout=1)
    assert state(vm) == "shut off"
    replay("vm", name=vm, state="absent")
    assert site.vms == []
    assert site.volumes == ["web.v1.json", "web.v1.qcow2", "web.v2.json", "web.v2.qcow2"]


def test_version_size_and_networks(site: Site, template: str, network: str) -> None:
    vm = site.vm("a")
    done = replay(
        "vm",
        name=vm,
        template=template,
        template_version="1",
        storage_pools=[site.storage_pool],
        size={"cpus": 2, "memory": "131072", "storage_size_in_gb": 1},
        networks=[{"network": network, "mac": "52:54:00:aa:bb:01"}, {"network": network, "model": "e1000e"}],
    )
    assert done["vm"]["template_version"] == 1
    xml = definition(vm)
    assert (xml.findtext("vcpu"), xml.findtext("memory")) == ("2", "131072")
    assert image_info(site.storage_pool, f"{vm}.root.1.qcow2")["virtual-size"] == 1024**3
    nics = xml.findall("devices/interface")
    assert [nic.find("model").attrib["type"] for nic in nics] == ["virtio", "e1000e"]  # type: ignore[union-attr]
    assert identity(vm)["macs"][0] == "52:54:00:aa:bb:01"


def test_hardware_is_changed_in_place(site: Site, template: str, network: str) -> None:
    vm = make(site, networks=[{"network": network}])
    before = identity(vm)
    replay(
        "vm",
        name=vm,
        size={"cpus": 3, "memory": "96MiB", "storage_size_in_gb": 2},
        networks=[{"network": network}, {"network": network}],
        description="two cards",
    )
    after = identity(vm)
    assert (after["cpus"], after["memory"]) == ("3", str(96 * 1024))
    assert after["uuid"] == before["uuid"]
    assert after["macs"][0] == before["macs"][0], "a card that stays keeps its address"
    assert len(after["macs"]) == 2
    assert image_info(site.storage_pool, f"{vm}.root.1.qcow2")["virtual-size"] == 2 * 1024**3


def test_a_running_vm_is_told_when_changes_take_effect(site: Site, template: str) -> None:
    vm = make(site, state="started")
    done = run_module("vm", name=vm, size={"cpus": 2})
    assert any("takes effect when it is next started" in str(warning) for warning in done["warnings"])
    assert definition(vm).findtext("vcpu") == "2"
    assert definition(vm, live=True).findtext("vcpu") == "1"


def test_uefi_vms_have_variables_of_their_own(site: Site, empty_disk: Any) -> None:
    run_module(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": str(empty_disk)},
        hardware={"memory": "64MiB", "networks": [], "firmware": "efi"},
    )
    paths = set()
    for name in ("a", "b"):
        vm = make(site, name, state="started")
        paths.add(definition(vm, live=True).findtext("os/nvram"))
    assert len(paths) == 2
    assert None not in paths
    run_module("vm", name=site.vm("a"), state="absent", wait_timeout=1)
    run_module("template_version", template="web", storage_pool=site.storage_pool, version_name="b", source=None)
    virsh("destroy", site.vm("b"))
    run_module("template_version", template="copy", storage_pool=site.storage_pool, create_base=True,
               source={"vm": site.vm("b")})  # fmt: skip
    stored = run_module("template_version_info", template="copy", storage_pool=site.storage_pool)["template_versions"]
    os = ET.fromstring(stored[0]["domain_xml"]).find("os")
    assert os is not None
    assert os.attrib["firmware"] == "efi"
    assert os.find("nvram") is None
    make(site, "c", template="copy", state="started")
    assert state(site.vm("c")) == "running"


def test_data_volumes_are_kept_unless_told_otherwise(site: Site, template: str) -> None:
    for name, options, stays in (("a", {}, True), ("b", {"delete_data_volumes": True}, False)):
        vm = make(site, name)
        virsh("vol-create-as", site.storage_pool, f"{name}.data", "1M")
        virsh("attach-disk", vm, volume_path(site.storage_pool, f"{name}.data"), "vdb", "--config")
        done = run_module("vm", name=vm, state="absent", **options)
        kept = [{"storage_pool": site.storage_pool, "volume": f"{name}.data"}]
        assert done["data_volumes_kept"] == (kept if stays else [])
        assert (f"{name}.data" in site.volumes) is stays


def test_a_data_volume_of_two_vms_is_not_deleted(site: Site, template: str) -> None:
    virsh("vol-create-as", site.storage_pool, "shared.data", "1M")
    for name in ("a", "b"):
        path = volume_path(site.storage_pool, "shared.data")
        virsh("attach-disk", make(site, name), path, "vdb", "--config", "--mode", "shareable")
    message = refused(name=site.vm("a"), state="absent", delete_data_volumes=True)
    assert site.vm("b") in message
    assert site.vm("a") in site.vms


def test_a_vm_whose_maker_died_is_completed(site: Site, template: str) -> None:
    vm = make(site)
    xml = definition(vm)
    ours = xml.find("metadata/{https://golden.libvirt/vm/1}vm")
    assert ours is not None
    ET.SubElement(ours, "{https://golden.libvirt/vm/1}pending", job="create", was_running="no")
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))
    virsh("vol-delete", "--pool", site.storage_pool, f"{vm}.root.1.qcow2")
    replay("vm", name=vm, template=template, storage_pools=[site.storage_pool], state="started")
    assert root_path(vm) == volume_path(site.storage_pool, f"{vm}.root.1.qcow2")
    assert metadata(vm).find("{https://golden.libvirt/vm/1}pending") is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template": "other"}, "vm_restore (template: other)"),
        ({"template_version": "1"}, "vm_restore (template_version: 1)"),
        ({"use_latest_template_version": True}, "stateless"),
        ({"size": {"memory": "12 parsecs"}}, "12 parsecs"),
        ({"size": {"cpus": 0}}, "less than 1"),
        ({"networks": [{"network": "nosuch"}], "description": "other"}, "there is no network 'nosuch'"),
    ],
)
def test_what_cannot_be_changed_is_refused(site: Site, template: str, options: dict[str, Any], words: str) -> None:
    vm = make(site)
    before = virsh("dumpxml", "--inactive", vm)
    assert words in refused(name=vm, **options)
    assert virsh("dumpxml", "--inactive", vm) == before


def test_a_changed_vm_that_does_not_start_is_changed_back(site: Site, template: str) -> None:
    vm = make(site)
    before = sorted(virsh("dumpxml", "--inactive", vm).splitlines())
    with pytest.raises(ModuleFailed, match="give the VM less memory") as failure:
        run_module("vm", name=vm, size={"memory": "1024TiB"}, description="other", state="started")
    assert failure.value.result["rolled_back"] is True
    assert sorted(virsh("dumpxml", "--inactive", vm).splitlines()) == before


def test_a_root_is_not_made_smaller(site: Site, template: str) -> None:
    vm = make(site, size={"storage_size_in_gb": 2})
    assert "cannot be made smaller" in refused(name=vm, size={"storage_size_in_gb": 1})


def test_what_cannot_be_made_is_refused(site: Site, template: str) -> None:
    base = {"name": site.vm("x"), "template": template, "storage_pools": [site.storage_pool]}
    assert "option 'template'" in refused(name=site.vm("x"))
    assert "no template 'nosuch'" in refused(**{**base, "template": "nosuch"})
    assert "it has the versions 1, 2" in refused(**base, template_version="9")
    assert "not valid" in refused(**{**base, "name": "../x"})
    assert "nosuch" in refused(**{**base, "storage_pools": [site.storage_pool + "nosuch"]})
    assert "stateless" in refused(**base, use_latest_template_version=True)
    assert site.vms == []


def test_a_foreign_vm_is_left_alone(site: Site) -> None:
    vm = site.vm("foreign")
    xml = f"<domain type='qemu'><name>{vm}</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
    virsh("define", "/dev/stdin", stdin=xml)
    for options in ({}, {"state": "absent"}, {"state": "started"}):
        assert "was not made from a template" in refused(name=vm, **options)
    assert site.vms == [vm]


def test_a_copy_that_another_tool_made_is_left_alone(site: Site, template: str) -> None:
    vm, copy = make(site), site.vm("copy")
    xml = definition(vm)
    for tag, text in (("name", copy), ("uuid", "11111111-2222-3333-4444-" + site.storage_pool[-6:] * 2)):
        element = xml.find(tag)
        assert element is not None
        element.text = text
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))
    assert "was not made from a template" in refused(name=copy, state="absent")
    assert copy in refused(name=vm, state="absent"), "the root is in use by both"
    assert f"{vm}.root.1.qcow2" in site.volumes
    virsh("undefine", copy)
    run_module("vm", name=vm, state="absent")


def test_a_vm_with_snapshots_is_not_removed(site: Site, template: str) -> None:
    vm = make(site)
    virsh("snapshot-create-as", vm, "one")
    assert "snapshot" in refused(name=vm, state="absent")
    assert vm in site.vms


def test_lists_and_filters(site: Site, template: str) -> None:
    old = make(site, "old", template_version="1")
    new = make(site, "new", stateless=True, use_latest_template_version=True)

    def names(**filters: Any) -> list[str]:
        listed = run_module("vm_info", **filters)["vms"]
        return [vm["name"] for vm in listed if vm["name"].startswith(site.prefix)]

    assert names() == [new, old]
    assert names(name=old) == [old]
    assert names(template_version=2) == [new]
    assert names(outdated=True) == []
    run_module(
        "template_version", template=template, storage_pool=site.storage_pool, version="2", lifecycle="candidate"
    )
    assert names(outdated=True) == [new]
    assert names(outdated=False) == [old]
    assert names(template="nosuch") == []
    assert names(state="running") == []
