# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An ansible-rulebook event source: managed VMs of libvirt that start, stop, are defined and so on.

ansible-rulebook loads this file alone, so it imports nothing of the collection.

libvirt's calls block, and a connection may hang. So each runs in a thread of its own, and libvirt's event loop runs in
another one, which also sends the keepalives that end a connection that hangs. All else runs in asyncio's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from signal import SIGINT
from typing import Any, Callable, TypeVar

import libvirt

DOCUMENTATION = r"""
---
short_description: Events of the VMs that golden.libvirt manages
description:
  - An event for each change of the lifecycle of a VM that the collection golden.libvirt manages, on one or many
    hypervisors. Other VMs give none.
  - A connection that breaks or hangs is opened again. Then all VMs are compared with what was known of them, and what
    happened to them meanwhile gives its events, with the detail C(missed); and so again after 5 and 60 seconds, as a
    libvirtd that has just started may notice late that a VM has gone. A VM that was down, and is so again, may
    have run meanwhile without a trace; such VMs are in the list of the event C(connected).
  - To tell whether a running VM was down meanwhile, each running VM gets a random mark in the metadata of its running
    instance (namespace C(https://golden.libvirt/run/1)); it is gone when the VM stops.
options:
  uri:
    description:
      - The libvirt URI of the hypervisor. By default the environment variable E(LIBVIRT_DEFAULT_URI), else
        V(qemu:///system).
    type: str
  uris:
    description: The libvirt URIs of many hypervisors, instead of O(uri).
    type: list
    elements: str
  vm_pools:
    description: Only members of these VM pools, and the O(vms). By default all managed VMs.
    type: list
    elements: str
  vms:
    description: Only VMs of these names, and members of the O(vm_pools). By default all managed VMs.
    type: list
    elements: str
requirements:
  - libvirt-python
notes:
  - An event of a VM has C(event), one of C(defined), C(undefined), C(started), C(suspended), C(resumed), C(stopped),
    C(shutdown), C(pmsuspended), C(crashed); and C(detail), libvirt's reason in lower case, such as C(shutdown),
    C(destroyed), C(crashed), C(saved), C(migrated) for C(stopped); or C(missed).
  - It has C(uri) and C(hypervisor) (its host name); C(vm), C(uuid), C(running), C(vm_pool), C(template),
    C(template_storage_pool), C(template_version), C(root_volume), C(stateless), C(follows_latest), C(auto_refresh),
    C(taken), C(lease_user) and C(pending) (the job of a task that is at work on the VM, or has died). What a VM does
    not have is an empty string. All are those of the moment at which the event is handed on.
  - After each connect there is an event C(connected), with the detail C(initial) or C(again), C(uri), C(hypervisor)
    and the list C(down) (C(down_count) names) of the stateless VMs that are down, with neither a pending job nor a
    saved memory. The events C(missed) come before it.
"""

EXAMPLES = r"""
- golden.libvirt.lifecycle:
    uri: qemu:///system

- golden.libvirt.lifecycle:
    uris:
      - qemu+ssh://root@hv1/system?no_tty=1
      - qemu+ssh://root@hv2/system?no_tty=1
    vm_pools: [desk]
"""

NAMESPACE = "https://golden.libvirt/vm/1"
RUN_NAMESPACE = "https://golden.libvirt/run/1"
DOWN = -1
"""libvirt's number of a VM that does not run."""

CONNECT_TIMEOUT = 60.0
CLOSE_TIMEOUT = 5.0
KEEPALIVE = 5, 3
"""Seconds between keepalives, and how many without an answer end the connection."""
LEAST_DELAY, MOST_DELAY = 0.5, 15.0
"""Seconds until a connection that broke is opened again; they double with each attempt that fails."""
LOOK_AGAIN = 5.0, 60.0
"""Seconds after a connection was opened again when all VMs are compared once more: a libvirtd that has just started may
take a VM whose process is gone for running, and gives no signal when it notices."""
EVENT_THREAD = "golden.libvirt.lifecycle"

log = logging.getLogger(EVENT_THREAD)
Event = dict[str, Any]
Result = TypeVar("Result")


# --- pure: what is seen of VMs, and the events between two looks ----------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What the rulebook wants to hear of. No filters let all managed VMs pass."""

    uris: tuple[str, ...]
    vm_pools: frozenset[str] = frozenset()
    vms: frozenset[str] = frozenset()

    def wants(self, facts: Event) -> bool:
        """Whether a VM is one of those that the rulebook wants."""
        if not self.vm_pools and not self.vms:
            return True
        return facts["vm"] in self.vms or facts["vm_pool"] in self.vm_pools


@dataclass(frozen=True)
class Seen:
    """A managed VM as it was seen: what events say of it, and which run of it that was.

    ``run`` is libvirt's number of the run (DOWN: none). libvirt counts from 1 again when it, or the host, was started
    anew; so ``mark`` tells runs apart, too, where we could make one. ``saved``: it is down, and its memory waits.
    """

    facts: Event
    run: int = DOWN
    mark: str = ""
    saved: bool = False

    def same_run(self, other: Seen) -> bool:
        """Whether it is the same run, or down both times."""
        return self.run == other.run and (not self.mark or not other.mark or self.mark == other.mark)


@dataclass(frozen=True)
class Signal:
    """What libvirt told; ``run`` is the number that the VM then had."""

    uuid: str
    event: str
    detail: str
    run: int = DOWN


LOOK = Signal("", "", "")
"""No signal of libvirt's: all VMs are to be looked at."""
World = dict[str, Seen]


def parse_args(args: dict[str, Any]) -> Options:
    """Return the options; ValueError tells what is wrong with them."""
    known = {"uri", "uris", "vm_pools", "vms"}
    unknown = sorted(name for name in args if name not in known and not name.startswith("eda_"))
    if unknown:
        raise ValueError(f"golden.libvirt.lifecycle has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    if args.get("uri") and args.get("uris"):
        raise ValueError("golden.libvirt.lifecycle: give 'uri' or 'uris', not both")
    uris = _words(args, "uris") or _words(args, "uri")
    return Options(
        uris=tuple(dict.fromkeys(uris or [os.environ.get("LIBVIRT_DEFAULT_URI") or "qemu:///system"])),
        vm_pools=frozenset(_words(args, "vm_pools")),
        vms=frozenset(_words(args, "vms")),
    )


def _words(args: dict[str, Any], name: str) -> list[str]:
    value = args.get(name) or []
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"golden.libvirt.lifecycle: {name} must be a list of strings, not {value!r}")
    return words


def facts_of(metadata: str, name: str, identity: str) -> Event | None:
    """Return what events say of a VM, from our element of its metadata; None for a copy, made by others, of our VM.

    ValueError, KeyError and ParseError mean that the element is damaged.
    """
    vm = ET.fromstring(metadata)
    for element in vm.iter():
        element.tag = element.tag.rpartition("}")[2]
    if vm.get("uuid", identity) != identity:
        return None
    root, vm_pool, lease, pending = (vm.find(part) for part in ("root", "vm_pool", "lease", "pending"))
    if root is None:
        raise KeyError("root")
    return {
        "vm": name,
        "uuid": identity,
        "vm_pool": "" if vm_pool is None else vm_pool.attrib["name"],
        "template": root.attrib["template"],
        "template_storage_pool": root.attrib["template_storage_pool"],
        "template_version": int(root.attrib["version"]),
        "root_volume": root.attrib["volume"],
        "stateless": vm.attrib["stateless"] == "yes",
        "follows_latest": vm.attrib["follows"] == "latest",
        "auto_refresh": vm_pool is None or vm_pool.attrib["auto_refresh"] == "yes",
        "taken": lease is not None,
        "lease_user": "" if lease is None else lease.attrib["user"],
        "pending": "" if pending is None else pending.attrib["job"],
    }


def event_of(event: str, detail: str, seen: Seen) -> Event:
    """Return the event of a VM."""
    return {"event": event, "detail": detail, "running": seen.run != DOWN, **seen.facts}


def missed_events(before: World, now: World) -> list[Event]:
    """Return the events of what happened between two looks at all VMs."""
    events = []
    for identity in sorted({**before, **now}):
        old, new = before.get(identity), now.get(identity)
        if new is None:
            gone = replace(before[identity], run=DOWN)
            events += [event_of("stopped", "missed", gone)] * (before[identity].run != DOWN)
            events.append(event_of("undefined", "missed", gone))
            continue
        if old is None:
            events.append(event_of("defined", "missed", new))
        elif old.run != DOWN and not new.same_run(old):
            events.append(event_of("stopped", "saved" if new.saved else "missed", new))
        if new.run != DOWN and (old is None or not new.same_run(old)):
            events.append(event_of("started", "missed", new))
    return events


def events_of(signal: Signal, before: Seen | None, now: Seen | None) -> tuple[list[Event], Seen | None]:
    """Return the events that a signal stands for, and what is known of the VM after it.

    ``before`` is what was known, ``now`` how the VM is (None: gone), perhaps some signals later. The first signals may
    be older than the look at all VMs: a start that is not of a later run than the known one, and a stop while that one
    still runs, are no news.
    """
    if now is None:
        return ([], None) if before is None else _events_of_gone(signal, before)
    event = event_of(signal.event, signal.detail, now)
    if before is None:  # it was not ours before; it may run already
        runs = now.run != DOWN and signal.event not in ("started", "stopped")
        return [event, *[event_of("started", "missed", now)] * runs], now
    kept = replace(now, run=before.run, mark=before.mark)
    if signal.event == "stopped":
        news = before.run not in (DOWN, now.run)
        return ([event], replace(now, run=DOWN, mark="")) if news else ([], kept)
    if signal.event == "started":
        started = replace(now, run=signal.run, mark=now.mark if now.run == signal.run else "")
        return ([event], started) if signal.run > before.run else ([], kept)
    return [event], kept


def _events_of_gone(signal: Signal, before: Seen) -> tuple[list[Event], Seen | None]:
    gone = replace(before, run=DOWN, mark="")
    if signal.event == "stopped":
        return [event_of("stopped", signal.detail, gone)] * (before.run != DOWN), gone
    if signal.event == "undefined":
        return [event_of("undefined", signal.detail, gone)], None
    return [], before  # the signal of its end is still to come


def down(world: World) -> list[str]:
    """Return the names of the stateless VMs that are down and nobody is at work on."""
    return sorted(
        seen.facts["vm"]
        for seen in world.values()
        if seen.facts["stateless"] and seen.run == DOWN and not (seen.saved or seen.facts["pending"])
    )


# --- libvirt: these block, and run in threads ------------------------------------------------------------------------


def _constants(prefix: str) -> dict[int, str]:
    values = {name[len(prefix) :]: value for name, value in vars(libvirt).items() if name.startswith(prefix)}
    return {value: name.lower() for name, value in values.items() if isinstance(value, int) and name != "LAST"}


KINDS = ("DEFINED", "UNDEFINED", "STARTED", "SUSPENDED", "RESUMED", "STOPPED", "SHUTDOWN", "PMSUSPENDED", "CRASHED")
EVENTS = {getattr(libvirt, f"VIR_DOMAIN_EVENT_{kind}"): kind.lower() for kind in KINDS}
DETAILS = {kind.lower(): _constants(f"VIR_DOMAIN_EVENT_{kind}_") for kind in KINDS}


def _open(uri: str) -> libvirt.virConnect:
    conn = libvirt.open(uri)
    with contextlib.suppress(libvirt.libvirtError):  # drivers in this process have no connection that could hang
        conn.setKeepAlive(*KEEPALIVE)
    return conn


def _look(domain: libvirt.virDomain, options: Options) -> Seen | None:
    """Return a VM as it is; None when it is gone, or not one that is wanted."""
    name, identity = domain.name(), domain.UUIDString()
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    except libvirt.libvirtError as error:
        # not managed; transient, and so not either; gone
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN_METADATA,
            libvirt.VIR_ERR_OPERATION_INVALID,
            libvirt.VIR_ERR_INVALID_ARG,
            libvirt.VIR_ERR_NO_DOMAIN,
        ):
            return None
        raise
    try:
        facts = facts_of(text, name, identity)
    except (ValueError, KeyError, ET.ParseError) as error:
        log.warning("the metadata of VM %r is damaged (%s): it gives no events", name, error)
        return None
    if facts is None or not options.wants(facts):
        return None
    run = domain.ID()
    if run == DOWN:
        return Seen(facts, saved=bool(domain.hasManagedSaveImage()))
    return Seen(facts, run, _mark_of(domain))


def _mark_of(domain: libvirt.virDomain) -> str:
    """Return the mark of a run of a VM, which it gets if it has none; libvirt drops it when the VM stops."""
    flags = libvirt.VIR_DOMAIN_METADATA_ELEMENT, RUN_NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE
    with contextlib.suppress(libvirt.libvirtError):
        return ET.fromstring(domain.metadata(*flags)).get("id", "")
    mark = uuid.uuid4().hex
    with contextlib.suppress(libvirt.libvirtError):  # it stops at this moment, or we may only read
        domain.setMetadata(flags[0], f'<run id="{mark}"/>', "golden-run", *flags[1:])
        return mark
    return ""


def _look_at(conn: libvirt.virConnect, identity: str, options: Options) -> Seen | None:
    try:
        return _look(conn.lookupByUUIDString(identity), options)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _look_at_all(conn: libvirt.virConnect, options: Options) -> World:
    world = {}
    for domain in conn.listAllDomains():
        seen = _look_at(conn, domain.UUIDString(), options)
        if seen is not None:
            world[domain.UUIDString()] = seen
    return world


def _start_event_loop() -> None:
    """Let libvirt deliver events in this process; whatever number of sources it has, there is one loop."""
    if any(thread.name == EVENT_THREAD for thread in threading.enumerate()):
        return
    libvirt.virEventRegisterDefaultImpl()
    # Errors come as exceptions; libvirt would print them on stderr besides.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)

    def run() -> None:
        while True:
            with contextlib.suppress(libvirt.libvirtError):
                libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name=EVENT_THREAD, daemon=True).start()


# --- asyncio ---------------------------------------------------------------------------------------------------------


async def _blocking(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function in a thread; one that hangs for ever keeps neither the loop nor the end of the process waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if error is not None and not future.done():
            future.set_exception(error)
        elif not future.done():
            future.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except Exception as raised:  # the one that waits gets it, whatever it is
            error = raised
        if not future.cancelled():  # else nobody waits; a connection that was opened too late closes itself here
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=f"{EVENT_THREAD} {function.__name__}", daemon=True).start()
    return await future


class _Connection:
    """An open connection, whose signals come in ``signals``; None is the last one: the connection broke."""

    def __init__(self, conn: libvirt.virConnect) -> None:
        self.conn = conn
        self.signals: asyncio.Queue[Signal | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._event = -1

    def listen(self) -> str:
        """Begin to receive signals; return the host name of the hypervisor."""
        self.conn.registerCloseCallback(lambda _conn, _reason, _opaque: self._put(None), None)
        self._event = self.conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._receive, None)
        return str(self.conn.getHostname())

    def _receive(self, _conn: Any, domain: libvirt.virDomain, event: int, detail: int, _opaque: Any) -> None:
        if event in EVENTS:
            kind = EVENTS[event]
            self._put(Signal(domain.UUIDString(), kind, DETAILS[kind].get(detail, str(detail)), domain.ID()))

    def look_later(self, seconds: float) -> None:
        """Put a ``LOOK`` among the signals after this time."""
        self._loop.call_later(seconds, self.signals.put_nowait, LOOK)

    def _put(self, signal: Signal | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.signals.put_nowait, signal)

    def close(self) -> None:
        """End the connection, whatever state it is in."""
        for end in (
            lambda: self.conn.domainEventDeregisterAny(self._event),
            self.conn.unregisterCloseCallback,
            self.conn.close,
        ):
            with contextlib.suppress(libvirt.libvirtError):
                end()


class _Watch:
    """One hypervisor, with what is known of its VMs, also while there is no connection."""

    def __init__(self, uri: str, options: Options, queue: asyncio.Queue[Any]) -> None:
        self.uri = uri
        self.options = options
        self.queue = queue
        self.world: World | None = None
        self.delay = LEAST_DELAY

    async def run(self) -> None:
        """Hand on events until cancelled."""
        while True:
            try:
                await self._connect()
                log.warning("the connection to %s broke; it is opened again", self.uri)
            except (libvirt.libvirtError, asyncio.TimeoutError) as error:
                log.warning("%s: %s; next attempt in %s s", self.uri, str(error) or "no answer", self.delay)
            await asyncio.sleep(self.delay)
            self.delay = min(2 * self.delay, MOST_DELAY)

    async def _connect(self) -> None:
        connection = _Connection(await asyncio.wait_for(_blocking(_open, self.uri), CONNECT_TIMEOUT))
        try:
            await self._listen(connection)
        finally:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_blocking(connection.close), CLOSE_TIMEOUT)

    async def _listen(self, connection: _Connection) -> None:
        # first the signals, then the look: so nothing falls between them
        host = await _blocking(connection.listen)
        source = {"uri": self.uri, "hypervisor": host}
        detail = "initial" if self.world is None else "again"
        self.world = await self._compare(connection, source)
        names = down(self.world)
        await self.queue.put(
            {"event": "connected", "detail": detail, "down": names, "down_count": len(names), **source}
        )
        self.delay = LEAST_DELAY
        for seconds in LOOK_AGAIN if detail == "again" else ():
            connection.look_later(seconds)
        while (signal := await connection.signals.get()) is not None:
            if signal is LOOK:
                self.world = await self._compare(connection, source)
                continue
            seen = await _blocking(_look_at, connection.conn, signal.uuid, self.options)
            events, known = events_of(signal, self.world.get(signal.uuid), seen)
            for event in events:
                await self.queue.put({**event, **source})
            if known is None:
                self.world.pop(signal.uuid, None)
            else:
                self.world[signal.uuid] = known

    async def _compare(self, connection: _Connection, source: Event) -> World:
        """Look at all VMs, and hand on the events of what happened since the last look; return them as they are."""
        now = await _blocking(_look_at_all, connection.conn, self.options)
        for event in [] if self.world is None else missed_events(self.world, now):
            await self.queue.put({**event, **source})
        return now


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Put the events of the managed VMs into the queue, until cancelled."""
    options = parse_args(args)
    _start_event_loop()
    watches = [asyncio.ensure_future(_Watch(uri, options, queue).run()) for uri in options.uris]
    try:
        await asyncio.gather(*watches)
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


if __name__ == "__main__":  # by hand: lifecycle.py '{"uri": "qemu:///system"}'

    class PrintingQueue(asyncio.Queue[Any]):
        """Prints the events."""

        async def put(self, item: Any) -> None:
            """Print an event."""
            print(json.dumps(item), flush=True)

    async def print_events(args: dict[str, Any]) -> None:
        """Print the events until interrupted."""
        watching = asyncio.ensure_future(main(PrintingQueue(), args))
        # asyncio's own way misses an interrupt that comes just before the loop begins to wait: nothing wakes it
        asyncio.get_running_loop().add_signal_handler(SIGINT, watching.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    with contextlib.suppress(KeyboardInterrupt):  # before the loop has its handler
        asyncio.run(print_events(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}))
