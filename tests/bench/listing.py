#!/usr/bin/env python3
"""What looking costs where there is much: the inventory of many VMs, the info modules with many volumes.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/listing.py [COUNT]

There are so many VMs (default 1000), which are definitions only, and as many volumes. The reference of a look is a bare
script that lists and parses the same; that of the command is ansible-inventory with a file that has the same hosts and
variables.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import bare
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.template_list import list_versions
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.inventory import read_hosts
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_list import Filters, list_pools, list_vms
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.storage_pool_list import (
    StoragePoolQuery,
    list_storage_pools,
)
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from measure import Call, Figure, duration, in_turn, ratio, show, unread

from support.fixtures import Site, made_site, make_disk
from support.modules import run_module
from support.playbooks import Controller
from support.virsh import virsh

LOOK_LIMIT, COMMAND_LIMIT = 2.0, 1.5
ROUNDS = 7


def define_vms(libvirt: Any, site: Site, count: int) -> None:
    """Define copies of one member of a pool as further members; each has an identity of its own."""
    model = virsh("dumpxml", site.vm("p-1"), "--inactive")
    own = virsh("domuuid", site.vm("p-1"))
    model = re.sub("<mac address=.*?/>", "", model)
    for number in range(2, count + 1):
        xml = model.replace(own, str(uuid.uuid4())).replace(f"{site.vm('p-1')}<", f"{site.vm(f'p-{number}')}<")
        libvirt.defineXML(xml.replace(f"{site.vm('p-1')}.root.", f"{site.vm(f'p-{number}')}.root."))


def make_volumes(site: Site, count: int) -> None:
    """Put many small volumes into the storage pool."""
    for number in range(count):
        subprocess.run(["cp", site.folder / "web.v1.qcow2", site.folder / f"data-{number}.qcow2"], check=True)
    virsh("pool-refresh", site.storage_pool)


def looks(hv: LibvirtHypervisor, site: Site, count: int) -> Iterator[Figure]:
    """Measure the looks in this process."""
    libvirt = hv.connection.libvirt
    hv.virt_type()

    def vms() -> None:
        bare.look_at_vms(libvirt)

    def everything() -> None:
        bare.look_at_vms(libvirt)
        bare.look_at_volumes(libvirt)

    calls: list[tuple[str, Call, Call]] = [
        ("inventory", lambda: read_hosts(hv, bare.URI, ()), vms),
        ("vm_info", lambda: list_vms(hv, Filters()), vms),
        ("vm_pool_info", lambda: list_pools(hv, None), vms),
        ("template_version_info", lambda: list_versions(hv, site.storage_pool, None, True), vms),
        ("storage_pool_info", lambda: list_storage_pools(hv, StoragePoolQuery()), everything),
    ]
    for what, call, reference in calls:
        times = in_turn(ROUNDS, unread(call), reference)
        beside = f"bare look, {duration(times[1])}"
        here = f"{what}, {count} VMs and {count} volumes, in the process"
        yield Figure(here, duration(times[0]), beside, ratio(*times), LOOK_LIMIT)


def command(count: int) -> Iterator[Figure]:
    """Measure ansible-inventory."""
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder))
        golden = controller.inventory()
        listed = controller.hosts(golden)
        hosts = listed.pop("_meta")["hostvars"]
        groups = {name: {"hosts": dict.fromkeys(group.get("hosts", ()))} for name, group in listed.items()}
        groups["all"] = {"hosts": hosts}
        plain = controller.folder / "plain.json"
        plain.write_text(json.dumps(groups))
        assert len(hosts) == count
        times = in_turn(3, lambda: controller.hosts(golden), lambda: controller.hosts(plain))
    beside = f"a file with the same, {duration(times[1])}"
    yield Figure(f"ansible-inventory, {count} VMs", duration(times[0]), beside, ratio(*times), COMMAND_LIMIT)


def figures(count: int) -> Iterator[Figure]:
    """Measure with so many VMs and volumes."""
    with made_site() as site, LibvirtHypervisor(bare.URI) as hv:
        disk = make_disk(site.folder.parent / "disk.qcow2")
        pool = dict(storage_pool=site.storage_pool, create_base=True)
        run_module("template_version", template="web", source={"path": str(disk)}, **pool)
        run_module("vm_pool", vm_pool=site.vm("p"), template="web", count=1, storage_pools=[site.storage_pool])
        define_vms(hv.connection.libvirt, site, count)
        make_volumes(site, count)
        yield from looks(hv, site, count)
        yield from command(count)


def main() -> int:
    """Measure and print."""
    return show(figures(int(sys.argv[1]) if sys.argv[1:] else 1000))


if __name__ == "__main__":
    sys.exit(main())
