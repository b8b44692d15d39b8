"""The managed VMs of a hypervisor as hosts of an inventory."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any

from ..hypervisor import RUNNING, Hypervisor
from ..libvirt_xml import domain_xml
from ..libvirt_xml.domain_xml import Vm
from ..names import natural
from ..template.catalog import Catalogue
from ..vm_pool.vm_pool_members import is_prestarted
from .describe import describe_record


def read_hosts(hv: Hypervisor, uri: str, vm_pools: Collection[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the variables of each managed VM, and what is wrong with VMs and template versions that cannot be read.

    ``vm_pools`` limits the VMs to the members of these pools; empty, it lets all pass.
    """
    managed, damaged = domain_xml.managed_of(hv.domains())
    vms = [
        domain_xml.read(domain)
        for domain, record in managed
        if not vm_pools or (record.vm_pool and record.vm_pool.name in vm_pools)
    ]
    vms.sort(key=lambda vm: natural(vm.name))
    catalogue, hypervisor = Catalogue(hv), hv.host().name
    addresses = hv.addresses_of([vm.name for vm in vms if vm.domain.active])
    found = [_variables(vm, catalogue, uri, hypervisor, addresses.get(vm.name, {})) for vm in vms]
    left_out = [f"{problem}; it is left out of the inventory" for problem in damaged.values()]
    return found, [*left_out, *catalogue.problems]


def groups_of(variables: dict[str, Any]) -> list[str]:
    """Return the groups that a VM is in."""
    named = [("vm_pool", variables["golden_vm_pool"]), ("template", variables["golden_template"])]
    flags = {
        "outdated": variables["golden_outdated"],
        "taken": variables["golden_taken"],
        "prestarted": variables["golden_prestarted"],
        "set_aside": variables["golden_set_aside"],
        "running": variables["golden_state"] == RUNNING,
    }
    return [f"{kind}_{name}" for kind, name in named if name] + [group for group, is_in in flags.items() if is_in]


def _variables(
    vm: Vm, catalogue: Catalogue, uri: str, hypervisor: str, addresses: dict[str, list[str]]
) -> dict[str, Any]:
    known = {**describe_record(vm.managed(), catalogue), "prestarted": is_prestarted(vm)}
    macs = [nic.mac for nic in vm.nics]
    reachable = usable_addresses(macs, addresses)
    variables = {
        "golden_vm": vm.name,
        "golden_uuid": vm.domain.uuid,
        "golden_uri": uri,
        "golden_hypervisor": hypervisor,
        "golden_state": vm.domain.state,
        "golden_description": vm.description,
        "golden_macs": macs,
        "golden_addresses": reachable,
        "golden_template": known["template"],
        "golden_template_storage_pool": known["template_storage_pool"],
        "golden_template_version": known["template_version"],
        "golden_wanted_version": known["wanted_version"],
        "golden_outdated": known["outdated"],
        "golden_stateless": known["stateless"],
        "golden_root_storage_pool": known["root"]["storage_pool"],
        "golden_root_volume": known["root"]["volume"],
        "golden_previous_version": known["previous"]["template_version"] if known["previous"] else None,
        "golden_unfinished": known["unfinished"],
        "golden_vm_pool": known["vm_pool"],
        "golden_auto_refresh": known["auto_refresh"],
        "golden_taken": known["lease"] is not None,
        "golden_prestarted": known["prestarted"],
        "golden_set_aside": known["set_aside"],
        "golden_lease_user": known["lease"]["user"] if known["lease"] else None,
        "golden_lease_since": known["lease"]["since"] if known["lease"] else None,
    }
    return {**variables, "ansible_host": reachable[0]} if reachable else variables


def usable_addresses(macs: list[str], addresses: dict[str, list[str]]) -> list[str]:
    """Return the addresses at which a VM can be reached, IPv4 first, in the order of its network cards.

    What a guest says is not trusted: what is no address, or only has a meaning inside of the guest or on one link, and
    what belongs to no network card of the VM (a container bridge), is left out.
    """
    found = [_parsed(text) for mac in macs for text in addresses.get(mac, [])]
    known = [address for address in found if address is not None]
    return [str(address) for address in sorted(known, key=lambda address: address.version)]


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:  # with a zone, which is free text and only means something inside of the guest
        return None
    unreachable = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return None if unreachable else address
