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
        hypervisor.check_allowed(found.needs)
        for warning in found.warnings:
            module.warn(warning)
        result: dict[str, Any] = {"changed": found.changed, returns: found.after}
        if module._diff and found.changed:
            result["diff"] = _diff(found)
        phases: Phases = {}
        if not module.check_mode:
            phases = found.apply(time.monotonic)
            for warning in found.tells():
                module.warn(warning)
            if found.changed and found.look is not None:
                result[returns] = found.look()
        module.exit_json(**result, **found.facts(phases), invocation=_invocation(module))


def run_info(
    gather: Callable[[Hypervisor, Params], Any], returns: str, argument_spec: dict[str, Any], **rules: Any
) -> None:
    """Run a module that only looks, and return what it gathered under ``returns``."""
    module = _module(argument_spec, rules)
    with _errors_told(module), LibvirtHypervisor(module.params["uri"], only_look=True) as hypervisor:
        if hypervisor.connection.read_only:
            module.warn(
                f"the connection to {hypervisor.connection.uri!r} may only read: it shows no template versions, so "
                "that it is not known which VMs are outdated, and no addresses that only guest agents know"
            )
        module.exit_json(changed=False, **{returns: gather(hypervisor, module.params)}, invocation=_invocation(module))


def _module(argument_spec: dict[str, Any], rules: dict[str, Any]) -> AnsibleModule:
    uri = dict(type="str", default="qemu:///system", fallback=(env_fallback, ["LIBVIRT_DEFAULT_URI"]))
    module = AnsibleModule(argument_spec=dict(uri=uri, **argument_spec), supports_check_mode=True, **rules)
    # No result holds a secret. Ansible would look for each of them all the same and blank out equal words, such as the
    # name of the VM or a number.
    module.no_log_values.clear()
    if LIBVIRT_IMPORT_ERROR is not None:
        module.fail_json(
            msg=missing_required_lib("libvirt-python"), exception=LIBVIRT_IMPORT_ERROR, invocation=_invocation(module)
        )
    return module


def _invocation(module: AnsibleModule) -> dict[str, Any]:
    """Return what Ansible shows of the options at a high verbosity: all but the secrets."""
    secrets = {name for name, spec in module.argument_spec.items() if spec.get("no_log")}
    shown = {
        name: "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if name in secrets and value is not None else value
        for name, value in module.params.items()
    }
    return {"module_args": shown}


@contextmanager
def _errors_told(module: AnsibleModule) -> Iterator[None]:
    try:
        yield
    except GoldenError as error:
        module.fail_json(msg=error.message, **error.facts, invocation=_invocation(module))


def _diff(plan: Plan) -> list[dict[str, Any]]:
    """Return the change of the object, and under it the steps that lead there."""
    steps = "".join(f"- {step.say}\n" for step in plan.steps)
    return [{"before": plan.before, "after": plan.after}, {"prepared": steps}]
