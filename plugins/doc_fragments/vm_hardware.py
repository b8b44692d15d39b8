"""The options of modules that make VMs."""

from __future__ import annotations


class ModuleDocFragment:
    """Size and storage pools of VMs."""

    DOCUMENTATION = r"""
options:
  size:
    description: The hardware of a VM, where it is to differ from the template's.
    type: dict
    suboptions:
      cpus:
        description: The number of virtual CPUs.
        type: int
      memory:
        description: The memory, as a size such as V(2GiB); a bare number is in KiB, as libvirt has it.
        type: str
      storage_size_in_gb:
        description:
          - The size of the root volume in GiB, at least that of the template's image. It can grow, not
            shrink.
        type: int
  storage_pools:
    description:
      - The storage pools that a root volume can be put into. The first with enough space is taken; by
        default, the template's.
      - The template is looked for in these first, by default in V(default), then in all others.
    type: list
    elements: str
"""
