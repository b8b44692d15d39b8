"""ansible-rulebook for real: the event source, and the rulebook that restores VMs which go down."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.events import Relay, made_relay
from support.fixtures import Site, make_disk
from support.metadata import set_lease
from support.modules import run_module
from support.rulebook import Rulebook, running
from support.virsh import NAMESPACE, metadata, root_path, state, virsh
from support.waiting import until


@pytest.fixture
def relay() -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="gldtest-"))
    try:
        with made_relay(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def publish(site: Site, tmp_path: Path) -> Callable[[], int]:
    """Return what publishes the next version of the template web."""

    marks = iter("abc")

    def next_version() -> int:
        image = make_disk(tmp_path / "image.qcow2", mark=next(marks))
        done = run_module(
            "template_version",
            template="web",
            storage_pool=site.storage_pool,
            create_base=True,
            source={"path": str(image)},
            hardware={"memory": "64MiB", "networks": [], "graphics": "none"},
        )
        version: int = done["template_version"]["version"]
        return version

    next_version()
    return next_version


@pytest.fixture
def make_pool(site: Site, publish: Callable[[], int]) -> Callable[..., str]:
    """Return what makes a pool and returns its name."""

    def make(name: str, **options: Any) -> str:
        run_module("vm_pool", vm_pool=site.vm(name), template="web", storage_pools=[site.storage_pool], **options)
        return site.vm(name)

    return make


def version(vm: str) -> int:
    """Return the version that a VM is on."""
    root = metadata(vm).find(f"{NAMESPACE}root")
    assert root is not None
    return int(root.attrib["version"])


def settled(vm: str, wanted: str) -> bool:
    """Whether a VM is in a state, and no task is at work on it."""
    return state(vm) == wanted and metadata(vm).find(f"{NAMESPACE}pending") is None


def wait_restored(rulebook: Rulebook, vm: str, root: str, wanted: str) -> None:
    """Wait until a VM is not on this root any more, and in this state."""
    until(lambda: root_path(vm) != root and settled(vm, wanted), lambda: rulebook.output)


def test_a_rulebook_hears_of_vms(tmp_path: Path, make_pool: Callable[..., str], relay: Relay) -> None:
    desk = make_pool("desk", count=2, prestarted=2)
    rules = [{"name": "Any", "condition": "event.vm is defined", "action": {"debug": {"msg": SAY}}}]
    source = {"golden.libvirt.lifecycle": {"uri": "{{ uri }}", "vm_pools": ["{{ pool }}"]}}
    rulebook = [{"name": "Say", "hosts": "localhost", "sources": [source], "rules": rules}]
    (tmp_path / "say.yml").write_text(yaml.safe_dump(rulebook))
    with running(tmp_path, "say.yml", uri=relay.uri, pool=desk) as say:
        virsh("destroy", f"{desk}-1")
        say.wait(f"said {desk}-1 of {desk} stopped destroyed")
        relay.close()
        virsh("destroy", f"{desk}-2")
        relay.open()
        say.wait(f"said {desk}-2 of {desk} stopped missed")
    assert "Traceback" not in say.output


SAY = "said {{ event.vm }} of {{ event.vm_pool }} {{ event.event }} {{ event.detail }}"
REFRESH = "golden.libvirt.refresh_on_shutdown"


def test_stateless_vms_that_go_down_are_restored(
    tmp_path: Path, site: Site, make_pool: Callable[..., str], publish: Callable[[], int], relay: Relay
) -> None:
    desk, lab = make_pool("desk", count=2, prestarted=1), make_pool("lab", count=1, template_version="1", prestarted=1)
    stay, kept = make_pool("stay", count=1, auto_refresh=False), site.vm("kept")
    run_module("vm", name=kept, template="web", storage_pools=[site.storage_pool], state="started")
    for vm in (f"{desk}-2", f"{stay}-1"):
        virsh("start", vm)
    names = [f"{desk}-1", f"{desk}-2", f"{lab}-1", f"{stay}-1", kept]
    roots = {vm: root_path(vm) for vm in names}

    with running(tmp_path, REFRESH, golden_uris=[relay.uri], golden_vm_pools=[desk, lab, stay]) as rulebook:
        assert publish() == 2
        assert [version(vm) for vm in names] == [1] * 5
        for vm in (f"{lab}-1", f"{stay}-1", f"{desk}-1", kept):
            virsh("destroy", vm)
        wait_restored(rulebook, f"{desk}-1", roots[f"{desk}-1"], "shut off")
        assert version(f"{desk}-1") == 2
        for vm, wanted in ((f"{lab}-1", "running"), (f"{stay}-1", "shut off")):  # pinned; does not move by itself
            wait_restored(rulebook, vm, roots[vm], wanted)
            assert version(vm) == 1
            assert not Path(roots[vm]).exists()

        # down while there is no connection, in the place of the last free one that runs
        relay.close()
        virsh("destroy", f"{desk}-2")
        relay.open()
        until(lambda: version(f"{desk}-2") == 2, lambda: rulebook.output)
        until(lambda: "running" in (state(f"{desk}-1"), state(f"{desk}-2")), lambda: rulebook.output)

        # a task of the collection that stops a VM and starts it again
        up = next(vm for vm in names if vm.startswith(desk) and state(vm) == "running")
        generation = int(metadata(up).attrib["generation"])
        run_module("vm_restore", vm=up, force=True, shutdown={"mode": "force"})
        time.sleep(5)
        assert (state(up), int(metadata(up).attrib["generation"])) == ("running", generation + 1)
    assert (state(kept), root_path(kept)) == ("shut off", roots[kept])
    assert "fatal:" not in rulebook.output
    assert "Traceback" not in rulebook.output


def test_a_vm_that_its_user_shuts_down_is_returned(
    tmp_path: Path, make_pool: Callable[..., str], publish: Callable[[], int]
) -> None:
    desk = make_pool("desk", count=2)
    virsh("start", f"{desk}-1")
    set_lease(f"{desk}-1", "{{ 1 + 1 }}")
    set_lease(f"{desk}-2", "bob")  # shut down before the rulebook runs
    roots = {vm: root_path(vm) for vm in (f"{desk}-1", f"{desk}-2")}
    assert publish() == 2
    with running(tmp_path, REFRESH, golden_vm_pools=[desk]) as rulebook:
        virsh("destroy", f"{desk}-1")
        for vm, root in roots.items():
            wait_restored(rulebook, vm, root, "shut off")
            assert version(vm) == 2
            assert metadata(vm).find(f"{NAMESPACE}lease") is None
    assert "fatal:" not in rulebook.output
