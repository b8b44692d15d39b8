"""Waiting for what comes by itself. Nothing here says how fast it is to be: machines that run tests differ."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(done: Callable[[], object], tell: Callable[[], Any] = lambda: "", timeout: float = 300) -> None:
    """Wait until something is true; when it is not in so many seconds, the test fails with what ``tell`` returns."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, tell()
        time.sleep(0.05)
