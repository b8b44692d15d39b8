"""The playbook prune, on VMs that never boot, judged by virsh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.fixtures import Site, make_disk
from support.modules import run_module
from support.playbooks import Controller, Run
from support.virsh import image_info, virsh, volume_path

FORCE = {"mode": "force"}


class World:
    """A pool of two VMs on the last of some versions, the second with its previous root, and what prunes it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.pool = site.vm("desk")
        self.controller = Controller(folder)

    def publish(self, mark: str) -> None:
        image = make_disk(self.controller.folder / "image.qcow2", mark=mark)
        run_module(
            "template_version",
            template="web",
            storage_pool=self.site.storage_pool,
            create_base=True,
            source={"path": str(image)},
            hardware={"memory": "64MiB", "networks": [], "graphics": "none"},
        )

    def make(self) -> None:
        for mark in "abcd":
            self.publish(mark)
        run_module(
            "vm_pool",
            vm_pool=self.pool,
            template="web",
            template_version="2",
            count=2,
            storage_pools=[self.site.storage_pool],
        )
        for number in (1, 2):
            vm = f"{self.pool}-{number}"
            run_module("vm_restore", vm=vm, template_version="4", keep_previous=number == 2, shutdown=FORCE)

    def prune(self, *words: str, **variables: str) -> Run:
        given = ["-i", str(self.controller.inventory()), "-e", json.dumps(variables), *words]
        callback = {"ANSIBLE_CALLBACKS_ENABLED": "golden.libvirt.rollout", "GOLDEN_ROLLOUT_REPORT_FOLDER": "reports"}
        return self.controller.run("ansible-playbook", "golden.libvirt.prune", *given, **callback)

    def size(self, volume: str) -> int:
        return int(image_info(self.site.storage_pool, volume)["actual-size"])

    @property
    def images(self) -> list[str]:
        """The images and roots that there are; a deleted version leaves its manifest."""
        return [name for name in self.site.volumes if name.endswith(".qcow2")]


@pytest.fixture
def world(site: Site, tmp_path: Path) -> World:
    made = World(site, tmp_path)
    made.make()
    return made


def test_a_pool_and_its_template(world: World) -> None:
    vm, storage_pool = f"{world.pool}-2", world.site.storage_pool
    before = world.site.volumes
    freed = sum(world.size(volume) for volume in (f"{vm}.root.1.qcow2", "web.v1.qcow2", "web.v2.qcow2"))
    answers = {"prune_vm_pool": world.pool, "prune_template": "", "prune_keep": "2", "prune_uris": ""}
    dry = world.prune("--check", **answers)
    assert dry.rc == 0, dry.output
    assert f"{vm}: the previous root {vm}.root.1.qcow2 of version 2 would be deleted" in dry.text
    for number, told in enumerate(
        (
            "would be deleted",
            "would be deleted",
            "kept: it is one of the last 2 active versions",
            "kept: it is the latest",
        ),
        1,
    ):
        assert f"web version {number} {told}" in dry.text
    assert world.site.volumes == before
    done = world.prune(**answers)
    assert done.rc == 0, done.output
    artifact = done.artifact["golden_prune"]
    assert dry.artifact["golden_prune"] == {**artifact, "check_mode": True}
    assert (artifact["settled"], artifact["freed"], artifact["failed"]) == ([vm], freed, [])
    assert [gone["version"] for gone in artifact["deleted"]] == [1, 2]
    assert {kept["storage_pool"] for kept in artifact["kept"]} == {storage_pool}
    assert world.images == [f"{world.pool}-1.root.2.qcow2", f"{vm}.root.2.qcow2", "web.v3.qcow2", "web.v4.qcow2"]
    again = world.prune(**answers)
    assert (again.rc, again.changed) == (0, 0), again.output
    assert not (world.controller.folder / "reports").exists(), "this is no rollout"


def test_only_versions_and_those_in_use_stay(world: World) -> None:
    answers = {"prune_template": "web", "prune_storage_pool": world.site.storage_pool, "prune_keep": "1"}
    done = world.prune(**answers, prune_vm_pool="", prune_uris="qemu:///system")
    assert done.rc == 0, done.output
    assert f"web version 2 kept: it is in use by VM '{world.pool}-2'" in done.text
    assert "web.v2.qcow2" in world.images
    assert "web.v3.qcow2" not in world.images
    assert f"{world.pool}-2.root.1.qcow2" in world.images


def test_one_that_cannot_be_pruned_is_told_and_holds_up_no_other(world: World) -> None:
    vm, other = f"{world.pool}-2", f"{world.pool}-1"
    run_module("vm_restore", vm=other, template_version="3", keep_previous=True, shutdown=FORCE)
    virsh("attach-disk", other, volume_path(world.site.storage_pool, f"{vm}.root.1.qcow2"), "vdb", "--config")
    done = world.prune(prune_vm_pool=world.pool, prune_keep="1")
    assert done.rc != 0
    artifact = done.artifact["golden_prune"]
    assert artifact["settled"] == [other]
    assert f"in use by VM '{other}'" in artifact["failed"][0]
    assert [gone["version"] for gone in artifact["deleted"]] == [1]
    assert {"web.v2.qcow2", "web.v3.qcow2", f"{vm}.root.1.qcow2"} < set(world.images)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"prune_vm_pool": "", "prune_template": ""}, "neither prune_vm_pool nor prune_template is set"),
        ({"prune_vm_pool": "gldtest-none"}, "there is no VM pool gldtest-none"),
        ({"prune_template": "gldtest-none", "prune_keep": "0"}, "keep: 0 is less than 1"),
    ],
)
def test_what_is_asked_must_make_sense(site: Site, tmp_path: Path, answers: dict[str, str], said: str) -> None:
    run = Controller(tmp_path).play("prune", **answers, prune_storage_pool=site.storage_pool)
    assert run.rc != 0
    assert said in run.text
