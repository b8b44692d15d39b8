"""Who may write what others must not overlook: a lease, a new root, or that a VM is about to be changed.

libvirt writes metadata without looking at what was there before. So whoever is to write that claims the VM first, looks
at its record again, and writes. A lease stays, and so does a job that has begun (``Record.pending``), so the claim is
held for that moment only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Callable

from ..errors import HypervisorError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor
from ..libvirt_xml.domain_xml import Vm
from .record import Record, from_text, to_text

_WAIT = 10.0
"""Seconds for which a claim of another task is waited for: most are held for milliseconds, that of a start longer."""


@contextmanager
def claimed(hv: Hypervisor, vm: Vm, wait: float = _WAIT) -> Iterator[None]:
    """Hold the claim on a VM for this task, or refuse where another one keeps it for longer than these seconds."""
    claim, task = f"vm {vm.domain.uuid}", hv.claimant()
    try:
        if hv.claim(claim, task, wait=wait) != task:
            raise RefusedError(
                f"VM {vm.name!r} is being changed by another task at this moment; run this task again (what a task "
                "that was killed has claimed is free after two minutes)"
            )
        yield
    except BaseException:
        with suppress(HypervisorError):  # it ends with this process, too
            hv.release(claim, task)
        raise
    hv.release(claim, task)


@contextmanager
def staying(hv: Hypervisor, vm: Vm) -> Iterator[Record]:
    """Hold the claim on a VM that no task has begun to remove, and give its record; one that goes is refused."""
    with claimed(hv, vm):
        record = read_record(hv, vm.name)
        if record.going:
            raise RefusedError(f"VM {vm.name!r} is being removed by another task at this moment")
        yield record


def start_staying(hv: Hypervisor, vm: Vm) -> None:
    """Start a VM; nobody begins to remove it just then."""
    with staying(hv, vm):
        hv.start(vm.name)


def change_record(hv: Hypervisor, vm: Vm, change: Callable[[Record], Record]) -> None:
    """Change the record of a VM, as it is at that moment."""
    with claimed(hv, vm):
        present = read_record(hv, vm.name)
        wanted = change(present)
        if wanted != present:
            hv.set_metadata(vm.name, to_text(wanted))


def change_record_back(hv: Hypervisor, vm: Vm, change: Callable[[Record], Record]) -> None:
    """Change the record of a VM as an undo: where the VM is gone, there is nothing to take back."""
    with suppress(NotFoundError):
        change_record(hv, vm, change)


def read_record(hv: Hypervisor, vm: str) -> Record:
    """Return the record of a VM as it is at this moment."""
    text = hv.metadata(vm)
    if text is None:
        raise NotFoundError(f"VM {vm!r} was removed by another task in the meantime")
    return from_text(text, vm)
