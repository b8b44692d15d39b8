"""Lists of the VMs and pools of a hypervisor."""

from __future__ import annotations

from dataclasses import dataclass

from ..hypervisor import Domain, Hypervisor
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..listing import Listing
from ..payload.payload import describe_payload_of
from ..template.catalog import Catalogue
from ..vm_pool.vm_pool_members import describe_pool, is_prestarted, members_of
from .describe import describe_vm
from .record import Record


@dataclass(frozen=True)
class Filters:
    """Which VMs are wanted; None lets all pass."""

    name: str | None = None
    vm_pool: str | None = None
    template: str | None = None
    template_version: int | None = None
    taken: bool | None = None
    outdated: bool | None = None
    state: str | None = None

    def pass_(self, domain: Domain, record: Record, catalogue: Catalogue) -> bool:
        """Whether a VM is wanted."""
        pairs = (
            (self.name, domain.name),
            (self.vm_pool, record.vm_pool.name if record.vm_pool else ""),
            (self.template, record.root.template),
            (self.template_version, record.root.version),
            (self.taken, record.lease is not None),
            (self.state, domain.state),
        )
        if any(wanted is not None and wanted != is_ for wanted, is_ in pairs):
            return False
        return self.outdated is None or self.outdated == catalogue.outdated(record)


def list_vms(hv: Hypervisor, filters: Filters) -> Listing:
    """Return the VMs of ours that pass the filters, with their addresses."""
    catalogue = Catalogue(hv)
    managed, damaged = domain_xml.managed_of(hv.domains())
    vms = [domain_xml.read(domain) for domain, record in managed if filters.pass_(domain, record, catalogue)]
    addresses = hv.addresses_of([vm.name for vm in vms if vm.domain.active])
    found = [
        {
            **describe_vm(vm, catalogue),
            "taken": vm.managed().lease is not None,
            "lease_user": lease.user if (lease := vm.managed().lease) else None,
            "prestarted": is_prestarted(vm),
            "payload": describe_payload_of(vm, _live(hv, vm)),
            "addresses": addresses.get(vm.name, {}),
        }
        for vm in vms
    ]
    return Listing(found, [*damaged.values(), *catalogue.problems])


def _live(hv: Hypervisor, vm: Vm) -> str | None:
    """Return the definition of the running instance of a VM that has a payload."""
    return hv.live_xml(vm.name) if vm.managed().payload is not None and vm.domain.active else None


def list_pools(hv: Hypervisor, vm_pool: str | None) -> Listing:
    """Return all pools by name, or only the one of that name."""
    catalogue = Catalogue(hv)
    domains = hv.domains()
    pools = members_of(domains)
    found = [describe_pool(name, members, catalogue) for name, members in pools.items() if vm_pool in (None, name)]
    return Listing(found, [*domain_xml.managed_of(domains)[1].values(), *catalogue.problems])
