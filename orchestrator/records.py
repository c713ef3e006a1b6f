"""Records in tables: each under its id, and a card of it on its label set's board in the same transaction.

Two tables. `jobs` holds jobs. `sessions` holds sessions and launches under their ids, and under each label set's key its ledger,
its cards, and a count of how often somebody woke it. A board is read consistently, so no decision rests on an index; an index is
asked only for what is overdue and for who owns an instance, and whoever asks reads the record itself before acting.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from orchestrator.cards import Board, Card, cards, identity, is_due_some_time, is_over
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.marks import JOBS, KEPT_S, RESCUE_KEPT_S, SESSIONS, Marks, plain
from orchestrator.model import (
    Circuits,
    Job,
    Launch,
    Ledger,
    Note,
    Pace,
    Record,
    Rescue,
    Session,
    Stack,
    Told,
    changed,
)
from orchestrator.naming import session_of
from orchestrator.ports import Key, Tables, Write
from orchestrator.states import LaunchState

SHARDS = 16
"""Over how many keys the index of deadlines is spread. Source: 1,000 writes/s per partition key, DynamoDB quotas."""
LEDGER_KEPT_S = 90 * 86_400
"""How much longer a label set is remembered that nobody uses: labels that name their run would else pile up for ever."""
TOLD = 12
"""Of what a record tells of its troubles, the last so many."""
WAKE, LEDGER, CARD = "wake", "#ledger", "card#"
ORDER = {"launch": "1-launch", "session": "2-session", "job": "3-job"}
"""How cards are named, and so read: a board is no snapshot, its rows are read by name, one after the other.

The ledger comes first, so that whatever is committed on it while the rest is read makes our own commit fail. A launch comes
before its sessions, which come before the jobs that bind them: what moves on meanwhile is seen twice rather than not at all.
Source: "Isolation levels" of the DynamoDB developer guide: a query beside a transaction is read-committed.
"""
TRAIL = "session#"
"""Beside a job: which sessions were launched for it, for whoever asks why."""
FOR_EVER = 1e11
"""After every deadline, epoch seconds."""
ROWS: dict[type, tuple[str, str]] = {
    Job: (JOBS, "job"), Session: (SESSIONS, "session"), Launch: (SESSIONS, "launch"), Ledger: (SESSIONS, LEDGER),
    Stack: (SESSIONS, "stack"), Rescue: (SESSIONS, "rescue"),
    Note: (SESSIONS, "note"), Pace: (SESSIONS, "pace"), Circuits: (SESSIONS, "circuits"),
}  # fmt: skip
"""Table and row of each kind of record. Whatever else lies in a partition is a card or the wake."""
Kind = TypeVar("Kind", Job, Session, Launch, Ledger, Stack, Rescue, Note, Pace, Circuits)


class Records(Marks):
    """Everything we remember. Every write is conditional on the version that was read."""

    def __init__(self, tables: Tables, shards: int = SHARDS) -> None:
        """`shards` may grow on a living stack, never shrink: entries under the higher ones would not be found."""
        super().__init__(tables)
        self._shards = shards

    def job(self, job_id: str) -> Job | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Job, job_id)

    def session(self, session_id: str) -> Session | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Session, session_id)

    def launch(self, launch_id: str) -> Launch | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Launch, launch_id)

    def rescue(self, run_key: str) -> Rescue | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Rescue, run_key)

    def note(self, name: str) -> Note | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Note, name)

    def ledger(self, set_key: str) -> Ledger | None:
        """Read consistently. Raises: ServiceFailed."""
        return self._read(Ledger, set_key)

    def stack(self) -> Stack:
        """Read consistently; as new if nobody wrote it yet. Raises: ServiceFailed."""
        return self._read(Stack, Stack().name) or Stack()

    def pace(self, key: str) -> Pace:
        """Read consistently; as new if nobody wrote it yet. Raises: ServiceFailed."""
        return self._read(Pace, key) or Pace(key=key)

    def circuits(self) -> Circuits:
        """Read consistently; as new if nobody wrote them yet. Raises: ServiceFailed."""
        return self._read(Circuits, Circuits().name) or Circuits()

    def board(self, set_key: str) -> Board:
        """One label set as it is now, read consistently from the table itself. Raises: ServiceFailed."""
        ledger, found, woken, expires = None, [], 0, 0
        for item in self._tables.rows(SESSIONS, set_key):
            row = item["row"]
            if row == LEDGER:
                ledger = _record(Ledger, item)
            elif row == WAKE:
                woken, expires = item["version"], int(item.get("expires", 0))
            elif row.startswith(CARD):
                found.append(msgspec.convert(item, Card))
        return Board(set_key=set_key, ledger=ledger, cards=tuple(found), woken=woken, expires=expires)

    def save(self, *records: Record) -> tuple[Any, ...]:
        """Write all or none, each with its cards; returns them with their new versions.

        Raises: Conflict if somebody wrote one of them since it was read; ServiceFailed; Unanswered: read again to know.
        """
        newer = tuple(changed(record, version=record.version + 1) for record in records)
        writes = [write for record in newer for write in self._writes(record)]
        if len({write.key for write in writes}) != len(writes):
            raise Conflict("two changes of one item in one transaction")
        self._tables.write(writes)
        return newer

    def put(self, record: Kind) -> Kind:
        """Write one, with its cards; returns it with its new version. Raises: as `save`."""
        (newer,) = self.save(record)
        return newer  # type: ignore[no-any-return]

    def noted(self, record: Launch | Session, at: float, what: str) -> None:
        """Remember a failure with whoever is asked about later; where that cannot be written now it is only in the log.

        Empty: nothing that anybody would ask about; only the record is written.
        """
        told = (*record.troubles, *([Told(at=at, what=what[:300])] if what else []))[-TOLD:]
        with contextlib.suppress(Conflict, ServiceFailed):
            self.save(changed(record, troubles=told))

    def wake(self, set_key: str, due: float) -> None:
        """Have it looked at by `due` at the latest, whatever happens to us. Raises: ServiceFailed."""
        at = {"shard": self._shard(SESSIONS, set_key), "due": due, "expires": int(due + LEDGER_KEPT_S)}
        self._tables.count(SESSIONS, (set_key, WAKE), at)

    def rest(self, board: Board, due: float | None) -> bool:
        """The board was looked at: next by `due` (None: when somebody wakes it); False if somebody woke it meanwhile."""
        at = {"shard": self._shard(SESSIONS, board.set_key), "due": due} if due is not None else {}
        kept = {"expires": board.expires} if board.expires else {}
        try:
            self._tables.write([Write(SESSIONS, (board.set_key, WAKE), {**at, **kept, "version": board.woken + 1}, board.woken)])
        except Conflict:
            return False
        return True

    def overdue(self, now: float, limit: int, tables: Sequence[str] = (JOBS, SESSIONS)) -> Iterator[Key]:
        """Keys of what is due, each with its row, fairly from all shards; `limit` of each. The index may lag.

        Raises: ServiceFailed.
        """
        for table in tables:
            for shard in range(self._shards):
                yield from (due.key for due in itertools.islice(self._tables.due(table, str(shard), now), limit))

    def session_of(self, instance_id: str) -> Session | None:
        """Whose instance it is, as far as the index knows yet; the youngest of several. Raises: ServiceFailed."""
        found = [_record(Session, item) for item in self._tables.of_instance(SESSIONS, instance_id)]
        newest = max(found, key=lambda session: session.launched_at or 0.0, default=None)
        return self.session(newest.session_id) if newest else None

    def sessions_of(self, job: Job, stack_id: str) -> list[Session]:
        """Those that were launched for it, and the one whose runner took it. Raises: ServiceFailed."""
        named = [row["row"].removeprefix(TRAIL) for row in self._tables.rows(JOBS, job.job_id) if row["row"].startswith(TRAIL)]
        took = session_of(stack_id, job.runner_name)
        return [one for one in map(self.session, dict.fromkeys(filter(None, [*named, took]))) if one is not None]

    def open_sessions(self) -> Iterator[Session]:
        """Those that are not over, as far as the index knows yet. Raises: ServiceFailed."""
        return (one for one in map(self.session, self._open(SESSIONS, ROWS[Session][1])) if one is not None and not is_over(one))

    def open_jobs(self) -> Iterator[Job]:
        """Those that are not completed, as far as the index knows yet. Raises: ServiceFailed."""
        return (one for one in map(self.job, self._open(JOBS, ROWS[Job][1])) if one is not None and not is_over(one))

    def _open(self, table: str, row: str) -> Iterator[str]:
        for shard in range(self._shards):
            yield from (due.key[0] for due in self._tables.due(table, str(shard), FOR_EVER) if due.key[1] == row)

    def jobs(self) -> Iterator[Job]:
        """Every one, for people. Raises: ServiceFailed."""
        return (_record(Job, item) for item in self._tables.scan(JOBS) if item["row"] == ROWS[Job][1])

    def sessions(self) -> Iterator[Session]:
        """Every one, for people. Raises: ServiceFailed."""
        return (_record(Session, item) for item in self._tables.scan(SESSIONS) if item["row"] == ROWS[Session][1])

    def rescues(self) -> Iterator[Rescue]:
        """Every one, for people. Raises: ServiceFailed."""
        return (_record(Rescue, item) for item in self._tables.scan(SESSIONS) if item["row"] == ROWS[Rescue][1])

    def launches(self) -> Iterator[Launch]:
        """Every one, for people. Raises: ServiceFailed."""
        return (_record(Launch, item) for item in self._tables.scan(SESSIONS) if item["row"] == ROWS[Launch][1])

    def _read(self, kind: type[Kind], name: str) -> Kind | None:
        table, row = ROWS[kind]
        item = self._tables.get(table, (name, row))
        return _record(kind, item) if item is not None else None

    def _writes(self, record: Record) -> Iterator[Write]:
        table, row = ROWS[type(record)]
        name = identity(record)
        item = plain(record)
        if is_due_some_time(record):
            item["shard"] = self._shard(table, name)
        else:
            item.pop("due", None)
        if (kept_from := _touched_at(record)) is not None:
            item["expires"] = int(kept_from + KEPT_S)
        yield Write(table, (name, row), item, record.version - 1)
        if isinstance(record, Session) and record.version == 1 and record.launched_for:
            yield Write(
                JOBS, (record.launched_for, f"{TRAIL}{name}"), {"version": 1, "expires": int(record.expires_at + KEPT_S)}, None
            )
        for key, card in cards(record).items():
            if key != getattr(record, "set_key", key) and record.version > 1 and card is not None:
                continue  # of a repository's open sessions only the number counts: written at the beginning, gone in the end
            yield Write(SESSIONS, (key, f"{CARD}{ORDER[row]}#{name}"), None if card is None else plain(card))

    def _shard(self, table: str, name: str) -> str:
        return str(zlib.crc32(name.encode()) % self._shards)


def _record(kind: type[Kind], item: dict[str, Any]) -> Kind:
    missing = {
        field.name: () if field.name in ("labels", "sessions", "sets") else ""
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in item
    }
    return msgspec.convert({**missing, **item}, kind)


def _touched_at(record: Record) -> float | None:
    """Since when nobody needs it any more; None: somebody does."""
    match record:
        case Job():
            return record.completed_at
        case Launch():
            return record.created_at if record.state is LaunchState.CLOSED else None
        case Session():
            return record.closed_at
        case Rescue():
            return record.changed_at + RESCUE_KEPT_S
        case Note():
            return record.noted_at
        case Ledger():
            return record.touched_at + LEDGER_KEPT_S
        case Pace():
            return record.at
        case Stack() | Circuits():
            return None
