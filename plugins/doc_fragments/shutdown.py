"""The option of modules that stop VMs."""

from __future__ import annotations


class ModuleDocFragment:
    """How a VM is stopped."""

    DOCUMENTATION = r"""
options:
  shutdown:
    description: How a running VM is stopped.
    type: dict
    suboptions:
      mode:
        description:
          - V(graceful) asks the guest, and gives up after the timeout; the VM goes on running.
          - V(force) switches the VM off. V(graceful_then_force) does so after the timeout.
        type: str
        choices: [graceful, force, graceful_then_force]
        default: graceful_then_force
      timeout:
        description: Seconds that the guest has.
        type: int
        default: 120
"""
