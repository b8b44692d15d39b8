"""The pipe over which tasks tell of their phases."""

from __future__ import annotations

import os

from ansible_collections.golden.libvirt.plugins.plugin_utils.phase_pipe import PhasePipe, open_pipe, opened_pipe

RESTORE = ("golden.libvirt.vm_restore", "desk-1", "qemu:///system")


def heard(pipe: PhasePipe) -> list[tuple[str, str]]:
    return [(told.host, told.phase) for told in pipe.told()]


def test_what_copies_of_the_process_tell_is_heard() -> None:
    pipe = PhasePipe()
    assert heard(pipe) == []
    for host in ("desk-1", "desk-2"):
        copy = os.fork()
        if not copy:
            pipe.tell(host, *RESTORE, "stop")
            os._exit(0)
        os.waitpid(copy, 0)
    assert heard(pipe) == [("desk-1", "stop"), ("desk-2", "stop")]
    assert heard(pipe) == []


def test_no_teller_waits_for_a_listener() -> None:
    pipe = PhasePipe()
    for _time in range(10_000):
        pipe.tell("desk-1", *RESTORE, "stop")
    pipe.tell("x" * 10_000, *RESTORE, "stop")
    told = heard(pipe)
    assert 100 < len(told) < 10_000
    assert set(told) == {("desk-1", "stop")}
    pipe.tell("desk-1", *RESTORE, "switch")
    assert heard(pipe) == [("desk-1", "switch")]


def test_there_is_one_pipe() -> None:
    assert open_pipe() is open_pipe() is opened_pipe()
