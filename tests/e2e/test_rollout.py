"""The playbooks publish, rollout and rollback on real guests, judged by virsh and from inside of the guests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.metadata import set_lease
from support.modules import run_module

from .pool import Pool


def test_a_pool_through_its_life(pool: Pool, guest_v1: Path, guest_v2: Path, guest_broken: Path) -> None:
    published = pool.publish(guest_v1, publish_create_base="true")
    assert published.artifact["golden_publish"]["version"] == 1
    pool.make(count=3, prestarted=2)
    set_lease(pool.vm(1), "alice")
    virsh.in_guest(pool.vm(1), "echo precious > /root-file; sync")
    boots = virsh.in_guest(pool.vm(1), "cat /var/lib/boots")
    before, address = [pool.identity(number) for number in (1, 2, 3)], pool.address(2)

    published = pool.publish(guest_v2, publish_version_name="second", publish_lifecycle="")
    artifact = published.artifact["golden_publish"]
    assert (artifact["version"], artifact["version_name"], artifact["latest"]) == (2, "second", True)
    assert pool.publish(guest_v2, publish_version_name="second").changed == 0

    _the_dry_run_tells(pool)
    _only_free_vms_move(pool)
    assert [pool.identity(number) for number in (1, 2, 3)] == before
    assert pool.address(2) == address
    assert virsh.in_guest(pool.vm(1), "cat /root-file /var/lib/boots") == f"precious\n{boots}"
    assert pool.version(1) == "1"

    again = pool.rollout()
    assert (again.rc, again.changed) == (0, 0), again.output
    assert "0 of 3 VMs" in again.output

    set_lease(pool.vm(1), None)
    resumed = pool.rollout()
    assert resumed.artifact["golden_rollout"]["moved"] == [pool.vm(1)]
    assert pool.version(1) == "2"
    assert pool.identity(1) == before[0]

    _a_broken_version_stops(pool, guest_broken)
    _the_way_back(pool)


def _the_dry_run_tells(pool: Pool) -> None:
    roots, volumes = pool.roots(), pool.site.volumes
    dry = pool.rollout("--check")
    assert dry.rc == 0, dry.output
    assert f"1 {pool.vm(2)} running 1 -> 2" in dry.text
    assert f"2 {pool.vm(3)} shut off 1 -> 2" in dry.text
    assert f"- {pool.vm(1)} running 1 left alone: taken by alice since" in dry.text
    assert (pool.roots(), pool.site.volumes) == (roots, volumes)


def _only_free_vms_move(pool: Pool) -> None:
    done = pool.rollout()
    assert done.rc == 0, done.output
    artifact = done.artifact["golden_rollout"]
    assert artifact.pop("left_alone")[pool.vm(1)].startswith("taken by alice since ")
    assert artifact.pop("report_folder").endswith("/golden_rollouts")
    assert artifact == {
        "vm_pool": pool.name,
        "state": "restored",
        "template_version": 2,
        "check_mode": False,
        "moved": [pool.vm(2), pool.vm(3)],
        "failed": {},
        "taken_back": [],
        "remaining": [],
        "stopped": "",
    }
    assert pool.version(2) == "2"
    assert virsh.state(pool.vm(3)) == "shut off"
    assert [root.split(".")[-2] for root in pool.roots()] == ["1", "2", "2"]
    assert pool.vm(3) + ".root.1.qcow2" in pool.site.volumes, "the previous root is kept"


def _a_broken_version_stops(pool: Pool, guest_broken: Path) -> None:
    pool.publish(guest_broken)
    roots, volumes = pool.roots(), pool.site.volumes
    second = virsh.in_guest(pool.vm(2), "cat /var/lib/boots")
    broken = pool.rollout(rollout_health_timeout="30")
    assert broken.rc != 0, broken.output
    assert f"{pool.vm(1)}: VM '{pool.vm(1)}' did not pass" in broken.text
    artifact = broken.artifact["golden_rollout"]
    assert list(artifact["failed"]) == [pool.vm(1)]
    assert (artifact["moved"], artifact["remaining"]) == ([], [pool.vm(2), pool.vm(3)])
    assert pool.version(1) == "2"
    assert virsh.in_guest(pool.vm(2), "cat /var/lib/boots") == second, "the others were not touched"
    assert (pool.roots(), pool.site.volumes) == (roots, volumes)


def _the_way_back(pool: Pool) -> None:
    dry = pool.rollout("--check", playbook="rollback", rollback_lifecycle="revoked")
    assert f"{pool.vm(2)} running 2 -> 1" in dry.text
    back = pool.rollout(playbook="rollback", rollback_lifecycle="revoked", rollout_serial="1,100%")
    assert back.rc == 0, back.output
    assert back.artifact["golden_rollout"]["moved"] == [pool.vm(1), pool.vm(2), pool.vm(3)]
    assert [pool.version(number) for number in (1, 2)] == ["1", "1"]
    assert virsh.in_guest(pool.vm(1), "cat /root-file") == "precious", "it is the old root, not a new one of version 1"
    options: dict[str, Any] = {"template": "web", "storage_pool": pool.site.storage_pool, "all_versions": True}
    versions = run_module("template_version_info", **options)["template_versions"]
    assert [version["lifecycle"] for version in versions] == ["active", "revoked", "active"]
    assert pool.rollout(playbook="rollback").changed == 0


def test_hooks_and_budget(pool: Pool, guest_v1: Path, empty_disk: Path) -> None:
    """The hooks run in their order; who is not verified goes back and is undrained; the budget lets others go on."""
    pool.publish(guest_v1, publish_create_base="true")
    pool.make(count=3, prestarted=0)
    pool.publish(empty_disk)
    log = pool.controller.folder / "log"
    for hook in ("drain", "verify", "undrain"):
        (pool.controller.folder / f"{hook}.yml").write_text(
            f"""
- name: Note it
  ansible.builtin.shell: echo {hook} {{{{ golden_vm }}}} >> {log}
  delegate_to: localhost
- name: Refuse one
  ansible.builtin.fail:
    msg: no good
  when: "'{hook}' == 'verify' and golden_vm is search('-2$')"
"""
        )
    hooks = {
        f"rollout_{hook}_tasks": str(pool.controller.folder / f"{hook}.yml") for hook in ("drain", "verify", "undrain")
    }
    done = pool.rollout(rollout_max_failures="100%", rollout_serial="3", **hooks)
    assert done.rc != 0
    assert pool.roots()[1].endswith("-2.root.1.qcow2")
    assert [root.split(".")[-2] for root in pool.roots()] == ["2", "1", "2"], done.output
    artifact = done.artifact["golden_rollout"]
    assert artifact["moved"] == [pool.vm(1), pool.vm(3)]
    assert "no good" in artifact["failed"][pool.vm(2)]
    lines = log.read_text().splitlines()
    for number in (1, 2, 3):
        assert [line.split()[0] for line in lines if line.endswith(f"-{number}")] == ["drain", "verify", "undrain"]

    log.unlink()
    pool.publish(guest_v1, publish_version_name="again")
    stopped = pool.rollout(rollout_serial="100%", rollout_failed_vm="keep", **hooks)
    assert stopped.rc != 0
    assert [root.split(".")[-2] for root in pool.roots()] == ["3", "3", "3"], "left there, as it was asked for"
    lines = log.read_text().splitlines()
    done_for = {number: [line.split()[0] for line in lines if line.endswith(f"-{number}")] for number in (1, 2, 3)}
    assert done_for[2] == ["drain", "verify"]
    assert done_for[1] == done_for[3] == ["drain", "verify", "undrain"], "the others of the batch are finished"


@pytest.mark.parametrize("playbook", ["rollout", "rollback"])
def test_what_is_asked_must_make_sense(pool: Pool, empty_disk: Path, playbook: str) -> None:
    unset = pool.controller.play(playbook)
    assert unset.rc != 0
    assert "rollout_vm_pool is not set" in unset.text
    unknown = pool.rollout(playbook=playbook)
    assert unknown.rc != 0
    assert f"there is no VM pool {pool.name} in the inventory" in unknown.text


def test_versions_that_are_not_there(pool: Pool, empty_disk: Path) -> None:
    pool.publish(empty_disk, publish_create_base="true", publish_version_name="first")
    pool.make(count=1, prestarted=0)
    missing = pool.rollout(rollout_template_version="9")
    assert missing.rc != 0
    assert "template 'web' has no version '9'; it has the versions 1 (first)" in missing.text
    for selector in ("1", "first", "latest", ""):
        same = pool.rollout(rollout_template_version=selector)
        assert (same.rc, same.changed) == (0, 0), same.output
    run_module(
        "template_version", template="web", storage_pool=pool.site.storage_pool, version="1", lifecycle="candidate"
    )
    none = pool.rollout()
    assert none.rc != 0
    assert "none of its versions is ready and active" in none.text


def test_only_one_host(pool: Pool, empty_disk: Path, guest_v1: Path) -> None:
    """--limit limits the rollout, and the limited run does not fail."""
    pool.publish(empty_disk, publish_create_base="true")
    pool.make(count=2, prestarted=0)
    pool.publish(guest_v1)
    done = pool.rollout("--limit", pool.vm(2))
    assert done.rc == 0, done.output
    assert [root.split(".")[-2] for root in pool.roots()] == ["1", "2"]


def test_publishing_needs_a_source(pool: Pool) -> None:
    run = pool.controller.play("publish", publish_template="web", publish_source_vm="")
    assert run.rc != 0
    assert "one of the following is required: vm, volume, path, version" in run.text
    unnamed = dataclasses.replace(pool.controller).play("publish", publish_source_path="/nowhere")
    assert unnamed.rc != 0
    assert "missing required arguments: template" in unnamed.text
