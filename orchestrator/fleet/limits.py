"""Decide how many machines may still be launched: of the stack, of each repository, of each label set.

Each limit leaves a headroom (so many machines, and why not more); the smallest decides. "A new limit" is one more headroom in
`stack_headroom` or `scope_headrooms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import Compute, ComputeInstance, StartRate
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.setting_values import Limits
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import OpenItem, changed
from orchestrator.store.launch import Launch
from orchestrator.store.model import LabelSetView, RecentLaunch, Stack, TokenBucket, arriving
from orchestrator.store.resources import NOTHING, Resources, total
from orchestrator.store.states import LaunchState

REPORT_S = 300.0
"""Seconds between the end of the runtime and a machine that is gone: grace, log shipping, final message, termination."""
AT_ONCE = 100
"""Sessions of one launch: a call that is answered within seconds, and few enough to lose with one."""
ITEMS_AT_ONCE = 95
"""Items a launch may write at once; it bounds how many label sets share one. Source: 100 items a transaction, DynamoDB quotas."""
SEEN_S = 30.0
"""Seconds for which a launch is added to a strategy's own count: until it surely lists its machines."""
ROUNDING = 1e-6
MINUTE_S = 60.0
UNBOUNDED = 1 << 30
OF_SET = "its label set"


@dataclass(frozen=True)
class Headroom:
    """How many more machines may be launched now, and what keeps it from being more."""

    machines: int
    why: str
    whose: str = ""
    """Whose limit it is: `owner/repo`, `OF_SET`; empty: the stack's."""


def own_limits(settings: ServerSettings) -> Limits:
    """The limits of the whole stack that are counted like those of a repository."""
    return Limits(vcpus=settings.max_cpus, usd_per_hour=settings.max_usd_per_hour)


def start_rates(strategies: Strategies) -> dict[str, StartRate]:
    """The start rates of the strategies that have one, by name."""
    return {one.name: one.traits.start_rate for one in strategies if one.traits.start_rate is not None}


def boot_s(settings: ServerSettings) -> float:
    """Seconds between the launch of a machine, or its configuration, and a word of its agent."""
    return 60.0 * settings.boot_timeout_minutes


def lifetime_s(settings: ServerSettings) -> float:
    """Seconds after which a machine is terminated from outside."""
    return boot_s(settings) + 60.0 * settings.max_runtime_minutes + REPORT_S


def counted(stack: Stack, instances: Iterable[ComputeInstance], open_launches: Iterable[OpenItem], now: float) -> Stack:
    """The stack with what there is by its strategies' own word, and what they may still have to give.

    That is all that was launched lately, and older launches that have no answer yet.
    """
    there = [one.resources or Resources(1) for one in instances]
    unseen = [one.resources for one in stack.lately if one.at > now - SEEN_S]
    unseen += [
        item.each * len(item.sessions)
        for item in open_launches
        if item.state == LaunchState.INTENDED and item.since <= now - SEEN_S
    ]
    lately = tuple(one for one in stack.lately if one.at > now - MINUTE_S)
    return changed(stack, in_use=total([*there, *unseen]), counted_at=now, lately=lately)


def launched(stack: Stack, number: int, each: Resources, strategy: str) -> Stack:
    """The stack after so many more machines were committed for a strategy."""
    more = each * number
    return changed(
        stack, tokens=stack.tokens - number, strategy_tokens=_spent(stack, strategy, number), in_use=stack.in_use + more,
        lately=_lately(stack, stack.at, more),
    )  # fmt: skip


def given_back(stack: Stack, number: int, launch: Launch) -> Stack:
    """The stack after a strategy gave nothing for so many of a launch: others may have what was kept for them."""
    less = launch.each * number
    known = any(int(one.at) == int(launch.created_at) for one in stack.lately)
    return changed(
        stack, tokens=stack.tokens + number, strategy_tokens=_spent(stack, launch.strategy, -number),
        in_use=(stack.in_use - less).floored(),
        lately=_lately(stack, launch.created_at, less * -1) if known else stack.lately,
    )  # fmt: skip


def came_late(stack: Stack, number: int, launch: Launch, now: float) -> Stack:
    """The stack after an answer that came long after the call: these machines may not be listed yet, and want registrations."""
    return changed(stack, lately=_lately(stack, now, launch.each * number))


def lately(stack: Stack) -> int:
    """Machines launched so lately that they may still have to get their registration."""
    return sum(one.resources.machines for one in stack.lately if one.at > stack.at - SEEN_S)


def refilled(stack: Stack, settings: ServerSettings, rates: dict[str, StartRate], now: float) -> Stack:
    """The stack with the launches that its pace and each strategy's start rate (by name) allow by now."""
    tokens = _filled(stack.tokens, stack.at, now, settings.launches_per_minute / 60.0, settings.launches_per_minute)
    of_strategy = {
        name: _filled(stack.strategy_tokens[name], stack.at, now, rate.per_second, rate.burst)
        if name in stack.strategy_tokens
        else max(1.0, rate.burst)
        for name, rate in rates.items()
    }
    return changed(stack, tokens=tokens, strategy_tokens=of_strategy, at=now)


def bucket_refilled(bucket: TokenBucket, limits: Limits, now: float) -> TokenBucket:
    """The bucket of a repository or label set with what it allows by now."""
    most = limits.launches_per_minute
    return changed(bucket, tokens=_filled(bucket.tokens, bucket.at, now, most / 60.0, most), at=now)


def stack_headroom(stack: Stack, settings: ServerSettings, own: Limits, each: Resources, strategy: Compute) -> Headroom:
    """Of the whole stack, for machines of this kind; `stack` as counted and refilled just now, `own`: its limits."""
    rate, most = strategy.traits.start_rate, settings.max_sessions
    launches = min(int(stack.tokens), int(settings.launches_per_minute) - _within_a_minute(stack))
    found = [
        Headroom(launches, "the launch rate, RUNS_FLEET_LAUNCHES_PER_MINUTE"),
        *([Headroom(int(stack.strategy_tokens.get(strategy.name, rate.burst)), rate.words)] if rate is not None else []),
        *scope_headrooms(own, each, stack.in_use, "are allowed"),
        Headroom(most - stack.in_use.machines, f"one of the {most} machines that RUNS_FLEET_MAX_SESSIONS allows"),
    ]
    return least(found)


def view_headroom(view: LabelSetView, limits: Limits, each: Resources, whose: str) -> Headroom:
    """Of one repository or label set, whose open sessions and launches lie in `view`; its pace is not asked here."""
    coming = arriving(view)
    mine = [replace_machines(item.each) for item in view.items if item.kind == "session"]
    mine += [
        replace_machines(item.each) for item in view.items if item.kind == "launch" for one in item.sessions if one in coming
    ]
    found = least([Headroom(UNBOUNDED, ""), *scope_headrooms(limits, each, total(mine), f"{whose} may have")])
    return replace(found, whose=whose)


def scope_headrooms(limits: Limits, each: Resources, in_use: Resources, may: str) -> list[Headroom]:
    """The headroom of each limit that is set."""
    found = []
    if limits.sessions:
        found.append(Headroom(limits.sessions - in_use.machines, f"one of the {limits.sessions} machines that {may}"))
    if limits.vcpus:
        left = int((limits.vcpus - in_use.vcpus) // max(1.0, each.vcpus))
        found.append(Headroom(left, f"the {limits.vcpus} vCPUs that {may}, of which {in_use.vcpus:.0f} are in use"))
    if limits.usd_per_hour and not each.usd_per_hour:
        found.append(Headroom(0, f"prices that are not known yet: {limits.usd_per_hour:g} USD an hour {may}"))
    elif limits.usd_per_hour:
        left = int((limits.usd_per_hour - in_use.usd_per_hour) / each.usd_per_hour + ROUNDING)
        spent = f"of which {in_use.usd_per_hour:.2f} are spent"
        found.append(Headroom(left, f"the {limits.usd_per_hour:g} USD an hour that {may}, {spent}"))
    return found


def bucket_headroom(bucket: TokenBucket, whose: str) -> Headroom:
    """Of a token bucket as refilled just now."""
    return Headroom(max(0, int(bucket.tokens)), f"the launch rate that {whose} may have", whose)


def registration_headroom(quota: RegistrationQuota, spoken_for: int, whose: str) -> Headroom:
    """By the source's own count of registrations, less those that others will need."""
    left = UNBOUNDED if quota.left is None else max(0, quota.left - spoken_for)
    return Headroom(left, quota.why, whose)


def emptied(stack: Stack) -> Stack:
    """The stack as if no machine ran."""
    return changed(stack, in_use=NOTHING)


def least(found: Sequence[Headroom]) -> Headroom:
    """The smallest headroom, never below zero."""
    smallest = min(found, key=lambda one: one.machines)
    return replace(smallest, machines=max(0, smallest.machines))


def replace_machines(each: Resources) -> Resources:
    """The same for exactly one machine: an item written before its strategy said anything counts as one, too."""
    return Resources(1, each.vcpus, each.usd_per_hour)


def _spent(stack: Stack, strategy: str, number: int) -> dict[str, float]:
    tokens = stack.strategy_tokens
    return {**tokens, strategy: tokens[strategy] - number} if strategy in tokens else tokens


def _lately(stack: Stack, at: float, resources: Resources) -> tuple[RecentLaunch, ...]:
    """What was launched within a minute, second by second, with this."""
    seconds = {int(one.at): one for one in stack.lately if one.at > stack.at - MINUTE_S}
    known = seconds.get(int(at), RecentLaunch(at=at, resources=NOTHING))
    seconds[int(at)] = RecentLaunch(at=known.at, resources=known.resources + resources)
    return tuple(seconds[second] for second in sorted(seconds))


def _within_a_minute(stack: Stack) -> int:
    """Launched in the last one: registrations are counted so, and a bucket that was full would allow twice as many."""
    return sum(one.resources.machines for one in stack.lately if one.at > stack.at - MINUTE_S)


def _filled(tokens: float, at: float, now: float, per_second: float, most: float) -> float:
    """A bucket that was so full at that time; one that nobody has used yet is full. It holds one at least."""
    most = max(1.0, most)
    return min(most, tokens + max(0.0, now - at) * per_second) if at else most
