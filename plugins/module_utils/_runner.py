"""How a module runs: the only code that knows AnsibleModule, check mode and diff, and how errors are told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._core.errors import GoldenError
from ._core.hypervisor import Hypervisor
from ._core.plan import Phases, Plan
from ._hypervisor import LIBVIRT_IMPORT_ERROR, LibvirtHypervisor

Params = dict[str, Any]


def run(plan: Callable[[Hypervisor, Params], Plan], returns: str, argument_spec: dict[str, Any], **rules: Any) -> None:
    """Run a module that changes things: make its plan, carry it out unless in check mode, return its one object.

    ``returns`` is the key of the object in the result; ``rules`` are those of AnsibleModule (``required_if`` …).
    """
    module = _module(argument_spec, rules)
    with _errors_told(module), LibvirtHypervisor(module.params["uri"]) as hypervisor:
        found = plan(hypervisor, module.params)
        for warning in found.warnings:
            module.warn(warning)
        result: dict[str, Any] = {"changed": found.changed, returns: found.after}
        if module._diff and found.changed:
            result["diff"] = _diff(found)
        phases: Phases = {}
        if not module.check_mode:
            phases = found.apply(time.monotonic)
            if found.changed and found.look is not None:
                result[returns] = found.look()
        module.exit_json(**result, **found.facts(phases))


def run_info(
    gather: Callable[[Hypervisor, Params], Any], returns: str, argument_spec: dict[str, Any], **rules: Any
) -> None:
    """Run a module that only looks, and return what it gathered under ``returns``."""
    module = _module(argument_spec, rules)
    with _errors_told(module), LibvirtHypervisor(module.params["uri"]) as hypervisor:
        module.exit_json(changed=False, **{returns: gather(hypervisor, module.params)})


def _module(argument_spec: dict[str, Any], rules: dict[str, Any]) -> AnsibleModule:
    uri = dict(type="str", default="qemu:///system", fallback=(env_fallback, ["LIBVIRT_DEFAULT_URI"]))
    module = AnsibleModule(argument_spec=dict(uri=uri, **argument_spec), supports_check_mode=True, **rules)
    if LIBVIRT_IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("libvirt-python"), exception=LIBVIRT_IMPORT_ERROR)
    return module


@contextmanager
def _errors_told(module: AnsibleModule) -> Iterator[None]:
    try:
        yield
    except GoldenError as error:
        module.fail_json(msg=error.message, **error.facts)


def _diff(plan: Plan) -> list[dict[str, Any]]:
    """Return the change of the object, and under it the steps that lead there."""
    steps = "".join(f"- {step.say}\n" for step in plan.steps)
    return [{"before": plan.before, "after": plan.after}, {"prepared": steps}]
