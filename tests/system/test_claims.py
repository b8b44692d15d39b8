"""What a task claims on a real libvirt: nobody else has it, until it is released or the task's process has ended."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import LibvirtHypervisor

from support.virsh import virsh

URI = "qemu:///system"


@pytest.fixture
def thing() -> Iterator[str]:
    """Yield the name of something to claim, and forget the claim on it afterwards."""
    name = f"gldtest {uuid4()}"
    yield name
    for line in virsh("secret-list").splitlines():
        if name in line:
            virsh("secret-undefine", line.split()[0])


def claim_and_die(thing: str, claimant: str) -> None:
    """Claim something, and end as a process that is killed does: nothing is released."""
    with LibvirtHypervisor(URI) as hv:
        hv.claim(thing, claimant or hv.claimant())
        os._exit(0)


def killed_with_a_claim(thing: str, claimant: str = "") -> None:
    """Let another process claim something and be killed."""
    process = multiprocessing.get_context("fork").Process(target=claim_and_die, args=(thing, claimant))
    process.start()
    process.join()


def test_only_one_task_has_a_claim_and_another_one_waits_for_it(thing: str) -> None:
    with LibvirtHypervisor(URI) as ours, LibvirtHypervisor(URI) as theirs:
        assert ours.claimant() != theirs.claimant()
        assert ours.claim(thing, ours.claimant()) == ours.claimant()
        assert theirs.claim(thing, theirs.claimant()) == ours.claimant()
        begun = time.monotonic()
        assert theirs.claim(thing, theirs.claimant(), wait=0.3) == ours.claimant()
        assert 0.3 <= time.monotonic() - begun < 5
        later = threading.Timer(0.3, lambda: ours.release(thing, ours.claimant()))
        later.start()
        assert theirs.claim(thing, theirs.claimant(), wait=20.0) == theirs.claimant()
        later.join()
        theirs.release(thing, theirs.claimant())
        assert ours.claim(thing, ours.claimant()) == ours.claimant()
        ours.release(thing, ours.claimant())
    assert thing not in virsh("secret-list")


def test_what_a_task_has_claimed_is_free_when_its_process_has_ended(thing: str) -> None:
    killed_with_a_claim(thing)
    assert thing in virsh("secret-list")
    with LibvirtHypervisor(URI) as hv:
        assert hv.claim(thing, hv.claimant()) == hv.claimant()
        hv.release(thing, hv.claimant())


def test_what_is_claimed_for_a_user_stays_so_when_the_process_has_ended(thing: str) -> None:
    killed_with_a_claim(thing, "user anna")
    with LibvirtHypervisor(URI) as hv:
        assert hv.claim(thing, hv.claimant()) == "user anna"
        assert hv.claim(thing, "user anna") == "user anna"


@pytest.mark.parametrize(
    "process", ["another-boot/pid:[4026531836]/999999999", "/999999999", "999999999", "", "{here}/-1", "{here}/{huge}"]
)
def test_a_process_that_cannot_be_seen_from_here_counts_as_alive(thing: str, process: str) -> None:
    with LibvirtHypervisor(URI) as hv:
        here = hv.claimant().split(" ")[1].rpartition("/")[0]
        other = f"task {process.format(here=here, huge=2**70)} {uuid4()}"
        hv.claim(thing, other)
        assert hv.claim(thing, hv.claimant()) == other
        hv.release(thing, other)
