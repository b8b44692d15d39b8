#!/usr/bin/env python3
"""What a large pool costs: made, looked at, left as it is, taken from by many at once, removed.

    .cache/venv/bin/python tests/bench/pool.py [--count N]

The members are definitions and overlays that do not run. What has a floor is shown as its ratio to a bare
libvirt-python script that makes the calls without which it cannot be done: for looking, the list of the domains and
their definitions; for making, a definition and an overlay each. A module's start is no part of the
figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import list_pools
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_pool import VmPoolRequest, plan_vm_pool
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import Site, made_site, make_disk
from support.modules import ModuleFailed, run_module

UNCHANGED_LIMIT, INFO_LIMIT = 3.0, 1.0


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def bare_look(libvirt: Any) -> None:
    """List the domains as one must to know them."""
    for flags in (0, 2, 4, 256):
        found = libvirt.listAllDomains(flags)
    for domain in libvirt.listAllDomains():
        domain.state()
        domain.XMLDesc(2)
    assert found is not None


def bare_make(libvirt: Any, site: Site, count: int) -> None:
    """Define domains with an overlay each, and nothing else."""
    pool = libvirt.storagePoolLookupByName(site.storage_pool)
    for number in range(count):
        name = site.vm(f"bare-{number}")
        volume = pool.createXML(
            f"<volume><name>{name}.qcow2</name><capacity>{64 * 1024**2}</capacity><allocation>0</allocation>"
            f"<target><format type='qcow2'/><compat>1.1</compat></target>"
            f"<backingStore><path>{site.folder}/web.v1.qcow2</path><format type='qcow2'/></backingStore></volume>"
        )
        libvirt.defineXML(
            f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os><devices>"
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{volume.path()}'/><target dev='vda'/>"
            "</disk></devices></domain>"
        )


def bare_remove(libvirt: Any, site: Site, count: int) -> None:
    """Remove what bare_make has made."""
    pool = libvirt.storagePoolLookupByName(site.storage_pool)
    for number in range(count):
        libvirt.lookupByName(site.vm(f"bare-{number}")).undefine()
        pool.storageVolLookupByName(f"{site.vm(f'bare-{number}')}.qcow2").delete()


def take_at_once(vm_pool: str, takers: int) -> tuple[float, int, int]:
    """Let that many processes take a VM, and return the seconds, how many got one, and how many were refused."""
    started = time.perf_counter()
    children = []
    for number in range(takers):
        child = os.fork()
        if child == 0:
            try:
                run_module("vm_lease", vm_pool=vm_pool, user=f"user-{number}")
                os._exit(0)
            except ModuleFailed as error:
                os._exit(1 if "no free VM" in str(error) else 2)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return time.perf_counter() - started, codes.count(0), codes.count(1)


def main() -> int:
    """Measure and print; the exit code tells whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="members of the pool (default: 200)")
    count = parser.parse_args().count
    with made_site() as site:
        disk = make_disk(site.folder.parent / "disk.qcow2")
        source = dict(source={"path": str(disk)}, hardware={"networks": [], "memory": "32MiB", "graphics": "none"})
        run_module("template_version", template="web", storage_pool=site.storage_pool, create_base=True, **source)
        request = VmPoolRequest(site.vm("desk"), template="web", count=count, storage_pools=(site.storage_pool,))
        with LibvirtHypervisor("qemu:///system") as hv:
            libvirt = hv.connection.libvirt
            hv.virt_type()
            bare = timed(lambda: bare_make(libvirt, site, count))
            bare_remove(libvirt, site, count)
            planned = timed(lambda: plan_vm_pool(hv, request))
            made = timed(lambda: plan_vm_pool(hv, request).apply(time.monotonic))
            floor = timed(lambda: bare_look(libvirt))
            info = timed(lambda: list_pools(hv, request.vm_pool))
            unchanged = timed(lambda: plan_vm_pool(hv, request))
            assert not plan_vm_pool(hv, request).changed
        whole = timed(lambda: run_module("vm_pool", vm_pool=request.vm_pool, template="web", count=count))
        small = site.vm("lab")
        run_module("vm_pool", vm_pool=small, template="web", count=20, storage_pools=[site.storage_pool])
        seconds, got, refused = take_at_once(small, 50)
        with LibvirtHypervisor("qemu:///system") as hv:
            removal = VmPoolRequest(request.vm_pool, state="absent")
            removed = timed(lambda: plan_vm_pool(hv, removal).apply(time.monotonic))
    print(f"a pool of {count}, made       {made:6.2f} s, {made / bare:5.2f} of a bare script; planned {planned:.2f} s")
    print(
        f"left as it is           {unchanged:6.2f} s, {unchanged / floor:5.2f} of a bare look; limit {UNCHANGED_LIMIT}"
    )
    print(f"left as it is, module   {whole:6.2f} s")
    print(f"vm_pool_info            {info:6.2f} s, {info / floor:5.2f} of a bare look; limit {INFO_LIMIT}")
    print(f"removed                 {removed:6.2f} s")
    print(f"50 take from 20 at once {seconds:6.2f} s: {got} got one, {refused} were refused")
    return 0 if unchanged < UNCHANGED_LIMIT and info < INFO_LIMIT and (got, refused) == (20, 30) else 1


if __name__ == "__main__":
    sys.exit(main())
