"""Handing a payload to a VM, for all of its runs or for one, and taking it away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .. import names
from ..errors import NotFoundError, RefusedError
from ..hypervisor import Hypervisor
from ..libvirt_xml import domain_xml
from ..libvirt_xml.disk_xml import find_disk
from ..libvirt_xml.domain_xml import Vm
from ..libvirt_xml.payload_drive import (
    ADDED,
    EXISTING,
    FW_CFG,
    Change,
    changed,
    check_fw_cfg,
    choose_drive,
    file_in,
    files_of,
    filled,
    source_of,
    with_source,
)
from ..libvirt_xml.payload_seed import NETWORK, check_smbios, seed_url, serial_for
from ..networks import find_network
from ..permissions import may_start
from ..plan import Plan, Step
from ..vm.record import Payload
from ..vm.vm_claim import start_staying
from .payload import RUN_ONCE, Content, PayloadRequest, describe_payload, describe_stored, disc_changed, live_payload
from .payload_steps import live_step, start_once_step, stored_step
from .payload_volume import Key, deleting, held, is_complete, key_of, payload_pool, volume_step

_NONE = "none"
"""Who claims the payload of a VM to take it away."""


@dataclass(frozen=True)
class Handing:
    """What handing a payload to a VM comes to: the steps, and the VM's definition and payload after them."""

    steps: tuple[Step, ...]
    cleaning: tuple[Step, ...]
    """Those that come last: they delete what is not needed any more."""
    xml: str
    payload: Payload
    content: Content
    warnings: tuple[str, ...] = ()


def plan_payload(hv: Hypervisor, name: str, request: PayloadRequest) -> Plan:
    """Return the plan that hands a payload to a VM."""
    vm, live = _look(hv, name)
    if request.availability == RUN_ONCE:
        return _plan_once(hv, vm, live, request)
    handing = hand_over(hv, vm, live, request)
    after = describe_payload(handing.payload, handing.content)
    before = _before(vm, live) if handing.steps else after
    steps = (*handing.steps, *handing.cleaning)
    return Plan(before, after, steps, handing.warnings, _looker(hv, name, handing.content))


def plan_no_payload(hv: Hypervisor, name: str) -> Plan:
    """Return the plan that takes the payload of a VM away."""
    vm, live = _look(hv, name)
    record, xml = vm.managed(), vm.domain.xml
    change = _taken(xml, record.payload)
    steps, used = [], set() if live is None else files_of(live)
    for payload in _shown(vm, live):
        if live is not None and _shows(live, payload):
            say = f"take the payload out of drive {payload.target!r} of the running VM {name!r}"
            steps.append(live_step(hv, name, payload.target, "", say))
            used.discard(file_in(live, payload))
        elif live is not None and payload.type == NETWORK:
            used.discard(file_in(live, payload))  # nothing is served any more without its volume
    if _shown(vm, live):
        steps.append(stored_step(hv, name, change, record.payload, None))
        steps = held(hv, name, _NONE, steps)
    used |= files_of(changed(xml, change, record))
    steps += deleting(hv, name, used, None, _NONE)
    return Plan(_before(vm, live), {}, tuple(steps))


def hand_over(hv: Hypervisor, vm: Vm, live: str | None, request: PayloadRequest) -> Handing:
    """Return what hands a permanent payload to a VM, which may be one that steps before these make.

    A run that shows a payload of its own goes on showing that, see ``_keeps_own``.
    """
    record, name = vm.managed(), vm.name
    choice = _choose(hv, vm, live, request)
    payload = choice.payload
    xml = changed(vm.domain.xml, choice.change, record.changed(payload=payload))
    during = live_payload(vm, live) if live is not None else None
    own = live is not None and _keeps_own(live, during, payload)
    steps, used = [], files_of(xml) | (set() if live is None else files_of(live))
    swaps = _live_changes(live, record.payload, choice) if live is not None and not own else {}
    for target, path in swaps.items():
        what = f"put the payload into drive {target!r}" if path else f"empty drive {target!r}"
        steps.append(live_step(hv, name, target, path, f"{what} of the running VM {name!r}"))
        used.discard(source_of(find_disk(live or "", target)))
    told = live is None or own or during == payload
    if not told or domain_xml.canonical(xml) != domain_xml.canonical(vm.domain.xml):
        steps.append(stored_step(hv, name, choice.change, record.payload, payload, live=not own))
    warnings = _warnings(hv, name, payload)
    if steps or not is_complete(hv, choice.key, choice.content.image):
        steps = held(hv, name, payload.volume, [volume_step(hv, name, choice.key, choice.content.image), *steps])
        if live is not None and payload.target not in swaps and file_in(live, payload) != choice.path:
            warnings.append(f"VM {name!r} runs: its guest sees the payload when it is next started")
    other = disc_changed(vm, record.payload, live) if record.payload is not None else ""
    if other:
        over_network = record.payload is not None and record.payload.type == NETWORK
        what = "the serial number that tells of the payload" if over_network else "what is in the payload's drive"
        warnings.append(f"other tools have changed {what} of VM {name!r}: there is {other}; it is put right")
    cleaning = deleting(hv, name, used, choice.key, payload.volume)
    return Handing(tuple(steps), tuple(cleaning), xml, payload, choice.content, tuple(warnings))


def _plan_once(hv: Hypervisor, vm: Vm, live: str | None, request: PayloadRequest) -> Plan:
    record, name = vm.managed(), vm.name
    if live is not None:
        return _plan_running(hv, vm, live, request)
    if vm.domain.managed_save:
        raise RefusedError(
            f"VM {name!r} has a managed save image, from which it would go on without the payload; start and stop the "
            f"VM to use it up, or drop it ('virsh managedsave-remove {name}')"
        )
    choice = _choose(hv, vm, None, request)
    payload, permanent = choice.payload, record.payload
    kept = key_of(permanent)
    if permanent is not None and kept == choice.key:  # the same content is there at each start, and stays
        payload = permanent
        start = Step(f"start VM {name!r}, which has the payload", lambda: start_staying(hv, vm), needs=may_start(name))
    else:
        start = start_once_step(hv, name, choice.change, payload)
    steps = held(hv, name, payload.volume, [volume_step(hv, name, choice.key, choice.content.image), start])
    steps += deleting(hv, name, files_of(vm.domain.xml) | {choice.path}, kept, payload.volume)
    after, warnings = describe_payload(payload, choice.content), tuple(_warnings(hv, name, payload))
    return Plan(_before(vm, live), after, tuple(steps), warnings, look=_looker(hv, name, choice.content))


def _plan_running(hv: Hypervisor, vm: Vm, live: str, request: PayloadRequest) -> Plan:
    """Return the plan for a VM that runs with this very payload, or refuse one that does not."""
    content = request.build(vm.name, vm.domain.uuid)
    for payload in _shown(vm, live):
        if (payload.type, payload.sha256) == (content.type, content.sha256):
            there = file_in(live, payload)
            if there.rpartition("/")[2] == payload.volume:
                after = describe_payload(payload, content)
                return Plan(after, after)
    raise RefusedError(
        f"VM {vm.name!r} runs; a payload for one run is there from its start: stop the VM first (vm, state: stopped)"
    )


def _shown(vm: Vm, live: str | None) -> list[Payload]:
    """Return the payload of a VM, and the one that it runs with, if that is another one."""
    found = (vm.managed().payload, live_payload(vm, live) if live is not None else None)
    return list(dict.fromkeys(payload for payload in found if payload is not None))


# --- deciding --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choice:
    """What a payload is going to be: ``path`` is that of its volume, ``change`` what it is to the stored definition."""

    payload: Payload
    path: str
    content: Content
    change: Change

    @property
    def key(self) -> Key:
        return self.payload.storage_pool, self.payload.volume


def _choose(hv: Hypervisor, vm: Vm, live: str | None, request: PayloadRequest) -> _Choice:
    record, xml = vm.managed(), vm.domain.xml
    content = request.build(vm.name, vm.domain.uuid)
    pool = payload_pool(hv, request.storage_pool or record.root.storage_pool)
    volume = names.payload_volume(vm.name, content.type, content.sha256)
    path = f"{pool.path.rstrip('/')}/{volume}"
    payload = Payload(volume, pool.name, content.type, request.availability, content.sha256)
    if content.type == FW_CFG:
        check_fw_cfg(vm.name, xml, record.payload)
        return _Choice(payload, path, content, replace(_taken(xml, record.payload), fw_cfg=path))
    if content.type == NETWORK:
        check_smbios(vm.name, xml, record.payload)
        payload = replace(payload, path=path, url=seed_url(_address(hv, vm), vm.domain.uuid, content.sha256, path))
        return _Choice(payload, path, content, replace(_taken(xml, record.payload), serial=serial_for(payload.url)))
    disks = (*vm.disks, *(domain_xml.disks_of(live) if live is not None else ()))
    drive = choose_drive(vm.name, xml, disks, content.type, record.payload)
    payload = replace(payload, target=drive.target, drive=ADDED if drive.added else EXISTING)
    old = record.payload
    taken = _taken(xml, old) if old is not None and old.target != drive.target else Change()
    change = replace(taken, drives={**taken.drives, drive.target: filled(xml, drive, content.type, path)})
    return _Choice(payload, path, content, change)


def _address(hv: Hypervisor, vm: Vm) -> str:
    """Return the address of the hypervisor at which the VM's guest reaches it."""
    for network in domain_xml.networks_of(vm.domain.xml):
        address = find_network(hv, network, vm.name).address
        if address:
            return address
    raise RefusedError(
        f"VM {vm.name!r} has no network card on a libvirt network in which the hypervisor has an IPv4 address, so that "
        "its guest could fetch a payload there; give it one (vm, networks), or use a CD (type: cdrom)"
    )


def _keeps_own(live: str, during: Payload | None, payload: Payload) -> bool:
    """Whether a running instance goes on with the payload that it was started with while the VM gets another one.

    That is so with one for one run, and with one over the network, as the guest is told of that at its start.
    """
    if during is not None and during.availability == RUN_ONCE and during.volume != payload.volume:
        return True
    if payload.type == NETWORK:
        return file_in(live, payload) != payload.path
    return during is not None and during.type == NETWORK


def _warnings(hv: Hypervisor, name: str, payload: Payload) -> list[str]:
    if payload.type != NETWORK or hv.serves_payloads() is not False:
        return []
    return [
        f"nothing serves the payload of VM {name!r} over the network on this hypervisor: install what does it with the "
        "role golden.libvirt.hypervisor"
    ]


def _taken(xml: str, payload: Payload | None) -> Change:
    """Return what of a definition changes when it loses a payload: what others have put into the drive stays."""
    if payload is None:
        return Change()
    if payload.type == FW_CFG:
        return Change(fw_cfg="")
    if payload.type == NETWORK:
        return Change(serial="" if file_in(xml, payload) == payload.path else None)
    present, there = find_disk(xml, payload.target), file_in(xml, payload)
    if not present or (there and there.rpartition("/")[2] != payload.volume):
        return Change()
    return Change({payload.target: "" if payload.drive == ADDED else with_source(present, "")})


def _live_changes(live: str, old: Payload | None, new: _Choice) -> dict[str, str]:
    """Return which file goes into which drive of the running instance; empty: what is in it is taken out."""
    wanted = {}
    if old is not None and old.target != new.payload.target and _shows(live, old):
        wanted[old.target] = ""
    if new.payload.target in {disk.target for disk in domain_xml.disks_of(live) if disk.device == new.payload.type}:
        wanted[new.payload.target] = new.path
    return {target: path for target, path in wanted.items() if source_of(find_disk(live, target)) != path}


def _shows(live: str, payload: Payload) -> bool:
    """Whether a running instance has a payload in a drive."""
    return payload.type not in (FW_CFG, NETWORK) and file_in(live, payload).rpartition("/")[2] == payload.volume


# --- looking ---------------------------------------------------------------------------------------------------------


def _look(hv: Hypervisor, name: str) -> tuple[Vm, str | None]:
    """Return a VM whose payload can be changed, and the definition of its running instance."""
    domain = hv.domain(name)
    if domain is None:
        raise NotFoundError(f"there is no VM {name!r}; make it with the module vm")
    vm = domain_xml.read(domain)
    pending = vm.managed().pending
    if not domain.persistent:
        raise RefusedError(f"VM {name!r} is transient: it has no stored definition to change; define it first")
    if pending is not None:
        raise RefusedError(
            f"VM {name!r} has an unfinished {pending.job}; run the task that made it (vm_restore, vm) again first"
        )
    return vm, hv.live_xml(name) if domain.active else None


def _before(vm: Vm, live: str | None) -> dict[str, Any]:
    """Return the payload that a VM has, or runs with; of its files, only their digest is known."""
    during = live_payload(vm, live) if live is not None else None
    payload = during or vm.managed().payload
    return {} if payload is None else describe_stored(payload)


def _looker(hv: Hypervisor, name: str, content: Content) -> Callable[[], dict[str, Any]]:
    """Return how a task that has acted finds out what payload the VM has."""

    def look() -> dict[str, Any]:
        domain = hv.domain(name)
        if domain is None:
            return {}
        vm = domain_xml.read(domain)
        live = hv.live_xml(name) if domain.active else None
        return next((describe_payload(of, content) for of in _shown(vm, live) if of.sha256 == content.sha256), {})

    return look
