#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Attach a volume to a VM, as its root or as a data volume, or detach it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_attach
short_description: Attach a volume to a VM, as its root or as a data volume, or detach it
version_added: 0.1.0
description:
  - Attaches a volume of a storage pool to a VM, and detaches it again. The root of a VM can be detached, too, so that
    it can be attached to another VM, mended there, and put back.
  - Device id 0 is the root, which the VM boots from; every other id is a data volume. A detached root is a data volume
    like any other; attached at device id 0 it becomes a root again, bootable and first in the boot order.
  - Data volumes are plugged into, and unplugged from, a running VM. Its stored definition changes with it.
  - Any VM will do, also one that was not made by this collection.
options:
  vm:
    description: The VM.
    type: str
    required: true
  state:
    description:
      - V(attached) attaches the volume; one that is attached to this VM as wanted stays as it is.
      - V(detached) detaches it. The volume itself is kept. Detaching from a running VM is done when the guest has let
        go of the disk; when it does not within O(wait_timeout), the task fails and the disk stays attached.
        The guest of a paused VM cannot let go of a disk on V(virtio), so that is refused.
    type: str
    choices: [attached, detached]
    default: attached
  volume:
    description: The volume. Detaching takes this or O(device_id).
    type: str
  storage_pool:
    description: The storage pool of the volume.
    type: str
    default: default
  device_id:
    description:
      - 0 is the root, which only a stopped VM that has none can get. Data volumes have the number of their target's
        letter, so V(1) is C(vdb) or C(sdb).
      - By default a volume becomes the root of a stopped VM that has none, with a warning; else it gets the first free
        id.
    type: int
  bus:
    description:
      - The bus. Into a running VM disks can be plugged on V(virtio), V(scsi) and V(usb).
      - By default the one that the root had when it was detached, else V(virtio).
    type: str
    choices: [virtio, scsi, sata, ide, usb]
  read_only:
    description: Whether the guest can only read it. Not on the buses V(sata) and V(ide). By default not.
    type: bool
  serial:
    description:
      - The serial number that the guest sees, as in C(/dev/disk/by-id). Up to 20 letters, digits, C(_), C(-), C(+) and
        C(.), on V(scsi) up to 36.
    type: str
  wait_timeout:
    description: Seconds that the guest has to let go of a disk.
    type: int
    default: 60
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes
notes:
  - Refused, before anything has changed, are a volume that another VM has, the image of a template, a volume that backs
    others, a format that QEMU cannot use as a disk of a VM (such as vmdk), a device id that is taken, and the root of a
    running VM.
  - A VM whose root is detached is refused by M(golden.libvirt.vm_restore) until its own root is back.
seealso:
  - module: golden.libvirt.storage_pool_info
  - module: golden.libvirt.vm
"""

EXAMPLES = r"""
- name: Give a VM a data volume
  golden.libvirt.volume_attach:
    vm: db-1
    volume: db-1.data.1.qcow2

- name: Take the root of a broken VM
  golden.libvirt.volume_attach:
    vm: web-1
    device_id: 0
    state: detached
  register: broken

- name: Look at it in another VM
  golden.libvirt.volume_attach:
    vm: rescue
    volume: "{{ broken.volume.name }}"
    storage_pool: "{{ broken.volume.storage_pool }}"
    device_id: 1

- name: Replace the root of a stopped VM, once the old one is detached
  golden.libvirt.volume_attach:
    vm: web-1
    volume: imported.qcow2
    device_id: 0
"""

RETURN = r"""
volume:
  description:
    - The volume. RV(volume.vm), RV(volume.device_id), RV(volume.target), RV(volume.bus), RV(volume.read_only) and
      RV(volume.serial) are null for a detached one. Empty when nothing was at the device id that was to be detached.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    storage_pool:
      description: Its storage pool.
      type: str
      returned: success
    path:
      description: Its path on the hypervisor.
      type: str
      returned: success
    vm:
      description: The VM that it is attached to.
      type: str
      returned: success
    device_id:
      description: Its device id; 0 is the root.
      type: int
      returned: success
    target:
      description: Its target in libvirt, such as C(vdb).
      type: str
      returned: success
    bus:
      description: Its bus.
      type: str
      returned: success
    type:
      description: V(ROOT) or V(DATADISK).
      type: str
      returned: success
    bootable:
      description: Whether the VM boots from it.
      type: bool
      returned: success
    format:
      description: Its format, such as V(qcow2).
      type: str
      returned: success
    capacity:
      description: The bytes that a guest sees of it.
      type: int
      returned: success
    read_only:
      description: Whether the guest can only read it.
      type: bool
      returned: success
    serial:
      description: Its serial number.
      type: str
      returned: success
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.volume.attachment import BUSES, AttachRequest
from ..module_utils._core.volume.volume_attach import plan_attach, plan_detach
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what attaches or detaches the volume."""
    request = AttachRequest(
        vm=params["vm"],
        volume=params["volume"] or None,
        storage_pool=params["storage_pool"],
        device_id=params["device_id"],
        bus=params["bus"],
        read_only=params["read_only"],
        serial=params["serial"],
        timeout=params["wait_timeout"],
    )
    return plan_detach(hv, request) if params["state"] == "detached" else plan_attach(hv, request)


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="volume",
        argument_spec=dict(
            vm=dict(type="str", required=True),
            state=dict(type="str", choices=["attached", "detached"], default="attached"),
            volume=dict(type="str"),
            storage_pool=dict(type="str", default="default"),
            device_id=dict(type="int"),
            bus=dict(type="str", choices=list(BUSES)),
            read_only=dict(type="bool"),
            serial=dict(type="str"),
            wait_timeout=dict(type="int", default=60),
        ),
        required_if=[("state", "attached", ["volume"]), ("state", "detached", ["volume", "device_id"], True)],
    )


if __name__ == "__main__":
    main()
