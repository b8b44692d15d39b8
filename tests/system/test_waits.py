"""Waiting for a VM: until it changes, and not disturbed by what happens to others."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor.connection import Connection

from support import virsh
from support.fixtures import Site
from support.modules import run_module


@pytest.fixture
def two(site: Site, template: str) -> tuple[str, str]:
    """Two VMs that run."""
    first, second = site.vm("a"), site.vm("b")
    for vm in (first, second):
        run_module("vm", name=vm, template=template, storage_pools=[site.storage_pool], state="started")
    return first, second


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection of its own."""
    opened = Connection("qemu:///system")
    yield opened
    opened.close()


def test_it_ends_with_the_event_of_its_vm_and_sleeps_through_those_of_others(
    two: tuple[str, str], connection: Connection
) -> None:
    awaited, other = two
    domain = connection.libvirt.lookupByName(awaited)
    looks: list[float] = []

    def happen() -> None:
        for _time in range(3):
            virsh.virsh("destroy", other)
            virsh.virsh("start", other)
        happened.append(time.monotonic())
        virsh.virsh("destroy", awaited)

    def is_down() -> bool:
        looks.append(time.monotonic())
        return not domain.isActive()

    happened: list[float] = []
    thread = threading.Thread(target=happen)
    thread.start()
    assert connection.wait_until(domain, is_down, 300, look_again=300)
    thread.join()
    assert looks[0] < happened[0]
    assert all(look > happened[0] for look in looks[1:]), "it looked for the other's sake"


def test_what_has_no_event_is_looked_at_again(two: tuple[str, str], connection: Connection) -> None:
    looks: list[float] = []
    domain = connection.libvirt.lookupByName(two[0])
    assert connection.wait_until(domain, lambda: looks.append(0.0) or len(looks) > 3, 300, look_again=0.1)
    assert not connection.wait_until(domain, lambda: False, 0.2)


class Ended(BaseException):
    """What the handler of a signal raises, as that of Ansible does for a task that takes too long."""


@pytest.fixture
def ending_signal() -> Iterator[signal.Signals]:
    """A signal whose handler raises."""

    def end(*_arguments: object) -> None:
        raise Ended

    before = signal.signal(signal.SIGALRM, end)
    yield signal.SIGALRM
    signal.signal(signal.SIGALRM, before)


def test_a_signal_that_comes_while_libvirt_calls_back_ends_a_wait(ending_signal: signal.Signals) -> None:
    connection = Connection("test:///default")
    domain = connection.libvirt.lookupByName("test")
    timer = libvirt.virEventAddTimeout(0, lambda *_timer: signal.raise_signal(ending_signal), None)
    try:
        with pytest.raises(Ended):
            connection.wait_until(domain, lambda: False, 2)
    finally:
        libvirt.virEventRemoveTimeout(timer)
        connection.close()


def test_a_signal_that_comes_during_a_call_that_fails_is_seen(ending_signal: signal.Signals) -> None:
    connection = Connection("test:///default")
    main = threading.get_ident()

    def fail_until_it_ends(thread: threading.Thread) -> None:
        thread.start()
        while True:
            with pytest.raises(libvirt.libvirtError):
                connection.libvirt.lookupByName("missing")

    for _try in range(50):
        thread = threading.Timer(0.001, signal.pthread_kill, (main, ending_signal))
        with pytest.raises(Ended):
            fail_until_it_ends(thread)
        thread.join()
    connection.close()
