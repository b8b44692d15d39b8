"""Commands in a guest: what is refused, and what is told of those that have run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import (
    InvalidError,
    NotFoundError,
    RefusedError,
    TimedOutError,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import GuestResult
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.guest_command import (
    CommandFailedError,
    GuestCommand,
    plan_guest_command,
)

from support.fake import FakeHypervisor

from .world import Task, do, plan, refused, with_vm

DF = ("df", "-h")


def running(vm: str = "web-1", command: tuple[str, ...] = DF, **wanted: Any) -> Task:
    return lambda hv: plan_guest_command(hv, GuestCommand(vm, command, **wanted))


@pytest.fixture
def hv() -> FakeHypervisor:
    return with_vm()


def test_it_tells_what_the_command_said(hv: FakeHypervisor) -> None:
    hv.guest_results[DF] = GuestResult(0, "full\n", "oh", truncated=True)
    planned = plan(hv, running())
    assert planned.changed
    assert planned.facts({}) == {"ran": False}
    assert planned.apply(lambda: 0.0) == {}
    assert planned.facts({}) == {"ran": True, "rc": 0, "stdout": "full\n", "stderr": "oh", "truncated": True}


def test_it_reads_what_it_is_given(hv: FakeHypervisor) -> None:
    planned = plan(hv, running(stdin="a\nb"))
    planned.apply(lambda: 0.0)
    assert planned.facts({})["stdout"] == "a\nb"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (GuestResult(3, "out", "first\nlast\n"), "'df' ended with 3 in VM 'web-1': first / last"),
        (GuestResult(1, "a\nb\nc\nd\ne\nf", ""), "ended with 1 in VM 'web-1': b / c / d / e / f$"),
        (GuestResult(137, "", ""), "ended with 137 in VM 'web-1' and said nothing"),
    ],
)
def test_another_code_than_0_is_a_failure_with_the_output(hv: FakeHypervisor, result: GuestResult, said: str) -> None:
    hv.guest_results[DF] = result
    planned = plan(hv, running())
    with pytest.raises(CommandFailedError, match=said) as failure:
        planned.apply(lambda: 0.0)
    assert failure.value.facts == {
        "ran": True,
        "rolled_back": False,
        "rc": result.rc,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "truncated": False,
    }


def test_a_guest_that_does_not_answer(hv: FakeHypervisor) -> None:
    hv.stubborn.add("web-1")
    with pytest.raises(TimedOutError) as failure:
        plan(hv, running(timeout=5)).apply(lambda: 0.0)
    assert failure.value.facts == {"ran": False, "rolled_back": False}


def test_refusals(hv: FakeHypervisor) -> None:
    refused(hv, running("web-2"), "there is no VM 'web-2'", NotFoundError)
    refused(hv, running(command=()), "command: it is empty", InvalidError)
    refused(hv, running(command=("",)), "command: it is empty", InvalidError)
    refused(hv, running(timeout=0), "wait_timeout: 0", InvalidError)
    hv.vms["web-1"].paused = True
    refused(hv, running(), "VM 'web-1' is paused", RefusedError)
    hv.vms["web-1"].live = None
    refused(hv, running(), "VM 'web-1' is shut off; a command needs a guest that runs", RefusedError)


def test_what_is_predicted_is_what_comes(hv: FakeHypervisor) -> None:
    assert do(hv, running()) == {"vm": "web-1", "program": "df"}
