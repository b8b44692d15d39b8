"""The callback rollout in real runs of ansible-playbook, on VMs without an operating system."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.fixtures import Site, made_site, make_disk
from support.metadata import set_lease
from support.modules import run_module
from support.playbooks import Controller, Run
from support.terminal import terminal
from support.waiting import until

from .conftest import HARDWARE

ENABLED = {"ANSIBLE_CALLBACKS_ENABLED": "golden.libvirt.rollout"}
REPORTS = "GOLDEN_ROLLOUT_REPORT_FOLDER"
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


@dataclass(frozen=True)
class Lab:
    """A pool of four VMs; the first runs, the last is taken. Each test moves the pool to a version of its own."""

    site: Site
    controller: Controller

    @property
    def pool(self) -> str:
        return self.site.vm("desk")

    @property
    def reports(self) -> Path:
        return self.controller.folder / "reports"

    def vm(self, number: int) -> str:
        return f"{self.pool}-{number}"

    def publish(self) -> None:
        disk, name = make_disk(self.controller.folder / "disk.qcow2"), f"test-{time.monotonic_ns()}"
        options: dict[str, Any] = {"template": "web", "storage_pool": self.site.storage_pool, "create_base": True}
        run_module("template_version", source={"path": str(disk)}, version_name=name, hardware=HARDWARE, **options)

    def words(self, **variables: Any) -> list[str]:
        given = {
            "rollout_vm_pool": self.pool,
            "rollout_template_version": "latest",
            "rollout_health_check": "none",
            "rollout_shutdown_mode": "force",
            **variables,
        }
        return ["golden.libvirt.rollout", "-i", str(self.controller.inventory()), "-e", json.dumps(given)]

    def environment(self) -> dict[str, str]:
        return {**ENABLED, REPORTS: str(self.reports)}

    def run(self, **variables: Any) -> Run:
        return self.controller.run("ansible-playbook", *self.words(**variables), **self.environment())

    def start(self, **variables: Any) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.environment()}
        words = [ANSIBLE_PLAYBOOK, *self.words(**variables)]
        return subprocess.Popen(words, cwd=self.controller.folder, env=environment, stdout=subprocess.DEVNULL)

    def hook(self, name: str, text: str) -> str:
        path = self.controller.folder / f"{name}.yml"
        path.write_text(text)
        return str(path)

    def report(self) -> dict[str, Any]:
        (path,) = self.reports.glob("*.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def result(self, number: int) -> dict[str, Any]:
        return next(vm for vm in self.report()["vms"] if vm["name"] == self.vm(number))

    def version(self, number: int) -> str:
        return virsh.metadata(self.vm(number)).find(f"{virsh.NAMESPACE}root").attrib["version"]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with made_site() as site:
        lab = Lab(site, Controller(tmp_path_factory.mktemp("first")))
        lab.publish()
        run_module(
            "vm_pool", vm_pool=lab.pool, template="web", count=4, prestarted=1, storage_pools=[site.storage_pool]
        )
        set_lease(lab.vm(4), "<i>alice</i>")
        yield site


@pytest.fixture
def lab(made: Site, tmp_path: Path) -> Lab:
    """Return the pool, with a new version to go to."""
    found = Lab(made, Controller(tmp_path))
    found.publish()
    return found


def test_plain_lines_and_a_report(lab: Lab) -> None:
    before = lab.version(1)
    done = lab.run(rollout_serial="1,100%")
    assert done.rc == 0, done.output
    to = lab.version(1)
    assert int(to) > int(before)
    lines = [line for line in done.output.splitlines() if line.startswith("rollout: ")]
    assert lines[0] == f"rollout: batch 1 of 2: {lab.vm(1)}"
    assert re.fullmatch(
        rf"rollout: {lab.vm(1)} moved {before} -> {to} in .* s, down .* s \(1 of 3, about .* left\)", lines[1]
    )
    assert lines[2] == f"rollout: batch 2 of 2: {lab.vm(2)}, {lab.vm(3)}"
    assert {line.split()[1] for line in lines[3:]} == {lab.vm(2), lab.vm(3)}
    assert "\033" not in done.output
    assert "PLAY RECAP" in done.output

    report = lab.report()
    assert (report["outcome"], report["vm_pool"], report["template"]) == ("done", lab.pool, "web")
    assert report["template_version"] == int(to)
    assert [lab.result(number)["result"] for number in (1, 2, 3, 4)] == ["moved", "moved", "moved", "left_alone"]
    assert lab.result(4)["reason"].startswith("taken by <i>alice</i> since")
    first = lab.result(1)
    phases = [part["phase"] for part in first["phases"]]
    assert [phase for phase in phases if phase != "verify"] == ["prepare", "stop", "switch", "boot", "settle"]
    assert first["downtime"] > 0
    assert lab.result(2)["downtime"] == 0
    for version in report["template_versions"]:
        on_it = [lab.vm(number) for number in (1, 2, 3, 4) if lab.version(number) == str(version["version"])]
        assert version["vms"] == on_it

    (page,) = lab.reports.glob("*.html")
    assert re.fullmatch(rf"roll-out-{lab.pool}-\d{{8}}T\d{{6}}Z\.html", page.name)
    assert f"report: {page}" in done.output
    assert "&lt;i&gt;alice&lt;/i&gt;" in page.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in lab.reports.iterdir()} == {0o600}
    assert stat.S_IMODE(lab.reports.stat().st_mode) == 0o700
    assert len(list(lab.reports.iterdir())) == 2

    again = lab.run()
    assert "3 up to date" in again.output, again.output


def test_a_vm_that_is_not_verified(lab: Lab) -> None:
    no = "- ansible.builtin.fail: {msg: the <b>guest</b> says no}\n"
    verify = lab.hook("verify", f"{no}  when: golden_vm == '{lab.vm(2)}'\n")
    before = lab.version(2)
    done = lab.run(rollout_verify_tasks=verify, rollout_serial="3", rollout_max_failures="100%")
    assert done.rc != 0
    found = lab.result(2)
    assert (found["result"], found["reason"], found["rolled_back"]) == ("failed", "the <b>guest</b> says no", True)
    assert str(found["version"]) == before == lab.version(2)
    assert lab.report()["outcome"] == "with_failures"
    told = [line for line in done.output.splitlines() if line.startswith(f"rollout: {lab.vm(2)} ")]
    assert [line.split(" (")[0].split(" in ")[0].split(" ", 2)[2] for line in told] == [
        told[0].split(" in ")[0].split(" ", 2)[2],
        "failed",
        "failed, and as it was before",
    ]


def test_a_dry_run_moves_nothing_and_says_so(lab: Lab) -> None:
    before = [lab.version(number) for number in (1, 2, 3)]
    done = lab.controller.run("ansible-playbook", *lab.words(), "--check", **lab.environment())
    assert done.rc == 0, done.output
    assert [lab.version(number) for number in (1, 2, 3)] == before
    assert lab.report()["check_mode"] is True
    assert lab.report()["summary"]["would_move"] == 3
    assert [str(lab.result(number)["version"]) for number in (1, 2, 3)] == before


def test_live_lines_on_a_terminal(lab: Lab) -> None:
    """They are at the foot of the screen while it runs; then the screen is as if they had never been."""
    gate = lab.controller.folder / "go-"  # each VM waits at its own: what is looked for stays until it was seen
    drain = lab.hook(
        "drain", f"- ansible.builtin.wait_for: {{path: '{gate}{{{{ golden_vm }}}}'}}\n  delegate_to: localhost\n"
    )
    with terminal(rows=30) as shown:
        words = lab.words(rollout_drain_tasks=drain, rollout_serial="1,2")
        stale = {"LINES": "24", "COLUMNS": "80"}  # of another terminal, as some programs export them
        shown.run([ANSIBLE_PLAYBOOK, *words], lab.controller.folder, {**lab.environment(), **stale})
        foot = shown.wait_for_foot(rf"● {lab.vm(1)} .* drain +\d+ s[^●]*○ {lab.vm(2)}")
        assert "0/3 · batch 1/2" in foot
        Path(f"{gate}{lab.vm(1)}").touch()
        shown.wait_for("1/3 · batch 2/2")
        shown.wait_for_foot(rf"✓ {lab.vm(1)} .* moved +\d+ s[^●]*● {lab.vm(2)} .* drain")
        screen = shown.screen()
        assert [line for line in screen[:-9] if line.startswith("TASK")], "Ansible prints above"
        for number in (2, 3):
            Path(f"{gate}{lab.vm(number)}").touch()
        screen = shown.wait_for("ended 0")
        assert "batch 2/2" not in "\n".join(screen)
        assert "●" not in "\n".join(screen)
        history = shown.history()
        tasks = re.findall(r"^TASK \[(.*?)\]", history, re.MULTILINE)
        assert [task for task in tasks if task.endswith("Replace its root")] == [
            "golden.libvirt.rollout : Replace its root"
        ] * 2
        assert history.index("PLAY [Plan]") < history.index("PLAY [Roll out]") < history.index("PLAY RECAP")
        assert "rollout: " not in history, "no plain lines beside the live ones"
        assert len(re.findall(rf"^{lab.vm(1)} +\d+ -> \d+ +moved", history, re.MULTILINE)) == 1
        shown.run(["seq", "100"], lab.controller.folder, {})
        assert shown.wait_for("\n100\n")[0].isdigit(), "the whole screen scrolls again"


def test_live_lines_tell_the_phase_in_which_a_vm_is(lab: Lab) -> None:
    """That of the first VM, too: its task tells it, while it runs."""
    with terminal() as shown:
        words = lab.words(rollout_health_check="agent", rollout_health_timeout="10", rollout_shadow_boot="false")
        shown.run([ANSIBLE_PLAYBOOK, *words, "--limit", lab.vm(1)], lab.controller.folder, lab.environment())
        shown.wait_for_foot(rf"● {lab.vm(1)} .* verify +[1-9]\d* s")
        shown.wait_for_foot(rf"● {lab.vm(1)} .* back +\d+ s")  # there is no guest, so it is never healthy
        shown.wait_for("ended 2")


@pytest.mark.parametrize("switch", [{"NO_COLOR": "1"}, {"GOLDEN_ROLLOUT_DISPLAY": "lines"}, {"TERM": "dumb"}], ids=str)
def test_no_live_lines_where_they_are_not_wanted(lab: Lab, switch: dict[str, str]) -> None:
    with terminal() as shown:
        words = [ANSIBLE_PLAYBOOK, *lab.words(), "--check"]
        shown.run(words, lab.controller.folder, {**lab.environment(), **switch})
        shown.wait_for("ended 0")
        assert f"rollout: {lab.vm(1)} would be moved" in shown.history()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_run_that_is_ended_leaves_a_report(lab: Lab, how: signal.Signals) -> None:
    begun = lab.controller.folder / "begun"
    drain = lab.hook(
        "drain",
        f"- ansible.builtin.shell: touch '{begun}'; sleep 60\n"
        f"  when: golden_vm == '{lab.vm(2)}'\n  delegate_to: localhost\n",
    )
    running = lab.start(rollout_drain_tasks=drain)
    until(begun.exists)
    running.send_signal(how)
    running.wait(timeout=60)
    report = lab.report()
    assert lab.result(1)["result"] == "moved"
    assert lab.result(3)["result"] == "not_reached"
    if how == signal.SIGINT:
        assert report["outcome"] == "interrupted"
        assert lab.result(2)["result"] == "interrupted"
    else:
        assert report["outcome"] == "under_way"
    (page,) = lab.reports.glob("*.html")
    assert page.read_text().endswith("</html>\n")


def test_a_report_that_cannot_be_written_stops_nothing(lab: Lab) -> None:
    lab.reports.write_text("a file is in the way")
    done = lab.run()
    assert done.rc == 0, done.output
    assert "the report of the rollout cannot be written" in done.output
    assert "report: " not in done.output
    assert lab.reports.read_text() == "a file is in the way"


def test_it_is_silent_in_other_runs(lab: Lab) -> None:
    playbook = lab.controller.folder / "other.yml"
    playbook.write_text("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n")
    run = lab.controller.run("ansible-playbook", str(playbook), **lab.environment())
    assert run.rc == 0, run.output
    assert "ROLLOUT" not in run.output
    assert not lab.reports.exists()


def test_a_loop_over_vms_in_a_playbook_of_ones_own(lab: Lab) -> None:
    playbook = lab.controller.folder / "mine.yml"
    playbook.write_text(
        "- hosts: localhost\n  gather_facts: false\n  name: My own\n  tasks:\n"
        "    - golden.libvirt.vm_restore: {vm: '{{ item }}', template_version: latest, shutdown: {mode: force}}\n"
        f"      loop: ['{lab.vm(1)}', '{lab.vm(2)}']\n"
    )
    run = lab.controller.run("ansible-playbook", str(playbook), **lab.environment())
    assert run.rc == 0, run.output
    assert [vm["result"] for vm in lab.report()["vms"]] == ["moved", "moved"]
    assert [vm["name"] for vm in lab.report()["vms"]] == [lab.vm(1), lab.vm(2)]
    assert lab.report()["title"] == "My own"


def test_the_role_in_a_play_of_ones_own(lab: Lab) -> None:
    group = "vm_pool_" + re.sub(r"\W", "_", lab.pool)
    verify = lab.hook("verify", f"- ansible.builtin.assert: {{that: golden_vm != '{lab.vm(2)}'}}\n")
    undrained = lab.controller.folder / "undrained"
    undrain = lab.hook(
        "undrain", f"- ansible.builtin.shell: echo {{{{ golden_vm }}}} >>'{undrained}'\n  delegate_to: localhost\n"
    )
    playbook = lab.controller.folder / "mine.yml"
    play = {
        "hosts": f"{group}:&outdated:!taken",
        "gather_facts": False,
        "serial": 1,
        "max_fail_percentage": 0,
        "vars": {"rollout_health_check": "none", "rollout_shutdown_mode": "force"},
        "roles": ["golden.libvirt.rollout"],
        "post_tasks": [{"ansible.builtin.debug": {"msg": "after {{ golden_vm }}"}}],
    }
    playbook.write_text(json.dumps([play]))
    before = [lab.version(number) for number in (2, 3)]

    def run(**variables: str) -> Run:
        words = ["-i", str(lab.controller.inventory()), "-e", json.dumps(variables)]
        return lab.controller.run("ansible-playbook", str(playbook), *words, **lab.environment())

    stopped = run(rollout_verify_tasks=verify, rollout_undrain_tasks=undrain)
    assert stopped.rc != 0
    assert f"VM {lab.vm(2)} was not moved, and is as it was before" in stopped.text, stopped.output
    assert [lab.version(number) for number in (2, 3)] == before
    assert lab.version(1) not in before
    assert undrained.read_text().split() == [lab.vm(1), lab.vm(2)]
    done = run()
    assert done.rc == 0, done.output
    assert f"after {lab.vm(2)}" in done.output
    assert f"after {lab.vm(3)}" in done.output
    assert lab.version(1) == lab.version(2) == lab.version(3)
