"""Have the payloads that VMs fetch over their private network served, and delete those that were for one run.

libvirt calls this as the hook /etc/libvirt/hooks/qemu.d/golden-payload, with the arguments ``<VM> start begin -``
before a VM starts, ``<VM> reconnect begin -`` for each that runs when libvirt itself starts, ``<VM> release end -``
when one has stopped, and with the VM's definition on standard input; for all other events it does nothing. It asks
libvirt nothing, as libvirt waits for it, and never fails, as the VM would not start. Standard library only.

What is to be served is told to the service in the folder /run/golden-payload/<address of the hypervisor>: a file for
each VM, named by the secret part of its URL.
"""

# ruff: noqa: E402 - libvirt waits for this several times while a VM starts: imports only where there is something to do

from __future__ import annotations

import sys

STARTS, RECONNECTS, ENDS = ["start", "begin"], ["reconnect", "begin"], ["release", "end"]
EVENT = sys.argv[2:4]
DEFINITION = sys.stdin.buffer.read() if EVENT in (STARTS, RECONNECTS, ENDS) else b""
if b"ds=nocloud;s=http:" not in DEFINITION and not (EVENT == ENDS and b"run_once" in DEFINITION):
    sys.exit()

import fcntl
import json
import os
import re
import stat
import subprocess
import syslog
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from xml.etree import ElementTree

NAMESPACE = "{https://golden.libvirt/vm/1}"
DEFINITIONS = "/etc/libvirt/qemu"
REGISTERED = "/run/golden-payload"
SERVICE = "/etc/libvirt/hooks/golden-payload-service"
SERIAL = re.compile(r"ds=nocloud;s=http://((?:[0-9]{1,3}\.){3}[0-9]{1,3}):330/([0-9a-f]{32})/;dsmode=net")


def payloads_of(domain: ElementTree.Element) -> list[ElementTree.Element]:
    """Return what the metadata of the collection tell of the VM's payload."""
    return domain.findall(f"metadata/{NAMESPACE}vm/{NAMESPACE}payload")


def is_own(vm: str, path: str, ends: str) -> bool:
    """Whether a path has the name of a payload of this VM, with one of these ends."""
    own = re.escape(vm) + r"\.payload\.[0-9a-f]{12}\.(" + ends + ")"
    return path.startswith("/") and re.fullmatch(own, path.rpartition("/")[2]) is not None


# --- served over the network -----------------------------------------------------------------------------------------


def place_of(domain: ElementTree.Element) -> tuple[str, str] | None:
    """Return the address, and the secret part, of the URL that the guest is told in its serial number."""
    found = SERIAL.fullmatch(domain.findtext("sysinfo[@type='smbios']/system/entry[@name='serial']", "").strip())
    return (found[1], found[2]) if found else None


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Let nobody else change what is registered in a folder."""
    with open(f"{folder}/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def register(vm: str, domain: ElementTree.Element, address: str, token: str) -> None:
    """Have the payload of a VM served, from now on until it has stopped."""
    payload = next((payload for payload in payloads_of(domain) if payload.get("type") == "network"), None)
    path = payload.get("path", "") if payload is not None else ""
    if payload is None or not is_own(vm, path, "seed"):
        return
    macs = [mac.get("address", "").lower() for mac in domain.iterfind("devices/interface/mac")]
    once = payload.get("availability") == "run_once"
    entry = {"vm": vm, "path": path, "macs": macs, "once": once, "fetched": []}
    folder = f"{REGISTERED}/{address}"
    for made in (REGISTERED, folder):
        os.makedirs(made, 0o700, exist_ok=True)
    with locked(folder):
        registered = f"{folder}/{token}"
        if EVENT == STARTS or not os.path.exists(registered):  # a guest that has its payload for one run keeps to that
            with open(f"{folder}/.new", "w") as new:
                json.dump(entry, new)
            os.rename(f"{folder}/.new", registered)
        serve(folder, address)


def serve(folder: str, address: str) -> None:
    """Start the service for an address, unless it runs: it holds a lock, which it is born with."""
    with open(f"{folder}/.service", "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # without the pipes of this hook, for whose end libvirt waits
        subprocess.Popen(
            ["/usr/bin/python3", "-IS", SERVICE, address],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[held.fileno()],
            start_new_session=True,
        )


def unregister(address: str, token: str) -> None:
    """Have the payload of a VM served no more; the service ends by itself when it has none."""
    folder = f"{REGISTERED}/{address}"
    if os.path.isdir(folder):
        with locked(folder), suppress(FileNotFoundError):
            os.unlink(f"{folder}/{token}")


# --- deleted ---------------------------------------------------------------------------------------------------------


def paths_of_one_run(vm: str, domain: ElementTree.Element) -> list[str]:
    """Return the files of the payload that the VM had for this run only."""
    payloads = [payload for payload in payloads_of(domain) if payload.get("availability") == "run_once"]
    volumes = {payload.get("volume") for payload in payloads}
    files = [source.get("file", "") for source in domain.iterfind("devices/disk/source")]
    files += [entry.get("file", "") for entry in domain.iterfind("sysinfo[@type='fwcfg']/entry")]
    files += [payload.get("path", "") for payload in payloads if payload.get("type") == "network"]
    return [path for path in files if path.rpartition("/")[2] in volumes and is_own(vm, path, "iso|img|ign|seed")]


def is_stored(vm: str, path: str) -> bool:
    """Whether the stored definition of the VM names the file: it was given to the VM for all runs meanwhile."""
    try:
        with open(f"{DEFINITIONS}/{vm}.xml", encoding="utf-8") as definition:
            return path.rpartition("/")[2] in definition.read()
    except FileNotFoundError:
        return False


def delete(path: str) -> None:
    """Delete the file, unless a QEMU has it open: that is where the VM has migrated to."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    except BlockingIOError:
        return
    finally:
        os.close(file)


# --- called ----------------------------------------------------------------------------------------------------------


def act(vm: str, domain: ElementTree.Element) -> None:
    """Do what an event asks for."""
    place = place_of(domain)
    if EVENT != ENDS:
        if place is not None:
            register(vm, domain, *place)
        return
    if place is not None:
        unregister(*place)
    for path in paths_of_one_run(vm, domain):
        if not is_stored(vm, path):
            delete(path)


def tell(vm: str, problem: str) -> None:
    """Put a problem into the log of the system, and on standard error."""
    doing = "for one run could not be deleted" if EVENT == ENDS else "could not be served over the network"
    text = f"the payload of VM {vm!r} {doing}: {problem}"
    syslog.openlog("golden-payload")
    syslog.syslog(syslog.LOG_ERR, text)
    print(text, file=sys.stderr)


def main(vm: str) -> None:
    """Do what the event asks for; a problem is told, and nothing else."""
    try:
        act(vm, ElementTree.fromstring(DEFINITION))
    except (OSError, ValueError) as error:
        tell(vm, getattr(error, "strerror", None) or "the definition is no valid text")
    except ElementTree.ParseError:
        tell(vm, "the definition is no well-formed XML")


if __name__ == "__main__":
    main(sys.argv[1])
