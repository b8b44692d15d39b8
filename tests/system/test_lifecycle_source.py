"""The event source with a real libvirtd: VMs without an operating system, and connections that break."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.events import Relay, Source, made_relay, running_source
from support.faults import RUN, Fault
from support.fixtures import Site
from support.metadata import set_lease, set_metadata
from support.modules import run_module
from support.tasks import Tasks, task
from support.virsh import NAMESPACE, comes_up, definition, metadata, state, virsh


@pytest.fixture
def relay() -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="gldtest-"))
    try:
        with made_relay(folder) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def desk(site: Site, template: str) -> str:
    """Return the name of a pool of two."""
    run_module("vm_pool", vm_pool=site.vm("desk"), template="web", count=2, storage_pools=[site.storage_pool])
    return site.vm("desk")


def test_what_events_say(site: Site, desk: str) -> None:
    vm = f"{desk}-1"
    foreign = site.vm("foreign")
    set_lease(vm, "ada")
    with running_source(vm_pools=[desk]) as source:
        connected = source.wait(event="connected")
        assert (connected["detail"], connected["down"], connected["down_count"]) == ("initial", site.vms, 2)
        xml = f"<domain type='qemu'><name>{foreign}</name><memory>65536</memory><os><type>hvm</type></os></domain>"
        virsh("create", "/dev/stdin", stdin=xml)
        virsh("destroy", foreign)
        virsh("start", vm)
        virsh("suspend", vm)
        virsh("resume", vm)
        virsh("destroy", vm)
        event = source.wait(event="stopped", vm=vm)
    kept = metadata(vm)
    root = kept.find(f"{NAMESPACE}root")
    assert root is not None
    assert event == {
        "event": "stopped",
        "detail": "destroyed",
        "running": False,
        "uri": "qemu:///system",
        "hypervisor": virsh("hostname"),
        "vm": vm,
        "uuid": definition(vm).findtext("uuid"),
        "vm_pool": desk,
        "template": "web",
        "template_storage_pool": site.storage_pool,
        "template_version": 2,
        "root_volume": root.attrib["volume"],
        "stateless": True,
        "follows_latest": True,
        "auto_refresh": True,
        "taken": True,
        "lease_user": "ada",
        "pending": "",
    }
    assert {"started", "suspended", "resumed", "stopped"} <= {event["event"] for event in source.events}
    assert source.of(vm) == [("started", "booted"), ("stopped", "destroyed")]
    assert {event.get("vm") for event in source.events} == {None, vm}, "others give no events"


def test_vms_that_come_and_go(site: Site, template: str) -> None:
    vm = site.vm("lab")
    with running_source(vms=[vm]) as source:
        options: dict[str, Any] = {"name": vm, "template": "web", "storage_pools": [site.storage_pool]}
        run_module("vm", state="started", **options)
        assert source.wait(event="started", vm=vm)["stateless"] is False
        run_module("vm", name=vm, state="absent", wait_timeout=1)
        source.wait(event="undefined", vm=vm)
    assert [kind for kind, _detail in source.of(vm)] == ["started", "stopped"]


def test_damaged_metadata_gives_no_events_and_stops_nothing(desk: str) -> None:
    kept = metadata(f"{desk}-1")
    kept.attrib.pop("stateless")
    set_metadata(f"{desk}-1", kept)
    with running_source(vm_pools=[desk]) as source:
        for number in (1, 2):
            virsh("start", f"{desk}-{number}")
            virsh("destroy", f"{desk}-{number}")
        source.wait(event="stopped", vm=f"{desk}-2")
        assert source.end() == 0
    assert source.of(f"{desk}-1") == []
    assert f"metadata of VM '{desk}-1' is damaged" in source.said


def test_what_happens_while_there_is_no_connection(site: Site, desk: str, relay: Relay) -> None:
    lab = site.vm("lab")
    run_module("vm", name=lab, template="web", storage_pools=[site.storage_pool], state="started")
    virsh("start", f"{desk}-1")
    virsh("start", f"{desk}-2")
    with running_source(uri=relay.uri, vm_pools=[desk], vms=[lab]) as source:
        relay.close()
        virsh("destroy", f"{desk}-1")
        virsh("destroy", f"{desk}-2")
        virsh("start", f"{desk}-2")
        relay.open()
        again = source.wait(event="connected", detail="again")
        assert source.of(f"{desk}-1") == [("stopped", "missed")]
        assert source.of(f"{desk}-2") == [("stopped", "missed"), ("started", "missed")]
        assert source.of(lab) == []
        assert again["down"] == [f"{desk}-1"]
        virsh("destroy", f"{desk}-2")
        assert source.wait(event="stopped", detail="destroyed", vm=f"{desk}-2")["uri"] == relay.uri


def test_a_run_is_told_from_another_one_of_the_same_number(desk: str, relay: Relay) -> None:
    """libvirt counts from 1 again when it was started anew; then only the mark differs."""
    vm = f"{desk}-1"
    virsh("start", vm)
    with running_source(uri=relay.uri, vm_pools=[desk]) as source:
        mark = ["metadata", vm, "https://golden.libvirt/run/1"]
        assert "id=" in virsh(*mark)
        assert "golden.libvirt/run" not in virsh("dumpxml", vm, "--inactive")
        relay.close()
        virsh(*mark, "--key", "golden-run", "--set", "<run id='other'/>", "--live")
        relay.open()
        source.wait(event="connected", detail="again")
        assert source.of(vm) == [("stopped", "missed"), ("started", "missed")]
        relay.close()
        relay.open()
        source.wait(2, event="connected", detail="again")
        assert len(source.of(vm)) == 2, "nothing has happened since"


def test_saved_memory_is_no_shutdown(desk: str, relay: Relay) -> None:
    virsh("start", f"{desk}-1")
    virsh("start", f"{desk}-2")
    with running_source(uri=relay.uri, vm_pools=[desk]) as source:
        virsh("managedsave", f"{desk}-1")
        source.wait(event="stopped", detail="saved", vm=f"{desk}-1")
        relay.close()
        virsh("managedsave", f"{desk}-2")
        relay.open()
        assert source.wait(event="connected", detail="again")["down"] == []
        assert source.of(f"{desk}-2") == [("stopped", "saved")]


def test_a_job_at_work_is_named(desk: str, tasks: Tasks, tmp_path: Path) -> None:
    """A restore stops the VM itself: its event says so. The restore waits until the source has looked at the VM."""
    vm, seen = f"{desk}-1", tmp_path / "seen"
    restore = task("vm_restore", vm=vm, force=True, shutdown={"mode": "force"})
    virsh("start", vm)
    calls = tasks.run(restore).calls
    after_stop = next(number for number, call in enumerate(calls) if call.startswith("virDomainDestroy")) + 1
    wait = "sh", "-c", f"until [ -e '{seen}' ]; do sleep 0.05; done"
    with running_source(vm_pools=[desk]) as source:
        process = tasks.begin(restore, Fault(RUN, after_stop, command=("timeout", "120", *wait)))
        assert source.wait(event="stopped", vm=vm)["pending"] == "switch"
        seen.touch()
        tasks.end(process).succeeded()
        source.wait(event="started", vm=vm)
    assert state(vm) == "running"


def test_a_connection_that_hangs_is_noticed(desk: str, relay: Relay) -> None:
    virsh("start", f"{desk}-1")
    with running_source(uri=relay.uri, vm_pools=[desk]) as source:
        relay.hang()
        virsh("destroy", f"{desk}-1")
        source.wait(event="connected", detail="again", timeout=120)
        assert source.of(f"{desk}-1") == [("stopped", "missed")]


def test_a_hypervisor_that_cannot_be_reached_does_not_hinder_the_others(desk: str, relay: Relay) -> None:
    relay.close()
    with running_source(uris=[relay.uri, "qemu:///system"], vm_pools=[desk]) as source:
        virsh("start", f"{desk}-1")
        source.wait(event="started", vm=f"{desk}-1", uri="qemu:///system")
        relay.open()
        source.wait(event="connected", uri=relay.uri)
        virsh("destroy", f"{desk}-1")
        source.wait(2, event="stopped", vm=f"{desk}-1")
        assert source.end() == 0
    assert relay.uri in source.said
    assert "Traceback" not in source.said


class Daemon:
    """A libvirtd of the test's own, which can be stopped and started; it runs as a user without rights."""

    def __init__(self, folder: Path) -> None:
        self.runtime = folder / "run"
        self.socket = self.runtime / "libvirt" / "libvirt-sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(self.runtime)}
        self.runtime.mkdir()
        for path in (folder, self.runtime):
            shutil.chown(path, "nobody", "nogroup")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "libvirtd"]
        self.process = subprocess.Popen(words, env=self.environment, stderr=subprocess.DEVNULL)
        assert comes_up(self.uri)

    def stop(self) -> None:
        """Stop it; VMs run on."""
        self.process.terminate()
        self.process.wait()

    def virsh(self, *words: str, check: bool = True, stdin: str = "") -> None:
        """Run virsh with it."""
        subprocess.run(["virsh", "-q", "-c", self.uri, *words], check=check, input=stdin, text=True)

    def kill(self, vm: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a VM behind its back, or do something else to its process."""
        pid = int((self.runtime / "libvirt" / "qemu" / "run" / f"{vm}.pid").read_text())
        os.kill(pid, how)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    folder = Path(tempfile.mkdtemp(prefix="gldtest-"))
    folder.chmod(0o755)
    made = Daemon(folder)
    made.start()
    try:
        yield made
    finally:
        made.virsh("destroy", "gldtest-vm", check=False)
        made.stop()
        shutil.rmtree(folder)


@pytest.fixture
def running_vm(daemon: Daemon) -> str:
    """Return a managed VM that runs, of that libvirtd."""
    root = "<g:root volume='a' storage_pool='b' template='c' template_storage_pool='b' version='1'/>"
    ours = f"<g:vm xmlns:g='{NAMESPACE[1:-1]}' follows='latest' stateless='yes'>{root}</g:vm>"
    memory = "<memory unit='MiB'>32</memory><os><type>hvm</type></os>"
    xml = f"<domain type='qemu'><name>gldtest-vm</name>{memory}<metadata>{ours}</metadata></domain>"
    daemon.virsh("define", "/dev/stdin", stdin=xml)
    daemon.virsh("start", "gldtest-vm")
    return "gldtest-vm"


def test_libvirtd_is_restarted(daemon: Daemon, running_vm: str) -> None:
    with running_source(uri=daemon.uri) as source:
        daemon.stop()
        daemon.start()
        source.wait(event="connected", detail="again")
        assert source.of(running_vm) == [], "it ran on"
        daemon.stop()
        daemon.kill(running_vm)
        daemon.start()
        source.wait(event="stopped", vm=running_vm)  # before it is connected, or when libvirtd has noticed
        source.wait(2, event="connected", detail="again")
        assert source.of(running_vm) == [("stopped", "missed")]
        daemon.virsh("start", running_vm)
        source.wait(event="started", detail="booted")


def test_a_vm_goes_while_libvirtd_comes_up(daemon: Daemon, running_vm: str) -> None:
    """libvirtd takes it for running, and tells nobody when it notices."""
    with running_source(uri=daemon.uri) as source:
        daemon.stop()
        daemon.kill(running_vm, signal.SIGSTOP)  # it holds up libvirtd, which asks it how it is
        daemon.start()
        source.wait(event="connected", detail="again")
        assert source.of(running_vm) == []
        daemon.kill(running_vm)
        source.wait(event="stopped", vm=running_vm)
        assert len(source.of(running_vm)) == 1


def test_wrong_options_end_it() -> None:
    source = Source({"vm_pool": "desk"})
    source.process.wait(timeout=60)
    assert source.end() == 1
    assert "has no vm_pool" in source.said
