"""What can go wrong with a task at one of its calls to libvirt: it is killed, libvirt fails, or libvirtd dies.

libvirt's Python classes make each of their calls through a function of the C module below them. Here that module is
replaced by one that counts: so nothing that a task asks of libvirt is missed, whatever object it asks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import libvirt

from .virsh import comes_up

KILL, CUT, ERROR, LOST, RESTART, RUN, SLOW = "kill", "cut", "error", "lost", "restart", "run", "slow"
INJECTED = "gldtest: this call was made to fail"
PID_FILE = Path("/run/libvirtd.pid")
_LOCAL = re.compile(
    r"_pointer$|Free$|Ref$|^virEvent|^virGet|^virRegister|^virInitialize|^virStreamNew$|Get(Name|UUID|UUIDString|Key|Connect)$"
)
"""Functions that do not talk to libvirtd."""
_LOOKING = re.compile(r"Get|List|Lookup|NumOf|^vir\w+Is[A-Z]|Has|Download|Recv|Open$|Close$|Event|XMLDesc")


@dataclass(frozen=True)
class Fault:
    """What goes wrong: ``kind`` at call number ``call``, from 0.

    - ``kill``: the process is killed before the call, which is after the one before.
    - ``cut``: it is killed ``seconds`` after the call has begun, most likely in the middle of it.
    - ``error``: the call fails without having done anything; ``lost``: it fails although it has done its work.
    - ``restart``: libvirtd is killed and started again before the call.
    - ``run``: a command is run before the call.
    - ``slow``: every call takes ``seconds`` longer.
    """

    kind: str
    call: int = 0
    seconds: float = 0.0
    command: tuple[str, ...] = ()


def changes(function: str) -> bool:
    """Whether a function of libvirt may change something."""
    return _LOOKING.search(function) is None


def count_calls(calls: list[str], fault: Fault | None) -> None:
    """Have the functions that this process calls from now on noted in a list, and let one of them go wrong."""
    libvirt.libvirtmod = _Counting(libvirt.libvirtmod, calls, fault)


class _Counting:
    """The C module of libvirt, with every function that talks to libvirtd counted."""

    def __init__(self, module: Any, calls: list[str], fault: Fault | None) -> None:
        self._module = module
        self._calls = calls
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not name.startswith("vir") or _LOCAL.search(name):
            return function

        def call(*arguments: Any) -> Any:
            self._calls.append(name)
            return self._call(function, *arguments)

        setattr(self, name, call)
        return call

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        fault = self._fault
        if fault is None or (fault.kind != SLOW and fault.call != len(self._calls) - 1):
            return function(*arguments)
        if fault.kind == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.kind == CUT:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # no handler: it dies at once, wherever it is
            signal.setitimer(signal.ITIMER_REAL, fault.seconds)
        elif fault.kind == RESTART:
            restart_libvirtd()
        elif fault.kind == RUN:
            subprocess.run(fault.command, check=True, stdout=subprocess.DEVNULL)
        elif fault.kind == SLOW:
            time.sleep(fault.seconds)
        elif fault.kind == ERROR:
            _fail()
        result = function(*arguments)
        if fault.kind == LOST:
            _fail()
        return result


def _fail() -> NoReturn:
    error = libvirt.libvirtError(INJECTED)
    error.err = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_NONE, INJECTED, libvirt.VIR_ERR_ERROR, "", "", "", 0, 0)
    raise error


def has_own_libvirtd() -> bool:
    """Whether libvirtd is one of these tests' own (scripts/own-libvirt.sh), that may be killed."""
    return Path("/var/lib/libvirt/own").is_dir() and PID_FILE.exists()


def restart_libvirtd() -> None:
    """Kill libvirtd, and wait until it answers again: scripts/own-libvirt.sh starts one that has ended."""
    pid = int(PID_FILE.read_text())
    os.kill(pid, signal.SIGKILL)
    while _runs(pid):
        time.sleep(0.005)
    if not comes_up():
        raise AssertionError("libvirtd does not come up again")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it goes between the opening and the reading
        return False
