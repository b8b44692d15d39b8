"""Delete the payload of a VM that was there for one run, once that run has ended.

libvirt calls this as the hook /etc/libvirt/hooks/qemu.d/golden-payload, with the arguments ``<VM> release end -`` when
a VM has stopped, and with the VM's definition on standard input; for all other events it does nothing. It asks libvirt
nothing, as libvirt waits for it, and never fails. Standard library only.
"""

from __future__ import annotations

import sys

if sys.argv[2:4] != ["release", "end"]:
    sys.exit()  # before the imports: libvirt waits for this several times while a VM starts

import fcntl
import os
import re
import stat
import syslog
from xml.etree import ElementTree

NAMESPACE = "{https://golden.libvirt/vm/1}"
DEFINITIONS = "/etc/libvirt/qemu"


def paths_of_one_run(vm: str, xml: str) -> list[str]:
    """Return the files of the payload that the VM had for this run only."""
    domain = ElementTree.fromstring(xml)
    volumes = {
        payload.get("volume")
        for payload in domain.iterfind(f"metadata/{NAMESPACE}vm/{NAMESPACE}payload")
        if payload.get("availability") == "run_once"
    }
    own = re.compile(re.escape(vm) + r"\.payload\.[0-9a-f]{12}\.(iso|img|ign)")
    files = [source.get("file", "") for source in domain.iterfind("devices/disk/source")]
    files += [entry.get("file", "") for entry in domain.iterfind("sysinfo[@type='fwcfg']/entry")]
    names = {path: path.rpartition("/")[2] for path in files if path.startswith("/")}
    return [path for path, name in names.items() if name in volumes and own.fullmatch(name)]


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


def tell(vm: str, problem: str) -> None:
    """Put a problem into the log of the system, and on standard error."""
    text = f"the payload of VM {vm!r} for one run could not be deleted: {problem}"
    syslog.openlog("golden-payload")
    syslog.syslog(syslog.LOG_ERR, text)
    print(text, file=sys.stderr)


def main(vm: str) -> None:
    """Delete what the VM's run has left."""
    try:
        for path in paths_of_one_run(vm, sys.stdin.read()):
            if not is_stored(vm, path):
                delete(path)
    except (OSError, ValueError) as error:
        tell(vm, getattr(error, "strerror", None) or "the definition is no valid text")
    except ElementTree.ParseError:
        tell(vm, "the definition is no well-formed XML")


if __name__ == "__main__":
    main(sys.argv[1])
