"""The role vm, run as a user does: sizes and profiles by name. The oracle is virsh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.fixtures import Site
from support.playbooks import Controller, Run
from support.virsh import definition, image_info, state

SIZES = {
    "tiny": {"cpus": 1, "memory": 65536, "storage_size_in_gb": 1},
    "wide": {"cpus": 3, "memory": "96MiB"},
    "odd": {"cpus": "two", "memory": "96MiB"},
    "strange": {"cpus": 1, "disk": 3},
    "huge": {"memory": "5 elephants"},
    "flat": 7,
}


@pytest.fixture
def play(site: Site, template: str, tmp_path: Path) -> Any:
    """Return what runs the role with these variables."""
    web = {"size": "tiny", "template": template, "storage_pools": [site.storage_pool], "description": "a web server"}
    profiles = {
        "web": web,
        "disks": {**web, "volumes": [{"size": "8MiB"}]},
        "lost": {"size": "gigantic", "template": template},
        "typo": {"size": "tiny", "templte": template},
    }
    playbook = tmp_path / "play.yml"
    common = {"vm_name": site.vm("a"), "vm_sizes": SIZES, "vm_profiles": profiles}
    plays = [{"hosts": "localhost", "gather_facts": False, "vars": common, "roles": ["golden.libvirt.vm"]}]
    playbook.write_text(yaml.safe_dump(plays))

    def run(*words: str, **variables: Any) -> Run:
        return Controller(tmp_path).run("ansible-playbook", str(playbook), "-e", json.dumps(variables), *words)

    return run


def hardware(vm: str) -> tuple[str | None, str | None]:
    xml = definition(vm)
    return xml.findtext("vcpu"), xml.findtext("memory")


def test_a_vm_of_a_profile(site: Site, play: Any) -> None:
    vm = site.vm("a")
    dry = play("--check", vm_profile="web")
    assert (dry.rc, dry.changed, site.vms) == (0, 1, []), dry.output
    done = play(vm_profile="web", vm_size="", vm_template="", vm_state="", vm_autostart="", vm_networks=[])
    assert (done.rc, done.changed) == (0, 1), done.output
    assert hardware(vm) == ("1", "65536"), "a bare number is KiB"
    assert definition(vm).findtext("description") == "a web server"
    assert image_info(site.storage_pool, f"{vm}.root.1.qcow2")["virtual-size"] == 1024**3
    assert play(vm_profile="web").changed == 0

    larger = play(vm_profile="web", vm_size="wide", vm_description="wider", vm_state="started", vm_autostart="false")
    assert (larger.rc, larger.changed) == (0, 1), larger.output
    assert hardware(vm) == ("3", str(96 * 1024))
    assert (definition(vm).findtext("description"), state(vm)) == ("wider", "running")

    gone = play(vm_state="absent", vm_wait_timeout="1")
    assert (gone.rc, site.vms) == (0, []), gone.output


def test_a_vm_of_a_size_and_a_template(site: Site, play: Any, template: str) -> None:
    done = play(vm_size="wide", vm_template=template, vm_template_version="1", vm_storage_pools=[site.storage_pool])
    assert (done.rc, done.changed) == (0, 1), done.output
    assert hardware(site.vm("a")) == ("3", str(96 * 1024))


def test_a_profile_with_a_data_volume(site: Site, play: Any) -> None:
    done = play(vm_profile="disks")
    assert (done.rc, done.changed) == (0, 1), done.output
    disks = [disk.attrib["dev"] for disk in definition(site.vm("a")).iterfind("devices/disk/target")]
    assert disks == ["vda", "vdb"]
    assert play(vm_profile="disks").changed == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"vm_profile": "wep"}, "there is no profile wep in vm_profiles; known: disks, lost, typo, web"),
        ({"vm_profile": "wep", "vm_profiles": {}}, "there is no profile wep in vm_profiles; known: none"),
        (
            {"vm_size": "smal", "vm_template": "web"},
            "there is no size smal in vm_sizes; known: flat, huge, odd, strange, tiny, wide",
        ),
        ({"vm_profile": "lost"}, "there is no size gigantic in vm_sizes"),
        ({"vm_profile": "typo"}, "profile typo has templte; known: size, template"),
        ({"vm_profile": "web", "vm_size": "odd"}, "size odd is"),
        ({"vm_profile": "web", "vm_size": "strange"}, "size strange is"),
        ({"vm_profile": "web", "vm_size": "flat"}, "size flat is 7; it must be a dictionary"),
        ({"vm_profile": "web", "vm_size": "huge"}, "5 elephants"),
        ({"vm_profile": "web", "vm_name": ""}, "vm_name is not set"),
        ({"vm_profile": "web", "vm_state": "startet"}, "value of vm_state must be one of"),
    ],
)
def test_what_is_not_known_is_refused(site: Site, play: Any, variables: dict[str, Any], said: str) -> None:
    before = site.volumes
    run = play(**variables)
    assert run.rc == 2
    assert said in run.text
    assert (site.vms, site.volumes) == ([], before)


@pytest.mark.parametrize(("size", "expected"), [("small", ("1", 2)), ("medium", ("2", 4)), ("large", ("4", 8))])
def test_the_sizes_that_are_shipped(
    site: Site, template: str, tmp_path: Path, size: str, expected: tuple[str, int]
) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text("[{hosts: localhost, gather_facts: false, roles: [golden.libvirt.vm]}]")
    variables = {
        "vm_name": site.vm("a"),
        "vm_size": size,
        "vm_template": template,
        "vm_storage_pools": [site.storage_pool],
    }
    run = Controller(tmp_path).run("ansible-playbook", str(playbook), "-e", json.dumps(variables))
    assert run.rc == 0, run.output
    assert hardware(site.vm("a")) == (expected[0], str(expected[1] * 1024**2))
