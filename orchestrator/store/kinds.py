"""What a kind of record is: one description, from which everything else follows.

A record's class carries its description (`KIND`). It says where the record lies, when it is over and forgotten, whether
somebody has to look at it, what it leaves in which view, and which states may follow each other. A new kind of record is one
class with one description; nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from orchestrator.ports import Write
from orchestrator.store.resources import NOTHING, Resources

R = TypeVar("R")
Kept = TypeVar("Kept", bound=msgspec.Struct)


class OpenItem(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an open record that decisions about a label set need. It lies in the label set's view."""

    kind: str
    """The row of its record: `job`, `launch`, `session`."""
    identity: str
    state: str
    since: float = 0.0
    """Since when the record is in its state; epoch seconds."""
    wants_session: bool = False
    """Whether it is work that waits for a session now."""
    source: str = ""
    """Of work: the name of its source."""
    bound: bool = False
    """Of a session: whether it is known which work it does."""
    leaving: bool = False
    """Of a session: its machine is going away."""
    non_interruptible: bool = False
    """Of work and of a launch: as in its record; of a session: its machine is not taken back."""
    run_id: str = ""
    each: Resources = NOTHING
    """Of each of its machines, at most."""
    sessions: tuple[str, ...] = ()
    """Of a launch: those of this label set that may still get a machine."""


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth telling whoever asks why. `at`: epoch seconds."""

    at: float
    what: str


def _never(record: Any) -> bool:
    return False


def _nothing(record: Any) -> Mapping[str, OpenItem | None]:
    return {}


def _nobody(record: Any) -> float | None:
    return None


def _no_writes(record: Any) -> Iterator[Write]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[R]):
    """The description of one kind of record. Its functions are pure."""

    table: str
    row: str
    key: Callable[[R], str]
    """The id under which a record is kept: its partition."""
    is_over: Callable[[R], bool] = _never
    """Whether it needs no machine and nobody's attention any more."""
    is_due: Callable[[R], bool] | None = None
    """Whether its `due` stands in the index of deadlines; None: as long as it is not over, if it has one."""
    kept_since: Callable[[R], float | None] = _nobody
    """From when on it is kept for `tables.KEPT_S`, epoch seconds; None: somebody still needs it."""
    items: Callable[[R], Mapping[str, OpenItem | None]] = _nothing
    """What it leaves in which views: view's key to item, None: no item any more."""
    read_order: int = 9
    """The place of its items in a view, which is read row by row and is no snapshot (see `records.py`)."""
    also: Callable[[R], Iterator[Write]] = _no_writes
    """What is written in the same transaction beside it."""
    transitions: Mapping[StrEnum, frozenset[StrEnum]] = field(default_factory=dict)
    """Which state may follow which; what is not here does not happen."""
    transitions_by_word: Mapping[StrEnum, frozenset[StrEnum]] = field(default_factory=dict)
    """What may follow besides, if the origin of the work was asked and says so."""

    def has_deadline(self, record: R) -> bool:
        """Whether the record stands in the index of deadlines now."""
        if self.is_due is not None:
            return self.is_due(record)
        return hasattr(record, "due") and not self.is_over(record)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What every record has: a description of its kind, and a version that counts its writes."""

    KIND: ClassVar[Kind[Any]]
    version: int = 0


def is_over(record: Record) -> bool:
    """Whether it needs no machine and nobody's attention any more (an ended session may still have remains to remove)."""
    return record.KIND.is_over(record)


def may_become(record: Record, state: StrEnum, *, asked: bool = False) -> bool:
    """Whether the kind's table allows the state: a late or repeated event that it does not allow changes nothing.

    `asked`: the origin of the work was asked and says so.
    """
    kind, current = record.KIND, record.state  # type: ignore[attr-defined]
    by_word = kind.transitions_by_word.get(current, frozenset()) if asked else frozenset()
    return state in kind.transitions[current] | by_word


def changed(record: Kept, **changes: object) -> Kept:
    """A copy of the record with these fields."""
    return msgspec.structs.replace(record, **changes)
