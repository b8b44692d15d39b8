"""The last lines of a terminal, kept apart from what others print above them.

A terminal can be told to scroll only a part of its lines. What is printed by others stays in the upper part, as if the
terminal were that much smaller; nothing of it has to be caught or repeated. All functions return what to write.
"""

from __future__ import annotations

from collections.abc import Sequence

SAVE, RESTORE = "\0337", "\0338"
"""Remember the place of the cursor and its colours; go back there."""


def opened(height: int, rows: int) -> str:
    """Return what sets the last ``height`` of ``rows`` lines apart, wherever the cursor is."""
    # down as many lines, which makes room at the foot, and up again; then only the lines above scroll
    return "\033[J" + "\033D" * height + f"\033[{height}A" + f"{SAVE}\033[1;{rows - height}r{RESTORE}"


def painted(lines: Sequence[str], rows: int) -> str:
    """Return what shows these lines at the foot, none of them longer than a line of the terminal."""
    first = rows - len(lines) + 1
    shown = "".join(f"\033[{first + number};1H\033[0m\033[2K{line}" for number, line in enumerate(lines))
    return f"{SAVE}\033[?7l{shown}\033[?7h{RESTORE}"


def closed(height: int, rows: int) -> str:
    """Return what gives the lines at the foot back."""
    cleared = "".join(f"\033[{rows - number};1H\033[2K" for number in range(height))
    return f"{SAVE}\033[0m{cleared}\033[r{RESTORE}"
