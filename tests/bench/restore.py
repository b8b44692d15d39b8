#!/usr/bin/env python3
"""What a restore of a stopped VM costs: in the process, as a module, by playbook; and whether many VMs cost more each.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/restore.py [VMS ...]

The reference in the process is a bare libvirt-python script that makes the same calls (bare.py); that of the module is
this script as a process that loads AnsibleModule, that of the playbook a playbook with a module that does nothing.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bare
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.restore import RestoreRequest, plan_restore
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor
from measure import Figure, duration, in_turn, module, ratio, show
from measure import bare as bare_process

from support.fixtures import Site, made_site, make_disk
from support.modules import run_module
from support.playbooks import Controller

IN_PROCESS_LIMIT, MODULE_LIMIT, PLAYBOOK_LIMIT, GROWTH_LIMIT = 1.5, 1.75, 2.5, 1.25
COUNTS = (1, 10, 100)
PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - {task}
"""
RESTORE, NOTHING = "golden.libvirt.vm_restore: {vm: '{{ inventory_hostname }}', force: true}", "ansible.builtin.ping:"


def in_process(site: Site, vms: list[str]) -> tuple[list[float], list[float]]:
    """Return the seconds of our restores and of bare ones, of all VMs in turn."""
    ours, theirs = itertools.cycle(vms), itertools.cycle(vms)
    with LibvirtHypervisor(bare.URI) as hv:
        times = in_turn(
            30,
            lambda: plan_restore(hv, RestoreRequest(next(ours), force=True)).apply(time.monotonic),
            lambda: bare.restore(hv.connection.libvirt, site.storage_pool, next(theirs)),
        )
    return times[0], times[1]


def by_playbook(vms: list[str], rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of a playbook that restores VMs, and of one that does nothing to them."""
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder))
        inventory = controller.folder / "hosts.ini"
        inventory.write_text("".join(f"{vm} ansible_python_interpreter={sys.executable}\n" for vm in vms))
        for name, task in (("restore", RESTORE), ("nothing", NOTHING)):
            (controller.folder / f"{name}.yml").write_text(PLAYBOOK.format(task=task))

        def play(name: str) -> None:
            run = controller.run("ansible-playbook", "-i", str(inventory), f"{name}.yml")
            assert run.rc == 0, run.output

        times = in_turn(rounds, lambda: play("restore"), lambda: play("nothing"))
    return times[0], times[1]


def figures(counts: tuple[int, ...]) -> Iterator[Figure]:
    """Measure with so many VMs."""
    with made_site() as site:
        disk = make_disk(site.folder.parent / "disk.qcow2")
        pool = dict(storage_pool=site.storage_pool)
        hardware = dict(networks=[], graphics="none")
        run_module(
            "template_version", template="web", create_base=True, source={"path": str(disk)}, hardware=hardware, **pool
        )
        fewest = 0.0
        for count in counts:
            run_module("vm_pool", vm_pool=site.vm("p"), template="web", count=count, storage_pools=[site.storage_pool])
            vms = [site.vm(f"p-{number}") for number in range(1, count + 1)]
            ours, reference = in_process(site, vms)
            here = f"restore, one of {count} stopped VMs"
            cost, beside = duration(ours), f"bare script, {duration(reference)}"
            yield Figure(f"{here}, in the process", cost, beside, ratio(ours, reference), IN_PROCESS_LIMIT)
            fewest = fewest or ratio(ours, reference)
            if count != counts[0]:
                growth = ratio(ours, reference) / fewest
                yield Figure(f"{here}, in the process", cost, f"the same with {counts[0]}", growth, GROWTH_LIMIT)
            vm = itertools.cycle(vms)
            ours, reference = in_turn(
                7,
                lambda vm=vm: module("vm_restore", vm=next(vm), force=True),
                lambda vm=vm: bare_process("--as-module", "restore", site.storage_pool, next(vm)),
            )
            cost, beside = duration(ours), f"bare script as a module, {duration(reference)}"
            yield Figure(f"{here}, as a module", cost, beside, ratio(ours, reference), MODULE_LIMIT)
            ours, reference = by_playbook(vms, 3 if count < 100 else 1)
            cost, beside = duration(ours, count), f"playbook with ping, {duration(reference, count)}"
            yield Figure(
                f"restore of {count} stopped VMs by playbook, each",
                cost,
                beside,
                ratio(ours, reference),
                PLAYBOOK_LIMIT,
            )


def main() -> int:
    """Measure and print."""
    return show(figures(tuple(map(int, sys.argv[1:])) or COUNTS))


if __name__ == "__main__":
    sys.exit(main())
