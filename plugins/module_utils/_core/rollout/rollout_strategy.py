"""How a rollout is to go: what people, and surveys, write as texts, read into values. An empty text is unset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..errors import InvalidError

RESTORED, ROLLED_BACK = "restored", "rolled_back"
OLDEST_FIRST, UNHEALTHY_FIRST, NAME = "oldest_first", "unhealthy_first", "name"
ORDERS = (OLDEST_FIRST, UNHEALTHY_FIRST, NAME)
SKIP, WAIT, FORCE, RESTORE = "skip", "wait", "force", "restore"


@dataclass(frozen=True)
class Amount:
    """A number of VMs, or a percentage of some."""

    number: int
    percent: bool = False

    def of(self, total: int, *, least: int = 0) -> int:
        """Return the number that it means of so many VMs: percentages are rounded down, ``least`` is the lowest."""
        return max(least, total * self.number // 100 if self.percent else self.number)


@dataclass(frozen=True)
class Strategy:
    """How a rollout is to go; see the options of the module ``rollout_plan``."""

    vm_pool: str
    state: str
    template_version: str = ""
    serial: tuple[Amount, ...] = (Amount(1),)
    canary: Amount | tuple[str, ...] = ()
    max_unavailable: Amount | None = None
    max_failures: Amount | None = None
    order: str = OLDEST_FIRST
    in_use: str = SKIP
    down: str = RESTORE
    checkpoints: tuple[int, ...] = ()
    window_ends: datetime | None = None
    ask_agent: bool = True
    """Whether a VM that runs without its guest agent counts as unhealthy."""

    @property
    def back(self) -> bool:
        """Whether VMs go back onto their previous roots."""
        return self.state == ROLLED_BACK


def parse_amount(text: str, option: str) -> Amount | None:
    """Return what ``3`` or ``25%`` means, and None for an empty text."""
    if not text.strip():
        return None
    match = re.fullmatch(r"([0-9]{1,6})\s*(%?)", text.strip())
    if match is None or (match[2] and int(match[1]) > 100):
        raise InvalidError(f"{option}: {text!r} is neither a number of VMs nor a percentage up to 100; write 3 or 25%")
    return Amount(int(match[1]), bool(match[2]))


def parse_serial(text: str) -> tuple[Amount, ...]:
    """Return the sizes of the batches: the last one is that of all further batches."""
    sizes = [parse_amount(part, "serial") for part in re.sub(r"[\[\]'\"]", "", text).split(",")]
    found = tuple(size for size in sizes if size is not None)
    if any(size.number == 0 for size in found):
        raise InvalidError(
            f"serial: {text!r} has a batch of 0 VMs; write numbers or percentages above 0, such as 1,25%"
        )
    return found or (Amount(1),)


def parse_canary(text: str) -> Amount | tuple[str, ...]:
    """Return how many VMs go first, or which."""
    words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
    if len(words) == 1 and re.fullmatch(r"[0-9]+%?", words[0]):
        return parse_amount(words[0], "canary") or ()
    return tuple(words)


def parse_checkpoints(text: str) -> tuple[int, ...]:
    """Return the percentages at which the rollout pauses."""
    words = [word.rstrip("%") for word in re.split(r"[,\s]+", text.strip()) if word]
    if not all(re.fullmatch("[1-9][0-9]?", word) for word in words):
        raise InvalidError(f"checkpoints: {text!r} is no list of percentages between 1 and 99; write such as 25,50")
    return tuple(sorted({int(word) for word in words}))


def parse_window(text: str, local_time: str) -> datetime | None:
    """Return when no batch begins any more: in so many minutes, at a time of the day, or at a moment in ISO 8601."""
    text, now = text.strip(), datetime.fromisoformat(local_time)
    if not text:
        return None
    if text.isdecimal() and len(text) < 7:
        return now + timedelta(minutes=int(text))
    clock = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if clock is not None:
        ends = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return ends if ends > now else ends + timedelta(days=1)
    try:
        moment = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except ValueError:
        raise InvalidError(
            f"window_ends: {text!r} is no time; write minutes from now (90), a time of the day (05:30), or a moment in "
            "ISO 8601 (2026-11-21T05:30:00+01:00)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=now.tzinfo)
