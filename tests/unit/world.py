"""What the unit tests begin with: a hypervisor in memory, with a template and VMs in it, made by our own tasks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError, RefusedError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.domain_xml import record_of
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.plan import Plan
from ansible_collections.golden.libvirt.plugins.module_utils._core.template import prune, publish, relabel, unpublish
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.source import Hardware, Source
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.record import Record, to_text
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.restore import (
    RestoreRequest,
    plan_restore,
    plan_rolled_back,
    plan_settled,
)
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm import plan_vm
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm.vm_request import VmRequest
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_lease import LeaseRequest, plan_taken
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_pool import VmPoolRequest, plan_vm_pool
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm_pool.vm_return import plan_returned
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.attachment import AttachRequest
from ansible_collections.golden.libvirt.plugins.module_utils._core.volume.volume_attach import plan_attach, plan_detach

from support.fake import FakeHypervisor

GIB = 1024**3
MIB = 1024**2
Task = Callable[[FakeHypervisor], Plan]

_NOT_KNOWN_BEFORE = ("uuid", "mac", "sha256", "source_sha256", "addresses")
"""What only the doing decides, so that check mode cannot know it."""


def qcow2(content: str = "", capacity: int = 2 * GIB, **header: int) -> bytes:
    """Return the bytes of a qcow2 image; ``header`` overrides fields of it."""
    fields = {
        "version": 3, "backing": 0, "backing_size": 0, "cluster_bits": 16, "capacity": capacity, "encryption": 0,
        "l1_size": 1, "l1_offset": 0x30000, "refcounts": 0x10000, "refcount_clusters": 1, "snapshots": 0,
        "snapshots_offset": 0, "incompatible": 0, "compatible": 0, "autoclear": 0, "order": 4, "length": 104,
        **header,
    }  # fmt: skip
    head = b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQQQQII", *fields.values())
    return (head + content.encode()).ljust(0x30000 + 8, b"\0")


def plan(hv: FakeHypervisor, task: Task) -> Plan:
    """Return the plan of a task; planning must not change anything."""
    before = hv.state()
    planned = task(hv)
    assert hv.state() == before, "planning has changed something"
    return planned


def do(hv: FakeHypervisor, task: Task) -> dict[str, Any]:
    """Carry out a task and return its object; what was foretold must have come."""
    planned = plan(hv, task)
    planned.apply(lambda: 0.0)
    result = planned.look() if planned.look is not None and planned.changed else planned.after
    assert known_before(planned.after) == known_before(result), "check mode would not have told the truth"
    return result


def known_before(value: Any) -> Any:
    """Return a result without what check mode cannot know."""
    if isinstance(value, dict):
        return {name: known_before(part) for name, part in value.items() if name not in _NOT_KNOWN_BEFORE}
    return [known_before(part) for part in value] if isinstance(value, list) else value


def refused(hv: FakeHypervisor, task: Any, said: str, kind: type[GoldenError] = RefusedError) -> None:
    """A task is refused with these words, and nothing has changed."""
    before = hv.state()
    with pytest.raises(kind, match=said):
        task(hv)
    assert hv.state() == before


def changes(hv: FakeHypervisor, task: Task) -> bool:
    """Whether a task has anything to do."""
    return plan(hv, task).changed


# --- tasks -----------------------------------------------------------------------------------------------------------


def publishing(
    template: str = "web",
    *,
    storage_pool: str = "default",
    create_base: bool = True,
    hardware: Hardware | None = None,
    labels: dict[str, Any] | None = None,
    **source: str,
) -> Task:
    """Return the task that publishes a version from this source."""
    request = publish.Request(
        template=template,
        storage_pool=storage_pool,
        source=Source(**source),
        hardware=hardware or Hardware(),
        labels=relabel.Labels(**(labels or {})),
        create_base=create_base,
    )
    return lambda hv: publish.plan_publish(hv, request)


def deleting(selector: str | None = None, template: str = "web") -> Task:
    """Return the task that deletes a version, or the template."""
    if selector is None:
        return lambda hv: unpublish.plan_delete_template(hv, "default", template)
    return lambda hv: unpublish.plan_delete_version(hv, "default", template, selector)


def pruning(keep: int = 3, template: str = "web", settled: tuple[str, ...] = ()) -> Task:
    """Return the task that deletes the old versions of a template."""
    return lambda hv: prune.plan_prune(hv, "default", template, keep, settled)


def relabelling(selector: str, template: str = "web", **labels: Any) -> Task:
    """Return the task that relabels a version."""

    def task(hv: FakeHypervisor) -> Plan:
        found = read_template(hv, "default", template)
        return relabel.plan_relabel(hv, found, found.select(selector), relabel.Labels(**labels))

    return task


def ensuring(name: str = "web-1", **wanted: Any) -> Task:
    """Return the task of the module vm."""
    return lambda hv: plan_vm(hv, VmRequest(name, **wanted))


def ensuring_pool(vm_pool: str = "desk", **wanted: Any) -> Task:
    """Return the task of the module vm_pool."""
    return lambda hv: plan_vm_pool(hv, VmPoolRequest(vm_pool, **wanted))


def taking(user: str = "anna", vm_pool: str = "desk", **wanted: Any) -> Task:
    """Return the task of the module vm_lease with ``state: taken``."""
    return lambda hv: plan_taken(hv, LeaseRequest(vm_pool, user, **wanted))


def returning(user: str | None = "anna", vm_pool: str = "desk", **wanted: Any) -> Task:
    """Return the task of the module vm_lease with ``state: returned``."""
    return lambda hv: plan_returned(hv, LeaseRequest(vm_pool, user, **wanted))


def restoring(vm: str = "web-1", **wanted: Any) -> Task:
    """Return the task of the module vm_restore."""
    return lambda hv: plan_restore(hv, RestoreRequest(vm, **wanted))


def rolling_back(vm: str = "web-1", **wanted: Any) -> Task:
    """Return the task of the module vm_restore with ``state: rolled_back``."""
    return lambda hv: plan_rolled_back(hv, RestoreRequest(vm, **wanted))


def settling(vm: str = "web-1") -> Task:
    """Return the task of the module vm_restore with ``state: settled``."""
    return lambda hv: plan_settled(hv, vm)


def attaching(volume: str = "data", vm: str = "web-1", **wanted: Any) -> Task:
    """Return the task of the module volume_attach."""
    return lambda hv: plan_attach(hv, AttachRequest(vm, volume, **wanted))


def detaching(volume: str | None = None, vm: str = "web-1", **wanted: Any) -> Task:
    """Return the task of the module volume_attach with ``state: detached``."""
    return lambda hv: plan_detach(hv, AttachRequest(vm, volume, **wanted))


# --- worlds ----------------------------------------------------------------------------------------------------------


def with_template(versions: int = 2) -> FakeHypervisor:
    """Return a hypervisor with the template ``web``, its versions named ``r1``, ``r2`` …"""
    hv = FakeHypervisor()
    for number in range(1, versions + 1):
        hv.files[f"/images/web-{number}.qcow2"] = qcow2(f"system {number}")
        do(hv, publishing(path=f"/images/web-{number}.qcow2", labels={"version_name": f"r{number}"}))
    return hv


def with_vm(versions: int = 2, on_version: str = "1", state: str = "started", **wanted: Any) -> FakeHypervisor:
    """Return a hypervisor with the template and the VM ``web-1`` on one of its versions, something on its root."""
    hv = with_template(versions)
    do(hv, ensuring(template="web", template_version=on_version, state=state, **wanted))
    write_on_root(hv)
    return hv


def with_data(state: str = "present", *names: str) -> FakeHypervisor:
    """Return a hypervisor with the VMs ``web-1`` and ``web-2`` and free volumes; without names: ``data``."""
    hv = with_vm(state=state)
    do(hv, ensuring("web-2", template="web", state=state))
    for name in names or ("data",):
        hv.create_volume("default", new_volume(name, GIB, "qcow2"))
    return hv


def write_on_root(hv: FakeHypervisor, name: str = "web-1") -> None:
    """Let the guest write something on its root."""
    hv.chain(hv.disk_paths(name)[0])[0].content = b"the guest's own"


# --- looking ---------------------------------------------------------------------------------------------------------


def record(hv: FakeHypervisor, name: str = "web-1") -> Record:
    """Return the record of a VM."""
    domain = hv.domain(name)
    assert domain is not None, f"{name} is gone"
    found = record_of(domain)
    assert found is not None, f"{name} has no record"
    return found


def set_record(hv: FakeHypervisor, name: str = "web-1", **fields: Any) -> None:
    """Change the record of a VM."""
    hv.set_metadata(name, to_text(record(hv, name).changed(**fields)))


def root_chain(hv: FakeHypervisor, name: str = "web-1") -> list[str]:
    """Return the names of the volumes of a VM's root, top first; a missing one is an error."""
    return [volume.name for volume in hv.chain(hv.disk_paths(name)[0])]


def roots(hv: FakeHypervisor, name: str = "web-1") -> list[str]:
    """Return all root volumes that there are of a VM."""
    return [volume for volume in hv.names() if volume.startswith(f"{name}.root.")]


def damage(hv: FakeHypervisor, vm: str) -> None:
    """Spoil the record of a VM."""
    stored = hv.vms[vm].stored
    assert stored is not None
    hv.vms[vm].stored = stored.replace('generation="', 'generation="x')
