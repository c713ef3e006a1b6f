"""Decide which pools of EC2 (instance type, subnet, market) are not asked for a while: those without capacity, or that took back.

A breaker only steers: where every pool of a request is open, all of them are asked as if none were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar, Protocol, TypeVar

import msgspec

from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Clock, Journal
from orchestrator.retry_policy import (
    LEARN_TRIES,
    POOL_FIRST_S,
    POOL_FORGOTTEN_S,
    POOL_LONGEST_S,
    POOL_RECLAIMED_S,
    POOL_RECLAIMS,
    POOL_RECLAIMS_WITHIN_S,
)
from orchestrator.store.kinds import Kind, Record, changed
from orchestrator.store.tables import SESSIONS

R = TypeVar("R", bound=Record)
MOST = 2000
"""Pools remembered; the record stays far below 400 KB."""


class PoolFault(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong with one pool lately. Times are epoch seconds."""

    refusals: int = 0
    """In a row, for want of capacity."""
    refused_until: float = 0.0
    reclaims: tuple[float, ...] = ()
    """When EC2 took machines of it back, lately."""
    reclaimed_until: float = 0.0


class Circuits(Record, frozen=True, kw_only=True):
    """The circuit breakers of the stack, by pool (`type/subnet/market`)."""

    KIND: ClassVar[Kind[Circuits]] = Kind(table=SESSIONS, row="circuits", key=lambda it: it.name)
    name: str = "circuits"
    faults: dict[str, PoolFault] = {}


def pool_name(instance_type: str, subnet: str, market: str) -> str:
    """The name of a pool in records; empty where EC2 did not say which it was."""
    return f"{instance_type}/{subnet}/{market}" if instance_type and subnet else ""


def type_of(pool: str) -> str:
    """The instance type of a pool; empty where EC2 did not say which it was."""
    return pool.partition("/")[0]


def after_an_answer(circuits: Circuits, refused: Iterable[str], given: Iterable[str], now: float) -> Circuits:
    """The breakers after EC2 named pools without capacity, and pools that gave. The same object if nothing is new."""
    faults = dict(circuits.faults)
    for pool in filter(None, dict.fromkeys(refused)):
        known = faults.get(pool, PoolFault())
        if known.refused_until > now:
            continue  # asked all the same, as everything else was open: no news
        row = known.refusals + 1 if known.refused_until + POOL_FORGOTTEN_S > now else 1
        until = now + min(POOL_LONGEST_S, POOL_FIRST_S * 2.0 ** min(row - 1, 10))
        faults[pool] = changed(known, refusals=row, refused_until=until)
    for pool in dict.fromkeys(given):
        if pool in faults and faults[pool].refusals:
            faults[pool] = changed(faults[pool], refusals=0, refused_until=0.0)
    return _kept(circuits, faults, now)


def after_a_reclaim(circuits: Circuits, pool: str, now: float) -> Circuits:
    """The breakers after a machine of this pool was taken back."""
    if not pool:
        return circuits
    known = circuits.faults.get(pool, PoolFault())
    taken = (*(at for at in known.reclaims if at > now - POOL_RECLAIMS_WITHIN_S), now)[-POOL_RECLAIMS:]
    until = now + POOL_RECLAIMED_S if len(taken) >= POOL_RECLAIMS else known.reclaimed_until
    return _kept(circuits, {**circuits.faults, pool: changed(known, reclaims=taken, reclaimed_until=until)}, now)


def open_pools(circuits: Circuits, now: float) -> frozenset[str]:
    """The pools that are better not asked now."""
    return frozenset(pool for pool, fault in circuits.faults.items() if max(fault.refused_until, fault.reclaimed_until) > now)


class RecordStore(Protocol):
    """Where the breakers are kept."""

    def read(self, kind: type[R], key: str) -> R | None:
        """A record, None: there is none. Raises: ServiceFailed."""

    def put(self, record: R) -> R:
        """Write a record. Raises: Conflict, ServiceFailed."""


class Breakers:
    """The breakers in their record; several processes may learn at once."""

    def __init__(self, store: RecordStore, clock: Clock, journal: Journal) -> None:
        self._store, self._clock, self._journal = store, clock, journal

    def open(self) -> frozenset[str]:
        """The pools that are better not asked now. Raises: ServiceFailed."""
        return open_pools(self._read(), self._clock.now())

    def answered(self, refused: Iterable[str], given: Iterable[str]) -> None:
        """EC2 named pools without capacity, and pools that gave."""
        now, refused, given = self._clock.now(), list(refused), list(given)
        self._learn(lambda known: after_an_answer(known, refused, given, now))

    def reclaimed(self, pool: str) -> None:
        """A machine of this pool was taken back."""
        now = self._clock.now()
        self._learn(lambda known: after_a_reclaim(known, pool, now))

    def _learn(self, change: Callable[[Circuits], Circuits]) -> None:
        """What cannot be written now costs a call later, and no instance."""
        for _ in range(LEARN_TRIES):
            try:
                known = self._read()
                wiser = change(known)
                if wiser is not known:
                    self._store.put(wiser)
                    self._journal.event("circuits.changed", open=len(open_pools(wiser, self._clock.now())))
                return
            except Conflict:
                continue
            except ServiceFailed as error:
                self._journal.event("circuits.save_failed", error=str(error))
                return

    def _read(self) -> Circuits:
        return self._store.read(Circuits, Circuits().name) or Circuits()


def _kept(circuits: Circuits, faults: dict[str, PoolFault], now: float) -> Circuits:
    """Without what is long over; the newest, if there are too many."""
    alive = {pool: fault for pool, fault in faults.items() if _ends(fault) + POOL_FORGOTTEN_S > now}
    newest = dict(sorted(alive.items(), key=lambda one: (_ends(one[1]), one[0]))[-MOST:])
    return circuits if newest == circuits.faults else changed(circuits, faults=newest)


def _ends(fault: PoolFault) -> float:
    return max(fault.refused_until, fault.reclaimed_until, *(at + POOL_RECLAIMS_WITHIN_S for at in fault.reclaims), 0.0)
