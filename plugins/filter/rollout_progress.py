# Copyright: golden.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Says how far a rollout is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_progress
short_description: Says how far a rollout is
version_added: 0.1.0
description:
  - Says what has become of the VMs of a plan so far, whether a further batch is to begin, and which VMs go back.
  - The role P(golden.libvirt.rollout#role) asks it after each batch, and tells what it says.
positional: _input, outcomes
options:
  _input:
    description: The plan, as M(golden.libvirt.rollout_plan) has returned it.
    type: dict
    required: true
  outcomes:
    description: What has become of the VMs that were reached, by their names in the plan, in the order of their turns.
    type: dict
    required: true
    suboptions:
      tried:
        description: Whether M(golden.libvirt.vm_restore) was run for it.
        type: bool
        default: false
      changed:
        description: Whether that changed something.
        type: bool
        default: false
      error:
        description: Why the VM failed. Empty if it did not.
        type: str
        default: ""
      left:
        description: Why the VM was left alone. Empty if it was not.
        type: str
        default: ""
      taken_back:
        description: Whether it was put back onto its previous root after it had moved.
        type: bool
        default: false
  on_failure:
    description:
      - What follows when more VMs have failed than the plan allows. With V(rollback), those that moved go back.
    type: str
    choices: [halt, rollback, continue]
    default: halt
  dry_run:
    description: Whether nothing is really moved, as in check mode.
    type: bool
    default: false
seealso:
  - module: golden.libvirt.rollout_plan
"""

EXAMPLES = r"""
- name: Tell what is to be done
  ansible.builtin.debug:
    msg: "{{ (planned.rollout_plan | golden.libvirt.rollout_progress({})).summary }}"
"""

RETURN = r"""
_value:
  description:
    - C(summary) tells in a few words how far it is, C(failures) what failed and why, C(report) as data which VMs were
      C(moved), have C(failed), were C(taken_back), are C(remaining) or C(left_alone), with the reasons.
    - C(stopped) says why no further batch is to begin, and is empty as long as one may. C(to_take_back) lists the VMs
      that go back, the newest first.
    - C(outcomes) is what was given.
  type: dict
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._core.errors import GoldenError
from ..module_utils._core.rollout.rollout_progress import HALT, tell_progress


def rollout_progress(
    plan: Mapping[str, Any],
    outcomes: Mapping[str, Mapping[str, Any]],
    on_failure: str = HALT,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Return how far the rollout is now."""
    try:
        return tell_progress(plan, outcomes, time.time(), on_failure, dry_run)
    except GoldenError as error:
        raise AnsibleFilterError(f"golden.libvirt.rollout_progress: {error.message}") from error


class FilterModule:
    """The filter, as Ansible finds it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it by its name."""
        return {"rollout_progress": rollout_progress}
