"""What the tests of reliability begin with."""

from __future__ import annotations

from support.tasks import tasks  # noqa: F401 - fixtures are found by being imported here
