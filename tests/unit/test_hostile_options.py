"""Whatever is given to whatever option of whatever module: a result, or a message that names the thing; no traceback,
nothing changed before a refusal, and check mode that tells the truth.

Modules are found in their folder and options in their argument specs, so that new ones are covered by themselves.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.text import readable
from ansible_collections.golden.libvirt.plugins.module_utils._core.units import parse_size
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake import FakeHypervisor
from support.in_memory import MODULES, Asked, argument_spec
from support.modules import ModuleFailed, Result

from .world import (
    GIB,
    attaching,
    do,
    ensuring,
    ensuring_pool,
    known_before,
    publishing,
    qcow2,
    taking,
    with_vm,
    write_on_root,
)

HOSTILE = [
    "", " ", "\0", "a\nb", "a\rb", "\x1b[31mred", "<&>\"'", "]]>", "../../etc/passwd", "/etc/shadow", "{{ 7 * 7 }}",
    "x" * 5000, "é\u0301\u202e\U0001f600", "\ufffe", "-1", "1e9", "9" * 5000, "9" * 5000 + "GiB", "latest",
    "None", "--all", "web.v1", "web.v1.json", "web.v1.qcow2", "web-1.root.1.qcow2",
]  # fmt: skip
HALF = "\ud800"
"""Half of a character. Ansible gives it to modules inside of lists and dictionaries; on a text by itself it fails."""
NUMBERS = [-(2**63), -1, 0, 1, 2, 3, 5, 25, 26, 2**31, 2**63, 10**30]
LEFT_OUT = {"unattend.xml"}
"""What a message can name without that it was given: the default of an option."""
KNOWN = {
    "name": ["web-1", "web-9", "desk-1", "foreign"],
    "vm": ["web-1", "web-2", "desk-1", "foreign", "nobody"],
    "template": ["web", "db"],
    "template_version": ["1", "2", "r1", "latest", "9"],
    "version": ["1", "2", "r1", "latest", "9"],
    "version_name": ["r1", "r2", "new"],
    "vm_pool": ["desk", "lab"],
    "user": ["anna", "ben"],
    "storage_pool": ["default", "blocks", "off", "none"],
    "storage_pools": ["default", "blocks", "off", "none"],
    "volume": ["data", "web-1.root.1.qcow2", "web.v1.qcow2", "web.v1.json", "attached"],
    "path": ["/images/web-1.qcow2", "/images/new.qcow2", "/images/noise", "/etc/shadow"],
    "size": ["1GiB", "20GiB", "100TiB", "0GiB", "12"],
    "root_size": ["3GiB", "1GiB"],
    "memory": ["512MiB", "1048576", "0", "1.5KB"],
    "max_file_size": ["16KiB", "1B"],
    "network": ["default", "other"],
    "model": ["virtio", "e1000"],
    "mac": ["52:54:00:00:00:01", "no mac"],
    "volume_id": ["cidata", "TOO-LONG-FOR-A-FLOPPY"],
    "serial": ["abc", "with blank", "x" * 40],
    "content": ["text", "dGV4dA=="],
    "user_data": ["#cloud-config\n", {"users": []}],
    "command": ["true", ["true", "x"], [1, 2.5], [], [""], [["nested"]]],
}
LEAKS = ("Traceback", "has no attribute", "invalid literal", "NoneType", "not well-formed", "codec can't", "object is")
"""What Python says, and nobody who uses a module understands."""


# --- what is given ---------------------------------------------------------------------------------------------------


def texts(name: str, inside: bool) -> st.SearchStrategy[Any]:
    """Return texts for an option, or for one inside of another: mostly names that mean something there."""
    anything = st.sampled_from([*HOSTILE, *[HALF] * inside]) | st.text(max_size=20)
    known = KNOWN.get(name)
    return anything if known is None else st.one_of(*[st.sampled_from(known)] * 3, anything)


def values(name: str, spec: dict[str, Any], inside: bool = False) -> st.SearchStrategy[Any]:
    """Return values for an option, of its type as far as Ansible lets nothing else through."""
    kind = "choice" if "choices" in spec else spec.get("type", "str")
    kind = "options" if "options" in spec and kind == "dict" else kind
    within = texts(name, True) | st.integers() | st.none()
    whole = st.dictionaries(texts("", True), within, max_size=3)
    kinds: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "choice": lambda: st.sampled_from(spec["choices"]),
        "bool": st.booleans,
        "int": lambda: st.integers(0, 4) | st.sampled_from(NUMBERS),
        "list": lambda: st.lists(values(name, {**spec, "type": spec["elements"]}, True), max_size=3),
        "options": lambda: options(spec["options"], True),
        "dict": lambda: whole,
        "raw": lambda: texts(name, inside) | st.integers() | st.lists(within, max_size=2) | whole,
    }
    return kinds.get(kind, lambda: texts(name, inside))()


def options(specs: dict[str, Any], inside: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Return options for an argument spec: the required ones, and few of the others, as people give them."""
    required = {name: values(name, spec, inside) for name, spec in specs.items() if spec.get("required")}
    others = sorted(set(specs) - set(required))
    few = st.lists(st.sampled_from(others), unique=True, max_size=4) if others else st.just([])

    def with_these(chosen: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({**required, **{name: values(name, specs[name], inside) for name in chosen}})

    return few.flatmap(with_these)


# --- the world -------------------------------------------------------------------------------------------------------


@cache
def made_world() -> FakeHypervisor:
    """Return a hypervisor with everything in it that options can name; nobody changes it."""
    hv = with_vm()
    for pool, kind, active in (("blocks", "logical", True), ("off", "dir", False)):
        hv.pools[pool] = type(hv.pools["default"])(pool, kind, active)
    hv.files |= {"/images/new.qcow2": qcow2("new"), "/images/noise": bytes(range(256)) * 4000}
    do(hv, ensuring("web-2", template="web"))
    hv.create_volume("default", new_volume("data", GIB, "qcow2"))
    hv.create_volume("default", new_volume("attached", GIB, "qcow2"))
    do(hv, attaching("attached", "web-1"))
    do(hv, ensuring_pool("desk", template="web", count=3, prestarted=1))
    do(hv, taking("anna"))
    write_on_root(hv, "desk-1")
    hv.define(
        "<domain type='qemu'><name>foreign</name><memory>1024</memory><os><type>hvm</type></os><devices/></domain>"
    )
    return hv


def world() -> Asked:
    """Return a copy of that hypervisor, behind the modules."""
    return Asked(copy.deepcopy(made_world()))


def test_the_world_is_as_options_take_it() -> None:
    asked = world()
    assert asked.run("vm_lease", vm_pool="desk", user="ben")["changed"]
    assert asked.run("vm_restore", vm="web-1", template_version="2")["vm"]["template_version"] == 2
    assert asked.run("template_version", template="web", source={"path": "/images/new.qcow2"})["changed"]
    assert publishing(path="/images/new.qcow2")(asked.hypervisor).after["version"] == 3


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
@settings(max_examples=80)
@given(data=st.data())
def test_anything_gives_a_result_or_a_message_that_names_it(module: str, data: st.DataObject) -> None:
    examine(module, data.draw(options(argument_spec(module))))


def examine(module: str, given_options: dict[str, Any]) -> Result:
    """Run a module in check mode and for real, look at what comes of it, and return it."""
    asked = world()
    before = asked.hypervisor.state()
    foretold = outcome(asked, module, given_options, check=True)
    assert asked.hypervisor.state() == before, "check mode has changed something"
    done = outcome(asked, module, given_options, check=False)
    assert done.get("failed") == foretold.get("failed"), (foretold.get("msg"), done.get("msg"))
    if done.get("failed"):
        assert asked.hypervisor.state() == before, "something was changed before the refusal"
        assert done["msg"] == foretold["msg"]
        check_message(asked, done["msg"], given_options)
    else:
        known = as_known(foretold)
        assert {name: value for name, value in as_known(done).items() if name in known} == known
        assert done["changed"] == (asked.hypervisor.state() != before) or module == "guest_command"
    return done


def outcome(asked: Asked, module: str, given_options: dict[str, Any], check: bool) -> Result:
    """Return the result of a module, failed or not; anything but a result is an error of the test."""
    try:
        return asked.run(module, check=check, **given_options)
    except ModuleFailed as failure:
        return failure.result


def check_message(asked: Asked, message: str, given_options: dict[str, Any]) -> None:
    """A message says in words what is wrong with what, and nothing in it steers a terminal."""
    if not asked.opened:
        return  # it is Ansible's own
    assert not any(leak in message for leak in LEAKS), message
    assert any(word in message for word in words_of(given_options) | LEFT_OUT), message
    assert readable(message) == message, repr(message)
    assert len(message) < 20_000, "nobody reads that"


def words_of(value: Any) -> set[str]:
    """Return the names and values that options hold."""
    if isinstance(value, dict):
        return set(value) | {word for part in value.values() for word in words_of(part)}
    if isinstance(value, list):
        return {word for part in value for word in words_of(part)}
    return {str(value), repr(value)} - {""}


def as_known(result: Result) -> Any:
    """Return of a result what check mode can know of it."""
    told_later = ("diff", "phases", "downtime", "invocation", "ran")
    kept = {name: value for name, value in result.items() if name not in told_later}
    return known_before(json.loads(json.dumps(kept)))


# --- what was found by it --------------------------------------------------------------------------------------------

FOUND: list[tuple[str, dict[str, Any], str]] = [
    ("storage_pool_info", {"size": "9" * 5000 + "GiB"}, "size: '999"),
    ("storage_pool_info", {"size": "9000000TiB"}, "size: '9000000TiB' is more than the 8388608TiB that can be"),
    ("vm", {"name": "web-1", "size": {"memory": "9" * 19}}, "size.memory: .* is more than"),
    ("vm", {"name": "web-1", "size": {"storage_size_in_gb": 2**40}}, "size.storage_size_in_gb: 1099511627776 is more"),
    ("vm", {"name": "web-1", "description": "a\x01b"}, r"description of VM 'web-1': .* U\+0001"),
    ("vm", {"name": "web-1", "description": "x" * 70_000}, "description of VM 'web-1': it has 70000 characters"),
    ("vm", {"name": "web-1", "networks": [{"network": "a", "model": "\ufffe"}]}, r"networks: the model: .* U\+FFFE"),
    ("vm", {"name": "web-1", "networks": [{"network": HALF}]}, r"networks: the network: .* U\+D800"),
    ("vm", {"name": "web-1", "wait_timeout": 10**30}, "wait_timeout: 1000000000000000000000000000000 is out of range"),
    ("vm", {"name": "web-1", "volumes": [{"size": "1GiB", "device_id": 2**60}]}, r"volumes\[0\]\.device_id: .* range"),
    ("vm_restore", {"vm": "web-1", "health": {"timeout": -(2**70)}}, r"health\.timeout: -1180591620717411303424 is"),
    ("vm_restore", {"vm": "web-1", "health": {"check": "port", "port": 70_000}}, "health.port: 70000 is no port"),
    ("vm_pool", {"vm_pool": "lab", "template": "web", "count": 1_000_000}, "count: 1000000 is more than the 10000 VMs"),
    ("vm_payload", {"vm": "web-1", "ignition": ["a"]}, "ignition: it must be a text or a dictionary"),
    ("template_version", {"template": "web", "labels": {"a": HALF}, "version": "1"}, "half of a character"),
    ("vm", {"name": "web-1", "template": "\x1b[2J"}, r"template: \ufffd\[2J"),
]


@pytest.mark.parametrize(("module", "given_options", "said"), FOUND, ids=lambda value: str(value)[:40])
def test_what_was_a_traceback_or_worse_is_refused(module: str, given_options: dict[str, Any], said: str) -> None:
    done = examine(module, given_options)
    assert re.search(said, done["msg"]), done["msg"]


def test_sizes_are_exact() -> None:
    assert parse_size("9007199254740993B", "size") == 9007199254740993
    assert parse_size("0.1GB", "size") == 100_000_000
    assert parse_size("8388607.5TiB", "size") == 2**63 - 2**39


def test_blanks_of_a_description_count() -> None:
    asked = world()
    for text in ("a", " a", "a ", " ", ""):
        assert asked.run("vm", name="web-1", description=text)["changed"]
        assert asked.run("vm_info", name="web-1")["vms"][0]["description"] == text


def test_members_that_are_restored_to_be_started_are_foretold() -> None:
    done = examine("vm_pool", {"vm_pool": "desk", "prestarted": 2, "template_version": "r1"})
    assert [member["template_version"] for member in done["vm_pool"]["members"]] == [2, 2, 1]
    assert done["vm_pool"]["outdated"] == ["desk-1", "desk-2"]
