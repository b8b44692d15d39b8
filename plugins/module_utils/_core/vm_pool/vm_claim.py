"""Who may write what others must not overlook: a lease, or that a VM which could be taken is about to be changed.

libvirt writes metadata without looking at what was there before. So whoever is to write that claims the VM first, looks
at its record again, and writes. A lease stays, and so does a job that has begun (``Record.pending``), so the claim is
held for that moment only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable
from uuid import uuid4

from ..errors import NotFoundError, RefusedError
from ..hypervisor import Hypervisor
from ..libvirt_xml.domain_xml import Vm
from ..vm.record import Record, from_text, to_text

_TRIES = 300
"""How often a claim is tried that another task has; each takes a millisecond or two, and so do most claims."""
_USER = "user "


def claim_on(uuid: str) -> str:
    """Return the claim on a VM."""
    return f"lease:{uuid}"


def as_user(user: str) -> str:
    """Return the name under which a user claims a VM: all tasks of the user have the same claim."""
    return _USER + user


@contextmanager
def claimed(hv: Hypervisor, vm: Vm) -> Iterator[None]:
    """Hold the claim on a member of a pool for this task, or refuse where another one keeps it.

    A VM of no pool cannot be taken: nobody claims it.
    """
    if vm.managed().vm_pool is None:
        yield
        return
    task, holder, claim = f"task {uuid4()}", "", claim_on(vm.domain.uuid)
    for _try in range(_TRIES):
        holder = hv.claim(claim, task)
        if holder == task:
            break
    else:
        what = f"taken by {holder[len(_USER) :]!r}" if holder.startswith(_USER) else "changed by another task"
        raise RefusedError(
            f"VM {vm.name!r} is being {what} at this moment; run this task again (what a task that was killed has "
            "claimed is free after two minutes)"
        )
    try:
        yield
    finally:
        hv.release(claim, task)


def change_record(hv: Hypervisor, vm: Vm, change: Callable[[Record], Record]) -> None:
    """Change the record of a VM, as it is at that moment."""
    with claimed(hv, vm):
        present = read_record(hv, vm.name)
        wanted = change(present)
        if wanted != present:
            hv.set_metadata(vm.name, to_text(wanted))


def read_record(hv: Hypervisor, vm: str) -> Record:
    """Return the record of a VM as it is at this moment."""
    text = hv.metadata(vm)
    if text is None:
        raise NotFoundError(f"VM {vm!r} was removed by another task in the meantime")
    return from_text(text, vm)
