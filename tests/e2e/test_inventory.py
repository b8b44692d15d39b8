"""The inventory plugin against libvirt, as ansible-inventory shows it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.fixtures import Site
from support.metadata import SINCE, set_lease, set_metadata
from support.modules import run_module
from support.playbooks import Controller
from support.waiting import until

USER = "{{ 1 + 1 }}"


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def publish(site: Site, image: Path, network: str = "default", create_base: bool = True) -> None:
    run_module(
        "template_version",
        template="web",
        storage_pool=site.storage_pool,
        source={"path": str(image)},
        create_base=create_base,
        hardware={"memory": "128MiB", "graphics": "none", "networks": [{"network": network}]},
    )


def make_pool(site: Site, **options: Any) -> str:
    """Make a pool with a name that is no valid name of a group, and return its name."""
    name = site.vm("des.k")
    run_module("vm_pool", vm_pool=name, template="web", storage_pools=[site.storage_pool], **options)
    return name


def test_hosts_groups_and_variables(
    site: Site, empty_disk: Path, guest_v1: Path, controller: Controller, network: str
) -> None:
    publish(site, empty_disk, network)
    pool = make_pool(site, count=2)
    run_module("vm", name=site.vm("alone"), template="web", storage_pools=[site.storage_pool])
    virsh.virsh("define", "/dev/stdin", stdin=f"<domain type='qemu'><name>{site.vm('foreign')}</name>"
                "<memory>1024</memory><os><type>hvm</type></os></domain>")  # fmt: skip
    publish(site, guest_v1, network, create_base=False)
    set_lease(f"{pool}-2", USER)

    listed = controller.hosts()
    mine = [host for host in listed["_meta"]["hostvars"] if host.startswith(site.prefix)]
    assert sorted(mine) == sorted([f"{pool}-1", f"{pool}-2", site.vm("alone")])
    group = f"vm_pool_{pool}".replace("-", "_").replace(".", "_")
    assert listed[group]["hosts"] == [f"{pool}-1", f"{pool}-2"]
    assert set(mine) <= set(listed["template_web"]["hosts"])
    assert {f"{pool}-1", f"{pool}-2"} <= set(listed["outdated"]["hosts"])
    assert site.vm("alone") not in listed["outdated"]["hosts"]
    assert f"{pool}-2" in listed["taken"]["hosts"]
    assert f"{pool}-1" not in listed["taken"]["hosts"]
    assert not set(mine) & set(listed.get("running", {"hosts": []})["hosts"])

    identity = virsh.identity(f"{pool}-2")
    variables = listed["_meta"]["hostvars"][f"{pool}-2"]
    assert variables == {
        "golden_vm": f"{pool}-2",
        "golden_uuid": identity["uuid"],
        "golden_uri": "qemu:///system",
        "golden_hypervisor": virsh.virsh("hostname"),
        "golden_state": "shut off",
        "golden_description": "",
        "golden_macs": identity["macs"],
        "golden_addresses": [],
        "golden_template": "web",
        "golden_template_storage_pool": site.storage_pool,
        "golden_template_version": 1,
        "golden_wanted_version": 2,
        "golden_outdated": True,
        "golden_stateless": True,
        "golden_root_storage_pool": site.storage_pool,
        "golden_root_volume": f"{pool}-2.root.1.qcow2",
        "golden_previous_version": None,
        "golden_unfinished": None,
        "golden_vm_pool": pool,
        "golden_taken": True,
        "golden_prestarted": False,
        "golden_set_aside": False,
        "golden_auto_refresh": True,
        "golden_lease_user": USER,
        "golden_lease_since": SINCE,
    }

    only = controller.hosts(vm_pools=[pool])
    assert sorted(only["_meta"]["hostvars"]) == [f"{pool}-1", f"{pool}-2"]


def test_what_users_wrote_is_not_templated(site: Site, empty_disk: Path, controller: Controller) -> None:
    publish(site, empty_disk)
    pool = make_pool(site, count=1)
    set_lease(f"{pool}-1", USER)
    run = controller.run(
        "ansible", "-i", str(controller.inventory()), f"{pool}-1", "-m", "debug", "-a", "var=golden_lease_user"
    )
    assert USER in run.output


def test_constructed_and_cached(site: Site, empty_disk: Path, controller: Controller) -> None:
    publish(site, empty_disk)
    pool = make_pool(site, count=1)
    options: dict[str, Any] = {
        "vm_pools": [pool],
        "compose": {"twice": "golden_template_version * 2"},
        "groups": {"first": "golden_vm.endswith('-1')"},
        "keyed_groups": [{"key": "golden_state", "prefix": "state"}],
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(controller.folder / "cache"),
    }
    listed = controller.hosts(**options)
    assert listed["_meta"]["hostvars"][f"{pool}-1"]["twice"] == 2
    assert listed["first"]["hosts"] == listed["state_shut_off"]["hosts"] == [f"{pool}-1"]
    run_module("vm_pool", vm_pool=pool, count=2)
    assert controller.hosts(**options) == listed
    fresh = controller.run("ansible-inventory", "-i", "golden.yml", "--list", "--flush-cache")
    assert fresh.text.count("golden_uuid") == 2


def test_two_uris_with_the_same_vm(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk)
    pool = make_pool(site, count=1)
    socket = "qemu+unix:///system"
    controller = Controller(tmp_path, ("qemu:///system", socket))
    run = controller.run("ansible-inventory", "-i", str(controller.inventory(vm_pools=[pool])), "--list")
    assert run.rc != 0
    assert f"VM '{pool}-1'" in run.text
    assert "'qemu:///system' and 'qemu+unix:///system'" in run.text
    assert "the same hypervisor" in run.text


def test_two_hypervisors(site: Site, empty_disk: Path, tmp_path: Path) -> None:
    publish(site, empty_disk)
    pool = make_pool(site, count=1)
    controller = Controller(tmp_path, ("qemu:///system", "test:///default"))
    assert list(controller.hosts(vm_pools=[pool])["_meta"]["hostvars"]) == [f"{pool}-1"]
    qualified = f"{pool}-1.{virsh.virsh('hostname')}"
    assert list(controller.hosts(vm_pools=[pool], qualified_names=True)["_meta"]["hostvars"]) == [qualified]


def test_unreachable_hypervisor(tmp_path: Path) -> None:
    controller = Controller(tmp_path, ("qemu:///system", "qemu+unix:///system?socket=/nowhere"))
    run = controller.run("ansible-inventory", "-i", str(controller.inventory()), "--list")
    assert run.rc != 0
    assert "qemu+unix:///system?socket=/nowhere" in run.text
    assert "Traceback" not in run.output


def test_damaged_vm_is_left_out(site: Site, empty_disk: Path, controller: Controller) -> None:
    publish(site, empty_disk)
    pool = make_pool(site, count=2)
    metadata = virsh.metadata(f"{pool}-1")
    metadata[0].set("version", "one")
    set_metadata(f"{pool}-1", metadata)
    assert f"{pool}-1" not in controller.hosts()["_meta"]["hostvars"]
    listing = controller.run("ansible-inventory", "-i", "golden.yml", "--list")
    assert f"metadata of VM '{pool}-1' is damaged" in listing.text


def test_other_files_are_not_ours(controller: Controller) -> None:
    path = controller.inventory(name="vms.yml")
    run = controller.run("ansible-inventory", "-i", str(path), "--list", ANSIBLE_INVENTORY_ENABLED="golden.libvirt.vms")
    assert run.rc != 0
    assert controller.hosts(controller.inventory(name="lab.golden.yaml"))["_meta"]


def test_running_guests(site: Site, guest_v1: Path, network: str, controller: Controller) -> None:
    """A guest with a lease has its address, and one whose agent hangs holds nobody up."""
    publish(site, guest_v1, network)
    pool = make_pool(site, count=2, prestarted=2)
    for number in (1, 2):
        virsh.wait_for_guest(f"{pool}-{number}")
    lease = address(pool, 1)

    hang_agent(f"{pool}-2")
    started = time.monotonic()
    listed = controller.hosts(vm_pools=[pool])
    assert time.monotonic() - started < 15
    variables = listed["_meta"]["hostvars"]
    assert variables[f"{pool}-1"]["ansible_host"] == lease
    assert variables[f"{pool}-1"]["golden_addresses"][0] == lease
    assert "ansible_host" not in variables[f"{pool}-2"]
    assert listed["running"]["hosts"] == [f"{pool}-1", f"{pool}-2"]


def address(pool: str, number: int) -> str:
    """Return the address that libvirt's network has given to a VM."""

    def leases() -> list[str]:
        return virsh.virsh("domifaddr", f"{pool}-{number}", "--source", "lease").splitlines()

    until(leases)
    return leases()[0].split()[-1].split("/")[0]


def hang_agent(vm: str) -> None:
    """Take its network card out of a running VM's reach, and stop its agent while the channel stays open."""
    virsh.virsh("detach-interface", vm, "network", "--mac", virsh.identity(vm)["macs"][0], "--live")
    arguments = {"path": "/bin/sh", "arg": ["-c", "killall -STOP qemu-ga"]}
    virsh.agent(vm, "guest-exec", **arguments)
    time.sleep(2)  # and it is not asked again: libvirt goes on believing in it, and would wait for it for ever
