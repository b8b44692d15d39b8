#!/usr/bin/python
# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a command in the guest of a VM, through its guest agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_command
short_description: Run a command in the guest of a VM, through its guest agent
version_added: 0.1.0
description:
  - Runs a command in the guest of a running VM and returns what it printed. It goes through libvirt and the guest
    agent, so it needs no network and no login in the guest. Any VM with a guest agent will do.
  - The command is run each time, and the task fails when it ends with another code than 0. To decide that by other
    means, use C(changed_when) and C(failed_when) of the task.
options:
  vm:
    description: The VM.
    type: str
    required: true
  command:
    description:
      - The command. A string is given to C(/bin/sh -c); of a list the first word is the program, by its path or its
        name, and no shell is in between.
    type: raw
    required: true
  stdin:
    description:
      - What the command reads from its standard input. By default nothing.
      - It is never shown or logged, so this is the place for a password.
    type: str
  wait_timeout:
    description:
      - Seconds in which the guest agent must answer and the command end. One that does not is not ended by this.
    type: int
    default: 60
extends_documentation_fragment:
  - golden.libvirt.connection
  - golden.libvirt.attributes
attributes:
  check_mode:
    support: partial
    details: The command is not run, so that it is not known what it would say.
  diff_mode:
    support: partial
    details: Shows which program would run.
  idempotent:
    support: none
notes:
  - Of each of the two outputs the last 256 KiB are returned. libvirt takes no answer above 10 MiB, so let a command
    with more output than some MiB write it into a file.
"""

EXAMPLES = r"""
- name: Look how full the disks of a guest are
  golden.libvirt.guest_command:
    vm: web-1
    command: df -h
  register: disks
  changed_when: false

- name: Restart a service
  golden.libvirt.guest_command:
    vm: web-1
    command: [systemctl, restart, nginx]
"""

RETURN = r"""
guest_command:
  description: What was run and where.
  returned: success
  type: dict
  contains:
    vm:
      description: The VM.
      type: str
      returned: success
    program:
      description: The program, without its arguments.
      type: str
      returned: success
ran:
  description: Whether the command has run to its end. Not in check mode.
  returned: always
  type: bool
rc:
  description: The code with which it ended; 128 and the number of the signal for one that a signal has ended.
  returned: when it has run
  type: int
stdout:
  description: What it printed.
  returned: when it has run
  type: str
stderr:
  description: What it printed as errors.
  returned: when it has run
  type: str
truncated:
  description: Whether the beginning of an output is missing, because it was too long.
  returned: when it has run
  type: bool
"""

from ..module_utils._core.errors import InvalidError
from ..module_utils._core.hypervisor import Hypervisor
from ..module_utils._core.plan import Plan
from ..module_utils._core.vm.guest_command import GuestCommand, plan_guest_command
from ..module_utils._runner import Params, run


def plan(hv: Hypervisor, params: Params) -> Plan:
    """Return what runs the command."""
    command = params["command"]
    if isinstance(command, str):
        command = ["/bin/sh", "-c", command] if command else []
    if not isinstance(command, list) or not all(isinstance(word, (str, int, float)) for word in command):
        raise InvalidError("command: it must be a string or a list of strings")
    words = tuple(str(word) for word in command)
    return plan_guest_command(hv, GuestCommand(params["vm"], words, params["stdin"], params["wait_timeout"]))


def main() -> None:
    """Run the module."""
    run(
        plan,
        returns="guest_command",
        argument_spec=dict(
            vm=dict(type="str", required=True),
            command=dict(type="raw", required=True),
            stdin=dict(type="str", no_log=True),
            wait_timeout=dict(type="int", default=60),
        ),
    )


if __name__ == "__main__":
    main()
