"""A plan: what a task found, what it wants, and the steps between the two."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from .errors import GoldenError
from .permissions import Needs

Clock = Callable[[], float]
Phases = dict[str, float]

BACK = "back"
"""What whoever watches is told when steps are taken back: a phase, too, whose time is not returned."""


def nothing() -> None:
    """The undo of a step that needs none."""


@dataclass(frozen=True)
class Step:
    """One change: what it is in words, how it is made and how it is taken back."""

    say: str
    do: Callable[[], None]
    undo: Callable[[], None] = nothing
    phase: str = ""
    """Under which name the time of this step is reported; empty: not reported."""
    final: bool = False
    """Whether it begins what cannot be taken back: from here on, an error leaves what was reached, and the next run
    goes on from there."""
    needs: Needs = ()
    """The permissions that it needs: those that can be asked for are, before the first step."""


@dataclass(frozen=True)
class Plan:
    """What a task found, what it wants, and the steps between the two.

    ``before`` and ``after`` are what the user sees: ``after`` is computed before anything is done, so that check
    mode tells the truth. ``look`` reads the result from the hypervisor once the steps are done; without it, the
    result is ``after``.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    steps: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    look: Callable[[], dict[str, Any]] | None = None
    facts: Callable[[Phases], dict[str, Any]] = field(default=lambda phases: {})
    """What the task returns beside its one object, from the seconds that each phase took."""
    tells: Callable[[], list[str]] = list
    """What the user is warned of once the steps are done: what went wrong in them without failing the task."""

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)

    @property
    def needs(self) -> Needs:
        """The permissions that its steps need."""
        return tuple(dict.fromkeys(need for step in self.steps for need in step.needs))

    def warning(self, warning: str) -> Plan:
        """Return the same plan with one more warning."""
        return replace(self, warnings=(*self.warnings, warning))

    def apply(self, clock: Clock, begins: Callable[[str], None] = lambda phase: None) -> Phases:
        """Carry out the steps in their order and return the seconds of each phase; ``begins`` is told of each at once.

        When a step fails, its own undo and those of the steps before it run, last first, unless a final step has begun;
        then the error goes on, saying in ``rolled_back`` whether everything is as it was before.
        """
        phases: Phases = {}
        undone = _Undone(begins)
        try:
            with ExitStack() as rollback:
                for step in self.steps:
                    if step.final:
                        rollback.pop_all()
                        undone.possible = False
                    rollback.callback(undone.run, step)
                    if step.phase:
                        begins(step.phase)
                    started = clock()
                    try:
                        step.do()
                    finally:
                        if step.phase:
                            phases[step.phase] = round(phases.get(step.phase, 0.0) + clock() - started, 3)
                rollback.pop_all()
        except GoldenError as error:
            raise undone.explain(error, self.facts(phases)) from error
        return phases


class _Undone:
    """Runs undos and remembers those that failed, so that one failing undo does not keep the others from running."""

    def __init__(self, begins: Callable[[str], None]) -> None:
        self.begins = begins
        self.failures: list[str] = []
        self.possible = True

    def run(self, step: Step) -> None:
        self.begins(BACK)
        try:
            step.undo()
        except GoldenError as error:
            self.failures.append(f"{step.say}: {error.message}")

    def explain(self, error: GoldenError, facts: dict[str, Any]) -> GoldenError:
        message = error.message
        if self.failures:
            message = f"{message} This could not be taken back: {'; '.join(self.failures)}"
        told = {"rolled_back": self.possible and not self.failures, **facts, **error.facts}
        return type(error)(message, **told)
