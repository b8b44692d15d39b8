"""The volume of a payload: written, held while it is not used yet, and deleted when nobody needs it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from .. import names
from ..errors import DeniedError, ExistsError, HypervisorError, NotFoundError, RefusedError
from ..hypervisor import CREATING_POOLS, FILE_POOLS, Hypervisor, StoragePool
from ..libvirt_xml import volume_xml
from ..libvirt_xml.domain_xml import Vm
from ..libvirt_xml.payload_drive import files_of
from ..permissions import may_create_filled_volume, may_delete_volume
from ..plan import Step
from ..vm.record import Payload
from ..volume.volume_use import DiskUsers

_MODE = "0600"
"""What is in it may be secret. libvirt gives the volume to QEMU when the VM starts."""
_CLEANING = "clean-up"

Key = tuple[str, str]
"""Storage pool and name of a volume."""
Listing = Callable[[str], list[str]]
"""Gives the names of the volumes of a storage pool."""


def key_of(payload: Payload | None) -> Key | None:
    """Return storage pool and name of a payload's volume."""
    return None if payload is None else (payload.storage_pool, payload.volume)


def payload_pool(hv: Hypervisor, name: str) -> StoragePool:
    """Return the storage pool for a payload, or refuse one in which volumes are no files."""
    pool = hv.storage_pool(name)
    if pool.type not in FILE_POOLS & CREATING_POOLS:
        raise RefusedError(
            f"storage pool {name!r} is of the type {pool.type!r}, where a volume has not the exact size of a payload; "
            "choose one of directories or files (storage_pool)"
        )
    return pool


def is_complete(hv: Hypervisor, key: Key, image: bytes) -> bool:
    """Whether a volume holds exactly these bytes: who made it may have been killed halfway."""
    volume = hv.volume(*key)
    return volume is not None and volume.capacity == len(image) and hv.read_volume(*key, len(image)) == image


def volume_step(hv: Hypervisor, vm: str, key: Key, image: bytes) -> Step:
    """Return the step that makes the volume of a payload, where it is not there already."""
    begun = []

    def make() -> None:
        if is_complete(hv, key, image):
            return
        begun.append(True)
        present = hv.volume(*key)
        if present is None or present.capacity != len(image):
            hv.delete_volume(*key)  # also one that was deleted behind libvirt's back, which it takes to be there
            with suppress(ExistsError):  # by the same task, started twice: both write the same
                hv.create_volume(key[0], volume_xml.new_volume(key[1], len(image), "raw", mode=_MODE))
        hv.write_volume(*key, image)

    def undo() -> None:
        if begun:
            delete_unused(hv, vm, key)

    say = f"write the payload into volume {key[1]!r} of storage pool {key[0]!r}"
    return Step(say, make, undo, needs=may_create_filled_volume(*key))


# --- what is left over -----------------------------------------------------------------------------------------------


def payload_volumes(hv: Hypervisor, vm: str, listing: Listing | None = None) -> list[Key]:
    """Return the payload volumes that there are of a VM, in all active storage pools that the user may look into."""
    listing = listing or hv.volume_names
    keys: list[Key] = []
    for pool in hv.storage_pools():
        if pool.active:
            with suppress(DeniedError, NotFoundError, RefusedError):  # the last two: it was stopped a moment ago
                keys += [(pool.name, name) for name in listing(pool.name) if names.is_payload_of(vm, name)]
    return [key for key in keys if hv.volume(*key) is not None]  # libvirt lists what the hook has deleted


def stray_payloads(hv: Hypervisor, vm: Vm, live: str | None, listing: Listing, *, stops: bool = False) -> list[Step]:
    """Return the steps that delete what a run of a VM has left of its payload, and tasks that were killed.

    ``live`` is the definition of its running instance; ``stops`` tells that it is stopped before these steps;
    ``listing`` is that of the plan, which has listed the storage pool already.
    """
    kept = key_of(vm.record.payload) if vm.record is not None else None
    used = files_of(vm.domain.xml) | (files_of(live) if live is not None and not stops else set())
    return deleting(hv, vm.name, used, kept, listing=listing)


def deleting(
    hv: Hypervisor,
    vm: str,
    used: set[str],
    kept: Key | None,
    claimant: str = _CLEANING,
    *,
    listing: Listing | None = None,
) -> list[Step]:
    """Return the steps that delete the payload volumes of a VM that are not ``kept`` and whose paths are not ``used``.

    ``claimant`` is who has the claim on the payload if the task that deletes them was killed before, see ``held``.
    """
    steps = []
    for key in payload_volumes(hv, vm, listing):
        volume = hv.volume(*key)
        if key != kept and volume is not None and volume.path not in used:
            say, needs = f"delete the payload volume {key[1]!r}", may_delete_volume(*key)
            steps.append(Step(say, _deleter(hv, vm, key, claimant), final=True, needs=needs))
    return steps


def _deleter(hv: Hypervisor, vm: str, key: Key, claimant: str) -> Callable[[], None]:
    def delete() -> None:
        domain = hv.domain(vm)
        claim = claim_on(domain.uuid) if domain is not None else ""
        if claim and hv.claim(claim, claimant) != claimant:
            return  # a task is about to use it, perhaps; the next one looks again
        try:
            delete_unused(hv, vm, key)
        finally:
            if claim:
                release(hv, claim, claimant)

    return delete


def delete_unused(hv: Hypervisor, vm: str, key: Key) -> None:
    """Delete a payload volume, unless a VM has it at this moment."""
    volume = hv.volume(*key)
    if volume is None:
        hv.delete_volume(*key)
        return
    users, domain, live = DiskUsers.read(hv), hv.domain(vm), hv.live_xml(vm)
    used = files_of(domain.xml if domain is not None else "<domain/>") | files_of(live or "<domain/>")
    if volume.path not in used and not users.of(volume) and not users.keeper(volume):
        hv.delete_volume(*key)


# --- claims ----------------------------------------------------------------------------------------------------------


def claim_on(uuid: str) -> str:
    """Return the claim on the payload of a VM."""
    return f"payload {uuid}"


def held(hv: Hypervisor, vm: str, volume: str, steps: Sequence[Step]) -> list[Step]:
    """Return the steps, all but the final ones carried out under the claim on the payload of the VM.

    So nobody deletes the volume before the VM has it, and of two payloads that are handed over at once one is refused.
    The claim bears the name of the volume: the same task can go on after it was killed.
    """
    claimed: list[str] = []

    def claim() -> None:
        domain = hv.domain(vm)
        if domain is None:
            raise NotFoundError(f"VM {vm!r} was removed by another task in the meantime")
        thing = claim_on(domain.uuid)
        claimed.append(thing)  # before it is: a call can do its work and yet fail
        holder = hv.claim(thing, volume)
        if holder != volume:
            raise ExistsError(
                f"the payload of VM {vm!r} is being changed by another task; run this one again (what a task that was "
                "killed has claimed is free after two minutes)"
            )

    def free() -> None:
        while claimed:
            release(hv, claimed.pop(), volume)

    first, *_others, last = [steps[0], *(step for step in steps if not step.final)]
    changed = []
    for step in steps:
        do, undo = step.do, step.undo
        if step is first:
            do, undo = _then(claim, do), _finally(undo, free)
        if step is last:
            do = _then(do, free)
        changed.append(replace(step, do=do, undo=undo))
    return changed


def _then(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


def _finally(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        try:
            first()
        finally:
            second()

    return both


def release(hv: Hypervisor, thing: str, claimant: str) -> None:
    """End a claim; it would end by itself, too."""
    with suppress(HypervisorError):
        hv.release(thing, claimant)
