"""Decide how many machines may still be launched: by the pace, by number, by vCPUs, by money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.catalogue import Kind
from orchestrator.model import Board, Stack, changed, coming
from orchestrator.ports import Body
from orchestrator.settings import ServerSettings

SEEN_S = 30.0
"""How long a launch is added to EC2's own count: until EC2 surely shows its machines."""
ROUNDING = 1e-6
KEPT = 200
"""Launches remembered for that."""


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


def each_of(kinds: Iterable[Kind]) -> Each:
    """The dearest of those that serve an ask."""
    found = tuple(kinds)
    return Each(max((kind.cpus for kind in found), default=0), max((kind.usd for kind in found), default=0.0))


def counted(stack: Stack, bodies: Iterable[Body], kinds: Mapping[str, Kind], now: float) -> Stack:
    """With what there is by EC2's own word; launches that it may not show yet are added."""
    there = [kinds.get(body.kind) for body in bodies]
    lately = tuple(one for one in stack.lately if one[0] > now - SEEN_S)
    cpus = sum(kind.cpus for kind in there if kind is not None) + sum(one[2] for one in lately)
    usd = sum(kind.usd for kind in there if kind is not None) + sum(one[3] for one in lately)
    return changed(
        stack, alive=len(there) + int(sum(one[1] for one in lately)), cpus=cpus, usd=usd, counted_at=now, lately=lately
    )


def launched(stack: Stack, number: int, each: Each) -> Stack:
    """After so many more were committed."""
    cpus, usd = float(number * each.cpus), number * each.usd
    lately = (*stack.lately, (stack.at, float(number), cpus, usd))[-KEPT:]
    tokens, alive = stack.tokens - number, stack.alive + number
    return changed(stack, tokens=tokens, alive=alive, cpus=stack.cpus + cpus, usd=stack.usd + usd, lately=lately)


def lately(stack: Stack) -> int:
    """Machines launched so lately that they may still have to get their registration."""
    return int(sum(one[1] for one in stack.lately if one[0] > stack.at - SEEN_S))


def room(stack: Stack, settings: ServerSettings, each: Each) -> Room:
    """Of the whole stack, for machines of this kind; `stack` as counted just now."""
    rooms = [
        Room(int(stack.tokens), "the pace of launches"),
        Room(settings.max_sessions - stack.alive, f"the {settings.max_sessions} machines that are allowed"),
    ]
    if settings.max_cpus:
        left = int((settings.max_cpus - stack.cpus) // max(1, each.cpus))
        rooms.append(Room(left, f"the {settings.max_cpus} vCPUs that are allowed, of which {stack.cpus:.0f} are in use"))
    if settings.max_usd_per_hour:
        left = int((settings.max_usd_per_hour - stack.usd) / each.usd + ROUNDING) if each.usd else settings.max_sessions
        rooms.append(
            Room(left, f"the {settings.max_usd_per_hour:g} USD an hour that are allowed, of which {stack.usd:.2f} are spent")
        )
    least = min(rooms, key=lambda one: one.machines)
    return Room(max(0, least.machines), least.why)


def room_of_repository(board: Board, settings: ServerSettings, name: str) -> Room:
    """Of one repository, whose open sessions and launches lie on `board`."""
    most = settings.max_sessions_per_repository
    there = sum(card.kind == "session" for card in board.cards) + len(coming(board))
    return Room(max(0, most - there), f"the {most} machines that {name} may have")
