"""Decide which pools of EC2 (instance type, subnet, market) are not asked for a while: those that had nothing, or took back.

A breaker only steers: where every pool of a request is open, all of them are asked as if none were.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model import Circuits, Fault, changed

FIRST_S, LONGEST_S = 180.0, 1800.0
"""How long a pool without capacity is left alone, doubled each time in a row. Source: three minutes, as Karpenter does."""
TAKEN_BACK, WITHIN_S, TAKEN_BACK_S = 2, 900.0, 1800.0
"""So many machines taken back within so long leave their pool alone for so long. Source: what other fleets have by default."""
FORGOTTEN_S = 3600.0
"""After its end a fault is forgotten: the next one begins anew."""
MOST = 2000
"""Pools remembered; the record stays far below 400 KB."""


def pool_name(kind: str, subnet: str, market: str) -> str:
    """How a pool is called in records; empty where EC2 did not say which it was."""
    return f"{kind}/{subnet}/{market}" if kind and subnet else ""


def after_an_answer(circuits: Circuits, refused: Iterable[str], given: Iterable[str], now: float) -> Circuits:
    """The breakers after EC2 named pools that had nothing, and pools that gave. The same object if nothing is new."""
    faults = dict(circuits.faults)
    for pool in filter(None, set(refused)):
        known = faults.get(pool, Fault())
        if known.refused_until > now:
            continue  # asked all the same, as everything else was open: no news
        row = known.refusals + 1 if known.refused_until + FORGOTTEN_S > now else 1
        until = now + min(LONGEST_S, FIRST_S * 2.0 ** min(row - 1, 10))
        faults[pool] = changed(known, refusals=row, refused_until=until)
    for pool in set(given):
        if pool in faults and faults[pool].refusals:
            faults[pool] = changed(faults[pool], refusals=0, refused_until=0.0)
    return _kept(circuits, faults, now)


def after_a_reclaim(circuits: Circuits, pool: str, now: float) -> Circuits:
    """The breakers after a machine of this pool was taken back."""
    if not pool:
        return circuits
    known = circuits.faults.get(pool, Fault())
    taken = (*(at for at in known.reclaims if at > now - WITHIN_S), now)[-TAKEN_BACK:]
    until = now + TAKEN_BACK_S if len(taken) >= TAKEN_BACK else known.reclaimed_until
    return _kept(circuits, {**circuits.faults, pool: changed(known, reclaims=taken, reclaimed_until=until)}, now)


def open_pools(circuits: Circuits, now: float) -> frozenset[str]:
    """Those that are better not asked now."""
    return frozenset(pool for pool, fault in circuits.faults.items() if max(fault.refused_until, fault.reclaimed_until) > now)


def _kept(circuits: Circuits, faults: dict[str, Fault], now: float) -> Circuits:
    """Without what is long over; the newest, if there are too many."""
    alive = {pool: fault for pool, fault in faults.items() if _ends(fault) + FORGOTTEN_S > now}
    newest = dict(sorted(alive.items(), key=lambda one: _ends(one[1]))[-MOST:])
    return circuits if newest == circuits.faults else changed(circuits, faults=newest)


def _ends(fault: Fault) -> float:
    return max(fault.refused_until, fault.reclaimed_until, *(at + WITHIN_S for at in fault.reclaims), 0.0)
