"""Decide how many machines may still be launched: by the pace, by number, by vCPUs, by money; of the stack, of each repository,
of each label set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.cards import Board, coming
from orchestrator.catalogue import Kind
from orchestrator.model import Launch, Pace, Stack, changed
from orchestrator.services import Allowance, Body
from orchestrator.settings import Caps, ServerSettings
from orchestrator.states import LaunchState

SEEN_S = 30.0
"""How long a launch is added to EC2's own count: until EC2 surely shows its machines."""
ROUNDING = 1e-6
MINUTE_S = 60.0
UNBOUNDED = 1 << 30
OF_SET = "its label set"


@dataclass(frozen=True)
class Each:
    """What one machine of a kind may cost at most: we do not know yet which type EC2 gives."""

    cpus: int
    usd: float
    """An hour, on demand."""


@dataclass(frozen=True)
class Room:
    """How many more may be launched now, and what keeps it from being more."""

    machines: int
    why: str
    whose: str = ""
    """Whose limit it is: `owner/repo`, `OF_SET`; empty: the stack's."""


def each_of(kinds: Iterable[Kind]) -> Each:
    """The dearest of those that serve an ask."""
    found = tuple(kinds)
    return Each(max((kind.cpus for kind in found), default=0), max((kind.usd for kind in found), default=0.0))


def counted(stack: Stack, bodies: Iterable[Body], open_launches: Board, kinds: Mapping[str, Kind], now: float) -> Stack:
    """With what there is by EC2's own word, and what it may still have to give: all that was launched lately, and older launches
    that have no answer yet.
    """
    there = [kinds.get(body.kind) for body in bodies]
    dearest = max((kind.usd / kind.cpus for kind in kinds.values()), default=0.0)
    unseen = [one for one in stack.lately if one[0] > now - SEEN_S]
    unseen += [
        (card.since, float(len(card.sessions)), float(card.cpus * len(card.sessions)), card.usd * len(card.sessions))
        for card in open_launches.cards
        if card.state == LaunchState.INTENDED and card.since <= now - SEEN_S
    ]
    cpus = sum(kind.cpus for kind in there if kind is not None) + sum(one[2] for one in unseen)
    usd = sum(kind.usd or dearest * kind.cpus for kind in there if kind is not None) + sum(one[3] for one in unseen)
    lately = tuple(one for one in stack.lately if one[0] > now - MINUTE_S)
    alive = len(there) + int(sum(one[1] for one in unseen))
    return changed(stack, alive=alive, cpus=cpus, usd=usd, counted_at=now, lately=lately)


def launched(stack: Stack, number: int, each: Each) -> Stack:
    """After so many more were committed."""
    cpus, usd = float(number * each.cpus), number * each.usd
    spent = {"tokens": stack.tokens - number, "ec2": stack.ec2 - number}
    lately = _lately(stack, (stack.at, float(number), cpus, usd))
    return changed(stack, **spent, alive=stack.alive + number, cpus=stack.cpus + cpus, usd=stack.usd + usd, lately=lately)


def given_back(stack: Stack, number: int, launch: Launch) -> Stack:
    """After EC2 gave nothing for so many of a launch: others may have what was kept for them."""
    cpus, usd = float(number * launch.cpus), number * launch.usd
    unspent = {"tokens": stack.tokens + number, "ec2": stack.ec2 + number, "alive": max(0, stack.alive - number)}
    known = any(int(one[0]) == int(launch.created_at) for one in stack.lately)
    lately = _lately(stack, (launch.created_at, -float(number), -cpus, -usd)) if known else stack.lately
    return changed(stack, **unspent, cpus=max(0.0, stack.cpus - cpus), usd=max(0.0, stack.usd - usd), lately=lately)


def came_late(stack: Stack, number: int, launch: Launch, now: float) -> Stack:
    """After EC2 answered long after it was asked: it may not show these machines yet, and they want their registration now."""
    return changed(stack, lately=_lately(stack, (now, float(number), float(number * launch.cpus), number * launch.usd)))


def _lately(stack: Stack, one: tuple[float, float, float, float]) -> tuple[tuple[float, float, float, float], ...]:
    """What was launched within a minute, second by second, with this."""
    seconds = {int(at): (at, number, cpus, usd) for at, number, cpus, usd in stack.lately if at > stack.at - MINUTE_S}
    at, number, cpus, usd = seconds.get(int(one[0]), (one[0], 0.0, 0.0, 0.0))
    seconds[int(at)] = (at, number + one[1], cpus + one[2], usd + one[3])
    return tuple(seconds[second] for second in sorted(seconds))


def shares(wanted: Sequence[Sequence[float]], room: int) -> tuple[int, ...]:
    """How many of so many machines each gets that wants some, oldest first; `wanted`: since when each of its jobs waits."""
    line = sorted((since, at) for at, jobs in enumerate(wanted) for since in jobs)[: max(0, room)]
    return tuple(sum(at == mine for _, mine in line) for at in range(len(wanted)))


def lately(stack: Stack) -> int:
    """Machines launched so lately that they may still have to get their registration."""
    return int(sum(one[1] for one in stack.lately if one[0] > stack.at - SEEN_S))


def after_a_pause(stack: Stack, settings: ServerSettings, now: float) -> Stack:
    """The stack with the launches that its pace and EC2's bucket allow by now."""
    tokens = _filled(stack.tokens, stack.at, now, settings.launches_per_minute / 60.0, settings.launches_per_minute)
    ec2 = _filled(stack.ec2, stack.at, now, settings.ec2_per_second, settings.ec2_at_once)
    return changed(stack, tokens=tokens, ec2=ec2, at=now)


def paced(pace: Pace, limits: Caps, now: float) -> Pace:
    """The pace of a repository or label set with what it allows by now."""
    most = limits.launches_per_minute
    return changed(pace, tokens=_filled(pace.tokens, pace.at, now, most / 60.0, most), at=now)


def room(stack: Stack, settings: ServerSettings, each: Each) -> Room:
    """Of the whole stack, for machines of this kind; `stack` as counted just now."""
    own = Caps(cpus=settings.max_cpus, usd_per_hour=settings.max_usd_per_hour)
    rooms = [
        Room(int(stack.tokens), "the pace of launches"),
        Room(int(settings.launches_per_minute) - _within_a_minute(stack), "the pace of launches"),
        Room(int(stack.ec2), f"EC2's own pace, {settings.ec2_per_second:g} instances a second"),
        *_rooms(own, each, stack.alive, stack.cpus, stack.usd, "are allowed"),
        Room(settings.max_sessions - stack.alive, f"the {settings.max_sessions} machines that are allowed"),
    ]
    return _least(rooms)


def room_of(board: Board, limits: Caps, each: Each, whose: str) -> Room:
    """Of one repository or label set, whose open sessions and launches lie on `board`; its pace is not asked here."""
    arriving = coming(board)
    mine = [card for card in board.cards if card.kind == "session"]
    mine += [card for card in board.cards if card.kind == "launch" for one in card.sessions if one in arriving]
    cpus, usd = float(sum(card.cpus for card in mine)), sum(card.usd for card in mine)
    return replace(_least([Room(UNBOUNDED, ""), *_rooms(limits, each, len(mine), cpus, usd, f"{whose} may have")]), whose=whose)


def room_in_pace(pace: Pace, whose: str) -> Room:
    """As filled just now."""
    return Room(max(0, int(pace.tokens)), f"the pace of launches that {whose} may have", whose)


def emptied(stack: Stack) -> Stack:
    """The stack as if no machine ran."""
    return changed(stack, alive=0, cpus=0.0, usd=0.0)


def registrations(allowed: Allowance, spoken_for: int) -> Room:
    """By GitHub's own count."""
    return Room(UNBOUNDED if allowed.left is None else max(0, allowed.left - spoken_for), allowed.why)


def _within_a_minute(stack: Stack) -> int:
    """Launched in the last one: GitHub counts registrations so, and a bucket that was full would allow twice as many."""
    return int(sum(one[1] for one in stack.lately if one[0] > stack.at - MINUTE_S))


def _rooms(limits: Caps, each: Each, there: int, cpus: float, usd: float, may: str) -> list[Room]:
    """One for each limit that there is."""
    found = []
    if limits.sessions:
        found.append(Room(limits.sessions - there, f"the {limits.sessions} machines that {may}"))
    if limits.cpus:
        left = int((limits.cpus - cpus) // max(1, each.cpus))
        found.append(Room(left, f"the {limits.cpus} vCPUs that {may}, of which {cpus:.0f} are in use"))
    if limits.usd_per_hour and not each.usd:
        found.append(Room(0, f"prices that are not known yet: {limits.usd_per_hour:g} USD an hour {may}"))
    elif limits.usd_per_hour:
        left = int((limits.usd_per_hour - usd) / each.usd + ROUNDING)
        found.append(Room(left, f"the {limits.usd_per_hour:g} USD an hour that {may}, of which {usd:.2f} are spent"))
    return found


def _least(rooms: list[Room]) -> Room:
    least = min(rooms, key=lambda one: one.machines)
    return replace(least, machines=max(0, least.machines))


def _filled(tokens: float, at: float, now: float, per_second: float, most: float) -> float:
    """A bucket that was so full at that time; one that nobody has used yet is full. It holds one at least: it comes some time."""
    most = max(1.0, most)
    return min(most, tokens + max(0.0, now - at) * per_second) if at else most
