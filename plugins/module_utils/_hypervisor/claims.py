"""Claims: who may do what only one may do at a time."""

from __future__ import annotations

from typing import Any

from .._core import claim_xml
from .._core.errors import HypervisorError
from .connection import Connection, translated
from .library import libvirt

_TRIES = 20
"""How often a claim is tried that others make and release just then."""


class ClaimCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about claims."""

    connection: Connection

    def claim(self, thing: str, claimant: str) -> str:
        with translated(f"cannot claim {thing!r}"):
            for _try in range(_TRIES):
                try:
                    self.connection.libvirt.secretDefineXML(claim_xml.claim_xml(thing, claimant))
                    return claimant
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:  # what it says to a use that is taken
                        raise
                    failure = error
                held = self._claim(thing)
                if held is not None:
                    return claim_xml.claimant_of(held.XMLDesc())
        raise HypervisorError(f"cannot claim {thing!r}: {failure.get_error_message()}")

    def release(self, thing: str, claimant: str) -> None:
        with translated(f"cannot release {thing!r}"):
            held = self._claim(thing)
            if held is not None and claim_xml.claimant_of(held.XMLDesc()) == claimant:
                held.undefine()

    def _claim(self, thing: str) -> Any:
        try:
            return self.connection.libvirt.secretLookupByUsage(
                libvirt.VIR_SECRET_USAGE_TYPE_TLS, claim_xml.usage(thing)
            )
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
                return None
            raise
