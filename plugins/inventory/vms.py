# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The VMs that are made from templates, as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: vms
short_description: The VMs that are made from templates, as hosts
version_added: 0.1.0
description:
  - Makes a host of each VM that this collection manages, on one or many hypervisors. Other VMs are left out.
  - The name of the file must end in C(golden.yml) or C(golden.yaml).
  - Hosts are in the groups C(vm_pool_<name>), C(template_<name>), C(outdated) (on another version than the one that
    the VM follows), C(taken) (handed to a user), C(prestarted) (of a pool, running, and free to be taken at once),
    C(set_aside) (started for nothing too often) and C(running). Characters that are not valid in a group's name
    become C(_).
  - C(ansible_host) of a running VM is the address of its DHCP lease in libvirt's network, or else one that its guest
    agent tells, of a network card that the VM has. All agents together have 10 seconds; those that hang hold up
    nobody who has a lease.
  - A VM whose metadata cannot be read is left out with a warning.
  - What guests and users have written is never templated.
notes:
  - Every host has C(golden_vm), C(golden_uuid), C(golden_uri), C(golden_hypervisor) (the hypervisor's host name),
    C(golden_state), C(golden_description), C(golden_macs), C(golden_addresses), C(golden_template),
    C(golden_template_storage_pool), C(golden_template_version), C(golden_wanted_version), C(golden_outdated),
    C(golden_stateless), C(golden_root_storage_pool), C(golden_root_volume), C(golden_previous_version) (the version of
    the root that the last restore kept), C(golden_unfinished) (a job that died), C(golden_vm_pool),
    C(golden_auto_refresh), C(golden_taken), C(golden_prestarted), C(golden_set_aside), C(golden_lease_user) and
    C(golden_lease_since). What a VM does not have is null.
  - A module reaches a VM from the controller with C(uri={{ golden_uri }}) and C(delegate_to=localhost), whether the
    hypervisor is the controller itself or far away. Where the hypervisors are hosts of the inventory under their own
    names, C(delegate_to={{ golden_hypervisor }}) with the URI C(qemu:///system) does the same there.
  - With C(qemu+ssh) URIs, the parameter C(no_tty=1) keeps ssh from asking questions.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [golden.libvirt.vms]
  uris:
    description: The libvirt URIs of the hypervisors. Each must answer.
    type: list
    elements: str
    default: ["qemu:///system"]
    env:
      - name: LIBVIRT_DEFAULT_URI
  vm_pools:
    description: Only the members of these VM pools. By default all managed VMs.
    type: list
    elements: str
    default: []
  qualified_names:
    description:
      - Call the hosts C(<vm>.<hypervisor>), not only C(<vm>). To be used when two hypervisors have VMs of the same
        name, which is an error otherwise.
    type: bool
    default: false
extends_documentation_fragment:
  - constructed
  - inventory_cache
requirements:
  - libvirt-python on the controller
  - libvirt 8.0 or newer on the hypervisors
author:
  - golden.libvirt contributors (@golden-libvirt)
seealso:
  - module: golden.libvirt.vm_info
"""

EXAMPLES = r"""
# golden.yml: the managed VMs of this machine
plugin: golden.libvirt.vms

---
# lab.golden.yml: two pools on two hypervisors
plugin: golden.libvirt.vms
uris:
  - qemu+ssh://root@hv1/system?no_tty=1
  - qemu+ssh://root@hv2/system?no_tty=1
vm_pools: [desk, lab]
qualified_names: true
keyed_groups:
  - key: golden_hypervisor
    prefix: hypervisor
compose:
  ansible_user: "'admin'"
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ..module_utils._core.errors import GoldenError
from ..module_utils._core.text import readable
from ..module_utils._core.vm.inventory import groups_of, read_hosts
from ..module_utils._hypervisor import LIBVIRT_IMPORT_ERROR, LibvirtHypervisor

Found = tuple[list[dict[str, Any]], list[str]]
AT_ONCE = 16
"""Hypervisors that are asked at the same time: what takes time is to log in there."""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The inventory plugin."""

    inventory: Any
    NAME = "golden.libvirt.vms"

    def verify_file(self, path: str) -> bool:
        """Whether a file is a configuration of this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("golden.yml", "golden.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        for name, variables in self._named(self._found(self.get_cache_key(path), cache)).items():
            self._add(name, variables)

    def _found(self, key: str, cache: bool) -> list[dict[str, Any]]:
        """Return the variables of all VMs, from the cache if that is wanted and filled."""
        cached = self.get_option("cache")
        if cached and cache and key in self._cache:
            return list(self._cache[key])
        found = self._look()
        if cached:
            self._cache[key] = found
        return found

    def _look(self) -> list[dict[str, Any]]:
        if LIBVIRT_IMPORT_ERROR is not None:
            raise AnsibleParserError(missing_required_lib("libvirt-python"))
        uris = list(dict.fromkeys(self.get_option("uris")))
        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = list(threads.map(self._ask, uris))
        for _hosts, problems in answers:
            for problem in problems:
                self.display.warning(readable(problem))
        return [variables for hosts, _problems in answers for variables in hosts]

    def _ask(self, uri: str) -> Found:
        try:
            with LibvirtHypervisor(uri) as hypervisor:
                return read_hosts(hypervisor, uri, self.get_option("vm_pools"))
        except GoldenError as error:
            raise AnsibleParserError(f"libvirt URI {uri!r}: {readable(error.message)}") from error

    def _named(self, found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the VMs by the names of their hosts, or refuse two of one name."""
        named: dict[str, dict[str, Any]] = {}
        for variables in found:
            name = variables["golden_vm"]
            if self.get_option("qualified_names"):
                name = f"{name}.{variables['golden_hypervisor']}"
            other = named.setdefault(name, variables)
            if other is not variables:
                same = other["golden_uuid"] == variables["golden_uuid"]
                remedy = (
                    "it is the same VM, so the URIs lead to the same hypervisor; leave one of them out"
                    if same
                    else "rename one of the VMs, or set 'qualified_names: true'"
                )
                uris = f"{other['golden_uri']!r} and {variables['golden_uri']!r}"
                raise AnsibleParserError(f"there is a VM {name!r} on both {uris}: {remedy}")
        return named

    def _add(self, name: str, variables: dict[str, Any]) -> None:
        """Add one host. Its variables are plain values, which Ansible does not template."""
        self.inventory.add_host(name)
        for variable, value in variables.items():
            self.inventory.set_variable(name, variable, value)
        for group in groups_of(variables):
            self.inventory.add_host(name, group=self.inventory.add_group(self._sanitize_group_name(group)))
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)
