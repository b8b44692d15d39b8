"""The oracle: what virsh and qemu-img say, not our own code."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import xml.etree.ElementTree as ET
from typing import Any

from .waiting import until

PREFIX = "gldtest-"
NAMESPACE = "{https://golden.libvirt/vm/1}"


def virsh(*words: str, check: bool = True, stdin: str | None = None) -> str:
    """Run virsh and return what it prints."""
    command = ["virsh", "-q", "-c", "qemu:///system", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=stdin)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def comes_up(uri: str = "qemu:///system") -> bool:
    """Whether a libvirtd answers, now or within a minute."""
    deadline = time.monotonic() + 60
    while subprocess.run(["virsh", "-q", "-c", uri, "uri"], check=False, capture_output=True).returncode:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def volumes(storage_pool: str) -> list[str]:
    """Return the names of the volumes of a storage pool, sorted."""
    lines = virsh("vol-list", storage_pool).splitlines()
    return sorted(line.split()[0] for line in lines if line.strip())


def volume_path(storage_pool: str, volume: str) -> str:
    """Return the path of a volume."""
    return virsh("vol-path", "--pool", storage_pool, volume)


def image_info(storage_pool: str, volume: str) -> dict[str, Any]:
    """Return what qemu-img says about a volume."""
    path = volume_path(storage_pool, volume)
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def domains() -> list[str]:
    """Return the names of all domains."""
    return virsh("list", "--all", "--name").split()


def state(vm: str) -> str:
    """Return the state of a VM."""
    return virsh("domstate", vm)


def definition(vm: str, live: bool = False) -> ET.Element:
    """Return the stored (or the live) definition of a VM."""
    return ET.fromstring(virsh("dumpxml", vm, *([] if live else ["--inactive"])))


def root_path(vm: str, live: bool = False) -> str:
    """Return the path of the first disk of a VM."""
    disk = definition(vm, live).find("devices/disk[@device='disk']/source")
    assert disk is not None
    return disk.attrib["file"]


def metadata(vm: str) -> ET.Element:
    """Return our metadata element of a VM."""
    element = definition(vm).find(f"metadata/{NAMESPACE}vm")
    assert element is not None
    return element


def identity(vm: str) -> dict[str, Any]:
    """Return what must stay of a VM through a restore: UUID, MAC addresses, data disks."""
    xml = definition(vm)
    return {
        "uuid": xml.findtext("uuid"),
        "macs": [mac.attrib["address"] for mac in xml.iterfind("devices/interface/mac")],
        "data": [disk.attrib["file"] for disk in xml.findall("devices/disk[@device='disk']/source")[1:]],
        "memory": xml.findtext("memory"),
        "cpus": xml.findtext("vcpu"),
    }


def agent(vm: str, command: str, **arguments: Any) -> Any:
    """Ask the guest agent of a VM."""
    question = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    return json.loads(virsh("qemu-agent-command", vm, question))["return"]


def wait_for_guest(vm: str, timeout: float = 300) -> None:
    """Wait until the guest agent of a VM answers."""

    def answers() -> bool:
        return "return" in virsh("qemu-agent-command", vm, '{"execute": "guest-ping"}', check=False)

    until(answers, lambda: f"the guest of {vm} does not answer", timeout)


def in_guest(vm: str, script: str, timeout: float = 300) -> str:
    """Run a shell script in the guest and return what it prints; one that fails is an assertion error."""
    wait_for_guest(vm)
    arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    pid = agent(vm, "guest-exec", **arguments)["pid"]
    done: dict[str, Any] = {}

    def has_ended() -> bool:
        done.update(agent(vm, "guest-exec-status", pid=pid))
        return bool(done["exited"])

    until(has_ended, lambda: f"{script!r} in {vm} takes too long", timeout)
    output = base64.b64decode(done.get("out-data", "")).decode()
    assert done["exitcode"] == 0, f"{script!r} in {vm}: {output} {base64.b64decode(done.get('err-data', '')).decode()}"
    return output.strip()


def guest_address(vm: str) -> str:
    """Return the IPv4 address that the guest itself says it has, once DHCP has given it one."""
    show = "ip -4 -o addr show dev eth0 | awk '{print $4}'"
    return in_guest(vm, f'until a=$({show}) && [ "$a" ]; do usleep 100000; done; echo $a')
