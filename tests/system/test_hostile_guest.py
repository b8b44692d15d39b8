"""A guest whose agent lies, floods and says nothing: bounded in time and memory, and never believed."""

from __future__ import annotations

import base64
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.fixtures import REPOSITORY, Site
from support.modules import ModuleFailed, run_module
from support.playbooks import Controller

AGENT = REPOSITORY / "tests" / "support" / "hostile-agent.sh"
SAID = "{{ 7 * 7 }}"


def lying_guest(site: Site, image: Path, network: str) -> str:
    """Start a guest, take its network card out, and put an agent into it that lies; return its name."""
    run_module(
        "template_version",
        template="tiny",
        storage_pool=site.storage_pool,
        create_base=True,
        source={"path": str(image)},
        hardware={"memory": "128MiB", "graphics": "none", "networks": [{"network": network}]},
    )
    vm = site.vm("a")
    made = {"name": vm, "template": "tiny", "storage_pools": [site.storage_pool], "description": SAID}
    run_module("vm", state="started", **made)
    virsh.wait_for_guest(vm)
    mac = virsh.identity(vm)["macs"][0]
    virsh.virsh("detach-interface", vm, "network", "--mac", mac, "--live")
    script = base64.b64encode(AGENT.read_text().replace("@MAC@", mac).encode()).decode()
    replace = (
        f"echo {script} | base64 -d > /usr/sbin/liar && chmod 755 /usr/sbin/liar && mv /usr/sbin/liar /usr/sbin/qemu-ga"
    )
    virsh.in_guest(vm, f"{replace}; (sleep 1; kill $(pidof qemu-ga)) >/dev/null 2>&1 &")
    time.sleep(2)
    return vm


def lied_to(vm: str, lie: str, timeout: int = 60) -> str:
    """Run a command that the agent lies about, and return the message."""
    with pytest.raises(ModuleFailed) as failure:
        run_module("guest_command", vm=vm, command=[lie], wait_timeout=timeout)
    message: str = failure.value.result["msg"]
    assert message.isprintable(), repr(message)
    assert vm in message
    return message


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Something takes no longer than this, and no more than 100 MB."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - started < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_guest_that_lies(site: Site, guest_v1: Path, network: str, tmp_path: Path) -> None:
    vm = lying_guest(site, guest_v1, network)
    mac = virsh.identity(vm)["macs"][0]
    with within(60):
        assert SAID in lied_to(vm, "lie-error")
    with within(30):
        assert "makes no sense" in lied_to(vm, "lie-pid")
    with within(30):
        assert "does not tell with which code" in lied_to(vm, "lie-number")
    with within(30):
        assert SAID in lied_to(vm, "lie-escapes")
    with within(30):
        done: dict[str, Any] = run_module("guest_command", vm=vm, command=["lie-output"])
        assert (done["rc"], done["stdout"], done["stderr"]) == (0, "", "")

    with within(20):
        listed = run_module("vm_info", name=vm)["vms"][0]
        assert listed["addresses"] == {mac: ["127.0.0.1", "192.0.2.66"]}
    controller = Controller(tmp_path)
    variables = controller.hosts()["_meta"]["hostvars"][vm]
    assert variables["golden_description"] == SAID
    assert (variables["golden_addresses"], variables["ansible_host"]) == (["192.0.2.66"], "192.0.2.66")

    with within(30):
        assert "did not start 'lie-silence'" in lied_to(vm, "lie-silence", timeout=6)
    with within(40):
        assert "did not start 'lie-nonsense'" in lied_to(vm, "lie-nonsense", timeout=20)
    with within(150):
        assert "did not start 'lie-flood'" in lied_to(vm, "lie-flood", timeout=120)
    with within(30):
        assert [found["name"] for found in run_module("vm_info", vm_pool=None, name=vm)["vms"]] == [vm]
    lied_to(vm, "lie-error")  # it has begun anew, and does not answer when it is to shut down
    with within(90):
        stopped = run_module("vm", name=vm, state="stopped", wait_timeout=5)
        assert stopped["vm"]["state"] == "shut off"
