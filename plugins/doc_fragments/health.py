"""The option of modules that start VMs."""

from __future__ import annotations


class ModuleDocFragment:
    """When a VM counts as up."""

    DOCUMENTATION = r"""
options:
  health:
    description:
      - When the VM counts as up. When it does not come to that, the failed result has in C(console) the last of what
        the guest wrote on its first serial port meanwhile, unless somebody else had its console open.
    type: dict
    suboptions:
      check:
        description:
          - V(none) is content when the VM was started; V(agent) when the guest agent answers; V(port)
            when a connection to O(health.port) is accepted; V(command) when O(health.command) ends with 0
            in the guest.
          - A port is tried from where the module runs, so that must reach the guest's network.
        type: str
        choices: [none, agent, port, command]
        default: none
      port:
        description: The TCP port for V(port).
        type: int
      command:
        description:
          - The command for V(command), run in the guest by its agent until it succeeds or the timeout is
            over.
          - A list is a program and its arguments; a string is given to C(/bin/sh -c).
        type: raw
      timeout:
        description: Seconds that the VM has to come up.
        type: int
        default: 300
      stable_for:
        description: Seconds that the VM must stay up after that.
        type: int
        default: 0
"""
