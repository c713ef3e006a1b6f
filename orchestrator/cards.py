"""What lies on a board: of every open record a card, with as much of it as a decision about levels needs."""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.model import Circuits, Job, Launch, Ledger, Note, Pace, Record, Rescue, Session, Stack
from orchestrator.naming import OPEN_LAUNCHES, repository_key
from orchestrator.states import JobState, LaunchState, NoteState, RescueState, SessionState


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision about levels needs of one record. `since`: of its state; other fields as in the record."""

    kind: str
    """`job`, `launch` or `session`."""
    identity: str
    state: str
    since: float = 0.0
    bound: bool = False
    leaving: bool = False
    """Its machine is going away."""
    firm: bool = False
    """Of a job and a launch: as in its record; of a session: EC2 does not take its machine back."""
    run_id: str = ""
    cpus: int = 0
    usd: float = 0.0
    """Of each of its machines, at most."""
    sessions: tuple[str, ...] = ()
    """Of a launch: those of this label set that may still get a body."""


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """One label set as it is now: its ledger (None: never heard of), its cards, and how often somebody has woken it."""

    set_key: str
    ledger: Ledger | None = None
    cards: tuple[Card, ...] = ()
    woken: int = 0
    expires: int = 0
    """When its wake may be forgotten, epoch seconds."""


def cards(record: Record) -> dict[str, Card | None]:
    """Where a card of this record lies: label set to card, None: no card any more."""
    match record:
        case Job():
            card = Card(
                kind="job", identity=record.job_id, state=record.state.value, since=record.queued_at, run_id=record.run_id,
                firm=record.firm,
            )  # fmt: skip
            wants = record.state in (JobState.WAITING, JobState.QUEUED) and not record.refused
            return {record.set_key: card if wants else None}
        case Session():
            since = {SessionState.READY: record.ready_at, SessionState.BUSY: record.busy_at}.get(record.state, record.launched_at)
            card = Card(
                kind="session", identity=record.session_id, state=record.state.value, since=since or 0.0,
                bound=bool(record.bound_job), leaving=record.interrupting_at is not None, run_id=record.run_id,
                firm=record.market == "on-demand", cpus=record.cpus, usd=record.usd,
            )  # fmt: skip
            mine = card if not is_over(record) else None
            return {record.set_key: mine, repository_key(record.owner, record.repo): mine}
        case Launch():
            of_set = {key: tuple(one.session_id for one in record.sessions if one.set_key == key) for key in record.sets}
            common: dict[str, Any] = {
                "identity": record.launch_id, "state": record.state.value, "since": record.created_at, "firm": record.firm,
                "cpus": record.cpus, "usd": record.usd,
            }  # fmt: skip
            of_set |= {
                repository_key(name): tuple(one.session_id for one in record.sessions if one.repository == name)
                for name in record.repositories
            }
            of_set[OPEN_LAUNCHES] = tuple(one.session_id for one in record.sessions)
            return {
                key: Card(kind="launch", sessions=wanted, **common) if wanted and not is_over(record) else None
                for key, wanted in of_set.items()
            }
        case Rescue() | Note() | Ledger() | Stack() | Pace() | Circuits():
            return {}


def coming(board: Board) -> frozenset[str]:
    """Sessions that launches are still to give a body, and that have no card of their own yet."""
    known = {card.identity for card in board.cards if card.kind == "session"}
    return frozenset(one for card in board.cards if card.kind == "launch" for one in card.sessions) - known


def is_over(record: Record) -> bool:
    """Whether it needs no machine, no deadline and nobody's attention any more (an ended session still needs its remains
    removed).
    """
    match record:
        case Job():
            return record.state is JobState.COMPLETED
        case Launch():
            return record.state is LaunchState.CLOSED
        case Session():
            return record.state in (SessionState.ENDED, SessionState.CLOSED)
        case Rescue():
            return record.state is RescueState.RESTING
        case Note():
            return record.state is NoteState.DONE
        case Ledger() | Stack() | Pace() | Circuits():
            return False


def is_due_some_time(record: Record) -> bool:
    """Whether its deadline stands in the index."""
    if isinstance(record, Ledger | Stack | Pace | Circuits):
        return False
    return record.state is not SessionState.CLOSED if isinstance(record, Session) else not is_over(record)


def identity(record: Record) -> str:
    """The id under which it is kept."""
    match record:
        case Job():
            return record.job_id
        case Launch():
            return record.launch_id
        case Session():
            return record.session_id
        case Rescue():
            return record.run_key
        case Note():
            return record.name
        case Ledger():
            return record.set_key
        case Pace():
            return record.key
        case Stack() | Circuits():
            return record.name
