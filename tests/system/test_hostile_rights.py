"""What modules make on a real libvirtd is readable by nobody else, and what they were told in secret is in no log."""

from __future__ import annotations

from pathlib import Path

import yaml

from support.fixtures import Site
from support.modules import run_module
from support.playbooks import Controller
from support.virsh import virsh

MARKER = "s3cr3t-Pa55w0rd"


def readable_by_others(folder: Path) -> list[str]:
    """Return the files of a folder that any user of the host can read or write."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o007)


def test_no_volume_is_readable_by_others(site: Site, template: str) -> None:
    vm = site.vm("a")
    made = {
        "name": vm,
        "template": template,
        "storage_pools": [site.storage_pool],
        "volumes": [{"size": "8MiB", "device_id": 1}],
        "payload": {"files": [{"name": "password", "content": MARKER}]},
    }
    run_module("vm", state="started", **made)
    assert len(site.volumes) == 7
    assert readable_by_others(site.folder) == []
    run_module("vm", name=vm, state="stopped", wait_timeout=0)
    run_module("vm_restore", vm=vm, force=True, keep_previous=True)
    run_module("template_version", template=template, storage_pool=site.storage_pool, source={"vm": vm})
    run_module("vm_payload", vm=vm, type="floppy", files=[{"name": "password", "content": MARKER}])
    assert len(site.volumes) == 10
    assert readable_by_others(site.folder) == []
    run_module("vm", name=vm, state="started")
    assert readable_by_others(site.folder) == []


def test_a_secret_is_in_no_output_at_the_highest_verbosity(site: Site, template: str, tmp_path: Path) -> None:
    run_module("vm", name=site.vm("a"), template=template, storage_pools=[site.storage_pool])
    tasks = {
        "vm_payload": {"vm": site.vm("a"), "cloud_init": {"user_data": "{{ secret }}"}},
        "guest_command": {"vm": site.vm("a"), "command": "true", "stdin": "{{ secret }}"},  # fails: the VM is down
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "connection": "local",
        "vars_files": ["secret.yml"],
        "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "tasks": [
            {f"golden.libvirt.{module}": options, "ignore_errors": True, "diff": True}
            for module, options in tasks.items()
        ],
    }
    (tmp_path / "secret.yml").write_text(yaml.safe_dump({"secret": MARKER}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    settings = {"ANSIBLE_LOG_PATH": str(tmp_path / "log"), "ANSIBLE_INJECT_INVOCATION": "true"}
    run = Controller(tmp_path).run("ansible-playbook", "-vvvv", "play.yml", **settings)
    assert run.rc == 0, run.output
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in run.output
    assert "a command needs a guest that runs" in run.text
    assert MARKER not in run.output
    assert MARKER not in (tmp_path / "log").read_text()
    assert MARKER not in virsh("dumpxml", site.vm("a"), "--security-info")
