"""Two tasks at one VM or one template at the same time, whose calls come in many orders.

One of them may say that it was overtaken. However they come, the VM is whole afterwards, on one root, what the other
one has made is not lost, and no version is offered whose image is gone.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.source import Hardware
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import Size

from support.fake import FakeHypervisor
from support.interleaved import TO_ITS_END, Turn, interleaved
from unit.world import (
    Task,
    attaching,
    deleting,
    detaching,
    do,
    ensuring,
    ensuring_pool,
    pruning,
    publishing,
    qcow2,
    record,
    restoring,
    returning,
    rolling_back,
    roots,
    settling,
    taking,
    with_data,
    with_template,
    with_vm,
)

EVERY_ORDER = bool(os.environ.get("GOLDEN_EVERY_POINT"))
SEED = os.environ.get("GOLDEN_SEED", "0")
ORDERS = 10
ROOT = "web-1.root.1.qcow2"
KEPT = restoring(template_version="2", keep_previous=True)
MORE_MEMORY = ensuring(size=Size(memory=512 * 1024))


def a_vm(state: str, *tasks: Task) -> Callable[[], FakeHypervisor]:
    """Return what makes a hypervisor with a VM in this state, which these tasks have changed."""

    def make() -> FakeHypervisor:
        hv = with_vm(versions=3, state=state)
        for task in tasks:
            do(hv, task)
        return hv

    return make


def a_pool(prestarted: int, *tasks: Task) -> Callable[[], FakeHypervisor]:
    """Return what makes a hypervisor with a pool of one outdated VM, which these tasks have changed."""

    def make() -> FakeHypervisor:
        hv = with_template(1)
        do(hv, ensuring_pool(template="web", count=1, prestarted=prestarted))
        for task in tasks:
            do(hv, task)
        hv.files["/images/2"] = qcow2("system 2")
        do(hv, publishing(path="/images/2"))
        return hv

    return make


def attached(state: str) -> FakeHypervisor:
    """Return a hypervisor with a VM in this state that has a data volume."""
    hv = with_data(state, "data")
    do(hv, attaching("data"))
    return hv


@dataclass(frozen=True)
class Pair:
    """Two tasks, and the hypervisor on which they meet."""

    name: str
    make: Callable[[], FakeHypervisor]
    first: Task
    second: Task
    runs: bool = False
    """Whether the VM is to run afterwards, however they come."""


PAIRS = [
    Pair(
        "restored twice", a_vm("started"), restoring(template_version="2"), restoring(template_version="2"), runs=True
    ),
    Pair("down, restored twice", a_vm("present"), restoring(template_version="2"), restoring(template_version="2")),
    Pair("forced twice", a_vm("started"), restoring(force=True), restoring(force=True), runs=True),
    Pair(
        "to two versions", a_vm("started"), restoring(template_version="2"), restoring(template_version="3"), runs=True
    ),
    Pair("down, to two versions", a_vm("present"), restoring(template_version="2"), restoring(template_version="3")),
    Pair(
        "from a kept root, to two versions",
        a_vm("started", KEPT),
        restoring(template_version="3", keep_previous=True),
        restoring(template_version="1", keep_previous=True),
        runs=True,
    ),
    Pair(
        "back, and restored",
        a_vm("started", KEPT),
        rolling_back(),
        restoring(template_version="3"),
        runs=True,
    ),
    Pair("back twice", a_vm("started", KEPT), rolling_back(), rolling_back(), runs=True),
    Pair("settled, and restored", a_vm("started", KEPT), settling(), restoring(template_version="3"), runs=True),
    Pair("settled, and back", a_vm("started", KEPT), settling(), rolling_back(), runs=True),
    Pair("settled twice", a_vm("started", KEPT), settling(), settling(), runs=True),
    Pair("removed, and restored", a_vm("started"), ensuring(state="absent"), restoring(template_version="2")),
    Pair("down, removed, and restored", a_vm("present"), ensuring(state="absent"), restoring(template_version="2")),
    Pair("removed, and started", a_vm("present"), ensuring(state="absent"), ensuring(state="started")),
    Pair("removed twice", a_vm("started"), ensuring(state="absent"), ensuring(state="absent")),
    Pair("removed, and its root detached", a_vm("present"), ensuring(state="absent"), detaching(ROOT)),
    Pair("changed, and restored", a_vm("started"), MORE_MEMORY, restoring(template_version="2"), runs=True),
    Pair("down, changed, and restored", a_vm("present"), MORE_MEMORY, restoring(template_version="2")),
    Pair("changed twice", a_vm("started"), MORE_MEMORY, ensuring(size=Size(cpus=3)), runs=True),
    Pair(
        "changed, and a volume attached",
        lambda: with_data("started", "data"),
        MORE_MEMORY,
        attaching("data"),
        runs=True,
    ),
    Pair(
        "a volume attached, and restored",
        lambda: with_data("started", "data"),
        attaching("data"),
        restoring(force=True),
        runs=True,
    ),
    Pair(
        "down, a volume attached, and restored",
        lambda: with_data("present", "data"),
        attaching("data"),
        restoring(force=True),
    ),
    Pair(
        "down, a volume detached, and restored", lambda: attached("present"), detaching("data"), restoring(force=True)
    ),
    Pair("a volume detached, and changed", lambda: attached("started"), detaching("data"), MORE_MEMORY, runs=True),
    Pair("stopped, and restored", a_vm("started"), ensuring(state="stopped"), restoring(template_version="2")),
    Pair("started, and restored", a_vm("present"), ensuring(state="started"), restoring(template_version="2")),
    Pair("its root detached, and restored", a_vm("present"), detaching(ROOT), restoring(template_version="2")),
    Pair("taken by two users", a_pool(0), taking("anna"), taking("bert"), runs=True),
    Pair("taken twice by one user", a_pool(0), taking(), taking(), runs=True),
    Pair("taken, and restored", a_pool(1), taking(), restoring("desk-1", template_version="2"), runs=True),
    Pair("taken, and its pool removed", a_pool(0), taking(), ensuring_pool(state="absent")),
    Pair("taken, and its pool changed", a_pool(0), taking(), ensuring_pool(prestarted=1), runs=True),
    Pair("returned, and taken", a_pool(1, taking("anna")), returning("anna"), taking("bert"), runs=True),
    Pair("returned twice", a_pool(0, taking("anna")), returning("anna"), returning("anna")),
    Pair("returned, and restored", a_pool(0, taking()), returning(), restoring("desk-1", force_taken=True)),
    Pair("prestarted, and its pool removed", a_pool(0), ensuring_pool(prestarted=1), ensuring_pool(state="absent")),
    Pair("prestarted, and restored", a_pool(0), ensuring_pool(prestarted=1), restoring("desk-1")),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_vm_is_whole_however_the_calls_of_two_tasks_come(pair: Pair) -> None:
    vm = "desk-1" if "desk-1" in pair.make().vms else "web-1"
    for hv, said in outcomes(pair):
        assert_whole(hv, vm, said)
        assert not pair.runs or hv.vms[vm].live is not None, said


FROM_2 = publishing(version="2", hardware=Hardware(memory=96 * 1024))
TEMPLATE_PAIRS = [
    Pair("saved as another, and deleted", with_template, FROM_2, deleting("2")),
    Pair("saved as another, and pruned", lambda: with_template(3), FROM_2, pruning(1)),
    Pair("saved as another twice", with_template, FROM_2, publishing(version="1", hardware=Hardware(memory=97 * 1024))),
    Pair("deleted twice", with_template, deleting("2"), deleting("2")),
]


@pytest.mark.parametrize("pair", TEMPLATE_PAIRS, ids=lambda pair: pair.name)
def test_no_version_is_offered_without_its_image(pair: Pair) -> None:
    for hv, said in outcomes(pair):
        for version in read_template(hv, "default", "web").ready:
            assert version.image.volume in hv.names(), said


def outcomes(pair: Pair) -> Iterator[tuple[FakeHypervisor, str]]:
    """Yield what two tasks leave, in many orders of their calls, and what they said; one of them has succeeded."""
    world = pair.make()
    tasks = (pair.first, pair.second)
    calls = [calls_of(world, tasks, first) for first in (0, 1)]
    for turns in orders(pair.name, [max(both) for both in zip(*calls)]):
        hv = copy.deepcopy(world)
        failed, _calls = interleaved(hv, tasks, turns)
        said = f"{turns}: {[error.message if error else 'succeeded' for error in failed]}"
        assert None in failed, said
        assert "could not be taken back" not in said, said
        yield hv, said


def calls_of(world: FakeHypervisor, tasks: tuple[Task, Task], first: int) -> list[int]:
    """Return how many calls each task makes when one comes after the other."""
    _failed, calls = interleaved(copy.deepcopy(world), tasks, [(first, TO_ITS_END)])
    return calls


def orders(name: str, calls: list[int]) -> Iterator[list[Turn]]:
    """Yield orders in which each of two tasks is interrupted by the other: all of them, or some."""
    if EVERY_ORDER:
        for first in (0, 1):
            for begins in range(calls[first]):
                for other in range(1, calls[1 - first] + 1):
                    for goes_on in range(1, calls[first] - begins + 2):
                        yield [(first, begins), (1 - first, other), (first, goes_on), (1 - first, TO_ITS_END)]
        return
    dice = random.Random(f"{SEED} {name}")
    for _order in range(ORDERS):
        first = dice.randrange(2)
        begins = dice.randrange(calls[first])
        other, goes_on = dice.randint(1, calls[1 - first]), dice.randint(1, calls[first] - begins + 1)
        yield [(first, begins), (1 - first, other), (first, goes_on), (1 - first, TO_ITS_END)]


def assert_whole(hv: FakeHypervisor, vm: str, said: str) -> None:
    """The VM is gone with all its roots, or on one complete root, defined, running and noted alike."""
    assert not hv.claims, said
    if vm not in hv.vms:
        assert set(roots(hv, vm)) <= {ROOT}, said  # it was detached before
        return
    noted = record(hv, vm)
    assert noted.pending is None, said
    kept = {noted.previous.volume} if noted.previous is not None else set()
    assert set(roots(hv, vm)) == {noted.root.volume} | kept, said
    disks = hv.disk_paths(vm)
    assert noted.detached_disk or disks[0].endswith(noted.root.volume), said
    for path in disks:
        hv.chain(path)
    assert hv.vms[vm].live is None or hv.disk_paths(vm, live=True) == disks, said
