"""Real guests: a version made from a VM, and restores as the guest sees them. The oracle is the guest and virsh."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.virsh import definition, guest_address, identity, in_guest, root_path, state, virsh

from .conftest import Template

AGENT = {"check": "agent", "timeout": 180}


def test_what_is_installed_in_a_vm_is_in_the_version_made_from_it(tiny: Template, guest_v1: Path, site: Site) -> None:
    tiny.publish(guest_v1)
    builder = tiny.make_vm("builder")
    in_guest(builder, "echo '#!/bin/sh\necho works' > /usr/sbin/tool && chmod 755 /usr/sbin/tool && sync")
    run_module("vm", name=builder, state="stopped", wait_timeout=60)
    done = run_module("template_version", template=tiny.name, storage_pool=site.storage_pool, source={"vm": builder})
    assert done["template_version"]["version"] == 2
    user = tiny.make_vm("user")
    assert in_guest(user, "/usr/sbin/tool") == "works"
    assert identity(user)["macs"] != identity(builder)["macs"]
    assert in_guest(user, "cat /var/lib/boots") == "2", "the builder's one boot and the user's first"


@pytest.mark.parametrize("firmware", ["bios", "efi"])
def test_a_restore_keeps_what_the_vm_is_known_by(tiny: Template, guest_v1: Path, guest_v2: Path, firmware: str) -> None:
    tiny.publish(guest_v1, firmware)
    vm = tiny.make_vm("a", stateless=True, use_latest_template_version=True)
    in_guest(vm, "echo mine > /root/file && sync")
    before, ip = identity(vm), guest_address(vm)
    tiny.publish(guest_v2, firmware)
    done = run_module("vm_restore", vm=vm, health=AGENT)
    assert in_guest(vm, "cat /etc/golden-version") == "2"
    assert in_guest(vm, "cat /var/lib/boots") == "1"
    assert in_guest(vm, "ls /root") == ""
    assert identity(vm) == before
    assert guest_address(vm) == ip
    assert done["downtime"] == pytest.approx(sum(done["phases"][name] for name in ("stop", "switch", "boot", "verify")))
    assert not run_module("vm_restore", vm=vm, health=AGENT)["changed"]


def test_health_checks(tiny: Template, guest_v1: Path, guest_v2: Path) -> None:
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a")
    tiny.publish(guest_v2)
    for health in (
        {"check": "port", "port": 80},
        {"check": "command", "command": "test $(cat /etc/golden-version) = 2"},
        {"check": "command", "command": ["/bin/grep", "-q", "2", "/etc/golden-version"]},
        {"check": "agent", "stable_for": 2},
    ):
        done = run_module("vm_restore", vm=vm, template_version="latest", force=True, health={"timeout": 180, **health})
        assert done["phases"]["verify"] >= health.get("stable_for", 0)
        assert in_guest(vm, "cat /etc/golden-version /var/lib/boots") == "2\n1"


def boot_disk(vm: str) -> str:
    """Return the digest of the root volume of a VM that is down."""
    return hashlib.sha256(Path(root_path(vm)).read_bytes()).hexdigest()


def test_a_version_that_does_not_boot_ends_on_the_old_root(
    tiny: Template, guest_v1: Path, guest_broken: Path, site: Site
) -> None:
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a")
    in_guest(vm, "echo mine > /root/file && sync")
    run_module("vm", name=vm, state="stopped", wait_timeout=60)
    before, volumes, stored = boot_disk(vm), site.volumes, virsh("dumpxml", "--inactive", vm)
    tiny.publish(guest_broken)
    with pytest.raises(ModuleFailed) as failure:
        run_module(
            "vm_restore", vm=vm, template_version="latest", start="yes", health={"check": "agent", "timeout": 35}
        )
    assert failure.value.result["rolled_back"] is True
    assert "this version is broken on purpose" in failure.value.result["console"]
    assert state(vm) == "shut off", "it did not run before"
    assert boot_disk(vm) == before
    virsh("start", vm)
    in_guest(vm, "true")
    with pytest.raises(ModuleFailed) as failure:
        run_module("vm_restore", vm=vm, template_version="latest", health={"check": "agent", "timeout": 5})
    assert failure.value.result["rolled_back"] is True
    assert state(vm) == "running", "it ran before"
    assert in_guest(vm, "cat /etc/golden-version /root/file").split() == ["1", "mine"]
    assert [name for name in site.volumes if ".root." in name] == [name for name in volumes if ".root." in name]
    assert definition(vm).findtext("uuid") in stored


def test_a_command_that_fails_tells_what_it_said(tiny: Template, guest_v1: Path, guest_v2: Path) -> None:
    tiny.publish(guest_v1)
    vm = tiny.make_vm("a")
    tiny.publish(guest_v2)
    in_guest(vm, "true")
    with pytest.raises(ModuleFailed, match="no database") as failure:
        run_module(
            "vm_restore",
            vm=vm,
            template_version="latest",
            health={"check": "command", "command": "echo no database; exit 3", "timeout": 25},
        )
    assert "3" in failure.value.result["msg"]
    assert in_guest(vm, "cat /etc/golden-version") == "1"


def test_many_vms_are_restored_at_once(tiny: Template, guest_v1: Path, guest_v2: Path) -> None:
    tiny.publish(guest_v1)
    vms = [tiny.make_vm(f"m{n}") for n in range(3)]
    tiny.publish(guest_v2)
    for vm in vms:
        in_guest(vm, "true")
    script = (
        "import sys; from support.modules import run_module\n"
        "run_module('vm_restore', vm=sys.argv[1], template_version='latest', health={'check': 'agent'})"
    )

    def restore(vm: str) -> None:
        tests = str(Path(__file__).parents[1])
        command = [sys.executable, "-c", script, vm]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PYTHONPATH": tests})
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(restore, vms))
    assert {in_guest(vm, "cat /etc/golden-version") for vm in vms} == {"2"}
