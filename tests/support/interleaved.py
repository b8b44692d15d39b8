"""Two tasks on one hypervisor in memory, whose calls come in an order that is given: the same at each run.

A task is one thread. It makes a call when it is its turn; who waits for a claim that the other one has leaves its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError
from ansible_collections.golden.libvirt.plugins.module_utils._core.plan import Plan

from support.fake import FakeHypervisor

Turn = tuple[int, int]
"""Which of the two tasks, and how many calls it makes at most."""
TO_ITS_END = 10_000


def interleaved(
    hv: FakeHypervisor, tasks: Sequence[Callable[[Any], Plan]], turns: Sequence[Turn]
) -> tuple[list[GoldenError | None], list[int]]:
    """Plan and carry out two tasks in these turns; return how each of them failed, if it did, and its calls."""
    order = _Order([*turns, (0, TO_ITS_END), (1, TO_ITS_END)])
    failed: list[GoldenError | None] = [None, None]
    broken: list[BaseException] = []

    def run(number: int) -> None:
        try:
            tasks[number](_Connection(hv, order, number)).apply(lambda: 0.0)
        except GoldenError as error:
            failed[number] = error
        except BaseException as error:
            broken.append(error)
        finally:
            order.end(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]
    return failed, order.calls


class _Order:
    """Whose turn it is."""

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self.changed = threading.Condition()
        self.ended: set[int] = set()
        self.calls = [0, 0]

    def call(self, task: int, call: Callable[[], Any], waits: Callable[[Any], bool]) -> Any:
        """Make a call of a task in its turn, again while it waits for what the other one has."""
        with self.changed:
            while True:
                self.changed.wait_for(lambda: self._next() == task)
                self.turns[0] = (task, self.turns[0][1] - 1)
                self.calls[task] += 1
                try:
                    result = call()
                finally:
                    self.changed.notify_all()
                if not waits(result) or 1 - task in self.ended:
                    return result
                self.turns.insert(0, (1 - task, 1))

    def end(self, task: int) -> None:
        with self.changed:
            self.ended.add(task)
            self.changed.notify_all()

    def _next(self) -> int:
        while self.turns[0][0] in self.ended or self.turns[0][1] <= 0:
            self.turns.pop(0)
        return self.turns[0][0]


class _Connection:
    """The hypervisor as one of the tasks has it."""

    def __init__(self, hv: FakeHypervisor, order: _Order, task: int) -> None:
        self._hv = hv
        self._order = order
        self._task = task

    def claimant(self) -> str:
        return f"task {self._hv.claimant()} {self._task}"

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._hv, name)

        def in_turn(*arguments: Any, **options: Any) -> Any:
            def waits(result: Any) -> bool:
                return bool(name == "claim" and options.get("wait") and result != arguments[1])

            return self._order.call(self._task, lambda: call(*arguments, **options), waits)

        return in_turn
