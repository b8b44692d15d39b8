#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show files to a VM on a generated CD or floppy, or over its network, always or for one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_payload
short_description: Show files to a VM on a generated CD or floppy, or over its network, always or for one run
version_added: 0.1.0
description:
  - Makes a CD or a floppy of the files that are given, and shows it to a VM, or lets the guest fetch them over its
    network. The same files give the same bytes, so the task changes something exactly when a name or a content does.
  - A VM has one payload. Another one takes its place.
  - The payload is stored as a volume with the mode C(0600), which goes with it.
options:
  vm:
    description: The VM. It must have been made by this collection.
    type: str
    required: true
  state:
    description:
      - V(present) shows the VM the payload.
      - V(absent) takes it away, from a running VM at once. A drive that the VM got for it goes, too, from a running VM
        when that is next started. A drive that the VM had before is left empty. What was served over the network is
        served no more.
    type: str
    choices: [present, absent]
    default: present
  availability:
    description:
      - With V(permanent), the payload is there at every start, also after restores. While the VM runs, the disc in a
        drive that it has is swapped at once; else the guest sees the payload when the VM is next started. Over the
        network it is served whenever the VM runs.
      - V(run_once) starts the VM with the payload for this run only, reboots inside of it included. The VM must be
        stopped. Its stored definition stays as it is, and when it stops the volume is deleted, by the hook that the
        role P(golden.libvirt.hypervisor#role) installs, or by the next task at the VM. Over the network it is served
        until the guest has fetched all of it.
    type: str
    choices: [permanent, run_once]
    default: permanent
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes
  - golden.libvirt.payload
notes:
  - With O(type=network), the guest is told where to fetch it in the serial number of its SMBIOS. The VM must have a
    network card on a libvirt network in which the hypervisor has an IPv4 address, and no other serial number. A
    firewall of the hypervisor must let the VM in at TCP port 330 there. A VM that runs goes on with the payload that it
    was started with.
  - A CD goes into the VM's only CD drive, which must be empty, or into one that the VM gets for it. The VM never boots
    from it.
  - A disc that other tools have put into the drive of the payload (C(virsh change-media)) is replaced again, with a
    warning.
seealso:
  - module: golden.libvirt.vm
  - module: golden.libvirt.vm_pool
"""

EXAMPLES = r"""
- name: Show a VM two files on a CD
  golden.libvirt.vm_payload:
    vm: web-1
    files:
      - name: role.txt
        content: "frontend\n"
      - name: keys/id.pub
        content: "{{ lookup('ansible.builtin.file', 'id.pub') }}"

- name: Set up a VM with cloud-init
  golden.libvirt.vm_payload:
    vm: web-1
    cloud_init:
      user_data:
        users:
          - name: admin
            ssh_authorized_keys: ["{{ admin_key }}"]

- name: The same without a drive
  golden.libvirt.vm_payload:
    vm: web-2
    type: network
    cloud_init:
      user_data: "{{ lookup('ansible.builtin.file', 'web.yml') }}"

- name: Start a Windows VM with an answer file on a floppy, for this one run
  golden.libvirt.vm_payload:
    vm: desk-1
    type: floppy
    availability: run_once
    sysprep:
      content: "{{ lookup('ansible.builtin.template', 'unattend.xml.j2') }}"

- name: Take the payload away
  golden.libvirt.vm_payload:
    vm: web-1
    state: absent
"""

RETURN = r"""
payload:
  description: The payload. Empty when the VM has none.
  returned: success
  type: dict
  contains:
    type:
      description: V(cdrom), V(floppy), V(fw_cfg) or V(network).
      type: str
      returned: success
    volume:
      description: The volume that holds it.
      type: str
      returned: success
    storage_pool:
      description: The storage pool of the volume.
      type: str
      returned: success
    availability:
      description: V(permanent), or V(run_once) while the VM runs with it.
      type: str
      returned: success
    sha256:
      description: The SHA-256 of the volume.
      type: str
      returned: success
    url:
      description: Where the guest fetches it.
      type: str
      returned: when it is over the network
    files:
      description: The files, by name.
      type: list
      elements: dict
      returned: success
      contains:
        name:
          description: The path on the medium.
          type: str
          returned: success
        size:
          description: The bytes.
          type: int
          returned: success
        sha256:
          description: The SHA-256 of the bytes.
          type: str
          returned: success
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.payload.vm_payload import plan_no_payload, plan_payload
from ..module_utils._core.plan import Plan
from ..module_utils._payload_options import CONTENTS, payload_of, payload_options
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what shows the VM the payload, or takes it away."""
    if params["state"] == "absent":
        return plan_no_payload(hv, params["vm"])
    return plan_payload(hv, params["vm"], payload_of(params))


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="payload",
        argument_spec=dict(
            vm=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            **payload_options(availability=True),
        ),
        mutually_exclusive=[CONTENTS],
        required_if=[("state", "present", CONTENTS, True)],
    )


if __name__ == "__main__":
    main()
