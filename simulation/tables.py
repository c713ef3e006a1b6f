"""The twin of DynamoDB's tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.json import decode, encode

from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Due, Key, Write
from simulation.calls import Calls, call
from simulation.clock import VirtualTime


class MemoryTables:
    """Tables (ports) with DynamoDB's rules: versions, whole transactions, limits of size, and indexes that lag behind."""

    ITEM_BYTES, TRANSACTION = 400 * 1024, 100

    def __init__(self, clock: VirtualTime, calls: Calls | None = None, index_lag_s: float = 0.0) -> None:
        self._clock, self._calls, self.index_lag_s = clock, calls or Calls(), index_lag_s
        self._items: dict[str, dict[Key, tuple[int, bytes]]] = defaultdict(dict)
        """Of each table, each item's version and its text."""
        self._due: dict[tuple[str, str], dict[Key, float]] = defaultdict(dict)
        self._by_instance: dict[str, dict[Key, bytes]] = defaultdict(dict)
        self._shard_of: dict[tuple[str, Key], str] = {}
        self._coming: list[tuple[float, str, Key, Mapping[str, Any] | None, bytes]] = []
        self.examined = 0
        """Items that reads have touched."""

    def peek(self, table: str, key: Key) -> dict[str, Any] | None:
        """What was written last, at no call."""
        found = self._items[table].get(key)
        return decode(found[1]) if found is not None else None

    @call("tables.get")
    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """The item that was written last."""
        found = self.peek(table, key)
        self.examined += found is not None
        return found

    @call("tables.write")
    def write(self, writes: Sequence[Write]) -> None:
        """All writes of a transaction, or none."""
        places = {(one.table, one.key) for one in writes}
        if not 0 < len(writes) <= self.TRANSACTION or len(places) != len(writes):
            raise ServiceFailed("dynamodb:TransactWriteItems", "ValidationException", "too many items, or one item twice")
        texts = [self._text(one.key, one.item) for one in writes]
        for one in writes:
            if one.read is not None and self._version(one.table, one.key) != one.read:
                raise Conflict("somebody wrote one of the items since it was read")
        for one, text in zip(writes, texts, strict=True):
            self._put(one.table, one.key, one.item, text)

    @call("tables.count")
    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """Add to the item, unconditionally."""
        version = self._version(table, key) + 1
        item = (self.peek(table, key) or {}) | dict(also) | {"version": version}
        self._put(table, key, item, self._text(key, item))
        return version

    @call("tables.rows")
    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """In the order of their rows."""
        found = sorted((key, text) for key, (_, text) in self._items[table].items() if key[0] == partition)
        self.examined += len(found)
        return [decode(text) for _, text in found]

    @call("tables.due")
    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """As far as the index has heard."""
        self._hear()
        for at, key in sorted((at, key) for key, at in self._due[table, shard].items() if at <= before):
            self.examined += 1
            yield Due(key, at)

    @call("tables.of_instance")
    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """As far as the index has heard."""
        self._hear()
        items = [decode(text) for text in self._by_instance[table].values()]
        found = [item for item in items if item["instance_id"] == instance_id]
        self.examined += len(found)
        return found

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """Every item of the table."""
        found = [decode(text) for _, text in self._items[table].values()]
        self.examined += len(found)
        return iter(found)

    def _version(self, table: str, key: Key) -> int:
        return self._items[table].get(key, (0, b""))[0]

    def _text(self, key: Key, item: Mapping[str, Any] | None) -> bytes:
        """The item as it is kept. Raises: ServiceFailed where DynamoDB would not take it."""
        if item is None:
            return b""
        text = encode({**item, "id": key[0], "row": key[1]})
        if len(text) > self.ITEM_BYTES or item.get("shard") == "" or item.get("instance_id") == "":
            raise ServiceFailed("dynamodb:PutItem", "ValidationException", "an empty index key, or more than 400 KB")
        return text

    def _put(self, table: str, key: Key, item: Mapping[str, Any] | None, text: bytes) -> None:
        if item is None:
            self._items[table].pop(key, None)
        else:
            self._items[table][key] = (int(item.get("version", 0)), text)
        self._coming.append((self._clock.now() + self.index_lag_s, table, key, item, text))

    def _hear(self) -> None:
        if not self._coming:
            return
        now = self._clock.now()
        heard = [change for change in self._coming if change[0] <= now]
        self._coming = [change for change in self._coming if change[0] > now]
        for _, table, key, item, text in heard:
            self._due[table, self._shard_of.pop((table, key), "")].pop(key, None)
            self._by_instance[table].pop(key, None)
            if item is None:
                continue
            if "shard" in item and "due" in item:
                self._due[table, item["shard"]][key] = item["due"]
                self._shard_of[table, key] = item["shard"]
            if "instance_id" in item:
                self._by_instance[table][key] = text
