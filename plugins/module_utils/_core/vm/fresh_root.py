"""Whether the root of a VM is as the template has it, and making it so."""

from __future__ import annotations

from ..errors import NotFoundError
from ..hypervisor import Hypervisor, Shutdown
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..template.catalog import Catalogue
from .overlay import is_unwritten
from .restore import NO, RestoreRequest, plan_restore


def needs_restore(hv: Hypervisor, catalogue: Catalogue, vm: Vm) -> bool:
    """Whether a VM that is down is to be restored before it is started.

    A stateless one is, unless it is on the version that it follows and was never written on; of the others those that
    are free and outdated.
    """
    record = vm.managed()
    if not record.stateless:
        return record.vm_pool is not None and record.lease is None and catalogue.outdated(record)
    if record.pending is not None or vm.domain.managed_save or catalogue.outdated(record):
        return True
    return not is_unwritten(hv, record.root)


def restore_request(vm: Vm, *, force_taken: bool = False, shutdown: Shutdown | None = None) -> RestoreRequest:
    """Return the restore that gives a VM a fresh root of the version that it follows, and leaves it down."""
    return RestoreRequest(
        vm.name,
        template_version=vm.managed().follows,
        force=True,
        start=NO,
        shutdown=shutdown or Shutdown(),
        force_taken=force_taken,
        clear_failures=False,
    )


def refresh(hv: Hypervisor, name: str, *, force_taken: bool = False) -> Vm:
    """Give a VM that is down a fresh root of the version that it follows, if it needs one, and return the VM.

    One that runs by now was started by another task, maybe for the same user: it stays as it is.
    """
    vm = finish_restore(hv, name, force_taken=force_taken)
    if not vm.domain.active and needs_restore(hv, Catalogue(hv), vm):
        plan_restore(hv, restore_request(vm, force_taken=force_taken)).apply(no_clock)
    return vm


def finish_restore(hv: Hypervisor, name: str, *, force_taken: bool = False) -> Vm:
    """Finish the restore of a VM that another task has begun, whatever it was to, and return the VM."""
    vm = look_again(hv, name)
    record = vm.managed()
    if record.pending is None:
        return vm
    request = RestoreRequest(
        name,
        template_version=str(record.root.version),
        start=NO,
        force_taken=force_taken,
        clear_failures=False,
    )
    plan_restore(hv, request).apply(no_clock)
    return look_again(hv, name)


def look_again(hv: Hypervisor, name: str) -> Vm:
    """Return a VM as it is at this moment."""
    domain = hv.domain(name)
    if domain is None:
        raise NotFoundError(f"VM {name!r} was removed by another task in the meantime")
    return domain_xml.read(domain)


def no_clock() -> float:
    """Return the time for plans whose phases nobody asks for."""
    return 0.0
