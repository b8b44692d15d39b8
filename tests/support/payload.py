"""Payloads of VMs as libvirt and the file system see them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .fixtures import REPOSITORY, Site
from .virsh import definition

HOOK = Path("/etc/libvirt/hooks/qemu.d/golden-payload")
SERVICE = Path("/etc/libvirt/hooks/golden-payload-service")


def payloads(site: Site) -> list[str]:
    """Return the files of payloads in the storage pool, as the file system has them."""
    return sorted(name for name in os.listdir(site.folder) if ".payload." in name)


def drives(vm: str, live: bool = False) -> dict[str, str]:
    """Return the CD and floppy drives of a VM, with the names of the files in them."""
    found = {}
    for disk in definition(vm, live).iterfind("devices/disk"):
        if disk.get("device") != "disk":
            source, target = disk.find("source"), disk.find("target")
            assert target is not None
            found[target.attrib["dev"]] = "" if source is None else source.get("file", "").rpartition("/")[2]
    return found


def needs_hook() -> None:
    """Skip a test where libvirt does not call our hook: it looks for hooks only when it starts."""
    ours = REPOSITORY / "roles" / "hypervisor" / "files"
    if not HOOK.exists() or HOOK.read_text().partition("\n")[2] != (ours / "payload_hook.py").read_text():
        pytest.skip("the hook of the role hypervisor is not installed, or another version of it")
    if not SERVICE.exists() or SERVICE.read_text() != (ours / "payload_service.py").read_text():
        pytest.skip("what serves payloads over the network is not installed, or another version of it")
    daemons = subprocess.run(["pgrep", "-o", "-x", "libvirtd|virtqemud"], capture_output=True, text=True, check=False)
    started = [Path("/proc", pid).stat().st_mtime for pid in daemons.stdout.split()]
    if not started or min(started) < HOOK.parent.stat().st_ctime:
        pytest.skip("libvirt was started before the hook was installed")
