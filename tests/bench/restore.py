#!/usr/bin/env python3
"""What a restore of a stopped VM costs: in the process, as a module, by playbook; and whether many VMs cost more each.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/restore.py [VMS ...]

The reference in the process is a bare libvirt-python script that makes the same calls (bare.py); that of the module is
this script as a process that loads AnsibleModule; those of the playbook are a playbook with a module that does nothing,
and the same playbook with restores that are processes of their own, as modules are elsewhere.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
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

IN_PROCESS_LIMIT, MODULE_LIMIT, PLAYBOOK_LIMIT, GROWTH_LIMIT = 2, 1.75, 1.25, 1.25
COUNTS = (1, 10, 100)
MOST_REFERENCES = 100
"""The references of playbooks are measured with so many VMs at most: they take long, and each costs what each costs."""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - {task}
"""
RESTORE = "golden.libvirt.vm_restore: {vm: '{{ inventory_hostname }}', force: true}"
TASKS = {
    "restore": RESTORE,
    "nothing": "ansible.builtin.ping:",
    "apart": f"{RESTORE}\n      environment: {{LANG: C.UTF-8}}",
}


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


def by_playbook(vms: list[str], rounds: int) -> list[list[float]]:
    """Return the seconds per VM of a playbook that restores VMs, of one that does nothing to them, and of one that
    restores them in processes of their own.
    """
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder))
        inventory = controller.folder / "hosts.ini"
        inventory.write_text("".join(f"{vm} ansible_python_interpreter={sys.executable}\n" for vm in vms))
        for name, task in TASKS.items():
            (controller.folder / f"{name}.yml").write_text(PLAYBOOK.format(task=task))

        def play(name: str, count: int) -> None:
            some = ",".join(vms[:count])
            run = controller.run("ansible-playbook", "-i", str(inventory), "--limit", some, f"{name}.yml")
            assert run.rc == 0, run.output

        counts = [len(vms), *[min(len(vms), MOST_REFERENCES)] * 2]
        times = in_turn(rounds, *(partial(play, name, count) for name, count in zip(TASKS, counts)))
    return [[seconds / count for seconds in column] for column, count in zip(times, counts)]


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
            ours, nothing, apart = by_playbook(vms, 3 if count < 100 else 1)
            what, cost = f"restore of {count} stopped VMs by playbook, each", duration(ours)
            yield Figure(what, cost, f"playbook with ping, {duration(nothing)}", ratio(ours, nothing), PLAYBOOK_LIMIT)
            yield Figure(what, cost, f"in processes of their own, {duration(apart)}", ratio(ours, apart))


def main() -> int:
    """Measure and print."""
    return show(figures(tuple(map(int, sys.argv[1:])) or COUNTS))


if __name__ == "__main__":
    sys.exit(main())
