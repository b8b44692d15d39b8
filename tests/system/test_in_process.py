"""Modules in Ansible's own process: where that is done, and that it is no difference to the user."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.fixtures import Site, make_disk
from support.modules import run_module
from support.playbooks import Controller, Run

from .conftest import HARDWARE

STARTED = "Using module file"
"""What Ansible says at a high verbosity of a module that it starts."""
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
SECRET = "correct horse battery staple"
HERE = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """Return the path of this Python by another name: for Ansible it is another one."""
    path = tmp_path / "python-elsewhere"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


def play(folder: Path, tasks: list[dict[str, Any]], *words: str, **play_words: Any) -> Run:
    """Run tasks at localhost, from a folder that is not that of the playbook."""
    playbook = folder / "playbook" / "tasks.yml"
    playbook.parent.mkdir(exist_ok=True)
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks, **play_words}]))
    return Controller(folder).run("ansible-playbook", str(playbook), "-vvv", *words, ANSIBLE_LOCALHOST_WARNING="false")


def test_the_result_is_the_same(site: Site, tmp_path: Path, another: Path) -> None:
    (tmp_path / "playbook").mkdir()
    make_disk(tmp_path / "playbook" / "disk.qcow2")  # a relative path begins where the playbook is
    publish = {
        "template": "web",
        "storage_pool": site.storage_pool,
        "create_base": True,
        "source": {"path": "disk.qcow2"},
        "version": "7",
    }
    asked: dict[str, dict[str, Any]] = {
        "would_change": {"golden.libvirt.template_version": publish, "check_mode": True, "diff": True},
        "looked": {"golden.libvirt.storage_pool_info": {"storage_pool": site.storage_pool}},
        "refused": {"golden.libvirt.vm_restore": {"vm": site.vm("none")}, "ignore_errors": True},
        "unknown_option": {"golden.libvirt.vm_restore": {"vm": "a", "nonsense": 1}, "ignore_errors": True},
        "bad_value": {"golden.libvirt.vm_restore": {"vm": "a", "start": "perhaps"}, "ignore_errors": True},
        "secret": {
            "golden.libvirt.vm_payload": {"vm": site.vm("none"), "files": [{"name": "a", "content": SECRET}]},
            "ignore_errors": True,
        },
        "twice": {
            "golden.libvirt.template_version": {**publish, "template": "{{ item }}"},
            "check_mode": True,
            "loop": ["one", "two"],
        },
    }
    tasks = [{"name": name, **task, "register": name} for name, task in asked.items()]
    told = ", ".join(f"'{name}': {name}" for name in asked)
    tasks.append({"ansible.builtin.copy": {"content": f"{{{{ {{{told}}} | to_json }}}}", "dest": "{{ result }}"}})
    results = []
    for number, interpreter in enumerate((sys.executable, str(another))):
        path = tmp_path / f"result-{number}.json"
        words = json.dumps({"ansible_python_interpreter": interpreter, "result": str(path)})
        run = play(tmp_path, tasks, "-e", words)
        assert run.rc == 0, run.output
        started = [line for line in run.output.splitlines() if STARTED in line and "golden" in line]
        assert bool(started) == (number == 1)
        assert SECRET not in run.output
        assert len(re.findall(r"WARNING\]: .*number", run.output)) == 1, "as Ansible does it, equal ones are shown once"
        results.append(json.loads(re.sub(TIME, "then", path.read_text())))
    here, apart = results
    for name in asked:
        assert here[name] == apart[name], name
    assert here["would_change"]["changed"]
    assert here["would_change"]["diff"]
    assert "there is no VM" in here["refused"]["msg"]
    assert "nonsense" in here["unknown_option"]["msg"]


@pytest.mark.parametrize(
    "words",
    [
        {"environment": {"LANG": "C.UTF-8"}},
        {"async": 60, "poll": 1},
        {"become": True, "become_method": "ansible.builtin.su"},
    ],
    ids=lambda words: next(iter(words)),
)
def test_what_asks_for_a_process_of_its_own_gets_one(tmp_path: Path, words: dict[str, Any]) -> None:
    run = play(tmp_path, [{"golden.libvirt.vm_info": {"uri": "test:///default"}, **words}], vars=HERE)
    assert STARTED in run.output  # whether that goes well is Ansible's: with async, it takes no path with a blank in it


def test_defaults_for_all_modules_and_a_delegated_task(tmp_path: Path) -> None:
    look = {"golden.libvirt.vm_info": {}, "ignore_errors": True}
    delegated = {**look, "delegate_to": "elsewhere", "vars": {"ansible_connection": "local", **HERE}}
    defaults = {"group/golden.libvirt.all": {"uri": "test:///no-such-file"}}
    run = play(tmp_path, [look, delegated], vars=HERE, module_defaults=defaults)
    assert run.rc == 0, run.output
    assert run.output.count('"msg": "cannot connect to \'test:///no-such-file\'') == 2
    assert STARTED not in run.output


def test_a_task_that_takes_too_long_is_ended(site: Site, tmp_path: Path) -> None:
    """The keyword ``timeout`` of Ansible reaches a module that waits, and what it has begun is taken back."""
    run_module("template_version", template="web", create_base=True, storage_pool=site.storage_pool,
               source={"path": str(make_disk(tmp_path / "disk.qcow2"))}, hardware=HARDWARE)  # fmt: skip
    vm = site.vm("a")
    health = {"check": "agent", "timeout": 60}
    make = {"name": vm, "template": "web", "state": "started", "storage_pools": [site.storage_pool], "health": health}
    run = play(tmp_path, [{"golden.libvirt.vm": make, "timeout": 8}], vars=HERE)
    assert run.rc == 2
    assert "timed out after 8" in run.text.lower(), run.output
    assert site.vms == []
    assert [name for name in site.volumes if ".root." in name] == []
