"""The libvirt networks that VMs are on: they are looked for before anything changes, not when a VM starts."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import DeniedError, NotFoundError, RefusedError
from .hypervisor import Hypervisor, LibvirtNetwork


def find_network(hv: Hypervisor, name: str, vm: str) -> LibvirtNetwork:
    """Return the network of this name that a VM is on."""
    network = hv.network(name)
    if network is None:
        raise NotFoundError(
            f"there is no network {name!r} for VM {vm!r}; make it ('virsh net-list --all' shows those that there are), "
            "or give the VM another one (vm, networks)"
        )
    return network


def check_networks(hv: Hypervisor, names: Iterable[str], vm: str, *, starts: bool) -> None:
    """Refuse a VM on a network that is not there, or that is not active when the VM is to start.

    What the user may not look at is left to libvirt.
    """
    for name in names:
        try:
            network = find_network(hv, name, vm)
        except DeniedError:
            continue
        if starts and not network.active:
            raise RefusedError(
                f"network {name!r} is not active, so VM {vm!r} cannot start; start the network first "
                f"('virsh net-start {name}')"
            )
