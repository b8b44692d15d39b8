"""A payload that a real guest fetches over its network. The oracle is the guest."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from support.payload import needs_hook
from support.virsh import guest_address, in_guest, virsh
from support.waiting import until

from .conftest import Template

TEXT = "#!/bin/sh\necho Grüße, 世界\n"


def test_only_the_guest_of_the_vm_fetches_it(tiny: Template, guest_v1: Path) -> None:
    needs_hook()
    tiny.publish(guest_v1)
    payload: dict[str, Any] = {"type": "network", "cloud_init": {"user_data": TEXT}}
    vm, other = tiny.make_vm("a", payload=payload), tiny.make_vm("b")
    assert guest_address(vm) != guest_address(other)
    until(lambda: in_guest(vm, "cat /run/payload/net/user-data 2>/dev/null || true") == TEXT.strip())
    told = in_guest(vm, "cat /sys/class/dmi/id/product_serial")
    url = told.split(";")[1].removeprefix("s=")
    assert told == f"ds=nocloud;s={url};dsmode=net"
    assert f'"local-hostname": "{vm}"' in in_guest(vm, f"wget -q -O - {url}meta-data")
    assert "404" in in_guest(other, f"wget -O - {url}user-data 2>&1 || true")
    virsh("shutdown", vm)
    address = url.split("/")[2]
    until(lambda: not subprocess.check_output(["ss", "-Hltn", f"src {address}"]))
