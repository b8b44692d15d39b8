"""The plan of a rollout, made before anything is touched: which VMs go where, in which batches, and which do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import GoldenError, InvalidError, NotFoundError, RefusedError
from ..hypervisor import RUNNING, SHUT_OFF, Domain, Hypervisor
from ..libvirt_xml import domain_xml
from ..names import natural
from ..template.catalog import Template, check_usable, read_template
from ..template.manifest import Manifest
from ..vm.record import CREATE, Record
from ..vm.root import LEAST_SPACE
from ..vm_pool.vm_pool_members import is_member_name
from .rollout_strategy import FORCE, NAME, SKIP, UNHEALTHY_FIRST, WAIT, Amount, Strategy

MOVE, LATER, LEFT_ALONE, UP_TO_DATE = "move", "later", "left_alone", "up_to_date"
"""What is going to happen to a VM in this run."""


@dataclass(frozen=True)
class Host:
    """A VM as the caller knows it: ``name`` is what the caller calls it."""

    name: str
    vm: str
    uri: str


@dataclass(frozen=True)
class Found:
    """A VM as it was found. ``problem`` is why it cannot be moved, ``unhealthy`` what is wrong with it now."""

    host: Host
    state: str = ""
    record: Record | None = None
    problem: str = ""
    unhealthy: str = ""

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.state == RUNNING

    @property
    def known(self) -> Record:
        """Its record; only to be asked for where there is one."""
        if self.record is None:
            raise ValueError(f"VM {self.host.vm} has no record")
        return self.record


@dataclass(frozen=True)
class Space:
    """What a storage pool has for the new roots, in bytes."""

    uri: str
    storage_pool: str
    needed: int
    available: int


@dataclass(frozen=True)
class Turn:
    """What is going to happen to one VM, and why not now; ``batch`` counts from 1, 0 is none."""

    found: Found
    action: str
    reason: str = ""
    to_version: int | None = None
    batch: int = 0
    canary: bool = False


@dataclass(frozen=True)
class RolloutPlan:
    """The plan. ``failures_allowed`` is how many VMs may fail in this run before it stops, ``versions`` are all
    that the template has."""

    strategy: Strategy
    template: str
    version: int | None
    version_name: str
    turns: tuple[Turn, ...]
    sizes: tuple[int, ...]
    failures_allowed: int
    checkpoint: int | None
    spaces: tuple[Space, ...]
    versions: tuple[Manifest, ...]

    def with_action(self, *actions: str) -> list[Turn]:
        """Return the turns of these actions."""
        return [turn for turn in self.turns if turn.action in actions]


def plan_rollout(hypervisors: Mapping[str, Hypervisor], hosts: list[Host] | None, strategy: Strategy) -> RolloutPlan:
    """Return the plan for the members of a VM pool on these hypervisors; ``hosts`` limits it to those VMs."""
    found = [vm for uri, hv in hypervisors.items() for vm in _look(hv, uri, hosts, strategy)]
    members = [vm for vm in found if vm.record is not None]
    if not members:
        among = " among the hosts given" if hosts is not None else ""
        raise NotFoundError(f"there is no VM of pool {strategy.vm_pool!r} on {', '.join(hypervisors)}{among}")
    templates = _Templates(hypervisors)
    version = None if strategy.back else _pinned(templates, members, strategy)
    number = _version_to_leave(members, strategy) if version is None else version.version
    turns = [_turn(hypervisors[vm.host.uri], vm, number, strategy) for vm in found]
    turns = _with_canaries(sorted(turns, key=lambda turn: _place(turn, strategy)), strategy)
    turns, checkpoint = _until_checkpoint(turns, strategy)
    turns, sizes = _batched(turns, strategy)
    return RolloutPlan(
        strategy=strategy,
        template=members[0].known.root.template,
        version=number,
        version_name="" if version is None else version.version_name,
        turns=tuple(turns),
        sizes=sizes,
        failures_allowed=_failures_allowed(members, strategy),
        checkpoint=checkpoint,
        spaces=() if strategy.back else _spaces(hypervisors, turns),
        versions=_family(templates, members[0]),
    )


# --- looking ---------------------------------------------------------------------------------------------------------


def _look(hv: Hypervisor, uri: str, hosts: list[Host] | None, strategy: Strategy) -> list[Found]:
    """Return the VMs of the pool on one hypervisor, and those of the hosts given that are none."""
    wanted = None if hosts is None else {host.vm: host for host in hosts if host.uri == uri}
    managed, damaged = domain_xml.managed_of(hv.domains())
    found = {}
    for domain, record in managed:
        host = Host(domain.name, domain.name, uri) if wanted is None else wanted.get(domain.name)
        if host is not None and record.vm_pool is not None and record.vm_pool.name == strategy.vm_pool:
            live = hv.live_xml(domain.name) if domain.state == RUNNING and strategy.ask_agent else None
            found[domain.name] = Found(
                host, domain.state, record, _unfit(domain, record), _unhealthy(domain, record, live)
            )
    for name, problem in damaged.items():
        host = Host(name, name, uri) if wanted is None else wanted.get(name)
        if host is not None and (wanted is not None or is_member_name(strategy.vm_pool, name)):
            found[name] = Found(host, problem=problem)
    missing = [host for name, host in (wanted or {}).items() if name not in found]
    return [*found.values(), *(Found(host, problem=f"no VM of pool {strategy.vm_pool} any more") for host in missing)]


def _unfit(domain: Domain, record: Record) -> str:
    """Return why nobody can restore the VM now, or nothing."""
    if record.going:
        return "it is being removed"
    if record.pending is not None and record.pending.job == CREATE:
        return "it is not complete; run the task that makes it again"
    if record.detached_disk:
        return "its root is detached"
    if not domain.persistent:
        return "it is transient"
    if domain.managed_save and not record.stateless:
        return "it has a managed save image"
    return ""


def _unhealthy(domain: Domain, record: Record, live: str | None) -> str:
    """Return what is wrong with the VM before the rollout, or nothing."""
    if record.set_aside:
        return "set aside, as it did not come up"
    if record.pending is not None:
        return f"a {record.pending.job} of it is not finished"
    if domain.state not in (RUNNING, SHUT_OFF):
        return domain.state
    if live is not None and domain_xml.agent_state(live) == "disconnected":
        return "its guest agent does not answer"
    return ""


class _Templates:
    """The templates of VMs, each read once."""

    def __init__(self, hypervisors: Mapping[str, Hypervisor]) -> None:
        self._hypervisors = hypervisors
        self._read: dict[tuple[str, str, str], Template] = {}

    def of(self, vm: Found) -> Template:
        """Return the template of a VM, from where the VM has it."""
        root = vm.known.root
        key = (vm.host.uri, root.template_storage_pool, root.template)
        if key not in self._read:
            self._read[key] = read_template(self._hypervisors[vm.host.uri], *key[1:])
        return self._read[key]


def _pinned(templates: _Templates, members: list[Found], strategy: Strategy) -> Manifest:
    """Return the one version that is meant, on all hypervisors: what is published from now on changes nothing."""
    asked = {}
    for vm in members:
        template, selector = templates.of(vm), strategy.template_version or vm.known.follows
        asked[vm.host.uri, template.storage_pool, template.name, selector] = template
    versions = [check_usable(template.select(key[-1])) for key, template in asked.items()]
    numbers = sorted({version.version for version in versions})
    if len(numbers) > 1:
        raise RefusedError(
            f"the VMs of pool {strategy.vm_pool!r} are to be on different versions ({', '.join(map(str, numbers))}): "
            "name one version (template_version)"
        )
    return versions[0]


def _family(templates: _Templates, vm: Found) -> tuple[Manifest, ...]:
    """Return all versions of the template of a VM. They are only told, so the way back does not need them."""
    try:
        return tuple(templates.of(vm).ready)
    except GoldenError:
        return ()


def _version_to_leave(members: list[Found], strategy: Strategy) -> int | None:
    """Return the version that the VMs go back from: the highest that one with a previous root is on."""
    if strategy.template_version:
        if not (strategy.template_version.isdecimal() and len(strategy.template_version) < 10):
            raise InvalidError(
                f"template_version: {strategy.template_version!r} is no number; to go back, give the number of the "
                "version to leave"
            )
        return int(strategy.template_version)
    return max((vm.known.root.version for vm in members if vm.known.previous is not None), default=None)


# --- deciding --------------------------------------------------------------------------------------------------------


def _turn(hv: Hypervisor, found: Found, version: int | None, strategy: Strategy) -> Turn:
    """Return what is going to happen to a VM."""
    record = found.record
    if record is None:
        return Turn(found, LEFT_ALONE, found.problem)
    target = (record.previous.version if record.previous else None) if strategy.back else version
    turn = Turn(found, MOVE, to_version=target)
    if strategy.back and record.root.version != version:
        return replace(turn, action=UP_TO_DATE, reason=f"not on version {version}")
    if strategy.back and record.previous is None:
        return replace(turn, action=LEFT_ALONE, reason="it has kept no previous root")
    if not strategy.back and record.root.version == version and record.pending is None:
        return replace(turn, action=UP_TO_DATE, reason=found.unhealthy)
    action, reason = _hindered(hv, found, strategy)
    return replace(turn, action=action, reason=reason)


def _hindered(hv: Hypervisor, found: Found, strategy: Strategy) -> tuple[str, str]:
    """Return whether a VM that is due can be moved now, and why not, or what is remarkable."""
    if found.problem:
        return LEFT_ALONE, found.problem
    lease = found.known.lease
    if lease is not None and strategy.in_use == SKIP:
        return LEFT_ALONE, f"taken by {lease.user} since {lease.since}"
    if strategy.down == SKIP and found.state == SHUT_OFF:
        return LEFT_ALONE, "down"
    snapshots = hv.snapshots(found.host.vm)
    if snapshots:
        return LEFT_ALONE, f"it has snapshots or checkpoints ({', '.join(snapshots)})"
    if lease is not None:
        how = {WAIT: "waited for", FORCE: "moved all the same"}[strategy.in_use]
        return MOVE, f"taken by {lease.user} since {lease.since}, {how}"
    return MOVE, found.unhealthy


def _place(turn: Turn, strategy: Strategy) -> tuple[Any, ...]:
    """Return what the turns are sorted by: free before taken, and what runs first, as it can show a bad version."""
    record = turn.found.record
    name = natural(turn.found.host.name)
    if record is None:
        return True, True, True, 0, name
    healthy_later = strategy.order == UNHEALTHY_FIRST and not turn.found.unhealthy
    version = 0 if strategy.order == NAME else record.root.version
    return record.lease is not None, healthy_later, not turn.found.running, version, name


def _with_canaries(turns: list[Turn], strategy: Strategy) -> list[Turn]:
    """Return the turns with the canaries in front; VMs that are on the version by now have been some."""
    due = [turn for turn in turns if turn.action == MOVE]
    if isinstance(strategy.canary, Amount):
        proven = sum(turn.action == UP_TO_DATE for turn in turns)
        total = sum(turn.found.record is not None for turn in turns)
        wanted = strategy.canary.of(total, least=1) if strategy.canary.number else 0
        canaries = due[: max(0, wanted - proven)]
    else:
        known = {name for turn in turns for name in (turn.found.host.name, turn.found.host.vm)}
        unknown = [name for name in strategy.canary if name not in known]
        if unknown:
            raise InvalidError(
                f"canary: there is no VM {', '.join(unknown)} in VM pool {strategy.vm_pool!r}; give names of its VMs, "
                "a number, or a percentage"
            )
        names = set(strategy.canary)
        canaries = [turn for turn in due if names & {turn.found.host.name, turn.found.host.vm}]
    rest = [turn for turn in turns if turn not in canaries]
    return [*(replace(turn, canary=True) for turn in canaries), *rest]


def _until_checkpoint(turns: list[Turn], strategy: Strategy) -> tuple[list[Turn], int | None]:
    """Put off what lies behind the next checkpoint: a run that begins at one goes on to the one after it."""
    done = sum(turn.action == UP_TO_DATE for turn in turns)
    due = sum(turn.action == MOVE for turn in turns)
    for percent in strategy.checkpoints:
        now = -(-percent * (done + due) // 100) - done
        if 0 < now < due:
            return list(_put_off(turns, now, f"after the checkpoint at {percent} %")), percent
    return turns, None


def _put_off(turns: Iterable[Turn], now: int, reason: str) -> Iterable[Turn]:
    for turn in turns:
        if turn.action == MOVE:
            now -= 1
            if now < 0:
                yield replace(turn, action=LATER, reason=reason)
                continue
        yield turn


def _batched(turns: list[Turn], strategy: Strategy) -> tuple[list[Turn], tuple[int, ...]]:
    """Return the turns with their batches, those that move first, and the sizes of the batches."""
    members = [turn for turn in turns if turn.found.record is not None]
    ill = {turn.found.host for turn in members if turn.found.unhealthy}
    most = None if strategy.max_unavailable is None else strategy.max_unavailable.of(len(members), least=1)
    batches: list[list[Turn]] = []
    for group in _groups([turn for turn in turns if turn.action == MOVE], strategy):
        waiting = group
        while waiting:
            room = _room(waiting, ill, most)
            if not room:
                raise RefusedError(
                    f"max_unavailable: {most} of the VMs of pool {strategy.vm_pool!r} may be down at once, and "
                    f"{len(ill)} are unhealthy before this rollout ({', '.join(sorted(host.vm for host in ill))}); "
                    "mend them, move them first (order: unhealthy_first), or allow more"
                )
            batch, waiting = waiting[:room], waiting[room:]
            batches.append([replace(turn, batch=len(batches) + 1) for turn in batch])
            ill -= {turn.found.host for turn in batch}
    moved = [turn for batch in batches for turn in batch]
    return [*moved, *(turn for turn in turns if turn.action != MOVE)], tuple(len(batch) for batch in batches)


def _groups(due: list[Turn], strategy: Strategy) -> Iterator[list[Turn]]:
    """Yield the batches as they were asked for: the canaries, then by the sizes given, of which the last goes on."""
    canaries = [turn for turn in due if turn.canary]
    if canaries:
        yield canaries
    at, number = len(canaries), 0
    while at < len(due):
        size = strategy.serial[min(number, len(strategy.serial) - 1)].of(len(due), least=1)
        yield due[at : at + size]
        at, number = at + size, number + 1


def _room(waiting: list[Turn], ill: set[Host], most: int | None) -> int:
    """Return how many of the next VMs can be down at once: those that are ill or down already cost nothing."""
    if most is None:
        return len(waiting)
    room, unavailable = 0, len(ill)
    for turn in waiting:
        unavailable += turn.found.running and turn.found.host not in ill
        if unavailable > most:
            break
        room += 1
    return room


def _failures_allowed(members: list[Found], strategy: Strategy) -> int:
    """Return how many VMs may fail; those that are unhealthy now count, where a budget was given."""
    if strategy.max_failures is None:
        return 0
    budget = strategy.max_failures.of(len(members))
    ill = sorted(vm.host.vm for vm in members if vm.unhealthy)
    if len(ill) > budget:
        raise RefusedError(
            f"max_failures: {budget} VMs of pool {strategy.vm_pool!r} may fail, and {len(ill)} are unhealthy before "
            f"this rollout ({', '.join(ill)}); mend them, or allow more"
        )
    return budget - len(ill)


def _spaces(hypervisors: Mapping[str, Hypervisor], turns: list[Turn]) -> tuple[Space, ...]:
    """Return what the storage pools have for the new roots."""
    counted: dict[tuple[str, str], int] = {}
    for turn in turns:
        if turn.action == MOVE:
            key = (turn.found.host.uri, turn.found.known.root.storage_pool)
            counted[key] = counted.get(key, 0) + 1
    return tuple(
        Space(uri, storage_pool, count * LEAST_SPACE, hypervisors[uri].storage_pool(storage_pool).available)
        for (uri, storage_pool), count in sorted(counted.items())
    )
