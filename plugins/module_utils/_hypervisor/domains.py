"""Domains: what they are, and starting, stopping and redefining them."""

from __future__ import annotations

import time
from typing import Any

from .._core.errors import ExistsError, NotFoundError, TimedOutError
from .._core.hypervisor import PAUSED, RUNNING, SHUT_OFF, Domain, Health, Host, Shutdown
from .._core.libvirt_xml import domain_capabilities
from .._core.vm.record import NAMESPACE, PREFIX
from .addresses import addresses_of
from .connection import Connection, translated
from .denials import told
from .health import wait_healthy
from .library import libvirt

_ASK_AGAIN = 10.0
"""Seconds after which a guest that was asked to shut down is asked again: early in its boot it does not listen."""
_GOING = 5.0
"""Seconds for which a VM that libvirt no longer calls running may still be active."""


class DomainCalls:
    """The calls of ``_core.hypervisor.Hypervisor`` that are about domains."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._virt_type = ""

    def host(self) -> Host:
        return self.connection.host()

    def domains(self) -> list[Domain]:
        conn = self.connection.libvirt
        with translated("cannot list the domains"):
            persistent, autostart, saved = (
                {domain.UUIDString() for domain in conn.listAllDomains(flag)}
                for flag in (
                    libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT,
                    libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART,
                    libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
                )
            )
            found = conn.listAllDomains()
        domains = []
        for domain in found:
            uuid = domain.UUIDString()
            try:
                domains.append(self._value(domain, uuid in persistent, uuid in autostart, uuid in saved))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # gone since the list was made
                    raise told(f"cannot look at domain {domain.name()!r}", error) from error
        return sorted(domains, key=lambda domain: domain.name)

    def domain(self, name: str) -> Domain | None:
        with translated(f"cannot look at domain {name!r}"):
            domain = self._lookup(name)
            if domain is None:
                return None
            persistent = bool(domain.isPersistent())
            autostart = persistent and bool(domain.autostart())
            return self._value(domain, persistent, autostart, persistent and bool(domain.hasManagedSaveImage()))

    def snapshots(self, name: str) -> list[str]:
        with translated(f"cannot list the snapshots of VM {name!r}"):
            domain = self._existing(name)
            found = [snapshot.getName() for snapshot in domain.listAllSnapshots()]
            try:
                found += [checkpoint.getName() for checkpoint in domain.listAllCheckpoints()]
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:  # drivers without checkpoints have none
                    raise
            return found

    def define(self, xml: str) -> None:
        try:
            self.connection.libvirt.defineXML(xml)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED and "already exists" in str(error):
                raise ExistsError(f"cannot define the VM: {error.get_error_message()}") from error
            raise told("cannot define the VM", error) from error

    def metadata(self, name: str) -> str | None:
        with translated(f"cannot read the metadata of VM {name!r}"):
            domain = self._lookup(name)
            try:
                if domain is None:
                    return None
                return str(
                    domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
                )
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                    return None
                raise

    def set_metadata(self, name: str, xml: str) -> None:
        with translated(f"cannot write the metadata of VM {name!r}"):
            domain = self._existing(name)
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
            if domain.isActive():
                flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, PREFIX, NAMESPACE, flags)

    def undefine(self, name: str) -> None:
        with translated(f"cannot undefine VM {name!r}"):
            domain = self._lookup(name)
            if domain is not None:
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)

    def live_xml(self, name: str) -> str | None:
        with translated(f"cannot look at VM {name!r}"):
            domain = self._lookup(name)
            try:
                return None if domain is None or not domain.isActive() else str(domain.XMLDesc())
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:  # it was transient, and went down in between
                    return None
                raise

    def start_once(self, xml: str) -> None:
        with translated("cannot start the VM"):
            self.connection.libvirt.createXML(xml)

    def start(self, name: str) -> None:
        with translated(f"cannot start VM {name!r}"):
            domain = self._existing(name)
            if domain.isActive():
                return
            try:
                domain.create()
            except libvirt.libvirtError:
                if not domain.isActive():  # else another task started it in between
                    raise

    def stop(self, name: str, shutdown: Shutdown) -> None:
        with translated(f"cannot stop VM {name!r}"):
            domain = self._lookup(name)
            if domain is None or not domain.isActive():
                return
            if shutdown.mode != "force" and self._ask_to_shut_down(domain, shutdown.timeout):
                return
            if shutdown.mode == "graceful":
                raise TimedOutError(
                    f"VM {name!r} did not shut down within {shutdown.timeout} seconds; look at its console, give it "
                    "more time (shutdown.timeout), or set shutdown.mode to 'graceful_then_force'"
                )
            self._destroy(domain)

    def drop_managed_save(self, name: str) -> None:
        with translated(f"cannot remove the managed save image of VM {name!r}"):
            domain = self._existing(name)
            if domain.hasManagedSaveImage():
                domain.managedSaveRemove()

    def set_autostart(self, name: str, autostart: bool) -> None:
        with translated(f"cannot set autostart of VM {name!r}"):
            self._existing(name).setAutostart(int(autostart))

    def wait_healthy(self, name: str, health: Health) -> None:
        with translated(f"cannot check the health of VM {name!r}"):
            wait_healthy(self.connection, self._existing(name), health)

    def addresses_of(self, names: list[str]) -> dict[str, dict[str, list[str]]]:
        with translated("cannot look at the VMs"):
            found = {name: self._lookup(name) for name in names}
            return addresses_of({name: domain for name, domain in found.items() if domain is not None})

    def virt_type(self) -> str:
        if not self._virt_type:
            self._virt_type = "kvm" if self._kvm_runs() else "qemu"
        return self._virt_type

    # --- parts -----------------------------------------------------------------------------------------------------

    def _lookup(self, name: str) -> Any:
        try:
            return self.connection.libvirt.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _existing(self, name: str) -> Any:
        domain = self._lookup(name)
        if domain is None:
            raise NotFoundError(f"there is no VM {name!r}")
        return domain

    def _value(self, domain: Any, persistent: bool, autostart: bool, managed_save: bool) -> Domain:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if persistent else 0
        if not self.connection.only_look:
            # What is defined again must have the passwords that are left out of it otherwise.
            flags |= libvirt.VIR_DOMAIN_XML_SECURE
        # Before the state: who starts a VM again that was stopped for a restore ends what its metadata tell of that.
        xml = domain.XMLDesc(flags)
        return Domain(
            name=domain.name(),
            uuid=domain.UUIDString(),
            state=_state(domain),
            persistent=persistent,
            autostart=autostart,
            managed_save=managed_save,
            xml=xml,
        )

    def _ask_to_shut_down(self, domain: Any, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                domain.shutdown()
            except libvirt.libvirtError as error:
                # One that goes down just now is not running any more for libvirt, and active still for a moment.
                going = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
                if not self._goes_down(domain, min(left, _GOING) if going else 0):
                    raise
                return True
            if self._goes_down(domain, min(left, _ASK_AGAIN)):
                return True
        return False

    def _goes_down(self, domain: Any, timeout: float) -> bool:
        return self.connection.wait_until(domain, lambda: not domain.isActive(), timeout)

    def _destroy(self, domain: Any) -> None:
        try:
            domain.destroy()
        except libvirt.libvirtError:
            if domain.isActive():  # else it went down by itself in between
                raise

    def _kvm_runs(self) -> bool:
        """Whether a KVM guest really runs here: the device may be there, and yet run no guest or be forbidden."""
        conn = self.connection.libvirt
        try:
            capabilities = conn.getDomainCapabilities(None, None, None, "kvm")
            if not domain_capabilities.kvm_usable(capabilities):
                return False
            probe = conn.createXML(domain_capabilities.kvm_probe(), libvirt.VIR_DOMAIN_START_AUTODESTROY)
        except libvirt.libvirtError as error:
            # Who may not try it out has to take libvirt's word for it.
            return bool(error.get_error_code() == libvirt.VIR_ERR_ACCESS_DENIED)
        try:
            return _state(probe) == RUNNING
        finally:
            self._destroy(probe)


def _state(domain: Any) -> str:
    state = domain.state()[0]
    if state == libvirt.VIR_DOMAIN_SHUTOFF or (state == libvirt.VIR_DOMAIN_CRASHED and not domain.isActive()):
        return SHUT_OFF
    return PAUSED if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED) else RUNNING
