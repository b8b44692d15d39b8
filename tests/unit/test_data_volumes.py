"""Data volumes of a VM: found or made where they are missing, grown where they are too small."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import HypervisorError, InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import read
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import Size, WantedVolume
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.device_ids import device_ids
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.storage_pool_list import (
    StoragePoolQuery,
    list_storage_pools,
)

from support.fake import Died, FakeHypervisor, FakePool
from unit.world import GIB, changes, do, ensuring, plan, refused, with_template, with_vm


@pytest.fixture
def hv() -> FakeHypervisor:
    """A hypervisor with a template, and two storage pools beside its own."""
    hv = with_template()
    hv.pools["fast"] = FakePool("fast")
    hv.pools["slow"] = FakePool("slow")
    return hv


def wanted(*sizes: int, **more: Any) -> tuple[WantedVolume, ...]:
    """Return data volumes of these sizes in GiB."""
    return tuple(WantedVolume(size * GIB, place, **more) for place, size in enumerate(sizes, 1))


def making(*sizes: int, name: str = "db-1", pools: tuple[str, ...] = ("fast", "slow"), **more: Any) -> Any:
    """Return the task that makes a VM with data volumes of these sizes in GiB."""
    return ensuring(name, template="web", storage_pools=pools, volumes=wanted(*sizes), **more)


def add(hv: FakeHypervisor, pool: str, name: str, size: int = 5, image_format: str = "raw") -> None:
    """Make a volume of that many GiB."""
    hv.create_volume(pool, new_volume(name, size * GIB, image_format))


def data(hv: FakeHypervisor, name: str = "db-1", live: bool = False) -> dict[int, str]:
    """Return the paths of a VM's data volumes by device id."""
    domain = hv.domain(name)
    assert domain is not None
    if live:
        found = hv.vms[name].live
        assert found is not None
        domain = type(domain)(**{**vars(domain), "xml": found})
    return {number: disk.source for number, disk in device_ids(read(domain)).items() if number}


def test_new_ones_are_made_in_the_first_storage_pool_with_room(hv: FakeHypervisor) -> None:
    hv.pools["fast"].capacity = 8 * GIB
    result = do(hv, making(5, 6, 2))
    assert data(hv) == {
        1: "/pools/fast/db-1.data.1.qcow2",
        2: "/pools/slow/db-1.data.1.qcow2",
        3: "/pools/fast/db-1.data.2.qcow2",
    }
    assert hv.pools["slow"].volumes["db-1.data.1.qcow2"].capacity == 6 * GIB
    assert [disk["target"] for disk in result["disks"]] == ["vda", "vdb", "vdc", "vdd"]
    assert [disk["device_id"] for disk in result["disks"]] == [0, 1, 2, 3]
    assert not changes(hv, making(5, 6, 2))


def test_a_free_one_of_the_right_size_is_taken_first(hv: FakeHypervisor) -> None:
    add(hv, "fast", "larger", 6)
    add(hv, "fast", "smaller", 4)
    add(hv, "slow", "right", 5)
    do(hv, making(5, state="started"))
    assert data(hv) == {1: "/pools/slow/right"}
    assert data(hv, live=True) == {1: "/pools/slow/right"}


def test_what_was_made_for_the_vm_comes_back_to_it(hv: FakeHypervisor) -> None:
    add(hv, "fast", "another")
    add(hv, "slow", "db-1.data.1.qcow2", image_format="qcow2")
    do(hv, making(5))
    assert data(hv) == {1: "/pools/slow/db-1.data.1.qcow2"}
    do(hv, ensuring("db-1", state="absent"))
    do(hv, making(5))
    assert data(hv) == {1: "/pools/slow/db-1.data.1.qcow2"}


def test_none_is_taken_that_others_use_or_need(hv: FakeHypervisor) -> None:
    add(hv, "fast", "used")
    do(hv, making(5, name="other"))
    assert data(hv, "other") == {1: "/pools/fast/used"}
    add(hv, "fast", "base", image_format="qcow2")
    base = hv.volume("fast", "base")
    hv.create_volume("fast", new_volume("overlay", 5 * GIB, "qcow2", base))
    add(hv, "fast", "foreign", image_format="vmdk")
    add(hv, "fast", "gone.root.1.qcow2", image_format="qcow2")
    add(hv, "fast", "tool.v1.qcow2", image_format="qcow2")
    hv.create_volume("fast", new_volume("tool.v1.json", 5 * GIB, "raw"))
    do(hv, making(5))
    assert data(hv) == {1: "/pools/fast/db-1.data.1.qcow2"}
    [fast] = list_storage_pools(hv, StoragePoolQuery("fast", 5 * GIB))
    assert fast["candidates"] == []
    assert fast["can_create"]


def test_no_place_says_what_each_storage_pool_lacks(hv: FakeHypervisor) -> None:
    hv.pools["fast"].capacity = 8 * GIB
    hv.pools["slow"].type = "iscsi"
    said = r"(?s)no free volume of exactly that size.*fast: has 3GiB available of 4GiB; slow: .*'iscsi'"
    refused(hv, making(5, 4), said)


@pytest.mark.parametrize(
    ("volumes", "said"),
    [((WantedVolume(GIB, 0),), "0 is the root"), ((WantedVolume(GIB, 2), WantedVolume(GIB, 2)), "wanted twice")],
)
def test_bad_device_ids(hv: FakeHypervisor, volumes: tuple[WantedVolume, ...], said: str) -> None:
    refused(hv, ensuring("db-1", template="web", volumes=volumes), said, InvalidError)


def test_missing_ones_are_plugged_into_a_running_vm(hv: FakeHypervisor) -> None:
    do(hv, making(5, state="started"))
    do(hv, making(5, 6, state="started"))
    assert data(hv, live=True) == data(hv) == {
        1: "/pools/fast/db-1.data.1.qcow2",
        2: "/pools/fast/db-1.data.2.qcow2",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["started", "stopped"])
def test_growing(hv: FakeHypervisor, state: str) -> None:
    do(hv, making(5, state="started"))
    do(hv, making(5, state=state))
    do(hv, making(7))
    assert hv.pools["fast"].volumes["db-1.data.1.qcow2"].capacity == 7 * GIB
    assert not changes(hv, making(7))


def test_the_root_grows_under_a_running_vm(hv: FakeHypervisor) -> None:
    do(hv, making(state="started"))
    do(hv, ensuring("db-1", size=Size(storage=20 * GIB)))
    assert hv.pools["fast"].volumes["db-1.root.1.qcow2"].capacity == 20 * GIB


def test_shrinking_is_refused(hv: FakeHypervisor) -> None:
    do(hv, making(5))
    refused(hv, making(4), "has 5GiB, more than the 4GiB that are wanted")


def test_the_one_that_comes_second_takes_its_next_choice(hv: FakeHypervisor) -> None:
    add(hv, "fast", "first")
    add(hv, "fast", "second")
    planned = plan(hv, making(5))
    do(hv, making(5, name="other"))
    planned.apply(lambda: 0.0)
    assert (data(hv, "other"), data(hv)) == ({1: "/pools/fast/first"}, {1: "/pools/fast/second"})


def test_the_one_that_comes_second_makes_a_new_one_when_none_is_left(hv: FakeHypervisor) -> None:
    add(hv, "fast", "only")
    planned = plan(hv, making(5))
    do(hv, making(5, name="other"))
    planned.apply(lambda: 0.0)
    assert data(hv) == {1: "/pools/fast/db-1.data.1.qcow2"}


def test_a_volume_that_another_task_has_claimed_is_left_alone(hv: FakeHypervisor) -> None:
    add(hv, "fast", "first")
    add(hv, "fast", "second")
    hv.claim("volume /pools/fast/first", "somebody")
    do_unforetold(hv, making(5))
    assert data(hv) == {1: "/pools/fast/second"}


def do_unforetold(hv: FakeHypervisor, task: Any) -> None:
    """Carry out a task that ends elsewhere than it was planned."""
    plan(hv, task).apply(lambda: 0.0)


def _free(hv: FakeHypervisor) -> None:
    add(hv, "fast", "free")


@pytest.mark.parametrize("prepare", [_free, lambda hv: None])
@pytest.mark.parametrize("existing", [False, True])
def test_killed_anywhere_and_run_again(prepare: Any, existing: bool) -> None:
    def start() -> FakeHypervisor:
        hv = with_vm()
        hv.pools["fast"] = FakePool("fast")
        prepare(hv)
        if existing:
            do(hv, making(pools=("fast",), state="started"))
        return hv

    task = making(5, 6, pools=("fast",), state="started")
    undisturbed = start()
    do(undisturbed, task)
    for call in range(200):
        for after in (False, True):
            hv = start()
            planned = plan(hv, task)
            hv.die_at(call, after=after)
            try:
                planned.apply(lambda: 0.0)
            except Died:
                hv.revive()
            else:
                assert call > 10
                return
            do(hv, task)
            assert sorted(data(hv).items()) == sorted(data(undisturbed).items())
            assert hv.names("fast") == undisturbed.names("fast"), "a volume is stray"


@pytest.mark.parametrize("prepare", [_free, lambda hv: None])
def test_an_error_anywhere_is_undone(prepare: Any) -> None:
    for call in range(200):
        hv = with_vm()
        hv.pools["fast"] = FakePool("fast")
        prepare(hv)
        before = hv.state()
        planned = plan(hv, making(5, 6, pools=("fast",)))
        hv.fail_at(call, False)
        try:
            planned.apply(lambda: 0.0)
        except HypervisorError:
            hv.revive()
            assert hv.state() == before, f"call {call}"
        else:
            if call > hv.calls:
                assert call > 10
                return


def test_storage_pools_to_choose_from(hv: FakeHypervisor) -> None:
    add(hv, "fast", "five")
    add(hv, "fast", "six", 6)
    hv.pools["slow"].active = False
    pools = {pool["name"]: pool for pool in list_storage_pools(hv, StoragePoolQuery())}
    assert list(pools) == ["default", "fast", "slow"]
    assert [volume["name"] for volume in pools["fast"]["candidates"]] == ["five", "six"]
    assert pools["default"]["candidates"] == [], "the images of templates are offered"
    assert not pools["slow"]["can_create"]
    [fast] = list_storage_pools(hv, StoragePoolQuery("fast", 6 * GIB))
    assert [volume["name"] for volume in fast["candidates"]] == ["six"]
    assert list_storage_pools(hv, StoragePoolQuery("none")) == []


def test_a_foreign_volume_that_reads_other_files_is_not_taken(hv: FakeHypervisor) -> None:
    add(hv, "fast", "evil", image_format="qcow2")
    header = b"QFI\xfb" + (3).to_bytes(4, "big") + bytes(64) + (4).to_bytes(8, "big") + bytes(24)
    hv.write_volume("fast", "evil", header)
    do(hv, making(5))
    assert data(hv) == {1: "/pools/fast/db-1.data.1.qcow2"}
