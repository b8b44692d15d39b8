"""Access control: a libvirtd of the test's own with polkit switched on, and modules run by a user who is not root.

No guests run in that libvirtd (see support.guarded). Where namespaces cannot be made, these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core import permissions
from ansible_collections.golden.libvirt.plugins.module_utils._core.permissions import Need
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import REPOSITORY, Site
from support.guarded import POOL, USER, Guarded, guarded_libvirtd
from support.modules import ModuleFailed
from support.virsh import definition, state, virsh

VM = "gldtest-web-1"
HARDWARE = {"memory": "64MiB", "networks": [], "graphics": "none"}
RESTORE = {"vm": VM, "force": True}
DATA = {"name": VM, "storage_pools": [POOL], "volumes": [{"device_id": 1, "size": "8MiB"}]}
PAYLOAD = {"vm": VM, "ignition": {"ignition": {"version": "3.4.0"}}}
SECOND = "web.v2.json"
ROOT = f"{VM}.root.1.qcow2"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """Yield the daemon, with a template of two versions and a VM of the first, all made by the user."""
    with guarded_libvirtd() as daemon:
        for mark in ("first", "second"):
            publish(daemon, mark)
        daemon.run_module("vm", name=VM, template="web", template_version="1", storage_pools=[POOL])
        yield daemon


def publish(guarded: Guarded, mark: str) -> dict[str, Any]:
    """Publish the next version of the template."""
    return guarded.run_module(
        "template_version",
        template="web",
        storage_pool=POOL,
        create_base=True,
        hardware=HARDWARE,
        source={"path": guarded.image(mark)},
    )


def refused(guarded: Guarded, module: str, *, check: bool = False, **options: object) -> dict[str, Any]:
    """Return the result of a module that must fail and must have changed nothing."""
    before = guarded.state()
    with pytest.raises(ModuleFailed) as failure:
        guarded.run_module(module, check=check, **options)
    assert guarded.state() == before
    return failure.value.result


Case = tuple[str, str, str, dict[str, Any]]
"""The permission that is denied, on what, and the module that needs it."""
CASES: list[Case] = [
    ("domain.write", VM, "vm", {"name": VM, "description": "other"}),
    ("domain.save", VM, "vm", {"name": VM, "description": "other"}),
    ("domain.write", VM, "vm", {"name": VM, "autostart": True}),
    ("domain.start", VM, "vm", {"name": VM, "state": "started"}),
    ("domain.start", VM, "vm_restore", {**RESTORE, "start": "yes"}),
    ("domain.write", VM, "vm_restore", RESTORE),
    ("storage-vol.create", f"{VM}.root.2.qcow2/", "vm_restore", RESTORE),
    ("storage-vol.delete", ROOT, "vm_restore", RESTORE),
    ("storage-vol.delete", ROOT, "vm", {"name": VM, "state": "absent"}),
    ("storage-vol.resize", ROOT, "vm", {"name": VM, "size": {"storage_size_in_gb": 1}}),
    ("storage-vol.create", f"{VM}.data.1.qcow2/", "vm", DATA),
    ("domain.save", VM, "vm", DATA),
    (
        "storage-vol.data-write",
        SECOND,
        "template_version",
        {"template": "web", "storage_pool": POOL, "version": "2", "description": "other"},
    ),
    (
        "storage-vol.delete",
        "web.v2.qcow2",
        "template_version",
        {"template": "web", "storage_pool": POOL, "version": "2", "state": "absent"},
    ),
    (
        "storage-vol.create",
        "gldtest-web-2.root.1.qcow2/",
        "vm",
        {"name": "gldtest-web-2", "template": "web", "storage_pools": [POOL]},
    ),
    ("domain.save", VM, "volume_attach", {"vm": VM, "device_id": 0, "state": "detached"}),
    ("connect.write", "", "vm", {"name": "gldtest-web-2", "template": "web", "storage_pools": [POOL]}),
]


@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]}-{case[0]}")
def test_a_missing_permission_is_named_before_anything_changes(guarded: Guarded, case: Case, check: bool) -> None:
    permission, object_, module, options = case
    # Whether a VM may be started is asked under another name, too: see _hypervisor.permissions.
    everywhere = permission in ("domain.start", "connect.write")
    with guarded.denying(f"api.{permission}" if everywhere else f"api.{permission} {object_}"):
        result = refused(guarded, module, check=check, **options)
    missing = result["missing_permissions"]
    assert [(m["action"], m["name"]) for m in missing] == [(f"org.libvirt.api.{permission}", object_.rstrip("/"))]
    assert f"org.libvirt.api.{permission} on " in result["msg"]
    assert object_.rstrip("/") in result["msg"]
    assert result["msg"].startswith("nothing has been changed: ")


def test_all_missing_permissions_are_named_at_once(guarded: Guarded) -> None:
    with guarded.denying("api.storage-vol.create", "api.domain.write", "api.storage-vol.delete"):
        result = refused(guarded, "vm_restore", **RESTORE)
    assert {missing["action"].rpartition("api.")[2] for missing in result["missing_permissions"]} == {
        "storage-vol.create",
        "domain.write",
        "storage-vol.delete",
    }


@pytest.mark.parametrize("permission", ["storage-vol.create", "domain.write", "domain.save"])
@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_a_payload_that_may_not_be_handed_over_is_told_before(guarded: Guarded, permission: str, check: bool) -> None:
    with guarded.denying(f"api.{permission}"):
        result = refused(guarded, "vm_payload", check=check, **PAYLOAD)
    assert f"org.libvirt.api.{permission} on " in result["msg"]
    assert result["msg"].startswith("nothing has been changed: ")


def test_who_may_not_change_vms_is_shown_them(guarded: Guarded) -> None:
    with guarded.denying("api.domain.write", "api.domain.save", "api.storage-vol.create", "api.secret.write"):
        assert [vm["name"] for vm in guarded.run_module("vm_info")["vms"]] == [VM]
        assert len(guarded.run_module("template_version_info", storage_pool=POOL)["template_versions"]) == 1
        assert guarded.run_module("storage_pool_info")["storage_pools"][0]["name"] == POOL
        assert guarded.run_module("vm_pool_info")["vm_pools"] == []


def test_every_module_is_in_the_documentation() -> None:
    documented = (REPOSITORY / "docs" / "permissions.md").read_text()
    modules = [path.stem for path in (REPOSITORY / "plugins" / "modules").glob("[a-z]*.py")]
    table = documented.partition("| module |")[2].partition("\n\n")[0]
    assert [name for name in modules if f"`{name}`" not in table] == []


def test_a_permission_on_another_object_is_no_reason_to_refuse(guarded: Guarded) -> None:
    with guarded.denying("api.domain.write gldtest-other", "api.domain.start gldtest-other"):
        assert guarded.run_module("vm_restore", check=True, **RESTORE)["changed"]


def test_a_rule_by_the_identity_of_a_vm_is_no_reason_to_refuse(guarded: Guarded) -> None:
    identity = guarded.virsh("domuuid", VM)
    with guarded.denying(f"api.domain.start unless {identity}"):
        assert guarded.run_module("vm", check=True, name=VM, state="started")["changed"]


def test_what_cannot_be_asked_for_is_named_by_the_call_that_is_denied_and_taken_back(guarded: Guarded) -> None:
    with guarded.denying("api.storage-vol.data-write"):
        result = refused(
            guarded,
            "template_version",
            template="web",
            storage_pool=POOL,
            hardware=HARDWARE,
            source={"path": guarded.image("third")},
        )
    assert result["rolled_back"] is True
    assert [m["action"] for m in result["missing_permissions"]] == ["org.libvirt.api.storage-vol.data-write"]
    assert "web.v3.json" in result["msg"]


def test_a_new_vm_that_may_not_be_defined_is_nowhere(guarded: Guarded) -> None:
    with guarded.denying("api.domain.save gldtest-web-2"):
        result = refused(guarded, "vm", name="gldtest-web-2", template="web", storage_pools=[POOL])
    assert "org.libvirt.api.domain.save on VM 'gldtest-web-2'" in result["msg"]


@pytest.mark.parametrize(
    ("permission", "said"),
    [
        ("domain.read", f"org.libvirt.api.domain.read on VM '{VM}'"),
        ("domain.getattr", f"org.libvirt.api.domain.getattr on VM '{VM}'"),
        ("domain.read-secure", f"org.libvirt.api.domain.read-secure on VM '{VM}'"),
        ("storage-pool.getattr", f"org.libvirt.api.storage-pool.getattr on storage pool '{POOL}'"),
        (
            "storage-pool.search-storage-vols",
            f"org.libvirt.api.storage-pool.search-storage-vols on storage pool '{POOL}'",
        ),
        ("storage-vol.data-read", "org.libvirt.api.storage-vol.data-read on volume 'web.v"),
    ],
)
def test_what_may_not_be_looked_at_is_named(guarded: Guarded, permission: str, said: str) -> None:
    with guarded.denying(f"api.{permission}"):
        assert said in refused(guarded, "vm_restore", **RESTORE)["msg"]


def test_a_user_without_the_passwords_of_vms_can_look_at_vms(guarded: Guarded) -> None:
    with guarded.denying("api.domain.read-secure"):
        assert [vm["name"] for vm in guarded.run_module("vm_info")["vms"]] == [VM]


# --- the rule of the documentation -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documented() -> Iterator[Guarded]:
    """Yield a daemon with the rule of the documentation, for the user, the storage pool and the VMs of these tests."""
    text = (REPOSITORY / "docs" / "permissions.md").read_text()
    rule = text.partition("```js\n")[2].partition("```")[0]
    for example, ours in (('"ansible"', f'"{USER}"'), ('"default"', f'"{POOL}"'), ("(web-|", "(gldtest-web-|")):
        assert example in rule
        rule = rule.replace(example, ours)
    with guarded_libvirtd(rule) as daemon:
        yield daemon


def test_the_documented_rule_allows_what_modules_need_and_no_more(documented: Guarded) -> None:
    publish(documented, "first")
    documented.run_module("vm", name=VM, template="web", storage_pools=[POOL])
    publish(documented, "second")
    assert documented.run_module("vm_restore", vm=VM, template_version="2")["vm"]["template_version"] == 2
    documented.run_module("vm", **DATA)
    documented.run_module("vm_payload", **PAYLOAD)
    documented.run_module("vm_payload", vm=VM, state="absent")
    documented.run_module("volume_attach", vm=VM, device_id=1, state="detached")
    documented.run_module("volume_attach", vm=VM, volume=f"{VM}.data.1.qcow2", storage_pool=POOL, device_id=1)
    documented.run_module("vm_pool", vm_pool="gldtest-web-pool", template="web", count=1, storage_pools=[POOL])
    documented.run_module("vm_pool", vm_pool="gldtest-web-pool", state="absent")
    for info in ("template_version", "storage_pool"):
        assert len(documented.run_module(f"{info}_info", storage_pool=POOL)[f"{info}s"]) == 1
    assert documented.run_module("vm_pool_info")["vm_pools"] == []
    assert [vm["name"] for vm in documented.run_module("vm_info")["vms"]] == [VM]
    result = refused(documented, "vm", name="gldtest-db-1", template="web", storage_pools=[POOL])
    assert {missing["name"] for missing in result["missing_permissions"]} == {"gldtest-db-1"}
    documented.virsh("pool-create-as", "gldtest-other", "dir", "--target", str(documented.folder / "run"))
    result = refused(documented, "vm", name="gldtest-web-2", template="web", storage_pools=["gldtest-other"])
    assert [missing["storage_pool"] for missing in result["missing_permissions"]] == ["gldtest-other"]
    documented.run_module("vm", name=VM, state="absent", delete_data_volumes=True)
    documented.run_module("template_version", template="web", storage_pool=POOL, state="absent")
    assert documented.state() == {}


# --- a user who may only read ----------------------------------------------------------------------------------------


def test_who_may_only_read_can_look_at_vms_and_is_told_what_is_not_seen(guarded: Guarded) -> None:
    whole = guarded.run_module("vm_info")
    with guarded.denying("unix.manage"):
        seen = guarded.run_module("vm_info")
        assert guarded.run_module("vm_pool_info")["vm_pools"] == []
    assert seen["vms"] == whole["vms"]
    assert any("may only read" in str(warning) for warning in seen["warnings"])
    assert "warnings" not in whole


def test_who_may_only_read_does_not_see_what_a_vm_that_follows_latest_should_be_on(guarded: Guarded) -> None:
    name = "gldtest-latest"
    made = {"name": name, "template": "web", "storage_pools": [POOL], "stateless": True}
    guarded.run_module("vm", use_latest_template_version=True, **made)
    try:
        whole = guarded.run_module("vm_info", name=name)["vms"][0]
        with guarded.denying("unix.manage"):
            seen = guarded.run_module("vm_info", name=name)["vms"][0]
    finally:
        guarded.run_module("vm", name=name, state="absent")
    assert (whole["wanted_version"], seen["wanted_version"], seen["outdated"]) == (2, None, False)
    assert {**whole, "wanted_version": None} == seen


def test_who_may_only_read_is_told_why_template_versions_are_not_shown(guarded: Guarded) -> None:
    with guarded.denying("unix.manage"):
        message = refused(guarded, "template_version_info", storage_pool=POOL)["msg"]
    assert "may only read" in message
    assert "org.libvirt.unix.manage" in message


@pytest.mark.parametrize("check", [False, True], ids=["real", "check"])
def test_who_may_only_read_is_told_which_right_a_change_takes(guarded: Guarded, check: bool) -> None:
    with guarded.denying("unix.manage"):
        result = refused(guarded, "vm", check=check, name=VM, description="other")
    assert [m["action"] for m in result["missing_permissions"]] == ["org.libvirt.unix.manage"]
    assert "org.libvirt.unix.manage" in result["msg"]


def test_who_may_not_even_read_is_told(guarded: Guarded) -> None:
    with guarded.denying("unix.manage", "api.connect.getattr"):
        assert "org.libvirt.api.connect.getattr on the hypervisor" in refused(guarded, "vm_info")["msg"]


# --- asking changes nothing ------------------------------------------------------------------------------------------


def every_need(vm: str, storage_pool: str, volume: str) -> tuple[Need, ...]:
    """Return all that can be needed of a VM and a volume."""
    return (
        Need("connect", "", "write"),
        Need("domain", vm, "block_write"),
        *permissions.may_write(vm),
        *permissions.may_start(vm),
        *permissions.may_stop(vm),
        *permissions.may_drop_managed_save(vm),
        *permissions.may_undefine(vm),
        *permissions.may_create_volume(storage_pool, volume),
        *permissions.may_write_volume(storage_pool, volume),
        *permissions.may_resize_volume(storage_pool, volume),
        *permissions.may_delete_volume(storage_pool, volume),
    )


@pytest.mark.parametrize(("vm", "volume"), [(VM, ROOT), (VM, SECOND), ("gldtest-none", "none")])
def test_asking_changes_nothing_where_all_is_allowed(guarded: Guarded, vm: str, volume: str) -> None:
    before = guarded.state()
    with LibvirtHypervisor(guarded.uri) as hypervisor:
        hypervisor.check_allowed(every_need(vm, POOL, volume))
    assert guarded.state() == before
    assert guarded.virsh("list", "--all", "--name").split() == [VM]


def test_asking_changes_nothing_of_a_running_vm(site: Site) -> None:
    vm, volume = site.vm("web"), "disk"
    virsh("vol-create-as", site.storage_pool, volume, "1M")
    xml = f"""<domain type='qemu'><name>{vm}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
      <devices><disk type='file' device='disk'><source file='{site.folder}/{volume}'/><target dev='vda' bus='virtio'/>
      </disk></devices></domain>"""
    virsh("define", "/dev/stdin", stdin=xml)
    virsh("start", vm)
    before = virsh("dumpxml", vm), virsh("dumpxml", vm, "--inactive"), virsh("domid", vm)
    with LibvirtHypervisor("qemu:///system") as hypervisor:
        hypervisor.check_allowed(every_need(vm, site.storage_pool, volume))
    assert (virsh("dumpxml", vm), virsh("dumpxml", vm, "--inactive"), virsh("domid", vm)) == before
    assert state(vm) == "running"
    assert definition(vm, live=True).findtext("name") == vm
    assert site.volumes == [volume]
    assert (site.folder / volume).read_bytes() == bytes(1024**2)
