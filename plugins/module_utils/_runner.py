"""How a module runs: the only code that knows AnsibleModule, check mode and diff, and how errors are told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._core.errors import GoldenError, InvalidError
from ._core.hypervisor import Hypervisor
from ._core.listing import Listing
from ._core.plan import Phases, Plan
from ._core.text import readable
from ._hypervisor import LIBVIRT_IMPORT_ERROR, LibvirtHypervisor

Params = dict[str, Any]

phase_begins: ContextVar[Callable[[str], None]] = ContextVar("phase_begins", default=lambda phase: None)
"""Who is told of each phase of a task as it begins; nobody, where a module is a process of its own."""

_MOST = 2**53
"""No option is a larger number: clocks and libvirt would stumble over it."""

_LONGEST = 10_000
"""Characters of a message that are shown."""


def run(plan: Callable[[Hypervisor, Params], Plan], returns: str, argument_spec: dict[str, Any], **rules: Any) -> None:
    """Run a module that changes things: make its plan, carry it out unless in check mode, return its one object.

    ``returns`` is the key of the object in the result; ``rules`` are those of AnsibleModule (``required_if`` …).
    """
    module = _module(argument_spec, rules)
    with _errors_told(module), LibvirtHypervisor(module.params["uri"]) as hypervisor:
        found = plan(hypervisor, module.params)
        hypervisor.check_allowed(found.needs)
        _warn(module, found.warnings)
        result: dict[str, Any] = {"changed": found.changed, returns: found.after}
        if module._diff and found.changed:
            result["diff"] = _diff(found)
        phases: Phases = {}
        if not module.check_mode:
            phases = found.apply(time.monotonic, phase_begins.get())
            _warn(module, found.tells())
        with _looking_back(done=found.changed and not module.check_mode):
            if found.changed and found.look is not None and not module.check_mode:
                result[returns] = found.look()
            facts = found.facts(phases)
        module.exit_json(**result, **facts, invocation=_invocation(module))


def run_info(
    gather: Callable[[Hypervisor, Params], Any], returns: str, argument_spec: dict[str, Any], **rules: Any
) -> None:
    """Run a module that only looks, and return what it gathered under ``returns``."""
    module = _module(argument_spec, rules)
    with _errors_told(module), _looking(module, module.params["uri"]) as hypervisor:
        found = gather(hypervisor, module.params)
        if isinstance(found, Listing):
            _warn(module, found.problems)
        module.exit_json(changed=False, **{returns: found}, invocation=_invocation(module))


def run_info_of_many(
    gather: Callable[[dict[str, Hypervisor], Params], Any],
    uris: Callable[[Params], list[str]],
    returns: str,
    argument_spec: dict[str, Any],
    **rules: Any,
) -> None:
    """Run a module that only looks, at all the hypervisors that ``uris`` finds in its options."""
    module = _module(argument_spec, rules)
    with _errors_told(module), ExitStack() as connections:
        hypervisors = {uri: connections.enter_context(_looking(module, uri)) for uri in uris(module.params)}
        module.exit_json(changed=False, **{returns: gather(hypervisors, module.params)}, invocation=_invocation(module))


@contextmanager
def _looking_back(done: bool) -> Iterator[None]:
    """Say of what fails in this block that the work itself is done."""
    try:
        yield
    except GoldenError as error:
        if not done:
            raise
        message = f"everything was done, but how it came out cannot be told: {error.message}"
        raise type(error)(message, **{**error.facts, "rolled_back": False}) from error


@contextmanager
def _looking(module: AnsibleModule, uri: str) -> Iterator[Hypervisor]:
    """Yield a connection that is not to change anything; warn of what one that may not would show."""
    with LibvirtHypervisor(uri, only_look=True) as hypervisor:
        if hypervisor.connection.read_only:
            module.warn(
                f"the connection to {hypervisor.connection.uri!r} may only read: it shows no template versions, so "
                "that it is not known which VMs are outdated, and no addresses that only guest agents know"
            )
        yield hypervisor


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
    with _errors_told(module):
        _check_numbers(module.params, argument_spec)
    return module


def _warn(module: AnsibleModule, warnings: Iterable[str]) -> None:
    for warning in warnings:
        module.warn(_shown(warning))


def _shown(message: str) -> str:
    """Return a message for a terminal: what guests and others have written may be in it."""
    return readable(message if len(message) <= _LONGEST else f"{message[:_LONGEST]} …")


def _check_numbers(params: Params, specs: dict[str, Any], within: str = "") -> None:
    """Refuse numbers with which neither clocks nor libvirt can reckon."""
    for name, spec in specs.items():
        value, where = params.get(name), within + name
        if isinstance(value, int) and abs(value) > _MOST:
            raise InvalidError(f"{where}: {value} is out of range; give a number of at most 15 digits")
        if spec.get("options"):
            for place, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
                _check_numbers(part or {}, spec["options"], f"{where}." if place is None else f"{where}[{place}].")


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
        module.fail_json(msg=_shown(error.message), **error.facts, invocation=_invocation(module))


def _diff(plan: Plan) -> list[dict[str, Any]]:
    """Return the change of the object, and under it the steps that lead there."""
    steps = "".join(f"- {step.say}\n" for step in plan.steps)
    return [{"before": plan.before, "after": plan.after}, {"prepared": steps}]
