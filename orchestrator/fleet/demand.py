"""Decide how many sessions a label set lacks, or which ones it has too many, from its view.

Supply is a number: any idle session of a label set may be given any of its work, so nobody counts pairs. A session is supply
until the origin of the work names it; whatever makes the number wrong (work done by another set's machine, a boot that failed,
a lost or repeated event, a reclaimed machine, cancelled work) is one case, and is corrected here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.retry_policy import (
    FIRST_BACKOFF_S,
    FIRST_WAIT_S,
    IDLE_EXITS,
    LONGEST_BACKOFF_S,
    LONGEST_OF_NEW_S,
    LONGEST_WAIT_S,
)
from orchestrator.store.kinds import OpenItem, changed
from orchestrator.store.model import LabelSet, LabelSetView, Session, arriving
from orchestrator.store.naming import machine_kind
from orchestrator.store.states import SessionState

BUSY_S = 120.0
"""Seconds for which a session that says it took work still counts, while the origin has not said which: then it is asked."""
STALE_S = 90.0
"""A session ready for so long beside work waiting for so long should have taken it, and does not count any more."""
WAITING_S = 30.0
"""How often a label set is looked at in which work waits, though nobody woke it."""
SURPLUS_S = 60.0
"""Seconds of surplus before it is corrected: a minute is billed anyway, and the next work may want it."""
EXPECTED_S = 180.0
"""Seconds for which work counts that an interruption will send back."""
TOLD_WITHIN_S = 900.0
"""Seconds for which it is remembered of a session that ended at work that the origin has not said which."""
MOST_EXPECTED = 100
"""Pieces of work of one label set that are expected at one time."""
ON_TRIAL = "one machine is on trial, after several that got no job"
HELD_S = 600.0
"""Seconds after which the same reason for waiting is remembered anew."""
MACHINE_KINDS = 8
"""Kinds of machine of one label set whose idle exits are counted."""
REFUSED_LAUNCHES = 10
"""Launches of a label set remembered for which there was no capacity."""
IDLE = frozenset({SessionState.LAUNCHED, SessionState.CONFIGURED, SessionState.READY})


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What to do about one label set. `look_at`: when to look again though nobody wakes us (epoch seconds, None: never)."""

    lacking: int = 0
    non_interruptible: int = 0
    """How many of those lacking must not be taken back: for work that lost a machine, or is about to."""
    surplus: tuple[str, ...] = ()
    """Ids of sessions to take back: those without a sign of life first, then the youngest."""
    ask: tuple[str, ...] = ()
    """Ids of sessions that say they work and of which the origin has not told."""
    doubtful: bool = False
    """Whether machines were there for work that waits, and nobody took them: the origin may know better."""
    waiting: tuple[OpenItem, ...] = ()
    """The work that wants a machine, oldest first."""
    supply: int = 0
    counted: frozenset[str] = frozenset()
    """Ids of the sessions that are supply."""
    there: int = 0
    """All sessions that are there or on their way, also those that do not count."""
    surplus_since: float | None = None
    held: str = ""
    """Why nothing is launched though something lacks."""
    look_at: float | None = None


def assess(view: LabelSetView, now: float) -> Assessment:
    """Compare what waits with what is there or on its way."""
    label_set = view.label_set
    waiting = tuple(sorted((item for item in view.items if item.wants_session), key=_age))
    sessions = [item for item in view.items if item.kind == "session"]
    oldest = waiting[0].since if waiting else None
    counted = {item.identity for item in sessions if _counts(item, oldest, now)}
    stale = sorted((item for item in sessions if _is_stale(item, oldest, now)), key=_age)
    counted |= {item.identity for item in stale[len(waiting) :]}  # one more for each that waits, not one after the other
    coming = arriving(view)
    expected = [until for until in label_set.expected if until > now] if label_set else []
    told_of = [until for until in label_set.working.values() if until > now] if label_set else []
    prepared = [until for until in label_set.prepared if until > now] if label_set else []
    supply, demand = len(counted) + len(coming) + len(told_of), max(len(waiting) + len(expected), len(prepared))
    looks = [*_looks(sessions, oldest, now), *told_of, *expected, *prepared, *([now + WAITING_S] if waiting else [])]
    ask = tuple(item.identity for item in sessions if _is_silent(item, now))
    ask += tuple(name for name, until in label_set.working.items() if until <= now) if label_set else ()
    looks += [now + BUSY_S] if ask else []
    found = Assessment(
        waiting=waiting, supply=supply, counted=frozenset(counted), there=len(sessions) + len(coming), ask=ask,
        doubtful=oldest is not None and now - oldest > STALE_S and bool(stale or (label_set and label_set.idle_exits)),
        look_at=_first(looks),
    )  # fmt: skip
    if supply < demand:
        return _lacking(found, view, demand - supply, len(expected), looks, now)
    if supply == demand:
        return found
    since = label_set.surplus_since if label_set is not None and label_set.surplus_since is not None else now
    idle = sorted((item for item in sessions if item.identity in counted and item.state in IDLE), key=_least_wanted)
    ripe = [item.identity for item in idle if now - item.since >= SURPLUS_S] if now - since >= SURPLUS_S else []
    looks += [since + SURPLUS_S] if since + SURPLUS_S > now else [now + SURPLUS_S]
    looks += [item.since + SURPLUS_S for item in idle if item.since + SURPLUS_S > now]
    return replace(found, surplus=tuple(ripe[: supply - demand]), surplus_since=since, look_at=_first(looks))


def after_an_end(label_set: LabelSet, session: Session, *, worked: bool, now: float) -> LabelSet:
    """The label set after a session of it ended: one that never got work brings a backoff nearer, one that did closes it.

    One that had work of which the origin has not told yet still counts for a while: otherwise its work would get a second
    machine.
    """
    dismissed = session.reason == "dismissed"
    if not worked and (label_set.backoff_until > now or session.launched_for == session.session_id or dismissed):
        return label_set  # launched before the backoff, for nobody in particular, or ended by an operator: it proves nothing new
    if worked:
        label_set = without_backoff(label_set) if label_set.idle_exits or label_set.refusals else label_set
        until = (session.busy_at if session.busy_at is not None else now) + BUSY_S
        if session.bound_job or until <= now:
            return label_set
        still = {name: at for name, at in label_set.working.items() if at > now - TOLD_WITHIN_S}
        return changed(label_set, working={**still, session.session_id: until})
    kind = machine_kind(session.spec, session.image)
    number = label_set.idle_exits.get(kind, 0) + 1
    others = [(name, n) for name, n in label_set.idle_exits.items() if name != kind]
    idle_exits = dict([*others, (kind, number)][-MACHINE_KINDS:])
    if number < IDLE_EXITS:
        return changed(label_set, idle_exits=idle_exits)
    until = now + min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(number - IDLE_EXITS, 10))
    why = f"{number} machines in a row ended without a job ({session.spec}, image {session.image})"
    return changed(label_set, idle_exits=idle_exits, backoff_until=until, backoff_at=now, backoff_why=why, backoff_of=kind)


def after_work(label_set: LabelSet) -> LabelSet:
    """The label set after work took a machine of it: its machines do get work. Missing capacity has nothing to do with it."""
    held = {"backoff_until": 0.0, "backoff_why": "", "backoff_of": ""} if label_set.backoff_of else {}
    return changed(label_set, idle_exits={}, **held) if label_set.idle_exits else label_set


def without_backoff(label_set: LabelSet) -> LabelSet:
    """The label set after a success, or with another image: whatever held it is over."""
    return changed(label_set, idle_exits={}, refusals=0, backoff_until=0.0, backoff_why="", backoff_of="")


def without_one(until: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Of times until which something counts, those that still do, but for the one that ends first: it is here now."""
    return tuple(sorted(at for at in until if at > now))[1:]


def expecting(label_set: LabelSet, now: float) -> LabelSet:
    """The label set after a machine at work was said to be taken away: its work will be back with us soon."""
    still = tuple(until for until in label_set.expected if until > now)
    return changed(label_set, expected=(*still, now + EXPECTED_S)[-MOST_EXPECTED:])


def after_a_refusal(label_set: LabelSet, launch_id: str, why: str, now: float) -> LabelSet:
    """The label set after a launch for which there was no machine of any kind that would do: wait, longer each time."""
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(label_set.refusals, 10))
    return changed(
        label_set, refusals=label_set.refusals + 1, backoff_until=max(label_set.backoff_until, now + wait_s), backoff_why=why,
        backoff_of="", refused_launches=(*label_set.refused_launches, launch_id)[-REFUSED_LAUNCHES:],
    )  # fmt: skip


def _lacking(found: Assessment, view: LabelSetView, number: int, expected: int, looks: list[float], now: float) -> Assessment:
    """What to launch of what lacks: nothing during a backoff, one after idle exits, otherwise all."""
    label_set, coming = view.label_set, arriving(view)
    if label_set is not None and (until := _held_until(label_set, found.waiting)) > now:
        return replace(found, held=label_set.backoff_why, look_at=_first([*looks, until]))
    if label_set is not None and max(label_set.idle_exits.values(), default=0) >= IDLE_EXITS:
        trial = max(0, min(number, 1 - len(found.counted) - len(coming)))
        return replace(found, lacking=trial, held="" if trial else ON_TRIAL)
    lasting = [item for item in view.items if item.non_interruptible]
    there = sum(item.kind == "session" and item.identity in found.counted for item in lasting)
    there += sum(one in coming for item in lasting if item.kind == "launch" for one in item.sessions)
    wanted = max(0, expected + sum(item.non_interruptible for item in found.waiting) - there)
    return replace(found, lacking=number, non_interruptible=min(wanted, number))


def _held_until(label_set: LabelSet, waiting: Sequence[OpenItem]) -> float:
    """The end of the backoff; after idle exits sooner where work waits that came after they were counted."""
    is_new = bool(label_set.backoff_of) and any(item.since > label_set.backoff_at for item in waiting)
    return min(label_set.backoff_until, label_set.backoff_at + LONGEST_OF_NEW_S) if is_new else label_set.backoff_until


def _counts(item: OpenItem, oldest_work: float | None, now: float) -> bool:
    if item.bound or item.leaving:
        return False
    if item.state == SessionState.BUSY:
        return now - item.since < BUSY_S
    return not _is_stale(item, oldest_work, now)


def _is_stale(item: OpenItem, oldest_work: float | None, now: float) -> bool:
    if item.bound or item.leaving or item.state != SessionState.READY or oldest_work is None:
        return False
    return now - oldest_work > STALE_S and now - item.since > STALE_S


def _is_silent(item: OpenItem, now: float) -> bool:
    return item.state == SessionState.BUSY and not item.bound and now - item.since >= BUSY_S


def _looks(sessions: list[OpenItem], oldest_work: float | None, now: float) -> list[float]:
    """When time alone changes the count."""
    moments = []
    for item in sessions:
        if item.bound or item.leaving:
            continue
        if item.state == SessionState.BUSY:
            moments.append(item.since + BUSY_S)
        if item.state == SessionState.READY and oldest_work is not None:
            moments.append(max(item.since, oldest_work) + STALE_S + 1.0)
    return [at for at in moments if at > now]


def _age(item: OpenItem) -> tuple[float, str]:
    return item.since, item.identity


def _least_wanted(item: OpenItem) -> tuple[bool, float, str]:
    """By it those come first that have been booting for longest: who has said nothing may never do; then the youngest."""
    is_ready = item.state == SessionState.READY
    return is_ready, -item.since if is_ready else item.since, item.identity


def _first(moments: list[float]) -> float | None:
    return min(moments, default=None)
