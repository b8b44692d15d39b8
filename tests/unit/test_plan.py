"""Plans: steps, their undos, and what is told of both."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError, HypervisorError
from ansible_collections.golden.libvirt.plugins.module_utils._core.plan import Plan, Step


def still() -> float:
    """A clock that stands."""
    return 0.0


def adding(log: list[str], name: str, undo: Callable[[], None] | None = None, phase: str = "") -> Step:
    """Return a step that adds its name, and takes it away again."""
    return Step(name, lambda: log.append(name), undo or (lambda: log.remove(name)), phase)


def failing(error: BaseException) -> Callable[[], None]:
    """Return what raises this error."""

    def fail() -> None:
        raise error

    return fail


def test_steps_are_carried_out_in_their_order() -> None:
    log: list[str] = []
    Plan({}, {}, tuple(adding(log, name) for name in "abc")).apply(still)
    assert log == ["a", "b", "c"]


def test_a_plan_without_steps_changes_nothing() -> None:
    assert not Plan({}, {}).changed
    assert Plan({}, {}).apply(still) == {}


def test_an_error_undoes_its_own_step_and_those_before_last_first() -> None:
    undone: list[str] = []
    steps = [adding([], name, lambda name=name: undone.append(name)) for name in "abcd"]  # type: ignore[misc]
    steps[2] = Step("c", failing(HypervisorError("no")), lambda: undone.append("c"))
    with pytest.raises(HypervisorError, match="no") as caught:
        Plan({}, {}, tuple(steps)).apply(still)
    assert undone == ["c", "b", "a"]
    assert caught.value.facts["rolled_back"] is True


def test_an_undo_that_fails_keeps_no_other_from_running_and_is_told() -> None:
    log: list[str] = []
    steps = (
        adding(log, "a"),
        adding(log, "b", failing(GoldenError("stuck"))),
        Step("c", failing(HypervisorError("no", code=3))),
    )
    with pytest.raises(HypervisorError) as caught:
        Plan({}, {}, steps).apply(still)
    assert log == ["b"]
    assert caught.value.message == "no This could not be taken back: b: stuck"
    assert caught.value.facts == {"rolled_back": False, "code": 3}


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt()])
def test_what_is_no_error_of_ours_is_undone_and_goes_on_as_it_is(error: BaseException) -> None:
    log: list[str] = []
    with pytest.raises(type(error)):
        Plan({}, {}, (adding(log, "a"), Step("b", failing(error)))).apply(still)
    assert log == []


def test_nothing_before_a_final_step_is_undone() -> None:
    log: list[str] = []
    final = Step("b", lambda: log.append("b"), lambda: log.remove("b"), final=True)
    steps = (adding(log, "a"), final, adding(log, "c"), Step("d", failing(HypervisorError("no"))))
    with pytest.raises(HypervisorError) as caught:
        Plan({}, {}, steps).apply(still)
    assert caught.value.facts["rolled_back"] is False
    assert log == ["a"]


def test_phases_add_up_and_are_known_to_a_failed_result_too() -> None:
    now = 0.0

    def taking(seconds: float) -> Callable[[], None]:
        def wait() -> None:
            nonlocal now
            now += seconds

        return wait

    steps = (
        Step("a", taking(1.5), phase="prepare"),
        Step("b", taking(10)),
        Step("c", taking(2), phase="prepare"),
        Step("d", taking(0.25), phase="stop"),
        Step("e", failing(HypervisorError("no")), phase="boot"),
    )
    plan = Plan({}, {}, steps, facts=lambda phases: {"phases": dict(phases)})
    with pytest.raises(HypervisorError) as caught:
        plan.apply(lambda: now)
    assert caught.value.facts["phases"] == {"prepare": 3.5, "stop": 0.25, "boot": 0.0}


def test_a_warning_more() -> None:
    plan = Plan({}, {}).warning("a").warning("b")
    assert plan.warnings == ("a", "b")
