"""The module guest_command on a real guest, from what it says to an agent that hangs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from support.modules import ModuleFailed, Result, run_module
from support.virsh import in_guest, virsh

from .conftest import Template


def failed(**options: Any) -> Result:
    """Run a command that must fail, and return the result."""
    with pytest.raises(ModuleFailed) as failure:
        run_module("guest_command", **options)
    return failure.value.result


def test_commands_in_a_guest(tiny: Template, guest_v1: Path) -> None:
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a")
    done = run_module(
        "guest_command", vm=vm, command="echo out; echo err >&2; cat", stdin="Zeile ü\n", wait_timeout=300
    )
    assert (done["changed"], done["ran"], done["rc"]) == (True, True, 0)
    assert (done["stdout"], done["stderr"], done["truncated"]) == ("out\nZeile ü\n", "err\n", False)
    assert done["guest_command"] == {"vm": vm, "program": "/bin/sh"}
    assert run_module("guest_command", vm=vm, command=["echo", "$HOME", "a  b", 3])["stdout"] == "$HOME a  b 3\n"

    dry = run_module("guest_command", vm=vm, command="touch /tmp/ran", check=True, diff=True)
    assert (dry["changed"], dry["ran"], "rc" in dry) == (True, False, False)
    assert "run '/bin/sh' in the guest" in dry["diff"][1]["prepared"]
    assert in_guest(vm, "ls /tmp") == ""

    said = failed(vm=vm, command="echo no database >&2; exit 3")
    assert (said["rc"], said["stderr"], said["ran"]) == (3, "no database\n", True)
    assert "ended with 3" in said["msg"]
    assert "no database" in said["msg"]
    assert failed(vm=vm, command="kill -9 $$")["rc"] == 128 + 9
    missing = failed(vm=vm, command=["/no/such/program"])
    assert (missing["ran"], "did not start '/no/such/program'" in missing["msg"]) == (False, True)

    long = run_module("guest_command", vm=vm, command="seq 1 100000")
    assert (long["truncated"], len(long["stdout"])) == (True, 256 * 1024)
    assert long["stdout"].endswith("\n99999\n100000\n")

    _a_guest_that_does_not_obey(vm)
    virsh("destroy", vm)
    assert "is shut off; a command needs a guest that runs" in failed(vm=vm, command="true")["msg"]


def _a_guest_that_does_not_obey(vm: str) -> None:
    started = time.monotonic()
    assert "did not end within 3 seconds" in failed(vm=vm, command="sleep 600", wait_timeout=3)["msg"]
    assert time.monotonic() - started < 10

    in_guest(vm, "(sleep 2; kill -STOP $(pidof qemu-ga)) >/dev/null 2>&1 &")
    time.sleep(4)
    started = time.monotonic()
    said = failed(vm=vm, command="true", wait_timeout=6)
    assert "did not answer within 6 seconds" in said["msg"]
    assert time.monotonic() - started < 15
