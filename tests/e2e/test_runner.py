"""Jobs as AWX runs them: ansible-runner, a project, survey answers as strings, limits, dry runs, cancelled jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.faults import KILL, Fault
from support.fixtures import Site, make_disk
from support.modules import run_module
from support.playbooks import Controller
from support.rulebook import PROGRAMS
from support.surveys import TEMPLATES, questions
from support.tasks import Tasks, task
from support.virsh import NAMESPACE, metadata, root_path, state, virsh

JOB = Path(__file__).parents[1] / "support" / "runner_job.py"
KILLED_WITH_IT = ["unshare", "--pid", "--fork", "--kill-child"]
"""As with the container of a job: when it ends, nothing of it goes on."""


@dataclass(frozen=True)
class Job:
    """How a job ended."""

    status: str
    rc: int
    artifacts: dict[str, Any] | None
    kinds: list[str]
    output: str

    @property
    def text(self) -> str:
        """The output with every run of blanks as one space."""
        return " ".join(self.output.split())


class Awx:
    """A project whose playbooks are those of the collection, an inventory, and a pool of VMs without a system."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.pool = site.vm("desk")
        self.given = folder / "given"
        for part in ("project", "inventory"):
            (self.given / part).mkdir(parents=True)
        shutil.move(Controller(folder).inventory(), self.given / "inventory")
        for playbook in ("publish", "refresh_down", "rollout", "prune"):
            text = f"- name: That of the collection\n  import_playbook: golden.libvirt.{playbook}\n"
            (self.given / "project" / f"{playbook}.yml").write_text(text)

    def launch(
        self, playbook: str, *, check: bool = False, limit: str | None = None, cancel_at: str = "", **answers: str
    ) -> Job:
        """Launch a job template with these answers to its survey, and wait for its end."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.given, folder, dirs_exist_ok=True)
        asked = {
            "folder": str(folder),
            "playbook": f"{playbook}.yml",
            "answers": answers,
            "limit": limit,
            "check": check,
            "cancel_at": cancel_at,
        }
        possible = subprocess.run([*KILLED_WITH_IT, "true"], check=False, capture_output=True).returncode == 0
        done = subprocess.run(
            [*(KILLED_WITH_IT if possible else []), PROGRAMS / "python", JOB],
            input=json.dumps(asked),
            capture_output=True,
            check=False,
            text=True,
            env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "true"},
        )
        assert done.returncode == 0, done.stderr
        return Job(**json.loads(done.stdout.splitlines()[-1]))

    def publish(self, mark: str, **answers: str) -> Job:
        image = make_disk(self.site.folder.parent / f"{mark}.qcow2", mark=mark)
        hardware = {"publish_memory": "64MiB", "publish_graphics": "none", "publish_networks": "", "publish_cpus": ""}
        return self.launch(
            "publish",
            publish_template="web",
            publish_storage_pool=self.site.storage_pool,
            publish_source_path=str(image),
            publish_source_vm="",
            **hardware,
            **{"publish_refresh_down": "false", **answers},
        )

    def make(self, count: int) -> None:
        """Make version 1, the pool on it, and version 2."""
        for mark in "ab":
            run_module(
                "template_version",
                template="web",
                storage_pool=self.site.storage_pool,
                create_base=True,
                source={"path": str(make_disk(self.folder / f"{mark}.qcow2", mark=mark))},
                hardware={"memory": "64MiB", "networks": [], "graphics": "none"},
            )
            if mark == "a":
                run_module(
                    "vm_pool",
                    vm_pool=self.pool,
                    template="web",
                    count=count,
                    storage_pools=[self.site.storage_pool],
                )

    @property
    def versions(self) -> list[int]:
        """The version that each VM is on; one that is not whole is an assertion error."""
        found = []
        for vm in self.site.vms:
            root = metadata(vm).find(f"{NAMESPACE}root")
            assert root is not None
            volume = f"{root_path(vm)}"
            assert Path(volume).name == root.attrib["volume"], "the metadata tell of another root than the definition"
            below = json.loads(
                subprocess.run(["qemu-img", "info", "--output=json", volume], check=True, capture_output=True).stdout
            )
            assert below["full-backing-filename"].endswith(f"web.v{root.attrib['version']}.qcow2")
            found.append(int(root.attrib["version"]))
        return found

    @property
    def roots(self) -> list[str]:
        return [name for name in self.site.volumes if ".root." in name]


@pytest.fixture
def awx(site: Site, tmp_path: Path) -> Awx:
    return Awx(site, tmp_path)


def test_publishing_and_refreshing_with_unanswered_questions(awx: Awx) -> None:
    refused = awx.publish("a", publish_create_base="", publish_version_name="")
    assert (refused.status, refused.rc) == ("failed", 2)
    assert "create_base" in refused.text
    published = awx.publish("a", publish_create_base="true", publish_lifecycle="", publish_labels="a=b")
    assert (published.status, published.rc) == ("successful", 0), published.output
    assert published.artifacts is not None
    assert published.artifacts["golden_publish"]["version"] == 1
    assert {"playbook_on_start", "runner_on_ok", "playbook_on_stats"} <= set(published.kinds)
    run_module("vm_pool", vm_pool=awx.pool, template="web", count=1, storage_pools=[awx.site.storage_pool])
    published = awx.publish("b", publish_refresh_down="")
    assert published.artifacts is not None
    assert published.artifacts["golden_refresh_down"]["restored"] == awx.site.vms
    assert awx.versions == [2]


def test_a_dry_run_then_a_cancelled_job_then_one_that_finishes(awx: Awx) -> None:
    awx.make(count=30)  # so many that the job is not over before it is cancelled
    answers = {"refresh_down_vm_pool": awx.pool, "refresh_down_template": "", "refresh_down_uris": ""}
    before = awx.site.volumes
    dry = awx.launch("refresh_down", check=True, **answers)
    told = {"check_mode": True, "restored": awx.site.vms, "failed": {}}
    assert (dry.status, dry.artifacts) == ("successful", {"golden_refresh_down": told}), dry.output
    assert (awx.site.volumes, awx.versions) == (before, [1] * 30)

    cancelled = awx.launch("refresh_down", cancel_at="Restore them to the latest version", **answers)
    assert cancelled.status == "canceled"
    assert cancelled.artifacts is None
    restored = [vm for vm, version in zip(awx.site.vms, awx.versions) if version == 2]
    assert 1 <= len(restored) < 30, "it was cancelled too early, or too late, to say anything"

    done = awx.launch("refresh_down", **answers)
    if "is being changed by another task" in done.text:  # the cancelled one had just claimed a VM, in a container
        time.sleep(121)  # what has died out of sight holds a claim for two minutes
        done = awx.launch("refresh_down", **answers)
    assert done.status == "successful", done.output
    assert done.artifacts is not None
    assert awx.versions == [2] * 30
    assert not set(done.artifacts["golden_refresh_down"]["restored"]) & set(restored[:-1])
    assert len(awx.roots) == 30, "something of the cancelled job is left"


def test_what_was_killed_after_its_switch_is_finished_by_the_next_job(awx: Awx, tasks: Tasks) -> None:
    awx.make(count=2)
    first, second = awx.site.vms
    calls = tasks.run(task("vm_restore", vm=first)).calls
    switched = calls.index("virSecretUndefine", calls.index("virDomainDefineXML")) + 1
    assert tasks.run(task("vm_restore", vm=second), Fault(KILL, switched)).result is None
    assert len(awx.roots) == 3
    answers = {"refresh_down_vm_pool": awx.pool, "refresh_down_template": "", "refresh_down_uris": ""}
    done = awx.launch("refresh_down", **answers)
    assert done.status == "successful", done.output
    assert done.artifacts is not None
    assert done.artifacts["golden_refresh_down"]["restored"] == [second]
    assert (awx.versions, len(awx.roots)) == ([2, 2], 2)
    assert run_module("vm_info", name=second)["vms"][0]["unfinished"] is None


def test_a_rollout_with_a_limit_and_unanswered_questions(awx: Awx) -> None:
    awx.make(count=2)
    variables = {question["variable"]: "" for question in questions(TEMPLATES[1]["survey"])}
    answers = {**variables, "rollout_vm_pool": awx.pool, "rollout_shadow_boot": "false"}
    done = awx.launch("rollout", limit=awx.site.vms[1], **answers)
    assert done.status == "successful", done.output
    assert awx.versions == [1, 2]
    assert done.artifacts is not None
    assert done.artifacts["golden_rollout"]["moved"] == [awx.site.vms[1]]


def test_pruning_from_a_survey(awx: Awx) -> None:
    awx.make(count=1)
    (vm,) = awx.site.vms
    run_module("vm_restore", vm=vm, template_version="2", keep_previous=True)
    answers = {"prune_vm_pool": awx.pool, "prune_template": "", "prune_storage_pool": "", "prune_uris": ""}
    dry = awx.launch("prune", check=True, prune_keep="1", **answers)
    done = awx.launch("prune", prune_keep="1", **answers)
    assert done.status == "successful", done.output
    assert done.artifacts is not None
    assert dry.artifacts == {"golden_prune": {**done.artifacts["golden_prune"], "check_mode": True}}
    assert [gone["version"] for gone in done.artifacts["golden_prune"]["deleted"]] == [1]
    assert (awx.roots, state(vm)) == ([f"{vm}.root.2.qcow2"], "shut off")
    assert virsh("vol-info", "--pool", awx.site.storage_pool, "web.v1.qcow2", check=False) == ""
