"""Guest agents that answer anything: bounded, without a traceback, and never believed.

What stands here in place of the agent is the one call of libvirt that asks it; a guest that really lies is in
tests/e2e.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from unittest import mock

import libvirt
import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import GoldenError
from ansible_collections.golden.libvirt.plugins.module_utils._core.text import one_line, readable
from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor import addresses, agent, guest
from hypothesis import given, settings
from hypothesis import strategies as st

ESCAPES = "\x1b]0;owned\x07\x1b[2J"
_MAC = "52:54:00:12:34:56"
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([_MAC, ESCAPES]),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=8,
)
_STATUS = st.fixed_dictionaries(
    {"exited": st.just(True) | _ANY},
    optional={"exitcode": _ANY, "signal": _ANY, "out-data": _ANY, "err-data": _ANY, "out-truncated": _ANY},
)
_INTERFACES = st.lists(
    _ANY
    | st.fixed_dictionaries(
        {"hardware-address": _ANY | st.just(_MAC)},
        optional={"ip-addresses": _ANY | st.lists(_ANY | st.fixed_dictionaries({"ip-address": _ANY}), max_size=3)},
    ),
    max_size=3,
)
_REPLIES = st.one_of(
    _ANY.map(json.dumps),
    _ANY.map(lambda answer: json.dumps({"return": answer})),
    _STATUS.map(lambda status: json.dumps({"return": status})),
    _INTERFACES.map(lambda found: json.dumps({"return": found})),
    st.text(max_size=20),
    st.sampled_from(['{"return":' + "[" * 100_000, '{"return":' + "9" * 5000 + "}", ""]),
)


class Running:
    """A running domain, as far as asking its agent takes one."""

    def name(self) -> str:
        return "web-1"

    def isActive(self) -> int:
        return 1


class Clock:
    """A connection whose waits look as long as they may, and take no time."""

    def wait_until(self, _domain: Any, done: Any, _timeout: float, _look_again: float) -> bool:
        return any(done() for _look in range(3))


def answering(*replies: str | Exception) -> Any:
    """Let the agent give these answers, the last one again and again."""
    left = list(replies)

    def answer(_domain: Any, _question: str, seconds: int, _flags: int) -> str:
        assert 0 < seconds < 2**31
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    return mock.patch("libvirt_qemu.qemuAgentCommand", answer)


@settings(max_examples=200)
@given(replies=st.lists(_REPLIES, min_size=1, max_size=4))
def test_no_answer_breaks_a_command(replies: list[str]) -> None:
    calls = guest.GuestCalls()
    calls.connection = Clock()  # type: ignore[assignment]
    calls.connection.libvirt = mock.Mock(lookupByName=lambda name: Running())
    with answering('{"return": {}}', *replies):
        try:
            done, said = calls.run_in_guest("web-1", ["true"], 10**12), ""
        except GoldenError as error:
            done, said = None, error.message
    assert readable(said) == said
    assert "web-1" in said if done is None else isinstance(done.rc, int) and len(done.stdout) <= 256 * 1024


@settings(max_examples=200)
@given(reply=_REPLIES)
def test_addresses_are_addresses_whatever_a_guest_tells(reply: str) -> None:
    with answering(reply):
        for mac, known in addresses._agent(Running()).items():
            assert len(mac) == len(_MAC)
            assert [str(ipaddress.ip_address(address)) for address in known]


def test_what_a_guest_tells_of_its_network_is_sifted() -> None:
    told = [
        {"hardware-address": _MAC.upper(), "ip-addresses": [{"ip-address": "192.0.2.7"}, {"ip-address": ESCAPES}]},
        {"hardware-address": ESCAPES, "ip-addresses": [{"ip-address": "192.0.2.8"}]},
        {"hardware-address": "{{ 7 * 7 }}", "ip-addresses": [{"ip-address": "192.0.2.9"}]},
        {"hardware-address": "52:54:00:00:00:02", "ip-addresses": [{"ip-address": f"fe80::1%{ESCAPES}"}]},
    ]
    with answering(json.dumps({"return": told})):
        found = addresses._agent(Running())
    assert found == {_MAC: ["192.0.2.7"], "52:54:00:00:00:02": []}


def test_a_guest_with_endless_interfaces_is_not_followed() -> None:
    many = [{"ip-address": f"10.0.{number // 256}.{number % 256}"} for number in range(1000)]
    told = [{"hardware-address": f"52:54:00:00:{n // 256:02x}:{n % 256:02x}", "ip-addresses": many} for n in range(100)]
    with answering(json.dumps({"return": told})):
        assert sum(map(len, addresses._agent(Running()).values())) <= 64 * 64


def test_the_error_of_an_agent_steers_no_terminal() -> None:
    error = libvirt.libvirtError("it failed")
    error.err = (1, 1, f"unable to execute QEMU agent command 'guest-ping': {ESCAPES}", 2, "", "", "", 0, 0)
    asked = agent.Agent(Running())
    with answering(error):
        assert asked.ask("guest-ping") is None
    assert asked.refused
    assert asked.last == one_line(asked.last)


@pytest.mark.parametrize("reply", ['{"return": {"pid": "1"}}', '{"return": []}', '{"return": {"pid": null}}'])
def test_an_agent_that_started_nothing_is_told(reply: str) -> None:
    asked = agent.Agent(Running())
    with answering(reply):
        assert asked.begin(["true"]) is None
    assert "makes no sense" in asked.last
