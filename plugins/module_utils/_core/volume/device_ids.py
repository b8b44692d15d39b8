"""Device ids: 0 is the root of a VM, and each data volume has another one, which its target's letter tells."""

from __future__ import annotations

from ..errors import RefusedError
from ..libvirt_xml.disk_xml import target_name
from ..libvirt_xml.domain_xml import Disk, Vm, letter_index

ROOT_ID = 0


def device_ids(vm: Vm) -> dict[int, Disk]:
    """Return the disks of a VM by their device ids.

    A data disk has the number of its target's letter: ``vdb`` and ``sdb`` are 1. Where other tools have made two of
    one number, the later one gets the first free number.
    """
    found: dict[int, Disk] = {}
    root = _root(vm)
    if root is not None:
        found[ROOT_ID] = root
    others = [disk for disk in vm.disks if disk.device == "disk" and disk is not root]
    late = []
    for disk in others:
        index = letter_index(disk.target)
        if index is None or index == ROOT_ID or index in found:
            late.append(disk)
        else:
            found[index] = disk
    for disk in late:
        found[free_id(found, set(), "")] = disk
    return dict(sorted(found.items()))


def free_id(taken: dict[int, Disk], targets: set[str], bus: str) -> int:
    """Return the first free device id of a data volume, whose target on this bus no other device has."""
    number = ROOT_ID + 1
    while number in taken or (bus and target_name(bus, number) in targets):
        number += 1
    return number


def free_target(vm: Vm, targets: set[str], bus: str, device_id: int) -> str:
    """Return the target that goes with a device id, or refuse when another device has it."""
    target = target_name(bus, device_id)
    if target in targets:
        raise RefusedError(
            f"device id {device_id} of VM {vm.name!r} is target {target!r} on bus {bus!r}, which another drive has; "
            "choose another device_id or another bus"
        )
    return target


def _root(vm: Vm) -> Disk | None:
    root = vm.root_disk
    if root is None or vm.record is not None or root.boot_order is not None or letter_index(root.target) == 0:
        return root
    return None  # a VM that is not ours and has only data disks left
