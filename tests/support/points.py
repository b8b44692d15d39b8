"""At which of its calls a task is disturbed: at each, or at some that stand for the others."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

from .faults import changes

T = TypeVar("T")
EVERY_POINT = bool(os.environ.get("GOLDEN_EVERY_POINT"))
"""Whether each call is tried: hours instead of minutes."""
SEED = os.environ.get("GOLDEN_SEED", "0")


def kills(calls: tuple[str, ...], most: int, name: str) -> list[int]:
    """Return the calls before which a task is killed.

    Between two calls that change something, all deaths leave the same: one of them stands for the others.
    """
    gaps: list[list[int]] = [[]]
    for number, call in enumerate(calls):
        gaps[-1].append(number)
        if changes(call):
            gaps.append([])
    chosen = _some([gap for gap in gaps if gap], most, name)
    return list(range(len(calls))) if EVERY_POINT else sorted(_random(name).choice(gap) for gap in chosen)


def errors(calls: tuple[str, ...], most: int, name: str) -> list[int]:
    """Return the calls that fail: more of those that change something than of those that look."""
    changing = [number for number, call in enumerate(calls) if changes(call)]
    looking = [number for number, call in enumerate(calls) if not changes(call)]
    some = [*_some(changing, most - most // 3, name), *_some(looking, most // 3, name)]
    return list(range(len(calls))) if EVERY_POINT else sorted(some)


def lost(calls: tuple[str, ...], most: int, name: str) -> list[int]:
    """Return the calls that do their work and yet are told to have failed: only those that change something."""
    changing = [number for number, call in enumerate(calls) if changes(call)]
    return changing if EVERY_POINT else sorted(_some(changing, most, name))


def few(things: Sequence[T], most: int, name: str) -> list[T]:
    """Return all of these things, or so many of them, in their order."""
    chosen = things if EVERY_POINT else _some(list(things), most, name)
    return [thing for thing in things if thing in chosen]


def _some(things: list, most: int, name: str) -> list:  # type: ignore[type-arg]
    return things if len(things) <= most else _random(name).sample(things, most)


def _random(name: str) -> random.Random:
    return random.Random(f"{SEED} {name}")
