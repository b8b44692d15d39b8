"""Claims: who may do what only one may do at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from .._core.errors import HypervisorError
from .._core.libvirt_xml import claim_xml
from . import process
from .connection import Connection, translated
from .library import libvirt

_TRIES = 20
"""How often a claim is tried that others make and release just then."""


_EXPIRES = 120
"""Seconds after which a claim counts as left behind by a task that was killed."""
_LOOK_AGAIN = 0.005
"""Seconds between two looks at a claim that is waited for. Most are held for milliseconds: events of them would be
asked for at each connection, for the few that ever wait."""
_TASK = "task"


class ClaimCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about claims."""

    connection: Connection

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Any] = {}
        self._task = str(uuid4())

    def claimant(self) -> str:
        return f"{_TASK} {process.this()} {self._task}"

    def claim(self, thing: str, claimant: str, wait: float = 0.0) -> str:
        deadline = time.monotonic() + wait
        with translated(f"cannot claim {thing!r}"):
            while (holder := self._claim(thing, claimant)) != claimant and time.monotonic() < deadline:
                time.sleep(_LOOK_AGAIN)
            return holder

    def release(self, thing: str, claimant: str) -> None:
        with translated(f"cannot release {thing!r}"), _unless_gone():
            held = self._held.pop((thing, claimant), None)
            if held is None:  # made by a task that was killed
                held = self._find(thing)
                if claim_xml.parse_claim(held.XMLDesc())[0] != claimant:
                    return
            held.undefine()

    def _claim(self, thing: str, claimant: str) -> str:
        for _try in range(_TRIES):
            now = int(time.time())
            try:
                secret = self.connection.libvirt.secretDefineXML(claim_xml.claim_xml(thing, claimant, now))
                self._held[thing, claimant] = secret
                return claimant
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:  # what it says to a use that is taken
                    raise
                failure = error
            with _unless_gone():
                held = self._find(thing)
                holder, at = claim_xml.parse_claim(held.XMLDesc())
                if holder == claimant or (now - at < _EXPIRES and not _ended(holder)):
                    return holder
                held.undefine()  # this very one: had another task been quicker, it would have another UUID
        raise HypervisorError(f"cannot claim {thing!r}: {failure.get_error_message()}")

    def _find(self, thing: str) -> Any:
        usage = claim_xml.usage(thing)
        return self.connection.libvirt.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_TLS, usage)


def _ended(claimant: str) -> bool:
    """Whether a claimant is a task whose process has ended, as far as that can be seen from here."""
    kind, _blank, task = claimant.partition(" ")
    return kind == _TASK and process.has_ended(task.partition(" ")[0])


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Leave the block when the claim does not exist (any more)."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
            raise
