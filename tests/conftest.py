"""The fixtures that all tests can use."""

from __future__ import annotations

from support.fixtures import (  # noqa: F401 - fixtures are found by being imported here
    empty_disk,
    guest_broken,
    guest_v1,
    guest_v2,
    network,
    site,
)
