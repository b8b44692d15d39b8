#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ensure a VM that is made from a template version."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm
short_description: Ensure a VM that is made from a template version
version_added: 0.1.0
description:
  - Makes a VM from a template version, changes its hardware, starts, stops or removes it.
  - The root volume is an overlay of the version's image, so a new VM takes next to no time and space.
  - KVM is used where a KVM guest really runs, else plain emulation.
  - To move a VM to another version, use M(golden.libvirt.vm_restore).
options:
  name:
    description: The name of the VM.
    type: str
    required: true
  state:
    description:
      - V(present) makes the VM if it does not exist, and leaves it running or not. V(started) and
        V(stopped) see to that, too.
      - A VM that V(started) starts must pass O(health). A new one that does not is removed again.
      - V(absent) stops and undefines the VM and deletes its root volumes. Its data volumes are kept, see
        O(delete_data_volumes).
    type: str
    choices: [present, absent, started, stopped]
    default: present
  template:
    description: The template that the VM is made from. Required to make a VM.
    type: str
  template_version:
    description:
      - The version, by number, by version name, or V(latest). A new VM gets V(latest) by default.
      - A VM that is on another version is an error. V(latest) is only for making a VM.
    type: str
  use_latest_template_version:
    description:
      - Whether the VM follows the latest version of its template. Only for stateless VMs. By default not.
    type: bool
  stateless:
    description: Whether the VM loses the changes on its root volume at each restore. By default not.
    type: bool
  description:
    description: The description of the VM in libvirt.
    type: str
  autostart:
    description: Whether the VM starts with its host.
    type: bool
  delete_data_volumes:
    description: With O(state=absent), delete the data volumes, too.
    type: bool
    default: false
  wait_timeout:
    description: Seconds that the guest has to shut down, before it is switched off.
    type: int
    default: 120
  networks:
    description: The network cards, in order. By default those of the template.
    type: list
    elements: dict
    suboptions:
      network:
        description: The libvirt network.
        type: str
        required: true
      model:
        description: The model of the network card.
        type: str
        default: virtio
      mac:
        description: The MAC address. By default the one that the card has, or one that libvirt makes.
        type: str
  volumes:
    description:
      - The data volumes that the VM is to have. One that it lacks is found in O(storage_pools), by default
        in the storage pool of the root. The first free volume of exactly that size is attached, with what
        is on it; those that were made for a VM of this name come first. Else a new one is made in the first
        storage pool that has the space. Nothing is changed unless all of them have a place.
      - A volume that is smaller than O(volumes[].size) grows, also while the VM runs. None is ever made smaller or
        detached; for that, see M(golden.libvirt.volume_attach).
    type: list
    elements: dict
    suboptions:
      size:
        description: The size, such as V(20GiB).
        type: str
        required: true
      device_id:
        description: The device id. By default the place in the list, from 1.
        type: int
      bus:
        description: The bus of a volume that is attached.
        type: str
        choices: [virtio, scsi, sata, ide, usb]
        default: virtio
      serial:
        description: The serial number that the guest sees, of a volume that is attached.
        type: str
extends_documentation_fragment:
  - golden.libvirt.health
  - golden.libvirt.connection
  - golden.libvirt.attributes
  - golden.libvirt.vm_hardware
  - golden.libvirt.payload.of_a_vm
seealso:
  - module: golden.libvirt.vm_info
  - module: golden.libvirt.vm_restore
  - module: golden.libvirt.vm_pool
  - module: golden.libvirt.vm_payload
"""

EXAMPLES = r"""
- name: Run a VM of the latest version of a template
  golden.libvirt.vm:
    name: web-1
    template: web
    state: started

- name: Make a larger VM of a certain version
  golden.libvirt.vm:
    name: web-2
    template: web
    template_version: 2026-11
    size:
      cpus: 4
      memory: 8GiB
      storage_size_in_gb: 40

- name: Make a VM with two data volumes, existing free ones if there are any of these sizes
  golden.libvirt.vm:
    name: db-1
    template: db
    storage_pools: [fast, default]
    volumes:
      - size: 20GiB
      - size: 100GiB

- name: Run a VM that cloud-init sets up
  golden.libvirt.vm:
    name: web-3
    template: web
    state: started
    payload:
      cloud_init:
        user_data:
          ssh_authorized_keys: ["{{ admin_key }}"]

- name: Remove a VM, and keep its data volumes
  golden.libvirt.vm:
    name: web-1
    state: absent
"""

RETURN = r"""
vm:
  description:
    - The VM. Empty after a removal. In check mode, what libvirt chooses for a new VM (UUID, MAC
      addresses) is empty.
  returned: success
  type: dict
  sample:
    name: web-1
    uuid: 5f1a7e0c-…
    state: running
    template: web
    template_version: 3
    wanted_version: 3
    use_latest_template_version: true
    outdated: false
    stateless: true
    root: {volume: web-1.root.1.qcow2, storage_pool: default, template_version: 3}
    payload:
      {type: cdrom, volume: web-1.payload.0a1b2c3d4e5f.iso, storage_pool: default, availability: permanent,
      sha256: 0a1b2c3d4e5f…, disc_changed: false}
    previous:
    unfinished:
    cpus: 1
    memory: 1048576
    networks: [{network: default, mac: "52:54:00:12:34:56", model: virtio}]
data_volumes_kept:
  description: The data volumes that stay, with their storage pools.
  returned: when a VM was removed
  type: list
  elements: dict
console:
  description:
    - The last of what the guest wrote on its first serial port while O(health) was waited for, at most 4000 characters,
      without what would steer a terminal.
  returned: when the VM did not pass the health check, wrote something there, and nobody else had its console open
  type: str
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.vm.vm import plan_vm
from ..module_utils._core.vm.vm_request import VmRequest
from ..module_utils._options import (
    health_of,
    health_options,
    network_options,
    networks_of,
    size_of,
    size_options,
    volume_options,
    volumes_of,
)
from ..module_utils._payload_options import payload_of, payload_options
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what brings the VM to what is wanted of it."""
    return plan_vm(
        hv,
        VmRequest(
            name=params["name"],
            state=params["state"],
            template=params["template"] or None,
            template_version=params["template_version"] or None,
            use_latest_template_version=params["use_latest_template_version"],
            stateless=params["stateless"],
            size=size_of(params["size"]),
            networks=networks_of(params["networks"]),
            storage_pools=tuple(params["storage_pools"] or ()),
            description=params["description"],
            autostart=params["autostart"],
            delete_data_volumes=params["delete_data_volumes"],
            wait_timeout=params["wait_timeout"],
            volumes=volumes_of(params["volumes"]),
            health=health_of(params["health"]),
            payload=payload_of(params["payload"]) if params["payload"] is not None else None,
        ),
    )


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="vm",
        argument_spec=dict(
            name=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent", "started", "stopped"], default="present"),
            template=dict(type="str"),
            template_version=dict(type="str"),
            use_latest_template_version=dict(type="bool"),
            stateless=dict(type="bool"),
            size=size_options(),
            networks=network_options(),
            volumes=volume_options(),
            payload=dict(type="dict", options=payload_options(), no_log=True),
            storage_pools=dict(type="list", elements="str"),
            description=dict(type="str"),
            autostart=dict(type="bool"),
            delete_data_volumes=dict(type="bool", default=False),
            wait_timeout=dict(type="int", default=120),
            health=health_options(),
        ),
    )


if __name__ == "__main__":
    main()
