"""Payloads as real guests see them. The oracle is the guest's kernel."""

from __future__ import annotations

import base64
import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import run_module
from support.payload import drives, needs_hook, payloads
from support.virsh import definition, in_guest, state, virsh, wait_for_guest
from support.waiting import until

from .conftest import Template

FILES = {
    "motd": b"hello\n",
    "папка/файл 文件.bin": bytes(range(256)) * 9,
    "empty": b"",
    "emoji 😀.txt": "😀".encode(),
    "sixteen": b"x" * 16384,
}


def files_of(files: dict[str, bytes]) -> list[dict[str, str]]:
    """Return files as the option ``files`` takes them."""
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    return [{"name": name, "content": content, "encoding": "base64"} for name, content in encoded.items()]


def seen(device: str, files: dict[str, bytes]) -> list[str]:
    """Return what the guest lists of these files."""
    return sorted(f"{device} {name} {len(data)} {hashlib.sha256(data).hexdigest()}" for name, data in files.items())


def listed(vm: str) -> list[str]:
    """Return what the guest found on its media when it booted."""
    wait_for_guest(vm, 300)  # where the machine type is pc, an emulated guest takes its time with the media
    return sorted(in_guest(vm, "cat /run/payload/list").splitlines())


def on_cd(vm: str) -> dict[str, str]:
    """Return the digests of the files on the CD that is in the drive of the guest at this moment."""
    show = "cd /mnt/cd && find . -type f -exec sha256sum {} +"
    script = f"mkdir -p /mnt/cd; mount -o ro /dev/sr0 /mnt/cd && ({show}) && umount /mnt/cd"
    lines = in_guest(vm, script).splitlines()
    return {line.split("  ./", 1)[1]: line.split("  ", 1)[0] for line in lines}


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """Return the digests of files."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def set_machine(vm: str, machine: str) -> None:
    """Make a stopped VM one of another machine type."""
    xml = definition(vm)
    os_type, devices = xml.find("os/type"), xml.find("devices")
    assert os_type is not None
    assert devices is not None
    os_type.set("machine", machine)
    for controller in devices.findall("controller"):
        devices.remove(controller)
    for device in devices:
        for address in device.findall("address[@type='pci']"):  # its places on the bus are others
            device.remove(address)
    virsh("undefine", vm)
    virsh("define", "/dev/stdin", stdin=ET.tostring(xml, encoding="unicode"))


@pytest.mark.parametrize("machine", ["q35", "pc"])
@pytest.mark.parametrize(("medium", "device"), [("cdrom", "sr0"), ("floppy", "fd0")])
def test_the_guest_reads_what_was_given(tiny: Template, guest_v1: Path, machine: str, medium: str, device: str) -> None:
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a", state="present")
    if machine == "pc":
        set_machine(vm, "pc")
    run_module("vm_payload", vm=vm, type=medium, files=files_of(FILES))
    run_module("vm", name=vm, state="started")
    assert listed(vm) == seen(device, FILES)


def test_the_guest_sees_the_change_of_the_disc(tiny: Template, guest_v1: Path, site: Site) -> None:
    tiny.publish(guest_v1)
    first, second = {"a": b"first"}, {"b": b"second", "c": b""}
    vm = tiny.make_vm("a", payload={"files": files_of(first)})
    assert listed(vm) == seen("sr0", first)
    in_guest(vm, "grep -q /dev/sr0 /proc/mounts")  # mounted: the tray is locked
    volume = run_module("vm_payload", vm=vm, files=files_of(second))["payload"]["volume"]
    in_guest(vm, "umount /run/payload/sr0")
    assert on_cd(vm) == digests(second)
    run_module("vm_payload", vm=vm, files=files_of(first))
    assert on_cd(vm) == digests(first)
    assert volume not in payloads(site)
    run_module("vm_payload", vm=vm, state="absent")
    assert in_guest(vm, "mount -o ro /dev/sr0 /mnt/cd 2>/dev/null || echo none") == "none"
    assert payloads(site) == []


def test_one_run_has_the_payload_through_its_reboots(tiny: Template, guest_v1: Path, site: Site) -> None:
    tiny.publish(guest_v1)
    always, once = {"always": b"1"}, {"once": b"2"}
    vm = tiny.make_vm("a", state="present", payload={"files": files_of(always)})
    stored = virsh("dumpxml", vm, "--inactive")
    run_module("vm_payload", vm=vm, availability="run_once", files=files_of(once))
    assert listed(vm) == seen("sr0", once)
    reboot(vm)
    assert listed(vm) == seen("sr0", once)
    virsh("shutdown", vm)
    until(lambda: state(vm) == "shut off")
    assert virsh("dumpxml", vm, "--inactive") == stored
    run_module("vm", name=vm, state="started")
    assert listed(vm) == seen("sr0", always)
    assert payloads(site) == list(drives(vm).values())


def test_the_hook_deletes_the_payload_when_the_guest_shuts_down(tiny: Template, guest_v1: Path, site: Site) -> None:
    needs_hook()
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a", state="present")
    run_module("vm_payload", vm=vm, availability="run_once", type="floppy", files=files_of(FILES))
    assert listed(vm) == seen("fd0", FILES)
    reboot(vm)
    assert len(payloads(site)) == 1
    virsh("shutdown", vm)
    until(lambda: state(vm) == "shut off")
    until(lambda: payloads(site) == [])


def test_ignition_is_readable_by_the_guest(tiny: Template, guest_v1: Path) -> None:
    tiny.publish(guest_v1)
    config: dict[str, Any] = {"ignition": {"version": "3.4.0"}}
    vm = tiny.make_vm("a", payload={"ignition": config})
    path = "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw"
    assert in_guest(vm, f"cat {path}") == '{"ignition": {"version": "3.4.0"}}'


def reboot(vm: str) -> None:
    """Reboot from inside of the guest, and wait until it is up again."""
    boots = int(in_guest(vm, "cat /var/lib/boots"))
    in_guest(vm, "sync; (sleep 1; reboot) >/dev/null 2>&1 &")
    until(lambda: _boots(vm) > boots, 120)


def _boots(vm: str) -> int:
    try:
        return int(in_guest(vm, "cat /var/lib/boots"))
    except (AssertionError, KeyError, ValueError):
        return 0
