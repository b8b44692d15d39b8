"""Payloads on a real libvirtd: volumes, drives and their owners."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.payload import drives, needs_hook, payloads
from support.playbooks import Controller
from support.replay import replay
from support.virsh import definition, metadata, state, virsh
from support.waiting import until

MARKER = "gldtest-tell-nobody-7f3a"
FILES = [{"name": "etc/motd", "content": f"{MARKER}\n"}, {"name": "привет.txt", "content": ""}]
OTHER = [{"name": "other", "content": "AAEC/w==", "encoding": "base64"}]


@pytest.fixture
def vm(site: Site, template: str) -> str:
    """Return the name of a stopped VM."""
    run_module("vm", name=site.vm("a"), template=template, storage_pools=[site.storage_pool])
    return site.vm("a")


def refused(vm: str, **options: Any) -> str:
    """Run the module, which must fail, and return its message."""
    with pytest.raises(ModuleFailed) as failure:
        run_module("vm_payload", vm=vm, **options)
    return str(failure.value)


def owner(path: Path) -> tuple[str, str]:
    """Return the octal mode and the owner of a file."""
    found = path.stat()
    return oct(stat.S_IMODE(found.st_mode)), path.owner()


def listed(image: Path) -> dict[str, str]:
    """Return the contents of a CD, read by xorriso."""
    script = ["xorriso", "-indev", f"stdio:{image}", "-find", "/", "-type", "f", "-exec", "lsdl"]
    done = subprocess.run(script, check=True, capture_output=True, text=True)
    return {line.rpartition("'")[0].partition("'")[2]: line for line in done.stdout.splitlines() if "'" in line}


def test_a_permanent_payload(site: Site, vm: str) -> None:
    before = definition(vm)
    done = replay("vm_payload", vm=vm, files=FILES)
    payload = done["payload"]
    image = site.folder / payload["volume"]
    assert payload["volume"] == f"{vm}.payload.{payload['sha256'][:12]}.iso"
    assert hashlib.sha256(image.read_bytes()).hexdigest() == payload["sha256"]
    assert payload["files"][0] == {
        "name": "etc/motd",
        "size": len(MARKER) + 1,
        "sha256": hashlib.sha256(f"{MARKER}\n".encode()).hexdigest(),
    }
    assert set(listed(image)) == {"/etc/motd", "/привет.txt"}
    assert owner(image) == ("0o600", "root")
    virsh("start", vm)
    assert state(vm) == "running"
    assert owner(image) == ("0o600", "libvirt-qemu")
    assert drives(vm, live=True) == {"sda": payload["volume"]}
    assert run_module("vm_info", name=vm)["vms"][0]["payload"]["disc_changed"] is False
    virsh("destroy", vm)
    replay("vm_payload", vm=vm, state="absent")
    after = definition(vm)
    assert [len(xml.findall("devices/disk")) for xml in (before, after)] == [1, 1]
    assert payloads(site) == []


def test_the_disc_is_swapped_while_the_vm_runs(site: Site, vm: str) -> None:
    run_module("vm_payload", vm=vm, files=FILES)
    virsh("start", vm)
    done = replay("vm_payload", vm=vm, files=OTHER)
    volume = done["payload"]["volume"]
    assert (drives(vm), drives(vm, live=True), payloads(site)) == ({"sda": volume}, {"sda": volume}, [volume])
    assert owner(site.folder / volume) == ("0o600", "libvirt-qemu")
    assert volume in virsh("qemu-monitor-command", vm, "--hmp", "info block")
    replay("vm_payload", vm=vm, state="absent")
    assert (drives(vm), drives(vm, live=True), payloads(site)) == ({}, {"sda": ""}, [])


def test_a_running_vm_without_a_drive(site: Site, vm: str) -> None:
    virsh("start", vm)
    done = run_module("vm_payload", vm=vm, type="floppy", files=FILES)
    assert [warning for warning in done["warnings"] if "next started" in str(warning)]
    assert (list(drives(vm)), drives(vm, live=True)) == (["fda"], {})
    virsh("destroy", vm)
    virsh("start", vm)
    assert drives(vm, live=True) == drives(vm)
    assert owner(site.folder / done["payload"]["volume"]) == ("0o600", "libvirt-qemu")


def test_a_disc_of_another_tool_is_noticed_and_replaced(site: Site, vm: str) -> None:
    done = run_module("vm_payload", vm=vm, files=FILES)
    virsh("start", vm)
    other = site.folder / "other.iso"
    other.write_bytes(bytes(4096))
    virsh("change-media", vm, "sda", str(other), "--live")
    assert run_module("vm_info", name=vm)["vms"][0]["payload"]["disc_changed"] is True
    again = run_module("vm_payload", vm=vm, files=FILES)
    assert again["changed"]
    assert [warning for warning in again["warnings"] if "other.iso" in str(warning)]
    assert drives(vm, live=True) == {"sda": done["payload"]["volume"]}


def test_a_regular_disc_is_refused(site: Site, vm: str) -> None:
    other = site.folder / "other.iso"
    other.write_bytes(bytes(4096))
    virsh("attach-disk", vm, str(other), "sda", "--type", "cdrom", "--targetbus", "sata", "--config")
    assert f"has {other} in its CD drive 'sda'" in refused(vm, files=FILES)
    assert payloads(site) == []
    virsh("change-media", vm, "sda", "--eject", "--config")
    replay("vm_payload", vm=vm, files=FILES)
    assert len(drives(vm)) == 1
    replay("vm_payload", vm=vm, state="absent")
    assert drives(vm) == {"sda": ""}


def test_a_volume_that_was_deleted_behind_libvirts_back_is_made_again(site: Site, vm: str) -> None:
    done = run_module("vm_payload", vm=vm, files=FILES)
    (site.folder / done["payload"]["volume"]).unlink()
    again = run_module("vm_payload", vm=vm, files=FILES)
    assert again["changed"]
    assert payloads(site) == [done["payload"]["volume"]]
    virsh("start", vm)


def test_ignition(site: Site, vm: str) -> None:
    done = replay("vm_payload", vm=vm, ignition={"ignition": {"version": "3.4.0"}, "secret": MARKER})
    file = site.folder / done["payload"]["volume"]
    assert json.loads(file.read_text())["secret"] == MARKER
    entry = definition(vm).find("sysinfo[@type='fwcfg']/entry")
    assert entry is not None
    assert entry.attrib == {"name": "opt/com.coreos/config", "file": str(file)}
    virsh("start", vm)
    assert owner(file) == ("0o600", "libvirt-qemu")
    assert MARKER not in virsh("dumpxml", vm)
    assert (
        "opt/com.coreos/config"
        in virsh("qemu-monitor-command", vm, "--hmp", "info qtree")
        + Path(f"/var/log/libvirt/qemu/{vm}.log").read_text()
    )
    virsh("destroy", vm)
    replay("vm_payload", vm=vm, state="absent")
    assert definition(vm).find("sysinfo") is None


def test_one_run(site: Site, vm: str) -> None:
    before = virsh("dumpxml", vm, "--inactive")
    done = replay("vm_payload", vm=vm, files=FILES, availability="run_once")
    volume = done["payload"]["volume"]
    assert state(vm) == "running"
    assert drives(vm, live=True) == {"sda": volume}
    assert virsh("dumpxml", vm, "--inactive") == before
    assert "stop the VM first" in refused(vm, files=OTHER, availability="run_once")
    virsh("destroy", vm)
    assert virsh("dumpxml", vm, "--inactive") == before
    run_module("vm", name=vm)
    assert payloads(site) == []
    again = run_module("vm_payload", vm=vm, files=FILES, availability="run_once")
    assert (again["changed"], payloads(site), state(vm)) == (True, [volume], "running")


def test_one_run_beside_a_permanent_payload(site: Site, vm: str) -> None:
    always = run_module("vm_payload", vm=vm, files=FILES)["payload"]["volume"]
    once = run_module("vm_payload", vm=vm, files=OTHER, availability="run_once")["payload"]["volume"]
    assert (drives(vm), drives(vm, live=True)) == ({"sda": always}, {"sda": once})
    virsh("destroy", vm)
    run_module("vm", name=vm, state="started")
    assert (drives(vm, live=True), payloads(site)) == ({"sda": always}, [always])


def test_the_hook_deletes_the_payload_of_one_run(site: Site, vm: str) -> None:
    needs_hook()
    run_module("vm_payload", vm=vm, files=FILES, availability="run_once")
    assert len(payloads(site)) == 1
    virsh("destroy", vm)
    until(lambda: payloads(site) == [])
    assert run_module("vm_payload", vm=vm, files=FILES, availability="run_once")["changed"]
    assert state(vm) == "running"
    virsh("destroy", vm)
    until(lambda: payloads(site) == [])
    assert not run_module("vm", name=vm)["changed"]
    assert run_module("storage_pool_info", storage_pool=site.storage_pool)["storage_pools"]


def test_the_hook_leaves_a_payload_that_became_permanent(site: Site, vm: str) -> None:
    needs_hook()
    run_module("vm_payload", vm=vm, files=FILES, availability="run_once")
    volume = run_module("vm_payload", vm=vm, files=FILES)["payload"]["volume"]
    virsh("destroy", vm)
    assert payloads(site) == [volume]
    virsh("start", vm)


def test_the_payload_goes_with_the_vm(site: Site, vm: str) -> None:
    run_module("vm_payload", vm=vm, files=FILES)
    run_module("vm_payload", vm=vm, files=OTHER, availability="run_once")
    assert len(payloads(site)) == 2
    run_module("vm", name=vm, state="absent", wait_timeout=1)
    assert payloads(site) == []


def test_the_payload_stays_through_a_restore(site: Site, vm: str) -> None:
    volume = run_module("vm_payload", vm=vm, files=FILES)["payload"]["volume"]
    run_module("vm_restore", vm=vm, force=True)
    assert (drives(vm), payloads(site)) == ({"sda": volume}, [volume])
    assert metadata(vm).find("{https://golden.libvirt/vm/1}payload") is not None


def logs() -> str:
    """Return all that the system has logged where such things go."""
    found = [Path("/var/log/syslog"), Path("/var/log/messages"), *Path("/var/log/libvirt").rglob("*.log")]
    text = "".join(path.read_text(errors="replace") for path in found if path.exists())
    if Path("/run/systemd/system").exists():
        text += subprocess.run(["journalctl", "-b"], capture_output=True, text=True, check=False).stdout
    return text


def test_the_content_is_nowhere_but_on_the_volume(site: Site, vm: str, tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    encoded, in_base64 = base64.b64encode(MARKER.encode()).decode(), {"encoding": "base64"}
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "tasks": [
                {"golden.libvirt.vm_payload": {"vm": vm, **options}, "diff": True, "ignore_errors": True}
                for options in (
                    {
                        "files": [
                            {"name": "a", "content": MARKER},
                            {"name": "b", "content": encoded, "encoding": "base64"},
                        ]
                    },
                    {"files": [{"name": "a", "content": MARKER}], "max_file_size": "1"},
                    {"files": [{"name": "a", "content": MARKER}], "ignition": MARKER},
                    {"files": [{"name": "a", "content": f"%{MARKER}", **in_base64}]},
                    {"cloud_init": {"user_data": {"password": MARKER}, "meta_data": MARKER}},
                    {"cloud_init": {"user_data": {"password": MARKER}}},
                    {"sysprep": {"content": f"<a>{MARKER}"}},
                    {"ignition": "{" + MARKER},
                    {"ignition": {"x": MARKER}},
                    {"state": "wrong", "ignition": {"x": MARKER}},
                )
            ],
        }
    ]
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps(play))
    run = controller.run("ansible-playbook", "-i", "localhost,", "-vvvv", "--diff", str(playbook))
    assert run.output.count("TASK [golden.libvirt.vm_payload]") == len(play[0]["tasks"])
    assert "ignored=7" in run.output
    for text in (run.output, logs(), virsh("dumpxml", vm)):
        assert MARKER not in text
        assert encoded not in text


def test_the_members_of_a_pool_have_their_own(site: Site, template: str) -> None:
    seed = {"user_data": {"hostname": "@vm@", "fqdn": "@vm@.example"}}
    options = {"vm_pool": site.vm("p"), "template": template, "storage_pools": [site.storage_pool], "count": 2}
    run_module("vm_pool", **options, payload={"cloud_init": seed})
    names = [site.vm("p-1"), site.vm("p-2")]
    images = {name: site.folder / drives(name)["sda"] for name in names}
    for name, image in images.items():
        assert f'"hostname": "{name}"'.encode() in image.read_bytes()
        assert f'"local-hostname": "{name}"'.encode() in image.read_bytes()
    assert not run_module("vm_pool", **options, payload={"cloud_init": seed})["changed"]
    run_module("vm_pool", vm_pool=site.vm("p"), state="absent")
    assert payloads(site) == []


def test_a_new_vm_is_replayed_with_its_payload(site: Site, template: str) -> None:
    options = {"name": site.vm("b"), "template": template, "storage_pools": [site.storage_pool], "state": "started"}
    done = replay("vm", **options, payload={"type": "floppy", "files": FILES})
    assert drives(site.vm("b"), live=True) == {"fda": done["vm"]["payload"]["volume"]}
