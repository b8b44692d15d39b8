#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List the versions of VM templates."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_version_info
short_description: List the versions of VM templates
version_added: 0.1.0
description:
  - Lists the latest version of each template of a storage pool, or all versions, with the VMs that are on
    them.
options:
  template:
    description: Only this template. One that does not exist gives an empty list.
    type: str
  storage_pool:
    description: The storage pool that holds the templates.
    type: str
    default: default
  all_versions:
    description: List all versions, also those that are incomplete, and not only the latest of each template.
    type: bool
    default: false
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes.info
seealso:
  - module: golden.libvirt.template_version
"""

EXAMPLES = r"""
- name: Look at the latest version of each template
  golden.libvirt.template_version_info:
  register: latest

- name: Look at all versions of one template
  golden.libvirt.template_version_info:
    template: web
    all_versions: true
"""

RETURN = r"""
template_versions:
  description:
    - The versions by template and number, each with the fields of its manifest.
    - C(complete) is false for a version whose publisher is not done, or died.
    - A version whose manifest is damaged or of a newer format has the C(status) V(unreadable) and is warned of. Where
      it could be the latest, its template has none.
  returned: success
  type: list
  elements: dict
  contains:
    template:
      description: The name of the template.
      type: str
    version:
      description: The number of the version.
      type: int
    version_name:
      description: The name of the version, or empty.
      type: str
    lifecycle:
      description: One of active, candidate, revoked.
      type: str
    latest:
      description: Whether this is the latest version of its template.
      type: bool
    complete:
      description: Whether it can be used.
      type: bool
    disks:
      description: The disks and drives of the hardware description.
      type: list
      elements: dict
    nics:
      description: The network cards of the hardware description.
      type: list
      elements: dict
    vms:
      description: The VMs that are on this version.
      type: list
      elements: str
    allocation:
      description: The bytes that the image takes in the storage pool.
      type: int
"""

from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.template.template_list import list_versions
from ..module_utils._runner import Params, run_info


def gather(hv: Hypervisor, params: Params) -> list[Params]:
    """Return the versions that were asked for."""
    return list_versions(hv, params["storage_pool"], params["template"], params["all_versions"])


def main() -> None:
    """Run the module."""
    run_info(
        gather,
        returns="template_versions",
        argument_spec=dict(
            template=dict(type="str"),
            storage_pool=dict(type="str", default="default"),
            all_versions=dict(type="bool", default=False),
        ),
    )


if __name__ == "__main__":
    main()
