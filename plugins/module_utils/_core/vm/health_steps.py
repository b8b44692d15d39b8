"""The step that waits until a VM is up."""

from __future__ import annotations

from ..hypervisor import Health, Hypervisor
from ..plan import Step


def health_steps(hv: Hypervisor, name: str, health: Health) -> list[Step]:
    """Return the step that waits until a VM that was started is up; none where nothing is to be waited for."""
    if not health.waits:
        return []
    say = f"wait until VM {name!r} is healthy ({health.check})"
    return [Step(say, lambda: hv.wait_healthy(name, health), phase="verify")]
