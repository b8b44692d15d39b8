"""Taking and returning on a real libvirtd: by many at once, by takers that are killed, and what pools do around it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site, make_disk
from support.metadata import set_lease
from support.modules import ModuleFailed, run_module
from support.playbooks import Controller
from support.processes import REFUSED, processes_of
from support.replay import replay
from support.virsh import NAMESPACE, metadata, root_path, state, virsh

FORCE = {"mode": "force"}


def make(site: Site, name: str = "desk", count: int = 3, **options: Any) -> str:
    """Make a pool and return its name."""
    pools = [site.storage_pool]
    run_module("vm_pool", vm_pool=site.vm(name), template="web", count=count, storage_pools=pools, **options)
    return site.vm(name)


def holder(vm: str) -> str | None:
    """Return who has a VM, as its metadata say."""
    lease = metadata(vm).find(f"{NAMESPACE}lease")
    return None if lease is None else lease.attrib["user"]


def version(vm: str) -> str:
    """Return the version of a VM, as its metadata say."""
    root = metadata(vm).find(f"{NAMESPACE}root")
    assert root is not None
    return root.attrib["version"]


def write_on_root(vm: str) -> None:
    """Write on the root of a VM that is down, as a guest would that somebody else has started."""
    command = ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", root_path(vm)]
    subprocess.run(command, check=True, capture_output=True)


def holds(vm: str) -> bool:
    """Whether what was written on the root of a VM is there."""
    command = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -P 7 0 64k", root_path(vm)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "64 KiB" in done.stdout, done.stderr
    return "verification failed" not in done.stdout


def refused(**options: Any) -> str:
    """Run vm_lease, which must fail, and return its message."""
    with pytest.raises(ModuleFailed) as failure:
        run_module("vm_lease", **options)
    return str(failure.value)


# --- one user --------------------------------------------------------------------------------------------------------


def test_taken_and_returned(site: Site, template: str) -> None:
    pool = make(site, prestarted=1)
    done = replay("vm_lease", vm_pool=pool, user="Ada Łovelace")
    vm = done["lease"]["vm"]
    assert (vm, holder(vm), state(vm)) == (f"{pool}-1", "Ada Łovelace", "running")
    assert (done["vm"]["name"], done["vm"]["lease"]["user"]) == (vm, "Ada Łovelace")
    assert state(f"{pool}-2") == "running", "the next one is kept ready"
    (listed,) = run_module("vm_pool_info", vm_pool=pool)["vm_pools"]
    assert (listed["taken"], listed["ready"]) == ({vm: "Ada Łovelace"}, [f"{pool}-2"])
    (info,) = run_module("vm_info", vm_pool=pool, taken=True)["vms"]
    assert (info["name"], info["lease_user"]) == (vm, "Ada Łovelace")

    root = root_path(vm)
    done = replay("vm_lease", vm_pool=pool, user="Ada Łovelace", state="returned", shutdown=FORCE)
    assert done["lease"] == {}
    assert (holder(vm), state(vm)) == (None, "shut off")
    assert root_path(vm) != root
    assert sorted(name for name in site.volumes if f"{vm}.root" in name) == [Path(root_path(vm)).name]
    secrets = virsh("secret-list")
    assert pool not in secrets
    assert "user Ada" not in secrets


def test_one_that_is_down_is_restored_first(site: Site, template: str) -> None:
    pool = make(site, count=1, template_version="1")
    write_on_root(f"{pool}-1")
    assert holds(f"{pool}-1")
    run_module("vm_pool", vm_pool=pool, template_version="latest")
    replay("vm_lease", vm_pool=pool, user="ada")
    assert (version(f"{pool}-1"), state(f"{pool}-1"), holds(f"{pool}-1")) == ("2", "running", False)
    assert "1 of 1 are taken" in refused(vm_pool=pool, user="bob")


def test_a_stateless_vm_begins_afresh_whoever_started_it_before(site: Site, template: str) -> None:
    vm = site.vm("a")
    run_module("vm", name=vm, template="web", storage_pools=[site.storage_pool], stateless=True)
    first = root_path(vm)
    run_module("vm", name=vm, state="started")
    assert root_path(vm) == first, "nobody has written on it: it is fresh"
    virsh("destroy", vm)
    write_on_root(vm)
    replay("vm", name=vm, state="started")
    assert (state(vm), holds(vm), root_path(vm) != first) == ("running", False, True)


def test_what_is_taken_is_left_alone(site: Site, template: str) -> None:
    pool = make(site, count=2)
    vm = run_module("vm_lease", vm_pool=pool, user="ada")["lease"]["vm"]
    for module, options in (
        ("vm_restore", {"vm": vm, "force": True}),
        ("vm", {"name": vm, "state": "stopped"}),
        ("vm", {"name": vm, "state": "absent"}),
        ("vm_pool", {"vm_pool": pool, "state": "absent"}),
    ):
        with pytest.raises(ModuleFailed, match=r"taken"):
            run_module(module, **options)
    assert "is taken by 'ada'" in refused(vm_pool=pool, user="bob", vm=vm)
    assert (state(vm), holder(vm)) == ("running", "ada")
    root = root_path(vm)
    run_module("vm_restore", vm=vm, force=True, force_taken=True, shutdown=FORCE)
    assert (state(vm), holder(vm), root_path(vm) != root) == ("running", "ada", True)


def test_one_that_does_not_start_is_set_aside(site: Site, template: str) -> None:
    pool = make(site, count=2)
    broken = f"{pool}-1"
    virsh("attach-disk", broken, "/nonexistent/disk.img", "vdz", "--config")
    for _ in range(3):
        done = run_module("vm_lease", vm_pool=pool, user="ada")
        assert done["lease"]["vm"] == f"{pool}-2"
        run_module("vm_lease", vm_pool=pool, user="ada", state="returned", shutdown=FORCE)
        run_module("vm_pool", vm_pool=pool, prestarted=2)
        virsh("destroy", f"{pool}-2")
    (listed,) = run_module("vm_pool_info", vm_pool=pool)["vm_pools"]
    assert (listed["set_aside"], listed["taken"]) == ([broken], {})
    assert "it is set aside" in refused(vm_pool=pool, user="ada", vm=broken)
    virsh("detach-disk", broken, "vdz", "--config")
    run_module("vm_pool", vm_pool=pool, retry_set_aside=True)
    assert [state(f"{pool}-{number}") for number in (1, 2)] == ["running", "running"]


# --- many at once ----------------------------------------------------------------------------------------------------


def test_fifty_take_from_twenty(site: Site, template: str) -> None:
    pool = make(site, count=20, prestarted=20)
    users = [f"user-{number}" for number in range(50)]
    with processes_of("vm_lease") as processes:
        started = time.monotonic()
        codes = processes.ends([processes.begin(vm_pool=pool, user=user) for user in users])
        seconds = time.monotonic() - started
    assert (codes.count(0), codes.count(REFUSED)) == (20, 30)
    held = [holder(vm) for vm in site.vms]
    assert sorted(user for user, code in zip(users, codes) if code == 0) == sorted(map(str, held))
    assert seconds < 10


def test_one_user_at_once(site: Site, template: str) -> None:
    pool = make(site, count=4)
    with processes_of("vm_lease") as processes:
        codes = processes.ends([processes.begin(vm_pool=pool, user="ada") for _ in range(6)])
    assert [holder(vm) for vm in site.vms].count("ada") == 1
    assert codes.count(0) >= 1
    assert run_module("vm_lease", vm_pool=pool, user="ada")["lease"]["user"] == "ada"


def test_killed_takers_lose_no_vm(site: Site, template: str) -> None:
    pool = make(site, count=6)
    users = [f"user-{number}" for number in range(6)]
    with processes_of("vm_lease") as processes:
        for user in users:
            child = processes.begin(vm_pool=pool, user=user)
            time.sleep(random.uniform(0, 0.4))
            os.kill(child, signal.SIGKILL)
            processes.ends([child])
    held = [user for vm in site.vms if (user := holder(vm)) is not None]
    assert len(set(held)) == len(held)
    for user in users:
        assert run_module("vm_lease", vm_pool=pool, user=user)["lease"]["user"] == user
    assert sorted(str(holder(vm)) for vm in site.vms) == users
    assert {state(vm) for vm in site.vms} == {"running"}


# --- new versions ----------------------------------------------------------------------------------------------------


def test_who_follows_latest_and_is_down_moves_when_a_version_is_published(
    site: Site, template: str, tmp_path: Path
) -> None:
    pool = make(site, count=3, prestarted=1)
    set_lease(f"{pool}-3", "ada")
    pinned = make(site, "pinned", count=1, template_version="2")
    patient = make(site, "patient", count=1, auto_refresh=False)
    disk = make_disk(site.folder.parent / "third.qcow2", mark="third")
    controller = Controller(tmp_path)
    given = {"publish_template": "web", "publish_storage_pool": site.storage_pool, "publish_source_path": str(disk)}
    published = controller.play("publish", publish_refresh_down="false", **given)
    assert published.rc == 0, published.output
    assert {version(vm) for vm in site.vms} == {"2"}

    dry = controller.play("refresh_down", "--check", refresh_down_storage_pool=site.storage_pool)
    assert (dry.rc, dry.artifact["golden_refresh_down"]["restored"]) == (0, [f"{pool}-2"]), dry.output
    run = controller.play("publish", **given)
    assert run.rc == 0, run.output
    assert run.artifact["golden_refresh_down"] == {"check_mode": False, "restored": [f"{pool}-2"], "failed": {}}
    assert [version(f"{pool}-{number}") for number in (1, 2, 3)] == ["2", "3", "2"]
    again = controller.play("refresh_down", refresh_down_storage_pool=site.storage_pool)
    assert (again.rc, again.changed) == (0, 0), again.output
    assert {version(f"{name}-1") for name in (pinned, patient)} == {"2"}

    set_lease(f"{pool}-3", None)
    virsh("snapshot-create-as", f"{pool}-3", "s1", check=False)
    failed = controller.play("refresh_down", refresh_down_vm_pool=pool)
    assert failed.rc != 0
    assert f"VM '{pool}-3' has snapshots" in failed.text


def test_the_metadata_are_as_they_were(site: Site, template: str) -> None:
    """A pool that was never taken from has nothing new in its metadata, so that an older version can read them."""
    pool = make(site, count=1)
    assert set(metadata(f"{pool}-1").attrib) == {"uuid", "follows", "stateless", "generation", "rolled_back"}
    assert ET.tostring(metadata(f"{pool}-1")).count(b"lease") == 0
