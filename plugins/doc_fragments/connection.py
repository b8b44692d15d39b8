"""What the modules have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module."""

    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt URI of the hypervisor, as seen from where the module runs.
      - If neither the option nor E(LIBVIRT_DEFAULT_URI) is set, it is the system's own hypervisor.
    type: str
    default: qemu:///system
notes:
  - The module runs in Ansible's own process, with the same result, where it would else be started on the same machine,
    for the same user, by the same Python, that is where the variable C(ansible_python_interpreter) is
    C(ansible_playbook_python).
requirements:
  - libvirt-python (C(python3-libvirt) of the distributions) where the module runs
  - libvirt 8.0 or newer on the hypervisor
  - Python 3.9 or newer where the module runs
author:
  - golden.libvirt contributors (@golden-libvirt)
"""
