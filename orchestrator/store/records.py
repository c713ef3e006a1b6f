"""Records in tables: each under its id, and in the same transaction what it leaves in the views of its label set.

How a record is written follows from the description of its kind (`kinds.py`). Under each label set's key lie its record, the
items of its open launches, sessions and work, and a count of how often somebody woke it. A view is read consistently, so no
decision rests on an index; an index is asked only for what is overdue and for who owns a machine, and whoever asks reads the
record itself before acting.

A view is no snapshot: its rows are read by name, one after the other. The label set's record comes first, so that whatever is
committed on it while the rest is read makes our own commit fail. A launch comes before its sessions, which come before the work
that binds them (`Kind.read_order`): what moves on meanwhile is seen twice rather than not at all. Source: "Isolation levels" of
the DynamoDB developer guide: a query beside a transaction is read-committed.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec

from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Key, Tables, Write
from orchestrator.store.kinds import HistoryEntry, OpenItem, Record, changed
from orchestrator.store.launch import Launch
from orchestrator.store.leases import Leases
from orchestrator.store.model import TRAIL, LabelSet, LabelSetView, Session, Stack, TokenBucket
from orchestrator.store.repositories import Repositories
from orchestrator.store.tables import JOBS, KEPT_S, LABEL_SET_KEPT_S, SESSIONS, plain
from orchestrator.store.waitlist import Waitlist
from orchestrator.structs import read_annotations

SHARDS = 16
"""Over how many keys the index of deadlines is spread. Source: 1,000 writes/s per partition key, DynamoDB quotas."""
HISTORY = 12
"""Entries kept of what a record tells of its failures."""
WAKE, ITEM = "wake", "item#"
"""The row of a label set's wake, and what the rows of its items begin with."""
FOR_EVER = 1e11
"""After every deadline, epoch seconds."""
R = TypeVar("R", bound=Record)


class Records:
    """Everything that is remembered. Every write is conditional on the version that was read."""

    def __init__(self, tables: Tables, shards: int = SHARDS) -> None:
        """`shards` may grow on a living stack, never shrink: entries under the higher ones would not be found."""
        read_annotations()
        self._tables, self._shards = tables, shards
        self.leases, self.waitlist, self.repositories = Leases(tables), Waitlist(tables), Repositories(tables)

    def read(self, kind: type[R], key: str) -> R | None:
        """The record of this kind and id, read consistently; None: there is none. Raises: ServiceFailed."""
        item = self._tables.get(kind.KIND.table, (key, kind.KIND.row))
        return read_item(kind, item) if item is not None else None

    def session(self, session_id: str) -> Session | None:
        """A session, read consistently. Raises: ServiceFailed."""
        return self.read(Session, session_id)

    def launch(self, launch_id: str) -> Launch | None:
        """A launch, read consistently. Raises: ServiceFailed."""
        return self.read(Launch, launch_id)

    def label_set(self, set_key: str) -> LabelSet | None:
        """A label set's record, read consistently. Raises: ServiceFailed."""
        return self.read(LabelSet, set_key)

    def stack(self) -> Stack:
        """The stack's record, read consistently; as new if nobody wrote it yet. Raises: ServiceFailed."""
        return self.read(Stack, Stack().name) or Stack()

    def token_bucket(self, key: str) -> TokenBucket:
        """A token bucket, read consistently; as new if nobody wrote it yet. Raises: ServiceFailed."""
        return self.read(TokenBucket, key) or TokenBucket(key=key)

    def view(self, set_key: str) -> LabelSetView:
        """One label set as it is now, read consistently from the table itself. Raises: ServiceFailed."""
        label_set, found, woken, expires = None, [], 0, 0
        for item in self._tables.rows(SESSIONS, set_key):
            row = item["row"]
            if row == LabelSet.KIND.row:
                label_set = read_item(LabelSet, item)
            elif row == WAKE:
                woken, expires = item["version"], int(item.get("expires", 0))
            elif row.startswith(ITEM):
                found.append(msgspec.convert(item, OpenItem))
        return LabelSetView(set_key=set_key, label_set=label_set, items=tuple(found), woken=woken, expires=expires)

    def save(self, *records: Record) -> tuple[Any, ...]:
        """Write all or none, each with its items; returns them with their new versions.

        Raises: Conflict if somebody wrote one of them since it was read; ServiceFailed; Unanswered: read again to know.
        """
        newer = tuple(changed(record, version=record.version + 1) for record in records)
        writes = [write for record in newer for write in self._writes(record)]
        if len({write.key for write in writes}) != len(writes):
            raise Conflict("two changes of one item in one transaction")
        self._tables.write(writes)
        return newer

    def put(self, record: R) -> R:
        """Write one record with its items; returns it with its new version. Raises: as `save`."""
        (newer,) = self.save(record)
        return newer  # type: ignore[no-any-return]

    def add_failure(self, record: Launch | Session, at: float, what: str) -> None:
        """Remember a failure with the record that is asked about later; where that cannot be written it is only in the log.

        An empty `what` writes the record alone.
        """
        failures = (*record.failures, *([HistoryEntry(at=at, what=what[:300])] if what else []))[-HISTORY:]
        with contextlib.suppress(Conflict, ServiceFailed):
            self.save(changed(record, failures=failures))

    def wake(self, set_key: str, due: float) -> None:
        """Have a label set looked at by `due` at the latest, whatever happens to us. Raises: ServiceFailed."""
        at = {"shard": self._shard(set_key), "due": due, "expires": int(due + LABEL_SET_KEPT_S)}
        self._tables.count(SESSIONS, (set_key, WAKE), at)

    def rest(self, view: LabelSetView, due: float | None) -> bool:
        """The view was looked at: next by `due` (None: when somebody wakes it); False if somebody woke it meanwhile."""
        at = {"shard": self._shard(view.set_key), "due": due} if due is not None else {}
        kept = {"expires": view.expires} if view.expires else {}
        try:
            self._tables.write([Write(SESSIONS, (view.set_key, WAKE), {**at, **kept, "version": view.woken + 1}, view.woken)])
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
        """Whose machine it is, as far as the index knows yet; the youngest of several. Raises: ServiceFailed."""
        found = [read_item(Session, item) for item in self._tables.of_instance(SESSIONS, instance_id)]
        newest = max(found, key=lambda session: session.launched_at or 0.0, default=None)
        return self.session(newest.session_id) if newest else None

    def sessions_for(self, item_id: str) -> list[str]:
        """The ids of sessions that were launched for a piece of work. Raises: ServiceFailed."""
        return [row["row"].removeprefix(TRAIL) for row in self._tables.rows(JOBS, item_id) if row["row"].startswith(TRAIL)]

    def open_sessions(self) -> Iterator[Session]:
        """The sessions that are not over, as far as the index knows yet. Raises: ServiceFailed."""
        return self.open(Session)

    def open(self, kind: type[R]) -> Iterator[R]:
        """The records of this kind that are due some time and not over, as far as the index knows yet. Raises: ServiceFailed."""
        for shard in range(self._shards):
            keys = [due.key[0] for due in self._tables.due(kind.KIND.table, str(shard), FOR_EVER) if due.key[1] == kind.KIND.row]
            for record in (self.read(kind, key) for key in keys):
                if record is not None and not kind.KIND.is_over(record):
                    yield record

    def all(self, kind: type[R]) -> Iterator[R]:
        """Every record of this kind, from the whole table, for people. Raises: ServiceFailed."""
        return (read_item(kind, item) for item in self._tables.scan(kind.KIND.table) if item["row"] == kind.KIND.row)

    def sessions(self) -> Iterator[Session]:
        """Every session, from the whole table, for people. Raises: ServiceFailed."""
        return self.all(Session)

    def launches(self) -> Iterator[Launch]:
        """Every launch, from the whole table, for people. Raises: ServiceFailed."""
        return self.all(Launch)

    def _writes(self, record: Record) -> Iterator[Write]:
        kind = record.KIND
        key, item = kind.key(record), plain(record)
        if kind.has_deadline(record):
            item["shard"] = self._shard(key)
        else:
            item.pop("due", None)
        if (kept_since := kind.kept_since(record)) is not None:
            item["expires"] = int(kept_since + KEPT_S)
        yield Write(kind.table, (key, kind.row), item, record.version - 1)
        yield from kind.also(record)
        for view, entry in kind.items(record).items():
            if view != getattr(record, "set_key", view) and record.version > 1 and entry is not None:
                continue  # of a repository's open sessions only the number counts: written at the beginning, gone in the end
            row = f"{ITEM}{kind.read_order}-{kind.row}#{key}"
            yield Write(SESSIONS, (view, row), None if entry is None else plain(entry))

    def _shard(self, key: str) -> str:
        return str(zlib.crc32(key.encode()) % self._shards)


EMPTY: dict[Any, Any] = {float: 0.0, int: 0, bool: False}
"""What a field is that was absent, where it is no text."""


def read_item(kind: type[R], item: dict[str, Any]) -> R:
    """The record in an item; fields that were empty are absent there, and get their empty value back."""
    return msgspec.convert({**_empty_values(kind), **item}, kind)


@cache
def _empty_values(kind: type[Any]) -> dict[str, Any]:
    """The empty value of each required field. Kept for each kind: msgspec compiles all annotations anew at each asking."""
    return {
        field.name: EMPTY.get(field.type, () if str(field.type).startswith("tuple") else "")
        for field in msgspec.structs.fields(kind)
        if field.required
    }
