#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Publish, relabel or delete a version of a VM template."""

from __future__ import annotations

DOCUMENTATION = r"""
module: template_version
short_description: Publish, relabel or delete a version of a VM template
version_added: 0.1.0
description:
  - A template is a named family of versions. A version is one immutable disk image with a hardware
    description, numbered 1, 2, 3 and so on by the system.
  - With O(source), the next version is published, unless it is there already. With O(version_name), a
    version of that name is the same; without it, one with the same content and hardware as the newest
    version is the same.
  - Without O(source), what may change of a version is changed, that is O(version_name), O(description),
    O(labels) and O(lifecycle).
  - A version is stored in libvirt alone, as two volumes of a storage pool, so that every controller sees
    the same.
options:
  template:
    description: The name of the template. One to 64 letters, digits, C(.), C(_) and C(-).
    type: str
    required: true
  state:
    description:
      - V(present) publishes or relabels a version.
      - V(absent) deletes the version that O(version) selects, or, without it, the template with all of
        its versions. It is refused, and the users are listed, while a VM or a volume uses what is to be
        deleted. The number of a deleted version is not used again while the template exists.
      - V(pruned) deletes the versions that are older than the last O(keep) active ones. Versions that a VM or a volume
        uses are kept, and so are those that are not complete.
    type: str
    choices: [present, absent, pruned]
    default: present
  keep:
    description: How many active versions O(state=pruned) keeps, at least V(1). The latest is one of them.
    type: int
    default: 3
  settled_vms:
    description:
      - VMs whose kept previous roots do not count as users for O(state=pruned). It is for a dry run behind one of
        M(golden.libvirt.vm_restore) with O(golden.libvirt.vm_restore#module:state=settled), in which these roots are
        there still. A version that is really in use is not deleted whatever is given here.
    type: list
    elements: str
    default: []
  storage_pool:
    description: The storage pool that holds the template.
    type: str
    default: default
  source:
    description:
      - What the version is made of. Exactly one of O(source.vm), O(source.volume), O(source.path),
        O(source.version).
    type: dict
    suboptions:
      vm:
        description:
          - A VM that is shut off. Its root disk is copied with all that it lies on; its data disks are
            not.
        type: str
      volume:
        description: A volume of O(source.storage_pool), which no running VM uses.
        type: str
      storage_pool:
        description: The storage pool of O(source.volume). By default that of the template.
        type: str
      path:
        description:
          - A qcow2 or raw disk image, a file where the module runs. It must not refer to other files.
        type: path
      version:
        description:
          - A version of the same template, by number, by version name, or V(latest). The new version
            shares its image, and differs in O(hardware).
        type: str
  hardware:
    description:
      - What is to differ from the hardware of the source, or from the defaults for a source without
        hardware.
    type: dict
    suboptions:
      cpus:
        description: The number of virtual CPUs. For a path or a volume 1 by default.
        type: int
      memory:
        description:
          - The memory, as a size such as V(2GiB); a bare number is in KiB, as libvirt has it. For a path
            or a volume 1GiB by default.
        type: str
      networks:
        description: The network cards. For a path or a volume one on the network V(default) by default.
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
      firmware:
        description:
          - The firmware. V(efi) is UEFI without, V(efi_secure) with Secure Boot.
          - Only for a path or a volume, V(bios) by default.
        type: str
        choices: [bios, efi, efi_secure]
      graphics:
        description: The graphical console. Only for a path or a volume, V(vnc) by default.
        type: str
        choices: [none, vnc, spice]
  create_base:
    description:
      - Make the template if it does not exist. Without it, an unknown template is an error, so that a
        typo makes none.
    type: bool
    default: false
  version:
    description:
      - Selects the version to relabel or to delete, by number, by version name, or V(latest). To relabel,
        it is V(latest) by default.
      - With O(source) it is ignored with a warning, as the system numbers the versions.
    type: str
  version_name:
    description: A name for the version, unique within the template. Not a number, and not V(latest).
    type: str
  description:
    description: A description for people.
    type: str
  labels:
    description: Words for machines, as a dictionary of strings. They replace those that the version has.
    type: dict
  lifecycle:
    description:
      - V(active) versions can be latest; V(candidate) versions are used only where they are named;
        V(revoked) versions are refused for new VMs and restores.
      - A new version is V(active) by default.
    type: str
    choices: [active, candidate, revoked]
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes
seealso:
  - module: golden.libvirt.template_version_info
  - module: golden.libvirt.vm
  - module: golden.libvirt.vm_restore
"""

EXAMPLES = r"""
- name: Publish the first version of a template from an image file
  golden.libvirt.template_version:
    template: web
    create_base: true
    source:
      path: /srv/images/web.qcow2
    hardware:
      cpus: 2
      memory: 2GiB

- name: Publish the next version from a VM that is shut off
  golden.libvirt.template_version:
    template: web
    version_name: 2026-11
    source:
      vm: web-builder

- name: Save version 2 as a new version with more memory
  golden.libvirt.template_version:
    template: web
    source:
      version: "2"
    hardware:
      memory: 4GiB

- name: Let nobody use version 3 any more
  golden.libvirt.template_version:
    template: web
    version: "3"
    lifecycle: revoked

- name: Delete version 1
  golden.libvirt.template_version:
    template: web
    version: "1"
    state: absent

- name: Keep the last five versions, and what is in use
  golden.libvirt.template_version:
    template: web
    state: pruned
    keep: 5
"""

RETURN = r"""
template_version:
  description:
    - The version, as its manifest has it, with RV(ignore:storage_pool), RV(ignore:latest) and
      RV(ignore:complete). Empty after a deletion.
    - With O(state=pruned) it has C(template), C(storage_pool) and the numbers of the C(versions) that there are then.
    - In check mode the digests of a new image and its source are empty.
  returned: success
  type: dict
  sample:
    template: web
    version: 3
    version_name: 2026-11
    description: ""
    status: ready
    lifecycle: active
    labels: {}
    created: "2026-11-20T07:00:00Z"
    source: {kind: vm, name: web-builder}
    image: {volume: web.v3.qcow2, format: qcow2, capacity: 2147483648, sha256: 9f86d081884c7d65…}
    storage_pool: default
    latest: true
    complete: true
deleted:
  description: The versions that are deleted, each with C(template), C(storage_pool), C(version) and C(version_name).
  returned: with O(state=pruned)
  type: list
  elements: dict
kept:
  description: The versions that are kept, each as in RV(deleted), with the C(reason).
  returned: with O(state=pruned)
  type: list
  elements: dict
freed:
  description: The bytes that the deleted images took up.
  returned: with O(state=pruned)
  type: int
users:
  description: The VMs and volumes that use what was to be deleted.
  returned: when a deletion was refused because of them
  type: list
  elements: str
"""

from ..module_utils._core.errors import InvalidError
from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.template import prune, publish, relabel, unpublish
from ..module_utils._core.template.catalog import read_template
from ..module_utils._core.template.source import Hardware, Source
from ..module_utils._options import network_options, networks_of, parsed_memory
from ..module_utils._runner import Params, run

IGNORED_NUMBER = "version {0} is ignored: the system numbers the versions; give a version_name to name one"


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what publishes, relabels or deletes."""
    if params["state"] == "pruned":
        return prune.plan_prune(hv, params["storage_pool"], params["template"], params["keep"], params["settled_vms"])
    if params["version"] == "":
        raise InvalidError("version: it is empty; name a version, or leave the option out")
    if params["state"] == "absent":
        if params["version"] is None:
            return unpublish.plan_delete_template(hv, params["storage_pool"], params["template"])
        return unpublish.plan_delete_version(hv, params["storage_pool"], params["template"], params["version"])
    labels = relabel.Labels(
        version_name=params["version_name"],
        description=params["description"],
        labels=_strings(params["labels"]),
        lifecycle=params["lifecycle"],
    )
    if params["source"] is None:
        template = read_template(hv, params["storage_pool"], params["template"])
        return relabel.plan_relabel(hv, template, template.select(params["version"] or "latest"), labels)
    found = publish.plan_publish(hv, _request(params, labels))
    return found if params["version"] is None else found.warning(IGNORED_NUMBER.format(params["version"]))


def _request(params: Params, labels: relabel.Labels) -> publish.Request:
    hardware = params["hardware"] or {}
    return publish.Request(
        template=params["template"],
        storage_pool=params["storage_pool"],
        source=Source(**params["source"]),
        hardware=Hardware(
            cpus=hardware.get("cpus"),
            memory=parsed_memory(hardware.get("memory"), "hardware.memory"),
            networks=networks_of(hardware.get("networks")),
            firmware=hardware.get("firmware"),
            graphics=hardware.get("graphics"),
        ),
        labels=labels,
        create_base=params["create_base"],
    )


def _strings(labels: Params | None) -> dict[str, str] | None:
    if labels is None:
        return None
    for name, value in labels.items():
        if isinstance(value, (dict, list)):
            raise InvalidError(f"labels: the value of {name!r} is no string")
    return {str(name): "" if value is None else str(value) for name, value in labels.items()}


def main() -> None:
    """Run the module."""
    source = dict(
        vm=dict(type="str"),
        volume=dict(type="str"),
        storage_pool=dict(type="str"),
        path=dict(type="path"),
        version=dict(type="str"),
    )
    hardware = dict(
        cpus=dict(type="int"),
        memory=dict(type="str"),
        networks=network_options(mac=False),
        firmware=dict(type="str", choices=["bios", "efi", "efi_secure"]),
        graphics=dict(type="str", choices=["none", "vnc", "spice"]),
    )
    kinds = ["vm", "volume", "path", "version"]
    run(
        plan,
        returns="template_version",
        argument_spec=dict(
            template=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent", "pruned"], default="present"),
            keep=dict(type="int", default=3),
            settled_vms=dict(type="list", elements="str", default=[]),
            storage_pool=dict(type="str", default="default"),
            source=dict(
                type="dict",
                options=source,
                mutually_exclusive=[kinds],
                required_one_of=[kinds],
                required_by=dict(storage_pool=["volume"]),
            ),
            hardware=dict(type="dict", options=hardware),
            create_base=dict(type="bool", default=False),
            version=dict(type="str"),
            version_name=dict(type="str"),
            description=dict(type="str"),
            labels=dict(type="dict"),
            lifecycle=dict(type="str", choices=["active", "candidate", "revoked"]),
        ),
    )


if __name__ == "__main__":
    main()
