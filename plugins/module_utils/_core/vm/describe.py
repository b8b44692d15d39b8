"""What tasks return of a VM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..hypervisor import Hypervisor
from ..libvirt_xml.domain_xml import Nic, Vm, read
from ..payload.payload import describe_payload_of
from ..template.catalog import Catalogue
from ..volume.device_ids import device_ids
from .record import Record, Root


def describe_vm(vm: Vm, catalogue: Catalogue) -> dict[str, Any]:
    """Return a VM of ours as tasks return it."""
    record = vm.managed()
    return {
        "name": vm.name,
        "uuid": vm.domain.uuid,
        "state": vm.domain.state,
        "description": vm.description,
        "autostart": vm.domain.autostart,
        "cpus": vm.cpus,
        "memory": vm.memory,
        "networks": [describe_nic(nic) for nic in vm.nics],
        "disks": describe_disks(vm),
        "payload": describe_payload_of(vm),
        **describe_record(record, catalogue),
    }


def describe_disks(vm: Vm) -> list[dict[str, Any]]:
    """Return the drives of a VM, by bus and target; those that are no disks have no device id."""
    ids = {disk.target: number for number, disk in device_ids(vm).items()}
    ordered = sorted(vm.disks, key=lambda disk: (disk.device != "disk", disk.bus, len(disk.target), disk.target))
    return [
        {
            "device": disk.device,
            "device_id": ids.get(disk.target),
            "target": disk.target,
            "bus": disk.bus,
            "source": disk.source,
            "format": disk.format,
        }
        for disk in ordered
    ]


def look_at_vm(hv: Hypervisor, name: str) -> Callable[[], dict[str, Any]]:
    """Return how a task that has acted finds out what to return of its VM."""

    def look() -> dict[str, Any]:
        domain = hv.domain(name)
        return {} if domain is None else describe_vm(read(domain), Catalogue(hv))

    return look


def describe_record(record: Record, catalogue: Catalogue) -> dict[str, Any]:
    """Return what we know of a VM beyond what libvirt knows."""
    return {
        "template": record.root.template,
        "template_storage_pool": record.root.template_storage_pool,
        "template_version": record.root.version,
        "wanted_version": catalogue.wanted_version(record),
        "use_latest_template_version": record.follows_latest,
        "outdated": catalogue.outdated(record),
        "stateless": record.stateless,
        "root": describe_root(record.root),
        "previous": describe_root(record.previous) if record.previous else None,
        "unfinished": record.pending.job if record.pending else None,
        "vm_pool": record.vm_pool.name if record.vm_pool else None,
        "auto_refresh": record.vm_pool.auto_refresh if record.vm_pool else True,
        "set_aside": record.set_aside,
        "lease": {"user": record.lease.user, "since": record.lease.since} if record.lease else None,
    }


def describe_root(root: Root) -> dict[str, Any]:
    """Return a root volume as tasks return it."""
    return {"volume": root.volume, "storage_pool": root.storage_pool, "template_version": root.version}


def describe_nic(nic: Nic) -> dict[str, str]:
    """Return a network card as tasks return it."""
    return {"network": nic.network, "mac": nic.mac, "model": nic.model}
