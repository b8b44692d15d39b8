"""What the playbook rescue_root refuses before anything has changed. The oracle is virsh."""

from __future__ import annotations

from pathlib import Path

from support.fixtures import Site
from support.modules import run_module
from support.playbooks import Controller
from support.virsh import definition


def test_a_stateless_vm(site: Site, template: str, tmp_path: Path) -> None:
    for name in ("a", "tools"):
        run_module("vm", name=site.vm(name), template=template, storage_pools=[site.storage_pool], stateless=True)
    before = definition(site.vm("a"))
    run = Controller(tmp_path).play(
        "rescue_root",
        rescue_root_vm=site.vm("a"),
        rescue_root_rescue_vm=site.vm("tools"),
        rescue_root_uri="qemu:///system",
    )
    assert run.rc != 0
    assert f"VM {site.vm('a')} is stateless" in run.text
    assert definition(site.vm("a")).attrib == before.attrib
    assert len(definition(site.vm("a")).findall("devices/disk")) == len(before.findall("devices/disk"))
