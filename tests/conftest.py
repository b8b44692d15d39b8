"""The fixtures that all tests can use."""

from __future__ import annotations

import signal

from support.fixtures import (  # noqa: F401 - fixtures are found by being imported here
    empty_disk,
    guest_broken,
    guest_v1,
    guest_v2,
    network,
    site,
)

# Tests end programs as ^C does. In the background of a shell, pytest would ignore that signal, and so would they.
signal.signal(signal.SIGINT, signal.default_int_handler)
