"""Reports of rollouts for tests: as they are after a run, and as somebody would write them who means harm."""

from __future__ import annotations

from ansible_collections.golden.libvirt.plugins.module_utils._core.rollout.rollout_report import (
    FAILED,
    LEFT_ALONE,
    MOVED,
    NOT_REACHED,
    STOPPED,
    UP_TO_DATE,
    Report,
    Segment,
    Version,
    VmReport,
)

MARKUP = (
    "</title></style></script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
)
"""A text that runs where it is taken for markup, wherever it is put."""
WAY = {"drain": 1.1, "prepare": 0.4, "stop": 2.3, "switch": 0.2, "boot": 0.9, "verify": 4.6, "settle": 0.3}
DOWN = ("stop", "switch", "boot", "verify")


def way(start: float, slower: float = 1.0, until: str = "settle") -> tuple[Segment, ...]:
    """Return the phases of a VM that ran, one after the other."""
    parts = []
    for phase, seconds in WAY.items():
        parts.append(Segment(phase, start, seconds * slower, phase in DOWN))
        start += seconds * slower
        if phase == until:
            break
    return tuple(parts)


def moved(number: int, batch: int, start: float, slower: float = 1.0) -> VmReport:
    """Return a VM that was moved from version 3 to 4."""
    parts = way(start, slower)
    return VmReport(
        f"desk-{number}",
        MOVED,
        from_version=3,
        to_version=4,
        version=4,
        batch=batch,
        start=start,
        seconds=sum(part.seconds for part in parts),
        downtime=round(sum(part.seconds for part in parts if part.down), 3),
        segments=parts,
    )


def failed(name: str, batch: int, start: float, reason: str, console: str) -> VmReport:
    """Return a VM that did not come up and was put back."""
    parts = way(start, until="verify", slower=1.4)
    back = Segment("back", parts[-1].start + parts[-1].seconds, 3.1, True)
    return VmReport(
        name,
        FAILED,
        from_version=3,
        to_version=4,
        version=3,
        batch=batch,
        start=start,
        seconds=back.start + back.seconds - start,
        downtime=14.3,
        segments=(*parts, back),
        reason=reason,
        task="golden.libvirt.rollout : Replace its root",
        rolled_back=True,
        console=console,
    )


def sample() -> Report:
    """Return a rollout in which one VM failed, one is taken and some were not reached."""
    console = "".join(f"[    {second}.{second * 7919 % 1000000:06}] unit {second}: started\n" for second in range(8))
    vms = (
        moved(1, 1, 2.0),
        moved(2, 2, 13.0),
        moved(3, 2, 13.4, slower=1.15),
        failed("desk-4", 2, 13.9, "VM 'desk-4' did not pass its health check: no answer in 30 s", console + "PANIC"),
        VmReport("desk-5", NOT_REACHED, from_version=3, to_version=4, version=3),
        VmReport("desk-6", LEFT_ALONE, from_version=2, version=2, reason="taken by alice since 2026-11-20T07:00:00Z"),
        VmReport("desk-7", UP_TO_DATE, from_version=4, version=4, reason="it is there already"),
    )
    versions = (
        Version(4, "2026-11", "active", "2026-11-20T07:00:00Z", ("desk-7",), ("desk-1", "desk-2", "desk-3", "desk-7")),
        Version(3, "2026-10", "active", "2026-10-14T07:00:00Z", tuple(f"desk-{n}" for n in range(1, 6)), ("desk-4",)),
        Version(2, "2026-09", "revoked", "2026-09-10T07:00:00Z", ("desk-6",), ("desk-6",)),
    )
    return Report(
        title="Roll out",
        outcome=STOPPED,
        began="2026-11-20T09:30:00Z",
        seconds=37.2,
        vms=vms,
        versions=versions,
        playbook="rollout.yml",
        vm_pool="desk",
        template="web",
        target=4,
        batch_count=2,
    )


def hostile() -> Report:
    """Return a rollout in which every text is markup, and longer than a phone is wide."""
    name = MARKUP + "x" * 300
    vms = (
        failed(name, 1, 0.0, MARKUP, MARKUP + "\n\0\x1b[2J\u202e" + "y" * 500),
        VmReport(f"{name}2", LEFT_ALONE, reason=MARKUP),
    )
    return Report(
        title=MARKUP,
        outcome=STOPPED,
        began=MARKUP,
        seconds=20.0,
        vms=vms,
        versions=(Version(4, MARKUP, MARKUP, MARKUP, (name,), (name,)),),
        playbook=MARKUP,
        vm_pool=MARKUP,
        template=MARKUP,
        target=4,
        batch_count=2,
        lost=MARKUP,
        lost_console=MARKUP + "\n\x1b[2J",
    )
