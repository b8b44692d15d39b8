"""What a VM that does not come up wrote on its serial console. Its guest is a boot sector that never stops writing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import UnhealthyError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import Health
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.fixtures import Site
from support.virsh import state, virsh

CODE = bytes.fromhex("31c0 8ed8 fc baf803 be137c ac 84c0 74f8 ee ebf8")
"""For ever: point SI to the text behind, and write it to the port 0x3f8, which is the first serial one."""
TEXT = b"\x1b[31mPANIC\x1b[0m {{ here }} \xff\r\n"
SHOWN = "PANIC {{ here }} \N{REPLACEMENT CHARACTER}"
SERIAL = "<serial type='pty'/>"


@pytest.fixture
def start(site: Site) -> Any:
    """Return what starts a VM whose guest writes for ever, and returns its name."""

    def start(devices: str = SERIAL) -> str:
        disk = site.folder.parent / "boot.raw"
        disk.write_bytes((CODE + TEXT + b"\0").ljust(510, b"\0") + b"\x55\xaa" + bytes(65024))
        xml = f"""<domain type='qemu'><name>{site.vm("a")}</name><memory unit='MiB'>32</memory>
          <os><type arch='x86_64'>hvm</type></os><devices>
          <disk type='file'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='hda' bus='ide'/></disk>
          {devices}</devices></domain>"""
        virsh("create", "/dev/stdin", stdin=xml)
        return site.vm("a")

    return start


@contextmanager
def console_open(vm: str) -> Iterator[Any]:
    """Have the console of a VM open, as ``virsh console`` does, and yield its stream."""
    connection = libvirt.open("qemu:///system")
    stream = connection.newStream(0)
    connection.lookupByName(vm).openConsole(None, stream, 0)
    try:
        yield stream
    finally:
        stream.abort()
        connection.close()


def failure_of(vm: str, **health: Any) -> dict[str, Any]:
    """Wait until a VM is healthy, which it never is, and return the facts of the error."""
    with LibvirtHypervisor("qemu:///system") as hypervisor, pytest.raises(UnhealthyError) as failure:
        hypervisor.wait_healthy(vm, Health("agent", **{"timeout": 6, **health}))
    return failure.value.facts


def test_the_end_of_what_it_wrote_is_told(start: Any) -> None:
    vm = start()
    began = time.monotonic()
    console = failure_of(vm)["console"]
    assert time.monotonic() - began < 30, "a guest that writes for ever holds up the task"
    assert set(console.splitlines()[:-1]) == {SHOWN}
    assert 3000 < len(console) <= 4000
    with console_open(vm) as stream:
        assert stream.recv(10), "others can have the console afterwards"


def test_a_console_that_somebody_has_open_stays_theirs(start: Any) -> None:
    vm = start()
    with console_open(vm) as stream:
        assert "console" not in failure_of(vm, timeout=2)
        assert b"PANIC" in stream.recv(4096)


def test_a_vm_without_a_console(start: Any) -> None:
    vm = start(devices="")
    assert failure_of(vm, timeout=1) == {}
    assert state(vm) == "running"
