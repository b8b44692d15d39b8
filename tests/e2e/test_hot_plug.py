"""Disks of a running guest, as the guest sees them: plugged in, unplugged, and not let go of."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, Result, run_module
from support.virsh import in_guest, virsh
from support.waiting import until

from .conftest import Template

TIMES = 20


@pytest.fixture
def guest(tiny: Template, guest_v1: Path) -> str:
    """Yield a guest that is up; there are free volumes, too."""
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a")
    for name in ("data", "more"):
        virsh("vol-create-as", tiny.site.storage_pool, name, "8M", "--format", "qcow2")
    in_guest(vm, "true")
    return vm


def attach(site: Site, vm: str, **options: object) -> Result:
    """Attach a volume."""
    return run_module("volume_attach", vm=vm, storage_pool=site.storage_pool, **{"volume": "data", **options})


def seen(vm: str) -> list[str]:
    """Return the disks that the guest sees."""
    return in_guest(vm, "ls /sys/block | grep -E '^(vd|sd)' || true").split()


def blocks(vm: str) -> tuple[list[str], list[str]]:
    """Return the targets of a VM's disks, stored and live."""
    found = [virsh("domblklist", vm, *which).split()[::2] for which in (["--inactive"], [])]
    return found[0], found[1]


def wait_for(vm: str, disks: list[str]) -> None:
    """Wait until the guest sees these disks: its kernel looks at a new one by itself."""
    until(lambda: seen(vm) == disks, lambda: f"the guest sees {seen(vm)}, not {disks}")


@pytest.mark.parametrize(("bus", "disk", "target"), [("virtio", "vdb", "vdb"), ("scsi", "sda", "sdb")])
def test_a_disk_comes_and_goes(site: Site, guest: str, bus: str, disk: str, target: str) -> None:
    if bus == "scsi":
        attach(site, guest, volume="more", bus="scsi", device_id=5)  # with the controller
        wait_for(guest, ["sda", "vda"])
        disk = "sdb"
    before, there = seen(guest), blocks(guest)
    for number in range(TIMES):
        done = attach(site, guest, bus=bus, device_id=1, serial=f"N{number}")
        assert done["volume"]["target"] == target
        wait_for(guest, sorted([*before, disk]))
        if bus == "virtio":
            assert in_guest(guest, f"cat /sys/block/{disk}/serial") == f"N{number}"
        in_guest(guest, f"dd if=/dev/urandom of=/dev/{disk} bs=64k count=1 2>/dev/null && sync")
        attach(site, guest, state="detached")
        assert seen(guest) == before, "gone when the task is done"
        assert blocks(guest) == there


def test_a_guest_that_does_not_let_go_keeps_the_disk_until_it_does(site: Site, guest: str) -> None:
    attach(site, guest)
    wait_for(guest, ["vda", "vdb"])
    hears_of_devices(guest, "disable")
    for _again in range(2):
        with pytest.raises(ModuleFailed, match="did not let go of disk 'vdb' within 6 seconds") as failure:
            attach(site, guest, state="detached", wait_timeout=6)
        assert failure.value.result["rolled_back"] is True
        assert blocks(guest) == (["vda", "vdb"], ["vda", "vdb"])
    hears_of_devices(guest, "enable")
    assert attach(site, guest, state="detached")["changed"]
    assert seen(guest) == ["vda"]
    assert blocks(guest) == (["vda"], ["vda"])
    attach(site, guest)
    wait_for(guest, ["vda", "vdb"])


def hears_of_devices(vm: str, how: str) -> None:
    """Have a guest answer, or not, when it is told that a PCI device comes or is to go."""
    in_guest(vm, f"echo {how} > /sys/firmware/acpi/interrupts/gpe01")


def test_a_paused_guest_is_not_asked(site: Site, guest: str) -> None:
    attach(site, guest)
    attach(site, guest, volume="more", bus="scsi")
    wait_for(guest, ["sda", "vda", "vdb"])
    virsh("suspend", guest)
    with pytest.raises(ModuleFailed, match="is paused, so its guest cannot let go of disk 'vdb'") as failure:
        attach(site, guest, state="detached")
    assert "rolled_back" not in failure.value.result, "nothing had changed"
    assert attach(site, guest, volume="more", state="detached")["changed"], "no guest is asked for this one"
    virsh("resume", guest)
    wait_for(guest, ["vda", "vdb"])
    attach(site, guest, state="detached")
    assert seen(guest) == ["vda"]


def test_as_many_as_there_is_room_for(site: Site, guest: str) -> None:
    """Eight data volumes more than the VM began with, all at once, and all gone again."""
    names = [f"d{number}" for number in range(8)]
    for name in names:
        virsh("vol-create-as", site.storage_pool, name, "1M")
        attach(site, guest, volume=name)
    wait_for(guest, ["vda", *(f"vd{letter}" for letter in "bcdefghi")])
    for name in names:
        attach(site, guest, volume=name, state="detached")
    assert seen(guest) == ["vda"]
