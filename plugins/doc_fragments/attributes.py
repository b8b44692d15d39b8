"""The attributes that modules declare."""

from __future__ import annotations


class ModuleDocFragment:
    """How the modules behave under Ansible's modes."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can predict what it would do, and changes nothing.
    support: full
  diff_mode:
    description: Shows the object before and after, and the steps between.
    support: full
  idempotent:
    description: Run again with the same options, it changes nothing.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Shows what changed.
    support: N/A
    details: It changes nothing.
  idempotent:
    description: Run again, it changes nothing.
    support: full
"""
