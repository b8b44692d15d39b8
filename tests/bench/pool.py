#!/usr/bin/env python3
"""What a large pool costs: made, looked at, left as it is, taken from by many at once, removed.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/pool.py [COUNT]

It has so many members (default 200), which are definitions and overlays that do not run. The references are bare
scripts that make the calls without which it cannot be done: for looking, the list of the domains and their definitions;
for making and removing, a definition and an overlay each; for taking, the start of the VMs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bare
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import list_pools
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_pool import VmPoolRequest, plan_vm_pool
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from measure import Figure, duration, in_turn, ratio, seconds, show, unread

from support.fixtures import made_site, make_disk
from support.modules import ModuleFailed, run_module
from support.virsh import virsh

MAKE_LIMIT, REMOVE_LIMIT, UNCHANGED_LIMIT, INFO_LIMIT, TAKE_LIMIT = 1.75, 8.0, 2.0, 1.5, 2.0
TAKERS, VMS = 50, 20


def take_at_once(vm_pool: str) -> list[int]:
    """Let many processes take a VM at once, and return how they ended: 0 with one, 1 refused for want of one."""
    children = []
    for number in range(TAKERS):
        child = os.fork()
        if child == 0:
            try:
                run_module("vm_lease", vm_pool=vm_pool, user=f"user-{number}")
                os._exit(0)
            except ModuleFailed as error:
                os._exit(1 if "no free VM" in str(error) else 2)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def start_at_once(vms: list[str]) -> None:
    """Start VMs, all at once."""
    starting = [subprocess.Popen(["virsh", "-q", "-c", bare.URI, "start", vm], stdout=subprocess.DEVNULL) for vm in vms]
    assert [process.wait() for process in starting] == [0] * len(vms)


def figures(count: int) -> Iterator[Figure]:
    """Measure with so many members."""
    with made_site() as site:
        pool = dict(storage_pool=site.storage_pool)
        disk = make_disk(site.folder.parent / "disk.qcow2")
        source = dict(source={"path": str(disk)}, hardware={"networks": [], "memory": "32MiB", "graphics": "none"})
        run_module("template_version", template="web", create_base=True, **source, **pool)
        small = site.vm("lab")
        run_module("vm_pool", vm_pool=small, template="web", count=VMS, storage_pools=[site.storage_pool])
        # before this process has threads of libvirt's, which a fork would not copy
        ends: list[int] = []
        taking = seconds(lambda: ends.extend(take_at_once(small)))
        assert sorted(ends) == [0] * VMS + [1] * (TAKERS - VMS), ends
        for vm in site.vms:
            virsh("destroy", vm)
        floor = seconds(lambda: start_at_once(site.vms))
        what, beside = f"{TAKERS} take from {VMS} at once", f"{VMS} VMs started at once, {floor:.1f} s"
        yield Figure(what, f"{taking:.1f} s", beside, taking / floor, TAKE_LIMIT)

        request = VmPoolRequest(site.vm("desk"), template="web", count=count, storage_pools=(site.storage_pool,))
        removal = VmPoolRequest(request.vm_pool, state="absent")
        names = [site.vm(f"bare-{number}") for number in range(count)]
        image = site.folder / "web.v1.qcow2"
        with LibvirtHypervisor(bare.URI) as hv:
            libvirt = hv.connection.libvirt
            hv.virt_type()
            here = f"a pool of {count}"
            reference = [seconds(lambda: bare.make(libvirt, site.storage_pool, image, names))]
            made = [seconds(lambda: plan_vm_pool(hv, request).apply(time.monotonic))]
            beside = f"bare script, {duration(reference, count)}"
            yield Figure(f"{here}, made, each", duration(made, count), beside, ratio(made, reference), MAKE_LIMIT)
            for what, call, limit in (
                ("left as it is", lambda: plan_vm_pool(hv, request), UNCHANGED_LIMIT),
                ("vm_pool_info", lambda: list_pools(hv, request.vm_pool), INFO_LIMIT),
            ):
                times = in_turn(7, unread(call), lambda: bare.look_at_vms(libvirt))
                cost, beside = duration(times[0]), f"bare look, {duration(times[1])}"
                yield Figure(f"{here}, {what}", cost, beside, ratio(*times), limit)
            assert not plan_vm_pool(hv, request).changed
            removed = [seconds(lambda: plan_vm_pool(hv, removal).apply(time.monotonic))]
            reference = [seconds(lambda: bare.remove(libvirt, site.storage_pool, names))]
            cost, beside = duration(removed, count), f"bare script, {duration(reference, count)}"
            yield Figure(f"{here}, removed, each", cost, beside, ratio(removed, reference), REMOVE_LIMIT)


def main() -> int:
    """Measure and print."""
    return show(figures(int(sys.argv[1]) if sys.argv[1:] else 200))


if __name__ == "__main__":
    sys.exit(main())
