"""What the orchestrator needs from the world, each as small as the need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


class Clock(Protocol):
    """Wall time."""

    def now(self) -> float:
        """The time now, in epoch seconds."""


class Timepiece(Clock, Protocol):
    """For those that wait, or count what happens within a time."""

    def monotonic_s(self) -> float:
        """Seconds since some moment, which nobody sets back."""

    def pause(self, seconds: float) -> None:
        """Return after so long, or a little later."""


class Ids(Protocol):
    """Random ids."""

    def fresh(self) -> str:
        """Sixteen hexadecimal digits that nobody had before."""


class Journal(Protocol):
    """The orchestrator's own log."""

    def event(self, name: str, **fields: object) -> None:
        """One line: a name that never varies, and fields."""


class WorkerPool(Protocol):
    """Workers for what may be done side by side."""

    def run_all(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """Do all, some at once; returns what failed, when all have ended."""

    def exclusive(self, name: str) -> AbstractContextManager[object]:
        """A lock of this process, by name. Not re-entrant: a task that holds it must not ask for it again."""


class Wakes(Protocol):
    """The way to have a label set looked at soon. Losing one is harmless: what it was for stands in the tables."""

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        """Soon, and once for many wakes in between; or after so many seconds."""


Key = tuple[str, str]
"""Partition and row."""


@dataclass(frozen=True)
class Write:
    """One item of a transaction: becomes `item`, or goes (None), provided that its version is still `read`.

    `read` 0: provided that there is none; None: whatever is there.
    """

    table: str
    key: Key
    item: Mapping[str, Any] | None
    read: int | None = None


@dataclass(frozen=True)
class Due:
    """An entry of the index of deadlines. It may be some seconds old: read the record before acting on it."""

    key: Key
    at: float


class Tables(Protocol):
    """DynamoDB, as far as we use it: items of plain values under (partition, row); a number `version` counts their writes.

    Only an item with `shard` and `due` is in the index of deadlines, only one with `instance_id` in that of instances. What may
    not be stored (an empty string as an index key,
    more than 400 KB) is a ServiceFailed. Source: DynamoDB quotas and "GSI" chapters.
    """

    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """Read consistently. Raises: ServiceFailed."""

    def write(self, writes: Sequence[Write]) -> None:
        """All, or Conflict and none; at most 100. Raises: Conflict, ServiceFailed, Unanswered: perhaps written."""

    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """Add one to the item's version, made if need be, and set `also`; returns the new version. Raises: ServiceFailed."""

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """Every item of a partition, all pages, read consistently from the table itself. Raises: ServiceFailed."""

    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """From the index, earliest first, page by page as they are asked for. Raises: ServiceFailed."""

    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """From the index. Raises: ServiceFailed."""

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """Everything, for people. Raises: ServiceFailed."""


@dataclass(frozen=True)
class Received:
    """One message; `receipt` deletes it."""

    body: str
    receipt: str
    sender: str = ""
    """SQS's own word for who sent it (`AROA…:i-…`); empty where the queue does not say."""
    waited_s: float = 0.0
    """How long it lay there before this; 0: the queue does not say."""


class Queue(Protocol):
    """One SQS queue."""

    def send(self, body: str, group: str, deduplication: str) -> None:
        """Durable on return. Raises: ServiceFailed."""

    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten. Raises: ServiceFailed."""

    def delete(self, receipt: str) -> None:
        """Done with it. Raises: ServiceFailed."""

    def depth(self) -> int:
        """How many messages wait, about. Raises: ServiceFailed."""

    def age_s(self) -> float:
        """How long the longest-lying message had waited of those received here since this was asked last; 0: none was."""


class Configurations(Protocol):
    """Where the configurations of this stack's machines are written, each readable by its own machine only."""

    def put(self, instance_id: str, value: str) -> bool:
        """Lay it down, or find exactly this there (the answer to an earlier try was lost); False: another one is there.

        Raises: ServiceFailed.
        """

    def replace(self, instance_id: str, value: str) -> bool:
        """Have this there instead of another; False: the other one is deleted, and it may be laid down in a while.

        Raises: ServiceFailed.
        """

    def exists(self, instance_id: str) -> bool:
        """Whether it is there, without reading it. Raises: ServiceFailed."""

    def delete(self, instance_id: str) -> None:
        """Gone already is success. Raises: ServiceFailed."""

    def instances(self) -> Iterator[str]:
        """Whose are there, of this stack's. Raises: ServiceFailed."""
