"""The playbook rescue_root on real guests: a VM that cannot boot any more is mended in another one, and boots."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site
from support.playbooks import Controller, Run
from support.points import few
from support.ssh import ssh_uri
from support.virsh import agent, definition, identity, in_guest, root_path, state, virsh, wait_for_guest

from .conftest import Template

LOSE_GROUPS = "dd if=/dev/zero of=/dev/vda2 bs=1024 seek=2 count=1 conv=notrunc,fsync"
"""Wipes the group descriptors of the root file system: nothing can mount it, and e2fsck has copies of them."""
LOSE_LOADER = """
dd if=/dev/vda1 of=/root/loader bs=64k count=1 && sync
dd if=/dev/zero of=/dev/vda1 bs=64k count=1 conv=notrunc,fsync
"""
PUT_LOADER_BACK = "mount -t ext4 ${disk}2 /mnt && dd if=/mnt/root/loader of=${disk}1 bs=64k conv=notrunc,fsync"


@dataclass(frozen=True)
class Patient:
    """A VM that is going to be broken, and what is known of it from before."""

    vm: str
    before: dict[str, Any]
    root: str

    @classmethod
    def made(cls, tiny: Template) -> Patient:
        vm = tiny.make_vm("a", description="the patient")
        wait_for_guest(vm)
        in_guest(vm, "echo precious > /root/file && sync")
        return cls(vm, identity(vm), root_path(vm))

    def break_(self, script: str) -> None:
        """Break it from inside, and let it try to boot."""
        in_guest(self.vm, script)
        virsh("destroy", self.vm)
        virsh("start", self.vm)
        with pytest.raises(AssertionError, match="does not answer"):
            wait_for_guest(self.vm, timeout=25)

    def assert_well(self) -> None:
        wait_for_guest(self.vm)
        assert in_guest(self.vm, "cat /root/file") == "precious"
        assert identity(self.vm) == self.before
        assert root_path(self.vm) == root_path(self.vm, live=True) == self.root
        assert definition(self.vm).findtext("description") == "the patient"

    def users(self, site: Site) -> list[str]:
        """Return the VMs that have its root, in their stored or their live definitions."""
        return [vm for vm in site.vms if self.root in disks(vm, live=False) + disks(vm, live=True)]


def disks(vm: str, live: bool) -> list[str]:
    # none of a VM that is gone by now: libvirt goes on with what a killed run has asked for
    xml = virsh("dumpxml", vm, *([] if live else ["--inactive"]), check=False) or "<domain/>"
    return [source.attrib.get("file", "") for source in ET.fromstring(xml).iterfind("devices/disk/source")]


def made_helper(tiny: Template) -> str:
    """Return a VM that is up, to rescue others."""
    helper = tiny.make_vm("b")
    wait_for_guest(helper)
    return helper


def rescue(tmp_path: Path, patient: Patient, *words: str, **variables: Any) -> Run:
    return Controller(tmp_path).play("rescue_root", *words, **options(patient, **variables))


def rescue_from_afar(folder: Path, uri: str, patient: Patient, **variables: Any) -> Run:
    """Run the playbook where only the inventory knows the hypervisor."""
    controller = Controller(folder, (uri,))
    given = ["-i", str(controller.inventory()), "-e", json.dumps(options(patient, **variables))]
    return controller.run(
        "ansible-playbook", "golden.libvirt.rescue_root", *given, LIBVIRT_DEFAULT_URI="test:///default"
    )


def options(patient: Patient, **variables: Any) -> dict[str, Any]:
    """Return the answers of a survey: strings, empty where nothing was answered."""
    return {
        "rescue_root_vm": patient.vm,
        "rescue_root_rescue_vm": "",
        "rescue_root_template": "",
        "rescue_root_commands": "",
        "rescue_root_timeout": "",
        "rescue_root_start": "",
        "rescue_root_shutdown_timeout": "1",
        **variables,
    }


def test_a_file_system_that_cannot_be_mounted(tiny: Template, guest_v1: Path, site: Site, tmp_path: Path) -> None:
    tiny.publish(guest_v1)
    patient, helper = Patient.made(tiny), made_helper(tiny)
    patient.break_(LOSE_GROUPS)
    boots = in_guest(helper, "cat /var/lib/boots")
    stored = virsh("dumpxml", helper, "--inactive")

    dry = rescue(tmp_path, patient, "--check", rescue_root_rescue_vm=helper)
    assert (dry.rc, dry.changed) == (0, 0), dry.output
    assert f"goes to VM {helper} for a check of its file systems" in dry.text
    assert patient.users(site) == [patient.vm]

    failed = rescue(tmp_path, patient, rescue_root_rescue_vm=helper, rescue_root_commands="echo no luck $disk; exit 3")
    assert failed.rc == 2
    assert "no luck /dev/vdb" in failed.output
    assert "has its root back, and it was not mended" in failed.text
    assert failed.artifact["golden_rescue_root"]["rc"] == 3
    assert (patient.users(site), state(patient.vm)) == ([patient.vm], "running")

    done = rescue(tmp_path, patient, rescue_root_rescue_vm=helper)
    assert done.rc == 0, done.output
    assert "1: vfat" in done.output
    assert "2: ext" in done.output
    assert "trying backup blocks" in done.output, "its group descriptors were gone"
    assert "FILE SYSTEM WAS MODIFIED" in done.output
    assert done.artifact["golden_rescue_root"]["rc"] == 0
    patient.assert_well()
    assert in_guest(helper, "cat /var/lib/boots; ls -d /sys/block/vd*") == f"{boots}\n/sys/block/vda"
    assert virsh("dumpxml", helper, "--inactive") == stored


def test_a_boot_loader_that_is_gone(tiny: Template, guest_v1: Path, site: Site, tmp_path: Path) -> None:
    tiny.publish(guest_v1, "efi")
    patient = Patient.made(tiny)
    patient.break_(LOSE_LOADER)
    virsh("destroy", patient.vm)
    volumes = site.volumes
    made = {"rescue_root_template": tiny.name, "rescue_root_storage_pool": site.storage_pool}
    with ssh_uri(tmp_path) as uri:
        done = rescue_from_afar(tmp_path, uri, patient, **made, rescue_root_commands=PUT_LOADER_BACK)
    assert done.rc == 0, done.output
    assert "unmounting /mnt" in done.output
    assert state(patient.vm) == "shut off", "it did not run before"
    assert site.vms == [patient.vm]
    assert site.volumes == volumes
    virsh("start", patient.vm)
    patient.assert_well()


POINTS = {
    "given": [
        ("Stop the VM", 1.0),
        ("Detach its root", 0.4),
        ("Attach it to the rescue VM", 0.7),
        ("Run the commands", 0.7),
        ("Put the root back", 0.4),
        ("Start the VM", 0.3),
        ("Take the note away", 0.0),
    ],
    "made": [("Wait for its guest", 0.0), ("Run the commands", 0.0), ("Remove the rescue VM", 0.7)],
}
"""The tasks at whose beginning a run is killed, and how many seconds after that; three of them unless all are tried."""


@pytest.mark.parametrize("helper", ["given", "made"])
def test_killed_anywhere_and_run_again(tiny: Template, guest_v1: Path, site: Site, tmp_path: Path, helper: str) -> None:
    tiny.publish(guest_v1)
    patient = Patient.made(tiny)
    if helper == "given":
        how = {"rescue_root_rescue_vm": made_helper(tiny)}
    else:
        how = {"rescue_root_template": tiny.name, "rescue_root_storage_pool": site.storage_pool}
    patient.break_(LOSE_GROUPS)
    for task, seconds in few(POINTS[helper], 3, helper):
        killed_at(tmp_path, task, seconds, options(patient, **how))
        assert Path(patient.root).exists()
        assert len(patient.users(site)) <= 1, f"killed at {task!r}"
    done = rescue(tmp_path, patient, **how)
    assert done.rc == 0, done.output
    assert patient.users(site) == [patient.vm]
    patient.assert_well()
    assert [vm for vm in site.vms if "rescue" in vm] == []


def killed_at(folder: Path, task: str, seconds: float, variables: dict[str, Any]) -> None:
    """Begin the playbook, and kill it with its children when it has begun a task."""
    begun = Controller(folder).start_play("rescue_root", **variables)
    begun.wait_for(f": {task}]")
    time.sleep(seconds)
    begun.kill()


def test_commands_that_do_not_end_lose_the_disk(tiny: Template, guest_v1: Path, site: Site, tmp_path: Path) -> None:
    tiny.publish(guest_v1)
    patient, helper = Patient.made(tiny), made_helper(tiny)
    commands = "mount -t ext4 ${disk}2 /mnt && sleep 600"
    done = rescue(
        tmp_path, patient, rescue_root_rescue_vm=helper, rescue_root_commands=commands, rescue_root_timeout="5"
    )
    assert done.rc == 2
    assert "did not end within 5 seconds" in done.text
    assert (patient.users(site), state(patient.vm)) == ([patient.vm], "running")
    patient.assert_well()
    assert agent(helper, "guest-ping") == {}
