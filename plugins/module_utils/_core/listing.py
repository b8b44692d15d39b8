"""What is found where one damaged thing must not hide the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Listing(list[dict[str, Any]]):
    """What a task that looks has found; ``problems`` says of what is left out what is wrong with it."""

    def __init__(self, found: Iterable[dict[str, Any]], problems: Iterable[str]) -> None:
        super().__init__(found)
        self.problems = list(dict.fromkeys(problems))
