"""Data volumes on a real libvirtd: found, made, grown; many tasks at once; many volumes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site, made_site
from support.modules import ModuleFailed, run_module
from support.replay import replay
from support.virsh import definition, image_info, virsh

TAKER = """
import json, sys
sys.path.insert(0, {tests!r})
from support.modules import run_module
print(json.dumps(run_module("vm", **json.loads(sys.argv[1]))["vm"]["disks"]))
"""


@pytest.fixture
def pools(site: Site) -> Iterator[list[str]]:
    """Yield the names of three storage pools, the first of which has the template."""
    with made_site() as second, made_site() as third:
        yield [site.storage_pool, second.storage_pool, third.storage_pool]


def disks(vm: str, live: bool = False) -> dict[str, str]:
    """Return target and file of the disks of a VM."""
    found = definition(vm, live).findall("devices/disk[@device='disk']")
    return {d.find("target").attrib["dev"]: d.find("source").attrib["file"] for d in found}  # type: ignore[union-attr]


def name_of(path: str) -> str:
    """Return the name of the volume at a path."""
    return Path(path).name


def test_taken_made_and_grown(site: Site, template: str, pools: list[str]) -> None:
    vm = site.vm("a")
    virsh("vol-create-as", pools[1], "free", "8M", "--format", "qcow2")
    wanted = {"name": vm, "template": template, "storage_pools": pools}
    done = replay("vm", **wanted, volumes=[{"size": "8MiB", "serial": "D1"}, {"size": "4MiB", "bus": "scsi"}])
    assert {t: name_of(p) for t, p in disks(vm).items()} == {
        "vda": f"{vm}.root.1.qcow2", "vdb": "free", "sdc": f"{vm}.data.1.qcow2",
    }  # fmt: skip
    assert [disk["device_id"] for disk in done["vm"]["disks"] if disk["device"] == "disk"] == [2, 0, 1]
    assert definition(vm).find("devices/controller[@type='scsi'][@model='virtio-scsi']") is not None
    replay("vm", **wanted, state="started")
    replay("vm", **wanted, volumes=[{"size": "8MiB"}, {"size": "6MiB"}, {"size": "2MiB"}])
    assert name_of(disks(vm, live=True)["vdd"]) == f"{vm}.data.2.qcow2"
    assert f"{6 * 1024**2}" in virsh("domblkinfo", vm, "sdc"), "the running VM does not see it"
    replay("vm", name=vm, size={"storage_size_in_gb": 1})
    assert f"{1024**3}" in virsh("domblkinfo", vm, "vda")
    replay("vm", name=vm, state="stopped", wait_timeout=1)
    replay("vm", name=vm, volumes=[{"size": "9MiB"}])
    assert image_info(pools[1], "free")["virtual-size"] == 9 * 1024**2
    with pytest.raises(ModuleFailed, match="cannot be made smaller"):
        run_module("vm", name=vm, volumes=[{"size": "8MiB"}])
    kept = run_module("vm", name=vm, state="absent")["data_volumes_kept"]
    assert {volume["volume"] for volume in kept} == {"free", f"{vm}.data.1.qcow2", f"{vm}.data.2.qcow2"}


def test_storage_pools_to_choose_from(site: Site, template: str, pools: list[str]) -> None:
    virsh("vol-create-as", pools[2], "free", "8M")
    listed = {pool["name"]: pool for pool in run_module("storage_pool_info", size="8MiB")["storage_pools"]}
    found = {name: [volume["name"] for volume in listed[name]["candidates"]] for name in pools}
    assert found == {pools[0]: [], pools[1]: [], pools[2]: ["free"]}
    assert listed[pools[1]]["can_create"]
    assert listed[pools[1]]["type"] == "dir"
    info = virsh("pool-info", "--bytes", pools[1])
    assert str(listed[pools[1]]["capacity"]) in info
    huge = run_module("storage_pool_info", storage_pool=pools[1], size="900TiB")["storage_pools"]
    assert [pool["can_create"] for pool in huge] == [False]


def test_ten_at_once_take_ten_different_volumes(site: Site, template: str, pools: list[str]) -> None:
    for number in range(10):
        virsh("vol-create-as", pools[number % 3], f"free-{number}", "8M")
    program = TAKER.format(tests=str(Path(__file__).resolve().parents[1]))
    tasks = [
        {"name": site.vm(str(n)), "template": template, "storage_pools": pools, "volumes": [{"size": "8MiB"}]}
        for n in range(10)
    ]
    running = [
        subprocess.Popen([sys.executable, "-c", program, json.dumps(task)], stdout=subprocess.PIPE, text=True)
        for task in tasks
    ]
    results: list[list[dict[str, Any]]] = [json.loads(process.communicate()[0]) for process in running]
    taken = sorted(name_of(disk["source"]) for found in results for disk in found if disk["target"] == "vdb")
    assert taken == [f"free-{number}" for number in range(10)]
    assert sorted(name_of(disks(task["name"])["vdb"]) for task in tasks) == taken


def test_among_200_volumes_a_place_is_found_in_half_a_second(site: Site, template: str, pools: list[str]) -> None:
    vm = site.vm("a")
    run_module("vm", name=vm, template=template, storage_pools=pools)
    for number in range(200):
        Path(virsh("pool-dumpxml", pools[number % 3]).split("<path>")[1].split("</path>")[0], f"v{number}").write_bytes(
            bytes(4096 + 512 * number)
        )
    for pool in pools:
        virsh("pool-refresh", pool)
    started = time.monotonic()
    run_module("vm", name=vm, storage_pools=pools, volumes=[{"size": f"{4096 + 512 * 199}B"}])
    took = time.monotonic() - started
    assert name_of(disks(vm)["vdb"]) == "v199"
    assert took < 0.5, f"{took:.3f} s"
