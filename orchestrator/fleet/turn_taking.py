"""Decide whose turn it is: repositories take turns, and within each the work that has waited longest comes first.

So no repository keeps another one waiting by the number of its jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")


def in_turn(items: Iterable[Item], owner: Callable[[Item], str], age: Callable[[Item], Any]) -> list[Item]:
    """The items in the order in which they are served. `age`: what sorts them, longest waiting first."""
    taken = Counter[str]()
    ranked = []
    for item in sorted(items, key=age):
        ranked.append((taken[owner(item)], age(item), item))
        taken[owner(item)] += 1
    return [item for _, _, item in sorted(ranked, key=lambda one: one[:2])]


def shares(wanted: Sequence[Sequence[float]], machines: int, owners: Sequence[str]) -> tuple[int, ...]:
    """How many of so many machines each gets that wants some.

    `wanted`: since when each piece of its work waits; `owners`: its repository.
    """
    pieces = [(since, at) for at, waiting in enumerate(wanted) for since in waiting]
    line = in_turn(pieces, lambda piece: owners[piece[1]], lambda piece: piece)[: max(0, machines)]
    return tuple(sum(at == mine for _, mine in line) for at in range(len(wanted)))
