"""Decide how many sessions a label set lacks, or which ones it has too many, from its board.

Supply is a level: GitHub gives a queued job to any idle runner whose labels contain the job's, so nobody counts pairs. A session
is supply until it is bound by a job's `in_progress`; whatever makes the level wrong (theft, a boot that failed, a lost or
repeated delivery, a reclaimed machine, a cancelled job) is one case, and is corrected here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.cards import Board, Card, coming
from orchestrator.model import Ledger, Session, changed
from orchestrator.naming import kind_of
from orchestrator.patience import BARREN, FIRST_BACKOFF_S, FIRST_WAIT_S, LONGEST_BACKOFF_S, LONGEST_WAIT_S
from orchestrator.states import JobState, SessionState

BUSY_S = 120.0
"""Seconds for which a session that says it took a job still counts, while GitHub has not said which: then GitHub is asked."""
STALE_S = 90.0
"""A runner ready for so long beside a job waiting for so long should have taken it, and does not count any more."""
WAITING_S = 30.0
"""How often a label set is looked at in which a job waits, though nobody woke it."""
SURPLUS_S = 60.0
"""Seconds of surplus before it is corrected: EC2 bills a minute anyway, and the next job may want it."""
EXPECTED_S = 180.0
"""For how long a job counts that an interruption will send back."""
TOLD_WITHIN_S = 900.0
"""For so long it is remembered of a session that ended at work that GitHub has not told of its job."""
MOST_EXPECTED = 100
"""Jobs of one label set that are expected at one time."""
ON_TRIAL = "one machine is on trial, after several that got no job"
HELD_S = 600.0
"""The same reason for waiting is remembered anew after so long."""
KINDS = 8
"""Kinds of machine and image of one label set whose idle ends are counted."""
BARRED = 10
"""Launches of a label set remembered for which EC2 had nothing."""
IDLE = frozenset({SessionState.LAUNCHED, SessionState.CONFIGURED, SessionState.READY})


@dataclass(frozen=True)
class Level:
    """What to do about one label set. `look_at`: when to look again though nobody wakes us (epoch seconds, None: never)."""

    lacking: int = 0
    firm: int = 0
    """How many of those lacking must not be taken back: for jobs that lost a machine, or are about to."""
    surplus: tuple[str, ...] = ()
    """Ids of sessions to take back, youngest first."""
    ask: tuple[str, ...] = ()
    """Ids of sessions that say they work and of which GitHub has not told."""
    doubtful: bool = False
    """Whether machines were there for jobs that wait, and nobody took them: GitHub may know better."""
    waiting: tuple[Card, ...] = ()
    """The jobs that want a machine, oldest first."""
    supply: int = 0
    counted: frozenset[str] = frozenset()
    """Ids of the sessions that are supply."""
    there: int = 0
    """All that is there or on its way, also what does not count."""
    surplus_since: float | None = None
    held: str = ""
    """Why nothing is launched though something lacks."""
    look_at: float | None = None


def level(board: Board, now: float) -> Level:
    """Compare what waits with what is there or on its way."""
    ledger = board.ledger
    waiting = tuple(sorted((c for c in board.cards if c.kind == "job" and c.state == JobState.QUEUED), key=_age))
    expected = [until for until in ledger.expected if until > now] if ledger else []
    sessions = [card for card in board.cards if card.kind == "session"]
    oldest = waiting[0].since if waiting else None
    counted = {card.identity for card in sessions if _counts(card, oldest, now)}
    stale = sorted((card for card in sessions if _is_stale(card, oldest, now)), key=_age)
    counted |= {card.identity for card in stale[len(waiting) :]}  # one more for each job that waits, not one after the other
    arriving = coming(board)
    told_of = [until for until in ledger.working.values() if until > now] if ledger else []
    prepared = [until for until in ledger.prepared if until > now] if ledger else []
    supply, demand = len(counted) + len(arriving) + len(told_of), max(len(waiting) + len(expected), len(prepared))
    looks = [*_looks(sessions, oldest, now), *told_of, *expected, *prepared, *([now + WAITING_S] if waiting else [])]
    ask = tuple(card.identity for card in sessions if _is_silent(card, now))
    ask += tuple(name for name, until in ledger.working.items() if until <= now) if ledger else ()
    looks += [now + BUSY_S] if ask else []
    found = Level(
        waiting=waiting,
        supply=supply,
        counted=frozenset(counted),
        there=len(sessions) + len(arriving),
        ask=ask,
        doubtful=oldest is not None and now - oldest > STALE_S and bool(stale or (ledger and ledger.barren)),
        look_at=_first(looks),
    )
    if supply < demand:
        if ledger is not None and ledger.backoff_until > now:
            return replace(found, held=ledger.backoff_why, look_at=_first([*looks, ledger.backoff_until]))
        if ledger is not None and max(ledger.barren.values(), default=0) >= BARREN:
            trial = max(0, min(demand - supply, 1 - len(counted) - len(arriving)))
            return replace(found, lacking=trial, held="" if trial else ON_TRIAL)
        there = sum(card.firm for card in sessions if card.identity in counted)
        there += sum(one in arriving for card in board.cards if card.kind == "launch" and card.firm for one in card.sessions)
        firm = max(0, len(expected) + sum(card.firm for card in waiting) - there)
        return replace(found, lacking=demand - supply, firm=min(firm, demand - supply))
    if supply == demand:
        return found
    since = ledger.surplus_since if ledger is not None and ledger.surplus_since is not None else now
    idle = sorted((c for c in sessions if c.identity in counted and c.state in IDLE), key=_age, reverse=True)
    ripe = [card.identity for card in idle if now - card.since >= SURPLUS_S] if now - since >= SURPLUS_S else []
    looks += [since + SURPLUS_S] if since + SURPLUS_S > now else [now + SURPLUS_S]
    looks += [card.since + SURPLUS_S for card in idle if card.since + SURPLUS_S > now]
    return replace(found, surplus=tuple(ripe[: supply - demand]), surplus_since=since, look_at=_first(looks))


def after_an_end(ledger: Ledger, session: Session, *, worked: bool, now: float) -> Ledger:
    """The ledger after a session of it ended: one that never got a job brings a backoff nearer, one that did closes it.

    One that had a job of which GitHub has not told yet still counts for a while: else its job would get a second machine.
    """
    dismissed = session.reason == "dismissed"
    if not worked and (ledger.backoff_until > now or session.launched_for == session.session_id or dismissed):
        return ledger  # launched before the backoff, for nobody in particular, or ended by an operator: it proves nothing new
    if worked:
        ledger = without_backoff(ledger) if ledger.barren or ledger.refusals else ledger
        until = (session.busy_at if session.busy_at is not None else now) + BUSY_S
        if session.bound_job or until <= now:
            return ledger
        still = {name: at for name, at in ledger.working.items() if at > now - TOLD_WITHIN_S}
        return changed(ledger, working={**still, session.session_id: until})
    kind = kind_of(session.spec, session.image)
    number = ledger.barren.get(kind, 0) + 1
    barren = dict([*((name, n) for name, n in ledger.barren.items() if name != kind), (kind, number)][-KINDS:])
    if number < BARREN:
        return changed(ledger, barren=barren)
    until = now + min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(number - BARREN, 10))
    why = f"{number} machines in a row ended without a job ({session.spec}, image {session.image})"
    return changed(ledger, barren=barren, backoff_until=until, backoff_why=why, backoff_of=kind)


def after_a_job(ledger: Ledger) -> Ledger:
    """The ledger after a job took a machine of it: they do get jobs. What EC2 refused has nothing to do with it."""
    held = {"backoff_until": 0.0, "backoff_why": "", "backoff_of": ""} if ledger.backoff_of else {}
    return changed(ledger, barren={}, **held) if ledger.barren else ledger


def without_backoff(ledger: Ledger) -> Ledger:
    """The ledger after a success, or with another image: whatever held it is over."""
    return changed(ledger, barren={}, refusals=0, backoff_until=0.0, backoff_why="", backoff_of="")


def without_one(until: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Of times until which something counts, those that still do, but for the one that ends first: it is here now."""
    return tuple(sorted(at for at in until if at > now))[1:]


def expecting(ledger: Ledger, now: float) -> Ledger:
    """The ledger after a machine at work was said to be taken away: its job will be back with us soon."""
    still = tuple(until for until in ledger.expected if until > now)
    return changed(ledger, expected=(*still, now + EXPECTED_S)[-MOST_EXPECTED:])


def after_a_refusal(ledger: Ledger, launch_id: str, why: str, now: float) -> Ledger:
    """The ledger after EC2 gave no machine of any kind that would do: wait, longer each time."""
    wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(ledger.refusals, 10))
    until = max(ledger.backoff_until, now + wait_s)
    return changed(
        ledger, refusals=ledger.refusals + 1, backoff_until=until, backoff_why=why, backoff_of="",
        barred=(*ledger.barred, launch_id)[-BARRED:],
    )  # fmt: skip


def _counts(card: Card, oldest_job: float | None, now: float) -> bool:
    if card.bound or card.leaving:
        return False
    if card.state == SessionState.BUSY:
        return now - card.since < BUSY_S
    return not _is_stale(card, oldest_job, now)


def _is_stale(card: Card, oldest_job: float | None, now: float) -> bool:
    if card.bound or card.leaving or card.state != SessionState.READY or oldest_job is None:
        return False
    return now - oldest_job > STALE_S and now - card.since > STALE_S


def _is_silent(card: Card, now: float) -> bool:
    return card.state == SessionState.BUSY and not card.bound and now - card.since >= BUSY_S


def _looks(sessions: list[Card], oldest_job: float | None, now: float) -> list[float]:
    """When time alone changes the count."""
    moments = []
    for card in sessions:
        if card.bound or card.leaving:
            continue
        if card.state == SessionState.BUSY:
            moments.append(card.since + BUSY_S)
        if card.state == SessionState.READY and oldest_job is not None:
            moments.append(max(card.since, oldest_job) + STALE_S + 1.0)
    return [at for at in moments if at > now]


def _age(card: Card) -> tuple[float, str]:
    return card.since, card.identity


def _first(moments: list[float]) -> float | None:
    return min(moments, default=None)
