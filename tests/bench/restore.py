#!/usr/bin/env python3
"""What one restore of a stopped VM costs in the process, beside a bare libvirt-python script that makes the same calls.

    .cache/venv/bin/python tests/bench/restore.py [--rounds N]

Both restore the same VM in turn, in one process and over one connection, so that the ratio holds on any machine. The
bare script looks at what must be looked at (manifest, snapshots, storage pool, volumes), creates the overlay, defines
the VM with it, deletes the old root and notes in the metadata that it is done; it decides and takes back nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import NAMESPACE
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.restore import RestoreRequest, plan_restore
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import Site, made_site, make_disk
from support.modules import run_module

LIMIT = 1.5


def bare_restore(libvirt: Any, site: Site, vm: str) -> None:
    """Do the calls of a restore, with nothing looked at beyond what they need."""
    domain = libvirt.lookupByName(vm)
    pool = libvirt.storagePoolLookupByName(site.storage_pool)
    stream = libvirt.newStream()
    pool.storageVolLookupByName("web.v1.json").download(stream, 0, 65536)
    content = b""
    while piece := stream.recv(65536):
        content += piece
    stream.finish()
    assert json.loads(content)["status"] == "ready"
    assert not domain.listAllSnapshots()
    assert not domain.listAllCheckpoints()
    assert ET.fromstring(pool.XMLDesc()).findtext("available") != "0"
    assert pool.storageVolLookupByName("web.v1.qcow2").XMLDesc()
    assert pool.listVolumes()
    xml = ET.fromstring(domain.XMLDesc(2))
    source = xml.find("devices/disk/source")
    assert source is not None
    old = Path(source.attrib["file"])
    generation = int(old.name.split(".")[-2]) + 1
    name = f"{vm}.root.{generation}.qcow2"
    new = pool.createXML(
        f"<volume><name>{name}</name><capacity>{64 * 1024**2}</capacity><allocation>0</allocation>"
        f"<target><format type='qcow2'/><compat>1.1</compat></target>"
        f"<backingStore><path>{old.parent}/web.v1.qcow2</path><format type='qcow2'/></backingStore></volume>"
    )
    source.set("file", new.path())
    ours = xml.find(f"metadata/{{{NAMESPACE}}}vm")
    assert ours is not None
    root = ours.find(f"{{{NAMESPACE}}}root")
    assert root is not None
    root.set("volume", name)
    ours.set("generation", str(generation))
    libvirt.defineXML(ET.tostring(xml, encoding="unicode"))
    pool.storageVolLookupByName(old.name).delete()
    for element in ours.iter():
        element.tag = element.tag.rpartition("}")[2]
    libvirt.lookupByName(vm).setMetadata(2, ET.tostring(ours, encoding="unicode"), "golden", NAMESPACE, 2)


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Measure and print; the exit code tells whether the limit holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="restores of each kind (default: 40)")
    rounds = parser.parse_args().rounds
    with made_site() as site:
        disk = make_disk(site.folder.parent / "disk.qcow2")
        run_module(
            "template_version",
            template="web",
            storage_pool=site.storage_pool,
            create_base=True,
            source={"path": str(disk)},
            hardware={"networks": []},
        )
        vm = site.vm("bench")
        run_module("vm", name=vm, template="web", storage_pools=[site.storage_pool])
        with LibvirtHypervisor("qemu:///system") as hv:
            ours, bare = [], []
            for _ in range(rounds):
                bare.append(timed(lambda: bare_restore(hv.connection.libvirt, site, vm)))
                ours.append(timed(lambda: plan_restore(hv, RestoreRequest(vm, force=True)).apply(time.monotonic)))
    ratio = statistics.median(a / b for a, b in zip(ours, bare))
    print(f"bare script   {statistics.median(bare):6.1f} ms (median of {rounds}), best {min(bare):.1f}")
    print(f"golden        {statistics.median(ours):6.1f} ms (median of {rounds}), best {min(ours):.1f}")
    print(f"ratio         {ratio:6.2f} (median of the pairs), limit {LIMIT}")
    return 0 if ratio < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
