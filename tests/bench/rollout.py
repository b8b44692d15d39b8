#!/usr/bin/env python3
"""What a rollout of running guests costs: our playbook, beside a straightforward playbook with community.libvirt and a
bare script; and what the way back costs, beside reboots of the same guests.

    scripts/own-libvirt.sh .cache/venv/bin/python tests/bench/rollout.py [--firmware efi] [--turns N] [VMS [BATCH ...]]

Each of them moves so many running VMs (default 8) in batches of 1, 2 and 4 onto fresh roots of another version, and
waits for the guest agent of each. They take turns (default 5); the times of each turn go to standard error. The guests
are tiny; without KVM most of the time is theirs. Those that boot by UEFI have Debian's own kernel, which unpacks
itself, and take longer. Ours also plans, checks and can take back. Ansible is set up as docs/rollout.md advises where
guests and controller share the processors, for both playbooks. community.libvirt comes from PyPI, into an environment
of its own:

    bash -c 'source scripts/lib.sh; make_venv "$CACHE/community" "$(newest_python)" ansible lxml libvirt-python'
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import Figure, duration, ratio, seconds, show, timed_in_turn
from measure import bare as bare_process

from support.fixtures import REPOSITORY, Site, build_guest, made_site
from support.modules import run_module
from support.playbooks import Controller, Run
from support.virsh import in_guest, virsh, wait_for_guest

BARE_LIMIT, COMMUNITY_LIMIT, BACK_LIMIT = 1.1, 0.67, 1.1
COMMUNITY = REPOSITORY / ".cache" / "community" / "bin" / "ansible-playbook"
SETTINGS = """
[defaults]
forks = {forks}
internal_poll_interval = 0.005
"""
PLAYBOOK = r"""
- name: Give VMs fresh roots
  hosts: all
  connection: local
  gather_facts: false
  serial: "{{ batch }}"
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    old: "{{ definition.get_xml | regex_search('[^\\']+\\.root\\.[0-9]+\\.qcow2(?=\\'/>)') }}"
    number: "{{ old | regex_search('[0-9]+(?=\\.qcow2)') | int }}"
    new: "{{ old | regex_replace('[0-9]+\\.qcow2$', (number | int + 1) ~ '.qcow2') }}"
    changed_xml: >-
      {{ definition.get_xml | replace('.root.' ~ number ~ '.qcow2', '.root.' ~ (number | int + 1) ~ '.qcow2')
         | replace('generation="' ~ number, 'generation="' ~ (number | int + 1)) }}
  tasks:
    - name: Shut it down # and ask again: early in its boot a guest does not listen
      community.libvirt.virt:
        name: "{{ inventory_hostname }}"
        state: shutdown
      register: down
      until: down is success and down is not changed # one that goes down just now cannot be asked
      retries: 300
      delay: 1

    - name: Read the definition
      community.libvirt.virt:
        name: "{{ inventory_hostname }}"
        command: get_xml
      register: definition

    - name: Make the new root
      ansible.builtin.command:
        cmd: qemu-img create -q -f qcow2 -F qcow2 -b {{ image }} {{ new }}
        creates: "{{ new }}"

    - name: Give it the new root
      community.libvirt.virt:
        command: define
        xml: "{{ changed_xml }}"

    - name: Start it
      community.libvirt.virt:
        name: "{{ inventory_hostname }}"
        state: running

    - name: Wait for its guest agent
      ansible.builtin.command:
        argv: [virsh, -c, "qemu:///system", qemu-agent-command, "{{ inventory_hostname }}", '{"execute": "guest-ping"}']
      register: ping
      until: ping.rc == 0
      retries: 300
      delay: 1
      changed_when: false

    - name: Remove the old root
      ansible.builtin.file:
        path: "{{ old }}"
        state: absent
"""
"""A straightforward playbook. The names of roots are those that our metadata have, so that all can use the same VMs."""


@dataclass
class Rollouts:
    """Rollouts of the same VMs, each to the image that they are not on."""

    site: Site
    vms: list[str]
    folder: Path

    def ours(self, batch: int) -> float:
        """Return the seconds of our playbook."""
        return self._roll(batch, rollout_keep_previous="false")

    def back(self, batch: int) -> float:
        """Return the seconds in which our playbook takes back what it has moved."""
        version = self._version()
        self._roll(len(self.vms))
        taken = self._play("rollback", rollout_serial=str(batch))
        self._check(version)
        return taken

    def reboots(self, batch: int) -> float:
        """Return the seconds that the guests take to reboot."""
        return seconds(lambda: bare_process("reboot", str(batch), *self.vms))

    def _roll(self, batch: int, **words: str) -> float:
        """Roll out a version made before, which shares one of the two images."""
        version = self._other()
        pool, source = dict(storage_pool=self.site.storage_pool), {"version": str(version)}
        run_module("template_version", template="web", source=source, version_name=str(uuid4()), **pool)
        taken = self._play("rollout", rollout_serial=str(batch), rollout_shadow_boot="false", **words)
        self._check(version)
        return taken

    def _play(self, playbook: str, **words: str) -> float:
        controller = Controller(self.folder)
        runs: list[Run] = []
        play = partial(controller.play, playbook, rollout_vm_pool=self.vms[0][:-2], **words)
        taken = seconds(lambda: runs.append(play()))
        assert runs[0].rc == 0, runs[0].output
        return taken

    def community(self, batch: int) -> float:
        """Return the seconds of the playbook with community.libvirt."""
        version = self._other()
        inventory = self.folder / "community.ini"
        inventory.write_text("".join(f"{vm}\n" for vm in self.vms))
        playbook = self.folder / "community.yml"
        playbook.write_text(PLAYBOOK)
        variables = json.dumps({"batch": batch, "image": f"{self.site.folder}/web.v{version}.qcow2"})
        command = [COMMUNITY, "-i", inventory, playbook, "-e", variables]
        runs: list[subprocess.CompletedProcess[str]] = []
        play = partial(subprocess.run, command, check=False, capture_output=True, text=True, cwd=self.folder)
        taken = seconds(lambda: runs.append(play()))
        assert runs[0].returncode == 0, runs[0].stdout + runs[0].stderr
        virsh("pool-refresh", self.site.storage_pool)  # the playbook works behind libvirt's back
        self._check(version)
        return taken

    def script(self, batch: int) -> float:
        """Return the seconds of the bare script."""
        version = self._other()
        image = self.site.folder / f"web.v{version}.qcow2"
        taken = seconds(lambda: bare_process("roll", str(batch), self.site.storage_pool, str(image), *self.vms))
        self._check(version)
        return taken

    def _version(self) -> int:
        return int(in_guest(self.vms[0], "cat /etc/golden-version"))

    def _other(self) -> int:
        return 3 - self._version()

    def _check(self, version: int) -> None:
        assert {in_guest(vm, "cat /etc/golden-version") for vm in self.vms} == {str(version)}


def figures(count: int, batches: list[int], firmware: str, turns: int) -> Iterator[Figure]:
    """Measure with so many VMs, in batches of these sizes, so many times."""
    guests = {"bios": "running guests", "efi": "running UEFI guests"}[firmware]
    memory = {"bios": "128MiB", "efi": "192MiB"}[firmware]
    with made_site() as site, tempfile.TemporaryDirectory() as folder:
        for version in ("1", "2"):
            image = shutil.copy(build_guest(version), site.folder.parent)
            run_module(
                "template_version",
                template="web",
                create_base=True,
                storage_pool=site.storage_pool,
                source={"path": image},
                hardware={"memory": memory, "firmware": firmware, "graphics": "none", "networks": []},
            )
        pool = dict(vm_pool=site.vm("desk"), template="web", count=count, prestarted=count)
        run_module("vm_pool", storage_pools=[site.storage_pool], **pool)
        vms = [site.vm(f"desk-{number}") for number in range(1, count + 1)]
        for vm in vms:
            wait_for_guest(vm)
        Path(folder, "ansible.cfg").write_text(SETTINGS.format(forks=count))  # as many as a batch can have
        rollouts = Rollouts(site, vms, Path(folder))
        others = {"bare script": (rollouts.script, BARE_LIMIT)}
        if COMMUNITY.exists():
            others["playbook with community.libvirt"] = (rollouts.community, COMMUNITY_LIMIT)
        for batch in batches:
            calls = (rollouts.ours, *(call for call, _limit in others.values()))
            ours, *references = _in_turn(turns, batch, *calls)
            for reference, (name, (_call, limit)) in zip(references, others.items()):
                what, cost = f"rollout of {count} {guests}, batches of {batch}", f"{duration(ours, count)} per VM"
                yield Figure(what, cost, f"{name}, {duration(reference, count)}", ratio(ours, reference), limit)
        for batch, how in ((1, "one by one"), (count, "all at once")):
            back, reboots = _in_turn(turns, batch, rollouts.back, rollouts.reboots)
            what, beside = f"rollback of {count} {guests}, {how}", f"their reboots, {duration(reboots, count)}"
            yield Figure(what, f"{duration(back, count)} per VM", beside, ratio(back, reboots), BACK_LIMIT)


def _in_turn(turns: int, batch: int, *calls: Callable[[int], float]) -> list[list[float]]:
    """Return the seconds of calls in each turn, and tell them: guests do not boot in the same time twice."""
    times = timed_in_turn(turns, *(partial(call, batch) for call in calls))
    for each in times:
        print(*(f"{time:.1f}" for time in each), file=sys.stderr, flush=True)
    return times


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--firmware", choices=("bios", "efi"), default="bios")
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("vms", type=int, nargs="?", default=8)
    options.add_argument("batches", type=int, nargs="*", default=[1, 2, 4])
    given = options.parse_args()
    return show(figures(given.vms, given.batches, given.firmware, given.turns))


if __name__ == "__main__":
    sys.exit(main())
