"""The strategies of a rollout, each in the situation that it is for; without operating systems where none is needed."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from support import virsh
from support.fixtures import make_disk
from support.metadata import set_lease
from support.modules import run_module
from support.playbooks import Run, Started

from .pool import Pool


@pytest.fixture
def six(pool: Pool, empty_disk: Path, tmp_path: Path) -> Pool:
    """A pool of six VMs without an operating system on version 1, two of them down; version 2 is there."""
    pool.publish(empty_disk, publish_create_base="true")
    run_module(
        "vm_pool",
        vm_pool=pool.name,
        template="web",
        count=6,
        prestarted=4,
        storage_pools=[pool.site.storage_pool],
        size={"memory": "64MiB"},
    )
    pool.publish(make_disk(tmp_path / "second.qcow2", mark="second"))
    return pool


def roll(pool: Pool, *words: str, **variables: Any) -> Run:
    """Run a rollout in which a VM is well when its QEMU runs."""
    return start_roll(pool, *words, **variables).end()


def start_roll(pool: Pool, *words: str, **variables: Any) -> Started:
    """Start such a rollout."""
    given = {"rollout_health_check": "none", "rollout_shutdown_mode": "force", **variables}
    return pool.start_rollout(*words, **given)


def versions(pool: Pool) -> str:
    """Return the numbers of the versions that the roots of the VMs lie on, as one text."""
    found = ""
    for vm in sorted(pool.site.vms):
        command = ["qemu-img", "info", "-U", "--output", "json", virsh.root_path(vm)]
        info = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found += Path(info["backing-filename"]).name.removeprefix("web.v").removesuffix(".qcow2")
    return found


def refuse(pool: Pool, *numbers: int) -> dict[str, str]:
    """Return the variables with which these VMs are not verified after their restore."""
    hook = pool.controller.folder / "verify.yml"
    names = [pool.vm(number) for number in numbers]
    hook.write_text(f"""
- name: Refuse some
  ansible.builtin.fail:
    msg: no good
  when: golden_vm in {names}
""")
    return {"rollout_verify_tasks": str(hook)}


def test_a_canary_that_fails_stops_all(six: Pool) -> None:
    done = roll(six, rollout_canary=six.vm(3), rollout_serial="100%", **refuse(six, 3))
    assert done.rc != 0
    assert versions(six) == "111111"
    artifact = done.artifact["golden_rollout"]
    assert (list(artifact["failed"]), artifact["moved"], len(artifact["remaining"])) == ([six.vm(3)], [], 5)
    assert artifact["stopped"] == "too many VMs failed"

    good = roll(six, rollout_canary="1", rollout_serial="100%")
    assert good.rc == 0, good.output
    assert f"1 {six.vm(1)} running 1 -> 2 canary" in good.text
    assert versions(six) == "222222"
    assert virsh.state(six.vm(1)) == "running"
    assert virsh.state(six.vm(6)) == "shut off"


def test_a_canary_bakes(six: Pool) -> None:
    began = time.monotonic()
    canary_ends = six.controller.folder / "canary"
    hook = six.controller.folder / "verify.yml"
    hook.write_text(f"""
- name: Note when
  ansible.builtin.shell: date +%s.%N >> {canary_ends}
  delegate_to: localhost
""")
    done = roll(
        six, rollout_canary="1", rollout_canary_bake="20", rollout_serial="100%", rollout_verify_tasks=str(hook)
    )
    assert done.rc == 0, done.output
    times = [float(line) for line in canary_ends.read_text().split()]
    assert len(times) == 6
    assert time.monotonic() - began > 20
    assert max(times[1:]) - min(times[1:]) < 20, "the others do not bake"


def test_a_budget_of_one_in_batches_of_three(six: Pool) -> None:
    one = roll(six, rollout_serial="3", rollout_max_failures="1", **refuse(six, 2))
    assert one.rc != 0
    assert versions(six) == "212222", "one failure is within the budget"
    assert one.artifact["golden_rollout"]["remaining"] == []

    again = roll(six, rollout_serial="3", rollout_on_failure="continue", **refuse(six, 2))
    assert again.rc != 0
    assert versions(six) == "212222"
    assert list(again.artifact["golden_rollout"]["failed"]) == [six.vm(2)]


def test_more_than_the_budget_takes_all_back(six: Pool) -> None:
    done = roll(six, rollout_serial="2", rollout_max_failures="1", rollout_on_failure="rollback", **refuse(six, 3, 4))
    assert done.rc != 0
    assert versions(six) == "111111"
    artifact = done.artifact["golden_rollout"]
    assert sorted(artifact["failed"]) == [six.vm(3), six.vm(4)]
    assert artifact["taken_back"] == [six.vm(1), six.vm(2)]
    assert (artifact["moved"], artifact["remaining"]) == ([], [six.vm(5), six.vm(6)])
    assert [virsh.state(six.vm(number)) for number in (1, 4)] == ["running"] * 2
    kept = roll(six, rollout_on_failure="rollback", rollout_keep_previous="false")
    assert "change one of the two" in kept.text


def test_unhealthy_vms_count(six: Pool) -> None:
    virsh.virsh("suspend", six.vm(4))
    over = roll(six, rollout_max_failures="0")
    assert over.rc != 0
    assert f"1 are unhealthy before this rollout ({six.vm(4)})" in over.text
    over = roll(six, rollout_max_unavailable="1")
    assert "move them first (order: unhealthy_first)" in over.text
    assert versions(six) == "111111"
    first = roll(six, "--check", rollout_max_unavailable="1", rollout_order="unhealthy_first", rollout_serial="100%")
    assert first.rc == 0, first.output
    assert f"1 {six.vm(4)} paused 1 -> 2 paused" in first.text
    assert f"2 {six.vm(1)} running 1 -> 2" in first.text


def test_checkpoints_a_window_and_vms_that_are_down(six: Pool) -> None:
    pauses = {"rollout_checkpoints": "33%,50", "rollout_serial": "100%"}
    first = roll(six, **pauses)
    assert first.rc == 0, first.output
    assert versions(six) == "221111"
    assert first.artifact["golden_rollout"]["stopped"] == "checkpoint at 33 %"
    assert len(first.artifact["golden_rollout"]["remaining"]) == 4
    roll(six, **pauses)
    assert versions(six) == "222111", "run again, it goes on to the next one"

    closed = roll(six, rollout_window_ends="2026-01-01T00:00:00Z")
    assert closed.rc == 0, closed.output
    assert versions(six) == "222111"
    assert closed.artifact["golden_rollout"]["stopped"] == "the time is over"

    hook = six.controller.folder / "verify.yml"
    hook.write_text("""
- name: Take long
  ansible.builtin.wait_for:
    timeout: 3
  delegate_to: localhost
""")
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    closes = roll(six, rollout_window_ends=soon, rollout_down="skip", rollout_verify_tasks=str(hook))
    assert closes.rc == 0, closes.output
    assert versions(six) in ("222111", "222211"), "a batch that has begun is finished, no further one begins"

    roll(six, rollout_down="skip")
    assert versions(six) == "222211"
    left = roll(six, "--check", rollout_down="skip").artifact["golden_rollout"]["left_alone"]
    assert left == {six.vm(5): "down", six.vm(6): "down"}


def test_vms_in_use(six: Pool) -> None:
    set_lease(six.vm(1), "alice")
    skipped = roll(six, rollout_serial="100%")
    assert skipped.rc == 0, skipped.output
    assert versions(six) == "122222"
    assert skipped.artifact["golden_rollout"]["left_alone"][six.vm(1)].startswith("taken by alice since")

    waited = roll(six, rollout_in_use="wait", rollout_in_use_deadline="5")
    assert waited.rc == 0, waited.output
    assert versions(six) == "122222"
    assert waited.artifact["golden_rollout"]["left_alone"] == {six.vm(1): "taken by alice, and not returned in 5 s"}

    waits = start_roll(six, rollout_in_use="wait")
    waits.wait_for("Wait until it is returned")
    set_lease(six.vm(1), None)
    done = waits.end()
    assert done.rc == 0, done.output
    assert versions(six) == "222222"


def test_users_are_told_before_they_are_forced(pool: Pool, guest_v1: Path, guest_v2: Path) -> None:
    """On a real guest: the message is in it, the lease stays, the shadow boot was done and has left nothing."""
    pool.publish(guest_v1, publish_create_base="true")
    pool.make(count=1, prestarted=1)
    pool.publish(guest_v2)
    set_lease(pool.vm(1), "alice")
    told = pool.controller.folder / "told"
    tell = pool.controller.folder / "drain.yml"
    tell.write_text(f"""
- name: Look what the user was told
  golden.libvirt.guest_command:
    uri: "{{{{ golden_uri }}}}"
    vm: "{{{{ golden_vm }}}}"
    command: ls /tmp
  register: found
  delegate_to: localhost
- name: Note it
  ansible.builtin.copy:
    content: "{{{{ found.stdout }}}}"
    dest: {told}
    mode: "0600"
  delegate_to: localhost
""")
    done = pool.rollout(
        rollout_in_use="force",
        rollout_in_use_grace="1",
        rollout_in_use_message="/tmp/Save your work",  # as touch understands it
        rollout_in_use_command="touch",
        rollout_drain_tasks=str(tell),
        rollout_shadow_boot="true",
    )
    assert done.rc == 0, done.output
    assert "Save your work" in told.read_text()
    assert pool.version(1) == "2"
    assert "alice" in virsh.virsh("dumpxml", pool.vm(1))
    assert pool.site.vms == [pool.vm(1)], "the throw-away VM is gone"
    assert not [volume for volume in pool.site.volumes if "shadow" in volume]


def test_a_version_that_does_not_boot_is_found_by_the_shadow(pool: Pool, guest_v1: Path, guest_broken: Path) -> None:
    pool.publish(guest_v1, publish_create_base="true")
    pool.make(count=2, prestarted=0)
    pool.publish(guest_broken)
    volumes = pool.site.volumes
    done = pool.rollout(rollout_shadow_boot="true", rollout_health_timeout="20")
    assert done.rc != 0
    assert "version 2 of template web did not come up in a trial boot, so no VM was touched" in done.text
    assert versions(pool) == "11"
    assert (sorted(pool.site.vms), pool.site.volumes) == ([pool.vm(1), pool.vm(2)], volumes)


def test_killed_in_a_batch_run_again_and_taken_back(six: Pool) -> None:
    """kill -9 of the rollout in the middle of a batch; the next run goes on, and the way back is there as ever."""
    before = {vm: virsh.identity(vm) for vm in six.site.vms}
    for seconds in (0.5, 1.5):
        begun = start_roll(six, rollout_serial="2", rollout_health_stable_for="2")
        begun.wait_for("Replace its root")
        time.sleep(seconds)
        begun.kill()
    again = roll(six, rollout_serial="2")
    assert again.rc == 0, again.output
    infos = run_module("vm_info", vm_pool=six.name)["vms"]
    assert [vm["template_version"] for vm in infos] == [2] * 6
    assert [vm["unfinished"] for vm in infos] == [None] * 6
    assert [vm["state"] for vm in infos] == ["running"] * 4 + ["shut off"] * 2
    back = roll(six, playbook="rollback", rollout_serial="100%", rollback_lifecycle="candidate")
    assert back.rc == 0, back.output
    infos = run_module("vm_info", vm_pool=six.name)["vms"]
    assert [vm["template_version"] for vm in infos] == [1] * 6
    assert {vm: virsh.identity(vm) for vm in six.site.vms} == before
    roots = [volume for volume in six.site.volumes if ".root." in volume]
    assert len(roots) == 6, "nothing is left over"


def test_two_rollouts_of_one_pool_at_once(six: Pool) -> None:
    """Whoever comes second to a VM is told so, or finds it done; nothing is lost, and the next run has the rest."""
    both = [start_roll(six, rollout_serial="3", rollout_keep_previous="false") for _number in range(2)]
    for run in [started.end() for started in both]:
        assert "Traceback" not in run.output
        assert run.rc == 0 or "run this task again" in run.output or "in the meantime" in run.output, run.output
    last = roll(six, rollout_keep_previous="false")
    assert last.rc == 0, last.output
    assert versions(six) == "222222"
    infos = run_module("vm_info", vm_pool=six.name)["vms"]
    assert [vm["state"] for vm in infos] == ["running"] * 4 + ["shut off"] * 2
    assert [vm["unfinished"] for vm in infos] == [None] * 6
    assert len([volume for volume in six.site.volumes if ".root." in volume]) == 6
