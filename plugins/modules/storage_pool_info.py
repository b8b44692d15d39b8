#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List storage pools, with what of them a VM can get."""

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_pool_info
short_description: List storage pools, with the free volumes in them
version_added: 0.1.0
description:
  - Lists libvirt's storage pools, whether volumes can be made in them, and the volumes that a VM can get
    as data volumes, as a survey or a portal offers them.
options:
  storage_pool:
    description: Only this storage pool. One that does not exist gives an empty list.
    type: str
  size:
    description: Only free volumes of exactly this size, such as V(20GiB); and room for a new one of it.
    type: str
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes.info
seealso:
  - module: golden.libvirt.vm
  - module: golden.libvirt.volume_attach
  - module: golden.libvirt.template_version_info
"""

EXAMPLES = r"""
- name: What can be offered for a data volume of 20 GiB?
  golden.libvirt.storage_pool_info:
    size: 20GiB
  register: storage

- name: The storage pools that have one, or room for it
  ansible.builtin.debug:
    msg: "{{ storage.storage_pools | selectattr('can_create') | map(attribute='name') }}"
"""

RETURN = r"""
storage_pools:
  description: The storage pools, by name. Sizes are in bytes.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    type:
      description: Its type in libvirt, such as V(dir).
      type: str
      returned: success
    active:
      description: Whether it is active. The sizes of an inactive one are 0, and its volumes are not known.
      type: bool
      returned: success
    path:
      description: Its path on the hypervisor.
      type: str
      returned: success
    capacity:
      description: Its size.
      type: int
      returned: success
    allocation:
      description: What is used of it.
      type: int
      returned: success
    available:
      description: What is free of it.
      type: int
      returned: success
    can_create:
      description: Whether a volume of O(size), or any, can be made in it.
      type: bool
      returned: success
    holds_roots:
      description: Whether it can hold the roots of VMs.
      type: bool
      returned: success
    candidates:
      description:
        - The volumes that a VM can get. They are used by no VM, back no other volume, belong to no template and are
          nobody's root. Each has C(name), C(format), C(capacity) and C(allocation).
      type: list
      elements: dict
      returned: success
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.units import parse_size
from ..module_utils._core.volume.storage_pool_list import StoragePoolQuery, list_storage_pools
from ..module_utils._runner import Params, run_info


def gather(hv: Hypervisor, params: Params) -> list[Params]:
    """Return the storage pools that are asked for."""
    size = parse_size(params["size"], "size") if params["size"] else None
    return list_storage_pools(hv, StoragePoolQuery(params["storage_pool"] or None, size))


def main() -> None:
    """Run the module."""
    run_info(
        gather,
        returns="storage_pools",
        argument_spec=dict(storage_pool=dict(type="str"), size=dict(type="str")),
    )


if __name__ == "__main__":
    main()
