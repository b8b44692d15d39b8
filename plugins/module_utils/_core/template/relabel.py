"""Changing what may change of a template version: its name, description, labels and lifecycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import names
from ..errors import InvalidError, RefusedError
from ..hypervisor import Hypervisor
from ..permissions import may_write_volume
from ..plan import Plan, Step
from . import manifest
from .catalog import Template, describe_version
from .manifest import Manifest


@dataclass(frozen=True)
class Labels:
    """What the user gave of the changeable fields; None leaves a field as it is."""

    version_name: str | None = None
    description: str | None = None
    labels: dict[str, str] | None = None
    lifecycle: str | None = None

    def __post_init__(self) -> None:
        name = self.version_name
        if name and (name == names.LATEST or name.isdecimal()):
            raise InvalidError(
                f"version_name {name!r} would be taken for a version selector; use a name that is no number"
            )
        if self.lifecycle is not None and self.lifecycle not in manifest.LIFECYCLES:
            raise InvalidError(f"lifecycle {self.lifecycle!r} is not one of {', '.join(manifest.LIFECYCLES)}")

    def given(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return {name: value for name, value in vars(self).items() if value is not None}


def plan_relabel(hv: Hypervisor, template: Template, version: Manifest, labels: Labels) -> Plan:
    """Return the plan that gives a version these labels."""
    wanted = version.revised(**labels.given())
    if wanted.version_name and wanted.version_name != version.version_name:
        for other in template.ready:
            if other.version_name == wanted.version_name:
                raise RefusedError(
                    f"version {other.version} of template {template.name!r} is named {wanted.version_name!r} already; "
                    "rename that one first, or choose another name"
                )
    before = describe_version(version, template.storage_pool, template.latest.version if template.latest else None)
    after = describe_version(wanted, template.storage_pool, _latest_with(template, wanted))
    if wanted == version:
        return Plan(before, after)
    volume = names.manifest_volume(version.template, version.version)

    def write(what: Manifest) -> None:
        hv.write_volume(template.storage_pool, volume, what.to_bytes())

    wanted.to_bytes()  # does it fit?
    say = f"relabel version {version.version} of template {version.template!r}"
    needs = may_write_volume(template.storage_pool, volume)
    return Plan(before, after, (Step(say, lambda: write(wanted), lambda: write(version), needs=needs),))


def _latest_with(template: Template, changed: Manifest) -> int | None:
    active = [v.version for v in template.ready if v.version != changed.version and v.lifecycle == manifest.ACTIVE]
    if changed.lifecycle == manifest.ACTIVE:
        active.append(changed.version)
    return max(active, default=None)
