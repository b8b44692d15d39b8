"""A pool with people in it: a VM that is taken stays as it is until it goes down or is returned; the others move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import virsh
from support.modules import run_module
from support.rulebook import running
from support.waiting import until

from .pool import Pool


def take(pool: Pool, user: str) -> str:
    """Take a VM for a user, and return its name."""
    done = run_module("vm_lease", vm_pool=pool.name, user=user, health={"check": "agent", "timeout": 240})
    name: str = done["lease"]["vm"]
    return name


def listed(pool: Pool) -> dict[str, Any]:
    """Return the pool as vm_pool_info lists it."""
    [found] = run_module("vm_pool_info", vm_pool=pool.name)["vm_pools"]
    assert isinstance(found, dict)
    return found


def version(vm: str) -> str:
    """Return the version that a guest tells."""
    virsh.wait_for_guest(vm, 240)
    return virsh.in_guest(vm, "cat /etc/golden-version")


def has_file(vm: str) -> bool:
    """Whether the file of a VM's user is there."""
    virsh.wait_for_guest(vm, 240)
    return virsh.in_guest(vm, "test -e /mine && echo yes || echo no") == "yes"


def metadata_version(vm: str) -> str:
    """Return the version that the stored definition of a VM names."""
    root = virsh.metadata(vm).find(f"{virsh.NAMESPACE}root")
    assert root is not None
    return root.attrib["version"]


def test_two_users_and_a_new_version(pool: Pool, guest_v1: Path, guest_v2: Path, tmp_path: Path) -> None:
    pool.publish(guest_v1, publish_create_base="true")
    pool.make(count=4, prestarted=2)
    first, second = take(pool, "ada"), take(pool, "bob")
    assert take(pool, "ada") == first
    assert first != second
    for vm in (first, second):
        virsh.in_guest(vm, "echo mine > /mine; sync")
    others = [vm for vm in pool.site.vms if vm not in (first, second)]
    assert [virsh.state(vm) for vm in others] == ["running", "running"], "taken ones were not made up for"

    virsh.virsh("destroy", others[1])
    pool.publish(guest_v2, publish_refresh_down="true")
    assert metadata_version(others[1]) == "2", "a VM that is down is not on the new version at once"
    done = pool.rollout()
    assert done.rc == 0, done.output
    assert version(others[0]) == "2"
    assert [(version(vm), has_file(vm)) for vm in (first, second)] == [("1", True), ("1", True)]
    assert sorted(done.artifact["golden_rollout"]["left_alone"]) == sorted([first, second])

    with running(tmp_path, "golden.libvirt.refresh_on_shutdown", golden_vm_pools=[pool.name]) as rulebook:
        # From inside: the user is done.
        virsh.virsh("shutdown", first, "--mode", "agent", check=False)
        until(lambda: metadata_version(first) == "2", lambda: rulebook.output)
        until(lambda: lease(first) is None, lambda: rulebook.output)
    run_module("vm_lease", vm_pool=pool.name, user="bob", state="returned")
    assert metadata_version(second) == "2"
    assert lease(second) is None
    run_module("vm_pool", vm_pool=pool.name, prestarted=4, health={"check": "agent", "timeout": 240})
    assert [(version(vm), has_file(vm)) for vm in (first, second)] == [("2", False), ("2", False)]
    assert listed(pool)["free"] == sorted(pool.site.vms)


def lease(vm: str) -> object:
    """Return the lease in the metadata of a VM."""
    return virsh.metadata(vm).find(f"{virsh.NAMESPACE}lease")
