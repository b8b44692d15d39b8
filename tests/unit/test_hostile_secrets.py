"""No option that holds a secret is shown or logged, by any module, whether the task succeeds, fails or only looks."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import PASS_VARS
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import HypervisorError
from ansible_collections.golden.libvirt.plugins.module_utils._core.hypervisor import GuestResult

from support.fake import FakeHypervisor
from support.in_memory import MODULES, Asked, argument_spec
from support.modules import ModuleFailed

from .world import ensuring, plan, with_vm

MARKER = "s3cr3t-Pa55w0rd"
OTHERS: dict[str, dict[str, Any]] = {
    "guest_command": {"vm": "web-1", "command": ["true"]},
    "vm": {"name": "web-1"},
    "vm_payload": {"vm": "web-1"},
    "vm_pool": {"vm_pool": "desk", "template": "web", "count": 1},
}
"""What a module is given besides the option with the secret."""
FILES = [{"name": "a", "content": MARKER}]
SECRETS: dict[str, list[Any]] = {
    # option: good values, values that are refused
    "stdin": [MARKER, MARKER + "\ud800"],
    "files": [FILES, [{"name": "/a", "content": MARKER}], [{"name": "a", "content": MARKER, "encoding": "base64"}]],
    "cloud_init": [
        {"user_data": MARKER},
        {"user_data": {"password": MARKER}, "meta_data": MARKER},
        {"network_config": [MARKER]},
    ],
    "sysprep": [{"content": f"<unattend>{MARKER}</unattend>"}, {"content": MARKER}],
    "ignition": [{"passwd": MARKER}, "{" + MARKER, [MARKER]],
}
SECRETS["payload"] = [{kind: value} for kind, values in SECRETS.items() if kind != "stdin" for value in values]


def secret_options() -> list[tuple[str, str]]:
    """Return each module with each of its options that holds a secret."""
    return [(name, option) for name in MODULES for option, spec in argument_spec(name).items() if spec.get("no_log")]


def test_the_options_with_secrets_are_these() -> None:
    assert {option for _module, option in secret_options()} == set(SECRETS)


VERBOSE = {"_ansible_inject_invocation": True} if "inject_invocation" in PASS_VARS else {}
"""How a module is asked to show its options: by ansible-core 2.19, all are."""


def told(hv: FakeHypervisor, module: str, options: dict[str, Any], check: bool) -> str:
    """Run a module, and return all that it prints and logs."""
    logged: list[Any] = []
    with mock.patch.object(AnsibleModule, "log", lambda _module, *said, **more: logged.append((said, more))):
        try:
            result = Asked(hv, logs=True).run(module, check=check, **VERBOSE, **options)
        except ModuleFailed as failure:
            result = failure.result
    assert logged, "nothing was logged: nothing was looked at"
    return json.dumps(result) + repr(logged)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("module", "option"), secret_options())
def test_a_secret_is_in_no_result_and_no_log(module: str, option: str, check: bool) -> None:
    for value in SECRETS[option]:
        for broken in (False, True):
            hv = with_vm(state="started" if module == "guest_command" else "present")
            hv.guest_results[("true",)] = GuestResult(3 if broken else 0, "", "failed")
            if broken:
                hv.meanwhile("create_volume", fail)
            shown = told(hv, module, {**OTHERS[module], option: value}, check)
            assert MARKER not in shown
            assert "NO_LOG" in shown


def fail() -> None:
    """Let a call fail."""
    raise HypervisorError("it was made to fail")


def test_the_marker_would_be_found_where_it_is_no_secret() -> None:
    hv = with_vm(state="present")
    assert MARKER in told(hv, "vm", {"name": "web-1", "description": MARKER}, True)
    assert MARKER in str(plan(hv, ensuring(description=MARKER)).after)
