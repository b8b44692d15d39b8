"""The steps that put a payload into a VM, and how each of them is taken back."""

from __future__ import annotations

from ..errors import ExistsError, HypervisorError, NotFoundError, RefusedError
from ..hypervisor import Hypervisor, Shutdown
from ..libvirt_xml import domain_xml
from ..libvirt_xml.disk_xml import find_disk
from ..libvirt_xml.domain_xml import Vm
from ..libvirt_xml.payload_drive import Change, changed, files_of, reverse, source_of, with_source
from ..permissions import may_start, may_write
from ..plan import Step
from ..vm.record import Payload, to_text
from ..vm.vm_claim import claimed, staying


def live_step(hv: Hypervisor, name: str, target: str, path: str, say: str) -> Step:
    """Return the step that puts a file into a drive of the running instance, or takes out what is in it."""
    before: list[str] = []

    def change() -> None:
        disk = find_disk(hv.live_xml(name) or "<domain/>", target)
        if disk:  # else the VM went down in the meantime: then its stored definition is what counts
            before.append(disk)
            hv.update_device(name, with_source(disk, path), live=True, stored=False)

    def undo() -> None:
        disk = find_disk(hv.live_xml(name) or "<domain/>", target)
        if before and disk and source_of(disk) == path:
            hv.update_device(name, before[0], live=True, stored=False)

    return Step(say, change, undo, needs=may_write(name))


def stored_step(
    hv: Hypervisor, name: str, change: Change, old: Payload | None, new: Payload | None, *, live: bool = True
) -> Step:
    """Return the step that writes a payload into the definition of a VM, and, if it is ``live``, into the metadata of
    its running instance; ``old`` is the one that it had when we looked."""
    replaced: list[Change] = []

    def write(expected: Payload | None, payload: Payload | None, wanted: Change) -> None:
        present = _present(hv, name)
        # Members of a pool can be taken: a lease is not to be overwritten.
        with claimed(hv, present):
            present = _present(hv, name)
            record = present.managed()
            if record.pending is not None:
                raise RefusedError(f"another task restores or removes VM {name!r} at this moment; run this one again")
            if record.payload != expected:
                raise ExistsError(f"another task has changed the payload of VM {name!r} in the meantime; look at it")
            replaced.append(reverse(present.domain.xml, wanted))
            after = record.changed(payload=payload)
            hv.define(changed(present.domain.xml, wanted, after))
            if live and present.domain.active:
                hv.set_metadata(name, to_text(after))

    def undo() -> None:
        if replaced and _present(hv, name).managed().payload == new:
            write(new, old, replaced[0])

    say = f"give the payload to VM {name!r}" if new is not None else f"take the payload out of VM {name!r}"
    return Step(say, lambda: write(old, new, change), undo, needs=may_write(name))


def start_once_step(hv: Hypervisor, name: str, change: Change, payload: Payload) -> Step:
    """Return the step that starts a VM with a payload that its stored definition never has."""
    started: list[bool] = []

    def start() -> None:
        with staying(hv, _present(hv, name)) as record:
            present = _present(hv, name)
            if present.domain.active:
                raise RefusedError(
                    f"VM {name!r} was started by someone in the meantime; stop it, and run this task again"
                )
            try:
                hv.start_once(changed(present.domain.xml, change, record.changed(payload=payload)))
                started.append(True)
            except HypervisorError:
                if not _runs_with(hv, name, payload):  # else the same task, started twice, was quicker
                    raise

    def undo() -> None:
        if started and _runs_with(hv, name, payload):
            hv.stop(name, Shutdown("force"))

    return Step(f"start VM {name!r} with the payload", start, undo, needs=may_start(name))


def _runs_with(hv: Hypervisor, name: str, payload: Payload) -> bool:
    return any(path.rpartition("/")[2] == payload.volume for path in files_of(hv.live_xml(name) or "<domain/>"))


def _present(hv: Hypervisor, name: str) -> Vm:
    domain = hv.domain(name)
    if domain is None:
        raise NotFoundError(f"VM {name!r} was removed by another task in the meantime")
    return domain_xml.read(domain)
