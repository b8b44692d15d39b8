"""A Debian guest set up by cloud-init from its payload, and set up again after a restore. The oracle is the guest."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.fixtures import GUESTS, REPOSITORY, Site
from support.modules import run_module
from support.payload import needs_hook
from support.points import EVERY_POINT

USER_DATA = {
    "users": [{"name": "ann", "shell": "/bin/sh", "lock_passwd": True}],
    "write_files": [{"path": "/etc/from-payload", "content": "Grüße, 世界\n"}],
}
ADDRESS = "10.213.0.77"
NETWORK = {"version": 2, "ethernets": {"eth0": {"addresses": [f"{ADDRESS}/24"], "optional": True}}}


def build(version: str) -> Path:
    """Return a Debian guest of this version."""
    image = GUESTS / f"debian-{version}.qcow2"
    GUESTS.mkdir(parents=True, exist_ok=True)
    script = REPOSITORY / "scripts" / "build-debian-guest.sh"
    subprocess.run(["bash", script, "--version", version, "--output", image], check=True, capture_output=True)
    return image


@pytest.fixture
def debian(site: Site, network: str) -> str:
    """Return a template with two versions of the Debian guest."""
    for version in ("1", "2"):
        image = build(version)
        run_module(
            "template_version",
            template="debian",
            storage_pool=site.storage_pool,
            create_base=True,
            source={"path": str(image)},
            hardware={"memory": "512MiB", "cpus": 1, "graphics": "none", "networks": [{"network": network}]},
        )
        image.unlink()
    return "debian"


def told(vm: str) -> dict[str, str]:
    """Return what the guest says once cloud-init is done."""
    virsh.wait_for_guest(vm, 400)
    questions = {
        "result": "tr -d '\\n ' </run/cloud-init/result.json",
        "version": "cat /etc/golden-version",
        "host": "hostname",
        "user": "id -un ann",
        "file": "cat /etc/from-payload",
        "address": "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1",
        "instance": "cat /var/lib/cloud/data/instance-id",
    }
    # each line is one answer; to start cloud-init, which can wait, too, would take the guest seconds
    script = "\n".join(f'echo "{name}=$({question})"' for name, question in questions.items())
    done = virsh.in_guest(vm, f"until [ -e /run/cloud-init/result.json ]; do sleep 1; done\n{script}", timeout=400)
    return dict(line.split("=", 1) for line in done.splitlines())


def test_set_up_and_set_up_again_after_a_restore(site: Site, debian: str) -> None:
    vm = site.vm("a")
    payload: dict[str, Any] = {"cloud_init": {"user_data": USER_DATA, "network_config": NETWORK}}
    wanted = {"name": vm, "template": debian, "template_version": "1", "storage_pools": [site.storage_pool]}
    run_module("vm", **wanted, payload=payload, state="started")
    first = told(vm)
    expected = {"host": vm, "user": "ann", "file": "Grüße, 世界", "address": ADDRESS}
    assert expected.items() <= first.items(), first
    assert first["version"] == "1"
    assert '"errors":[]' in first["result"]
    before = virsh.identity(vm)
    run_module("vm_restore", vm=vm, template_version="2", health={"check": "agent", "timeout": 400})
    second = told(vm)
    assert second == {**first, "version": "2"}, "the new root is not set up as the old one was"
    assert virsh.identity(vm) == before
    assert not run_module("vm", name=vm, payload=payload)["changed"]


def test_dhcp_when_nothing_is_said_of_the_network(site: Site, debian: str) -> None:
    needs_hook()
    # by default without one that has a CD, as the test above boots two of them: each boot takes a minute or two
    vms = {"network": site.vm("c"), **({"cdrom": site.vm("b")} if EVERY_POINT else {})}
    for kind, vm in vms.items():
        wanted = {"name": vm, "template": debian, "storage_pools": [site.storage_pool]}
        run_module("vm", **wanted, payload={"type": kind, "cloud_init": {"user_data": USER_DATA}}, state="started")
    for vm in vms.values():
        found = told(vm)
        assert (found["host"], found["user"], found["file"]) == (vm, "ann", "Grüße, 世界")
        leases = virsh.virsh("domifaddr", vm, "--source", "lease")
        assert found["address"] in leases
        assert found["address"].startswith("10.213.")
