"""Tasks of separate processes that are at the same thing at once, begun at random distances."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import Site
from support.metadata import set_lease
from support.modules import run_module
from support.points import EVERY_POINT, SEED
from support.scenarios import FORCE, a_vm, image, make_vm, make_volume, one_version, restoring, two_versions
from support.states import assert_starts, connected, keep
from support.tasks import Ended, Task, Tasks, task
from support.trial import assert_equal, assert_whole
from support.virsh import NAMESPACE, definition, metadata, root_path, state, virsh

ROUNDS = 30 if EVERY_POINT else 3
APART = 0.15
"""Seconds by which one task begins after another at most; most tasks take about as long."""


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return what decides how far apart the tasks begin."""
    return random.Random(f"{SEED} {request.node.name}")


def at_once(tasks: Tasks, dice: random.Random, *wanted: Task) -> list[Ended]:
    """Run tasks at once; those that fail say why, and not with a traceback."""
    processes = [tasks.begin(one, delay=dice.uniform(0, APART)) for one in wanted]
    ended = [tasks.end(process) for process in processes]
    for one in ended:
        assert one.result is not None
        assert "Traceback" not in one.result.get("msg", ""), one.result["msg"]
    return ended


def failures(ended: list[Ended]) -> list[str]:
    """Return what the tasks said that failed."""
    return [one.message for one in ended if one.failed]


def attached(vm: str) -> list[str]:
    """Return the names of the files at the disks of a VM."""
    return [Path(source.attrib["file"]).name for source in definition(vm).iterfind("devices/disk/source")]


def lease_of(vm: str) -> str | None:
    """Return who has a VM."""
    lease = metadata(vm).find(f"{NAMESPACE}lease")
    return None if lease is None else lease.attrib["user"]


def test_two_restores_of_one_vm(site: Site, tasks: Tasks, dice: random.Random) -> None:
    a_vm("started")(site)
    kept = keep(site)
    restore = restoring(template_version="2")(site)
    tasks.run(restore).succeeded()
    expected = kept.look()
    for _round in range(ROUNDS):
        kept.put_back()
        ended = at_once(tasks, dice, restore, restore)
        assert len(failures(ended)) < 2, failures(ended)
        for message in failures(ended):
            assert "run this task again" in message
        assert_whole(site)
        tasks.rerun(restore)
        assert_equal(kept.look(), expected)


def test_restores_to_two_versions(site: Site, tasks: Tasks, dice: random.Random) -> None:
    a_vm()(site)
    kept = keep(site)
    to = {version: restoring(template_version=version, force=True)(site) for version in ("1", "2")}
    ends = {}
    for version, restore in to.items():
        kept.put_back()
        tasks.run(restore).succeeded()
        ends[version] = kept.look()
    for _round in range(ROUNDS):
        kept.put_back()
        ended = at_once(tasks, dice, *to.values())
        assert len(failures(ended)) < 2, failures(ended)
        assert_whole(site)
        root = metadata(site.vm("a")).find(f"{NAMESPACE}root")
        assert root is not None
        version = root.attrib["version"]
        tasks.rerun(to[version])
        assert_equal(kept.look(), ends[version])


def test_nothing_is_left_out_where_volumes_come_and_go(site: Site) -> None:
    staying = [f"stays-{number}" for number in range(10)]
    for name in staying:
        make_volume(site, name)

    def come_and_go() -> None:
        with connected() as conn:
            storage_pool = conn.storagePoolLookupByName(site.storage_pool)
            for number in range(1000):
                storage_pool.createXML(f"<volume><name>passes-{number}</name><capacity>1</capacity></volume>").delete()

    seen, passed = set(), set()
    other = threading.Thread(target=come_and_go)
    other.start()
    with LibvirtHypervisor("qemu:///system") as hv:
        while other.is_alive():
            names = hv.volume_names(site.storage_pool)
            seen.add(tuple(name for name in names if name in staying))
            passed.update(name for name in names if name not in staying)
    assert seen == {tuple(staying)}
    assert passed, "nothing came while it was listed"


def test_one_volume_for_two_vms(site: Site, tasks: Tasks, dice: random.Random) -> None:
    two_versions(site)
    vms = [make_vm(site, name) for name in ("a", "b")]
    make_volume(site)
    kept = keep(site)
    attach = [task("volume_attach", vm=vm, storage_pool=site.storage_pool, volume="data.qcow2") for vm in vms]
    for _round in range(ROUNDS):
        kept.put_back()
        ended = at_once(tasks, dice, *attach)
        (message,) = failures(ended)
        winner = next(vm for vm, one in zip(vms, ended) if not one.failed)
        assert winner in message, "who has it is not told"
        assert [vm for vm in vms if "data.qcow2" in attached(vm)] == [winner]


def test_a_version_is_deleted_while_a_vm_is_restored_to_it(site: Site, tasks: Tasks, dice: random.Random) -> None:
    a_vm()(site)
    kept = keep(site)
    delete = task("template_version", template="web", storage_pool=site.storage_pool, version="2", state="absent")
    restore = restoring(template_version="2")(site)
    for _round in range(ROUNDS):
        kept.put_back()
        restored, deleted = at_once(tasks, dice, restore, delete)
        there = "web.v2.qcow2" in site.volumes
        root = metadata(site.vm("a")).find(f"{NAMESPACE}root")
        assert root is not None
        assert deleted.failed == there
        assert restored.failed == (root.attrib["version"] == "1")
        assert there or restored.failed, "the VM has lost what it lies on"
        for message in failures([restored, deleted]):
            assert "2" in message
            assert "web" in message
        assert [name for name in site.volumes if ".root." in name] == [Path(root_path(site.vm("a"))).name]
        assert_starts(site)


def test_a_version_is_saved_as_another_while_it_is_deleted(site: Site, tasks: Tasks, dice: random.Random) -> None:
    two_versions(site)
    kept = keep(site)
    common = {"template": "web", "storage_pool": site.storage_pool}
    save = task("template_version", **common, source={"version": "2"}, hardware={"memory": "96MiB"})
    delete = task("template_version", **common, version="2", state="absent")
    for _round in range(ROUNDS):
        kept.put_back()
        saved, deleted = at_once(tasks, dice, save, delete)
        assert not (saved.failed and deleted.failed)
        listed = run_module("template_version_info", storage_pool=site.storage_pool, all_versions=True)
        named = {one["image"]["volume"] for one in listed["template_versions"] if one["complete"]}
        images = {name for name in site.volumes if name.endswith(".qcow2")}
        assert named <= images, "a version is offered whose image is gone"
        if not saved.failed:
            assert "web.v2.qcow2" in images


def test_many_publish_and_delete(site: Site, tasks: Tasks, dice: random.Random) -> None:
    one_version(site)
    common = {"template": "web", "storage_pool": site.storage_pool}
    hardware = {"memory": "64MiB", "networks": [], "graphics": "none"}
    for turn in range(2, 2 + ROUNDS):
        publish = [
            task(
                "template_version", **common, source={"path": image(site, chr(40 + 3 * turn + one))}, hardware=hardware
            )
            for one in range(3)
        ]
        delete = task("template_version", **common, version=str(turn), state="absent")
        ended = at_once(tasks, dice, *publish, delete)
        assert failures(ended[:3]) == []
        run_module("template_version", **common, version="latest")  # whole, and readable
    numbers = set()
    for path in site.folder.glob("*.json"):
        stored = json.loads(path.read_bytes())
        assert stored["status"] in ("ready", "deleted")
        there = f"web.v{stored['version']}.qcow2" in site.volumes
        assert there == (stored["status"] == "ready")
        numbers.add(stored["version"])
    assert numbers == set(range(1, 2 + 3 * ROUNDS)), "a number was used twice, or left out"


@pytest.fixture
def pool(site: Site) -> str:
    """Return the name of a pool of three VMs that follows latest, all of them behind it, and all taken."""
    one_version(site)
    run_module("vm_pool", vm_pool=site.vm("p"), template="web", count=3, storage_pools=[site.storage_pool])
    two_versions(site)
    for number in (1, 2, 3):
        set_lease(f"{site.vm('p')}-{number}", f"user-{number}")
    return site.vm("p")


def test_two_rollouts_and_returns(site: Site, tasks: Tasks, dice: random.Random, pool: str) -> None:
    vms = [f"{pool}-{number}" for number in (1, 2, 3)]
    kept = keep(site)
    forced: dict[str, Any] = {"force_taken": True, "shutdown": FORCE, "template_version": "2"}
    for _round in range(ROUNDS // 3):  # each takes long
        kept.put_back()
        for vm in vms:
            virsh("start", vm)
        rollouts = [task("vm_restore", vm=vm, **forced) for vm in vms for _twice in range(2)]
        returns = [
            task("vm_lease", vm_pool=pool, user=f"user-{number}", state="returned", shutdown=FORCE)
            for number in (1, 2, 3)
        ]
        ended = at_once(tasks, dice, *rollouts, *returns)
        for message in failures(ended):
            assert pool in message
        assert_whole(site)
        for again in (*returns, *rollouts[::2]):
            tasks.rerun(again)
        assert [lease_of(vm) for vm in vms] == [None, None, None]
        roots = [metadata(vm).find(f"{NAMESPACE}root") for vm in vms]
        assert [root.attrib["version"] for root in roots if root is not None] == ["2", "2", "2"]
        assert sorted(name for name in site.volumes if ".root." in name) == sorted(
            Path(root_path(vm)).name for vm in vms
        )
        assert_starts(site)


def test_a_pool_shrinks_while_users_take_from_it(site: Site, tasks: Tasks, dice: random.Random) -> None:
    one_version(site)
    options = {"vm_pool": site.vm("p"), "storage_pools": [site.storage_pool]}
    run_module("vm_pool", template="web", count=3, **options)
    kept = keep(site)
    for _round in range(ROUNDS):
        kept.put_back()
        users = ("ada", "bob")
        takes = [task("vm_lease", vm_pool=site.vm("p"), user=user) for user in users]
        ended = at_once(tasks, dice, task("vm_pool", count=1, **options), *takes)
        assert_whole(site)
        held = {lease_of(vm): vm for vm in site.vms}
        for user, one in zip(users, ended[1:]):
            assert (user in held) != one.failed, failures(ended)
            if user in held:
                assert state(held[user]) == "running"
        assert_starts(site)
        roots = [name for name in site.volumes if ".root." in name]
        if not ended[0].failed:
            assert sorted(roots) == sorted(Path(root_path(vm)).name for vm in site.vms)
