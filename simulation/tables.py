"""The twin of DynamoDB's tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Due, Key, Write
from simulation.calls import Calls, call
from simulation.clock import VirtualTime


class MemoryTables:
    """Tables (ports) with DynamoDB's rules: versions, whole transactions, limits of size, and indexes that lag behind."""

    ITEM_BYTES, TRANSACTION = 400 * 1024, 100

    def __init__(self, clock: VirtualTime, calls: Calls | None = None, index_lag_s: float = 0.0) -> None:
        self._clock, self._calls, self.index_lag_s = clock, calls or Calls(), index_lag_s
        self._items: dict[tuple[str, Key], str] = {}
        self._index: dict[tuple[str, Key], dict[str, Any]] = {}
        self._coming: list[tuple[float, tuple[str, Key], dict[str, Any]]] = []
        self.examined = 0
        """Items that reads have touched."""

    def peek(self, table: str, key: Key) -> dict[str, Any] | None:
        """What was written last, at no call."""
        item = self._items.get((table, key))
        return json.loads(item) if item is not None else None

    @call("tables.get")
    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """The item that was written last."""
        found = self._items.get((table, key))
        self.examined += found is not None
        return json.loads(found) if found is not None else None

    @call("tables.write")
    def write(self, writes: Sequence[Write]) -> None:
        """All writes of a transaction, or none."""
        places = [(one.table, one.key) for one in writes]
        if not 0 < len(writes) <= self.TRANSACTION or len(set(places)) != len(places):
            raise ServiceFailed("dynamodb:TransactWriteItems", "ValidationException", "too many items, or one item twice")
        for one in writes:
            if one.item is not None:
                self._check(one.item)
            if one.read is not None and self._version((one.table, one.key)) != one.read:
                raise Conflict("somebody wrote one of the items since it was read")
        for one in writes:
            self._put((one.table, one.key), one.item)

    @call("tables.count")
    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """Add to the item, unconditionally."""
        place = (table, key)
        item = json.loads(self._items.get(place, "{}")) | dict(also) | {"version": self._version(place) + 1}
        self._check(item)
        self._put(place, item)
        return int(item["version"])

    @call("tables.rows")
    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """In the order of their rows."""
        places = sorted(place for place in self._items if place[0] == table and place[1][0] == partition)
        self.examined += len(places)
        return [json.loads(self._items[place]) for place in places]

    @call("tables.due")
    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """As far as the index has heard."""
        self._hear()
        entries = [
            (entry["due"], place[1]) for place, entry in self._index.items() if place[0] == table and entry.get("shard") == shard
        ]
        for at, key in sorted(entry for entry in entries if entry[0] <= before):
            self.examined += 1
            yield Due(key, at)

    @call("tables.of_instance")
    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """As far as the index has heard."""
        self._hear()
        found = [
            e["item"] for place, e in self._index.items() if place[0] == table and e["item"].get("instance_id") == instance_id
        ]
        self.examined += len(found)
        return found

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """Every item of the table."""
        found = [json.loads(item) for place, item in list(self._items.items()) if place[0] == table]
        self.examined += len(found)
        return iter(found)

    def _version(self, place: tuple[str, Key]) -> int:
        return int(json.loads(self._items[place]).get("version", 0)) if place in self._items else 0

    def _check(self, item: Mapping[str, Any]) -> None:
        text = json.dumps(item, ensure_ascii=False)
        if len(text.encode()) > self.ITEM_BYTES or any(item.get(name) == "" for name in ("shard", "instance_id")):
            raise ServiceFailed("dynamodb:PutItem", "ValidationException", "an empty index key, or more than 400 KB")

    def _put(self, place: tuple[str, Key], item: Mapping[str, Any] | None) -> None:
        if item is None:
            self._items.pop(place, None)
        else:
            self._items[place] = json.dumps({**item, "id": place[1][0], "row": place[1][1]})
        entry: dict[str, Any] = {}
        if item is not None and ("shard" in item or "instance_id" in item):
            entry = {"item": json.loads(self._items[place]), **{k: item[k] for k in ("shard", "due") if k in item}}
        self._coming.append((self._clock.now() + self.index_lag_s, place, entry))

    def _hear(self) -> None:
        heard = [change for change in self._coming if change[0] <= self._clock.now()]
        self._coming = [change for change in self._coming if change[0] > self._clock.now()]
        for _, place, entry in heard:
            if entry:
                self._index[place] = entry
            else:
                self._index.pop(place, None)
