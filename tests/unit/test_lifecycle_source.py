"""The event source: what its events say, and that none is missed or told twice, whenever signals are handled."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.vm import record
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "extensions" / "eda" / "plugins" / "event_source" / "lifecycle.py"
source = runpy.run_path(str(FILE))  # as ansible-rulebook loads it
Seen, Signal, Options = source["Seen"], source["Signal"], source["Options"]
DOWN = (source["DOWN"], "")
UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"

RECORD = record.Record(
    root=record.Root("desk-1.root.4.qcow2", "vms", "web", "images", 3),
    generation=4,
    follows="latest",
    stateless=True,
    pending=record.Pending(record.SWITCH, True),
    vm_pool=record.PoolSettings("desk", 5, auto_refresh=False),
    lease=record.Lease("ada & bob", "2026-11-20T07:00:00Z"),
    vm=UUID,
)


def facts(kept: record.Record = RECORD, name: str = "desk-1", uuid: str = UUID) -> Any:
    """Return what events say of a VM with this record."""
    return source["facts_of"](record.to_text(kept), name, uuid)


def test_events_say_what_the_metadata_says() -> None:
    assert facts() == {
        "vm": "desk-1",
        "uuid": UUID,
        "vm_pool": "desk",
        "template": "web",
        "template_storage_pool": "images",
        "template_version": 3,
        "root_volume": "desk-1.root.4.qcow2",
        "stateless": True,
        "follows_latest": True,
        "auto_refresh": False,
        "taken": True,
        "lease_user": "ada & bob",
        "pending": "switch",
    }


def test_what_a_vm_does_not_have() -> None:
    plain = record.Record(root=RECORD.root, generation=1, follows="3")
    said = facts(plain)
    assert [said[key] for key in ("vm_pool", "lease_user", "pending")] == ["", "", ""]
    assert [said[key] for key in ("stateless", "follows_latest", "taken")] == [False, False, False]
    assert said["auto_refresh"] is True


def test_a_copy_of_a_vm_is_not_ours() -> None:
    assert facts(uuid="00000000-0000-0000-0000-000000000001") is None


@pytest.mark.parametrize("text", ["<vm follows='latest' stateless='yes'/>", "<vm", "<vm><root/></vm>"])
def test_damaged_metadata(text: str) -> None:
    with pytest.raises((ValueError, KeyError, source["ET"].ParseError)):
        source["facts_of"](text, "desk-1", UUID)


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = source["parse_args"]
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    assert parse({}) == parse({"uris": [], "vms": None, "eda_feedback_queue": object()})
    assert parse({}).uris == ("qemu:///system",)
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "test:///default")
    assert parse({"uri": ""}).uris == ("test:///default",)
    assert parse({"uris": ["a", "b", "a"], "vm_pools": "desk"}) == Options(("a", "b"), frozenset(["desk"]))


@pytest.mark.parametrize(
    "args", [{"vm_pool": "desk"}, {"uri": "a", "uris": ["b"]}, {"uris": [1]}, {"vms": {"a": 1}}, {"vms": [""]}]
)
def test_wrong_options_are_errors(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"golden\.libvirt\.lifecycle"):
        source["parse_args"](args)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, True), ({"vms": ["desk-1"]}, True), ({"vm_pools": ["desk"]}, True), ({"vm_pools": ["lab"]}, False),
     ({"vms": ["desk-2"]}, False), ({"vms": ["desk-2"], "vm_pools": ["desk"]}, True)],
)  # fmt: skip
def test_filters(options: dict[str, Any], wanted: bool) -> None:
    assert source["parse_args"](options).wants(facts()) is wanted


def test_the_names_of_events_and_details_are_those_of_libvirt() -> None:
    assert source["EVENTS"][libvirt.VIR_DOMAIN_EVENT_STOPPED] == "stopped"
    assert len(source["EVENTS"]) == 9
    assert source["DETAILS"]["stopped"][libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN] == "shutdown"
    assert source["DETAILS"]["stopped"][libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED] == "saved"
    assert source["DETAILS"]["started"][libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED] == "booted"
    assert all(source["DETAILS"].values())


def kinds(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return events and details."""
    return [(event["event"], event["detail"]) for event in events]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ((1, "a"), (1, "a"), []),
        ((1, ""), (1, "a"), []),
        (DOWN, DOWN, []),
        ((1, "a"), DOWN, [("stopped", "missed")]),
        (DOWN, (2, "a"), [("started", "missed")]),
        ((1, ""), (2, ""), [("stopped", "missed"), ("started", "missed")]),
        ((1, "a"), (1, "b"), [("stopped", "missed"), ("started", "missed")]),
        (None, DOWN, [("defined", "missed")]),
        (None, (1, "a"), [("defined", "missed"), ("started", "missed")]),
        (DOWN, None, [("undefined", "missed")]),
        ((1, "a"), None, [("stopped", "missed"), ("undefined", "missed")]),
    ],
)
def test_what_happened_between_two_looks(before: Any, now: Any, expected: list[Any]) -> None:
    worlds = [{} if run is None else {UUID: Seen(facts(), *run)} for run in (before, now)]
    events = source["missed_events"](*worlds)
    assert kinds(events) == expected
    for event in events:
        assert event["vm"] == "desk-1"
        if event["event"] in ("stopped", "started"):
            assert event["running"] is (now not in (None, DOWN))


def test_a_stop_that_was_missed_and_saved_the_memory() -> None:
    events = source["missed_events"]({UUID: Seen(facts(), 1)}, {UUID: Seen(facts(), saved=True)})
    assert kinds(events) == [("stopped", "saved")]


def test_a_vm_that_is_gone() -> None:
    seen = Seen(facts(), 1)
    events, known = source["events_of"](Signal(UUID, "stopped", "destroyed"), seen, None)
    assert kinds(events) == [("stopped", "destroyed")]
    events, known = source["events_of"](Signal(UUID, "undefined", "removed"), known, None)
    assert (kinds(events), known) == ([("undefined", "removed")], None)
    assert source["events_of"](Signal(UUID, "stopped", "destroyed"), None, None) == ([], None)


def test_down_are_stateless_vms_that_nobody_works_on() -> None:
    idle = RECORD.changed(pending=None)
    world = {
        "1": Seen(facts(idle, "b")),
        "2": Seen(facts(idle, "a")),
        "3": Seen(facts(idle, "runs"), 7),
        "4": Seen(facts(idle, "saved"), saved=True),
        "5": Seen(facts(RECORD, "at-work")),
        "6": Seen(facts(idle.changed(stateless=False, follows="3", vm_pool=None), "stateful")),
    }
    assert source["down"](world) == ["a", "b"]


class History:
    """A VM that goes up and down, and a source whose connection breaks and that handles signals late."""

    def __init__(self) -> None:
        self.run, self.runs = -1, 0
        self.signals: list[Any] = []
        self.listening = self.looked = False
        self.world: Any = None
        self.told: list[str] = []
        self.downs = 0
        self.told_since_down = True

    def up(self) -> None:
        if self.run == -1:
            self.runs += 1
            self.run = self.runs
            self._signal("started")

    def down(self) -> None:
        if self.run != -1:
            self.downs += self.listening or self.world is not None
            self.told_since_down = self.world is None
            self.run = -1
            self._signal("stopped")

    def _signal(self, event: str) -> None:
        if self.listening:
            self.signals.append(Signal(UUID, event, "x", self.run))

    def _tell(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            self.told.append(event["event"])
            self.told_since_down = self.told_since_down or event["event"] == "stopped"

    def cut(self) -> None:
        self.signals.clear()
        self.listening = self.looked = False

    def listen(self) -> None:
        self.listening = True

    def look(self) -> None:
        if self.listening and not self.looked:
            now = {UUID: Seen(facts(RECORD.changed(pending=None)), self.run)}
            self._tell(source["missed_events"](self.world, now) if self.world is not None else [])
            # nobody can know of a run between two looks at a VM that was down, and is so or runs again
            was_down = self.world is not None and self.world[UUID].run == -1
            self.told_since_down |= was_down or source["down"](now) == ["desk-1"]
            self.world, self.looked = now, True
            self.first = getattr(self, "first", self.run)

    def handle(self) -> None:
        if self.looked and self.signals:
            events, known = source["events_of"](self.signals.pop(0), self.world[UUID], Seen(facts(), self.run))
            self._tell(events)
            self.world = {UUID: known}


@given(st.lists(st.sampled_from(["up", "down", "up", "down", "handle", "cut", "listen", "look"]), max_size=40))
def test_whenever_signals_are_handled_no_stop_is_missed_or_told_twice(acts: list[str]) -> None:
    history = History()
    for act in acts:
        getattr(history, act)()
    history.listen()
    history.look()
    while history.signals:
        history.handle()
    assert history.told_since_down, "the last stop was told"
    assert history.told.count("stopped") <= history.downs, "none was told twice"
    assert history.world[UUID].run == history.run
    first = ["stopped", "started"] if history.first != -1 else ["started", "stopped"]
    assert history.told == [first[n % 2] for n in range(len(history.told))], "one follows the other"
