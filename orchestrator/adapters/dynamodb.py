"""Tables (ports) in DynamoDB. Names never stand in an expression themselves, so that no reserved word can break one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from orchestrator.adapters.aws import Clients, pages, translated
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.ports import Due, Key, Write

DUE_INDEX, INSTANCE_INDEX = "due-index", "instance-index"
KEYS = ("id", "row")
LOST = frozenset({"ConditionalCheckFailedException", "TransactionConflictException"})
LOST_RACES = frozenset({"ConditionalCheckFailed", "TransactionConflict"})


def table_definition(name: str) -> dict[str, Any]:
    """What CreateTable needs for one of our tables: keys, and the two sparse indexes."""
    keys = [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "row", "KeyType": "RANGE"}]
    due = [{"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "due", "KeyType": "RANGE"}]
    instance = [{"AttributeName": "instance_id", "KeyType": "HASH"}]
    types = {"id": "S", "row": "S", "shard": "S", "due": "N", "instance_id": "S"}
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": keys,
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": kind} for key, kind in types.items()],
        "GlobalSecondaryIndexes": [
            {"IndexName": DUE_INDEX, "KeySchema": due, "Projection": {"ProjectionType": "KEYS_ONLY"}},
            {"IndexName": INSTANCE_INDEX, "KeySchema": instance, "Projection": {"ProjectionType": "ALL"}},
        ],
    }


class DynamoTables:
    """Tables (ports); `names` gives each its name in this account."""

    def __init__(self, clients: Clients, names: Mapping[str, str]) -> None:
        self._clients, self._names = clients, dict(names)

    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """One item, read consistently."""
        name = self._names[table]
        with translated(f"dynamodb:GetItem on {name}"):
            answer = self._client.get_item(TableName=name, Key=_key(key), ConsistentRead=True)
        return _read(answer["Item"]) if "Item" in answer else None

    def write(self, writes: Sequence[Write]) -> None:
        """One PutItem or DeleteItem where one is enough: a transaction costs twice as much."""
        if len(writes) == 1:
            self._write_one(writes[0])
            return
        items = []
        for one in writes:
            action, told = self._action(one)
            items.append({action: told})
        try:
            with translated("dynamodb:TransactWriteItems"):
                self._client.transact_write_items(TransactItems=items)
        except ServiceFailed as error:
            raise _conflict_or(error) from error

    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """One UpdateItem, unconditional."""
        name = self._names[table]
        names = {f"#{at}": attribute for at, attribute in enumerate(also)}
        values = {f":{at}": written(value) for at, value in enumerate(also.values())}
        told = ", ".join(f"#{at} = :{at}" for at in range(len(also)))
        with translated(f"dynamodb:UpdateItem on {name}"):
            answer = self._client.update_item(
                TableName=name, Key=_key(key), UpdateExpression=f"ADD #version :one SET {told}", ReturnValues="UPDATED_NEW",
                ExpressionAttributeNames={"#version": "version", **names}, ExpressionAttributeValues={":one": {"N": "1"},
                **values},
            )  # fmt: skip
        return int(answer["Attributes"]["version"]["N"])

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """All pages, consistently, from the table itself."""
        return list(self._pages("query", table, _equals("id", partition), ConsistentRead=True))

    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """From the index, earliest first."""
        wanted = {
            "IndexName": DUE_INDEX, "KeyConditionExpression": "#shard = :shard AND #due <= :before",
            "ExpressionAttributeNames": {"#shard": "shard", "#due": "due"},
            "ExpressionAttributeValues": {":shard": {"S": shard}, ":before": written(before)},
        }  # fmt: skip
        for item in self._pages("query", table, wanted):
            yield Due((item["id"], item["row"]), float(item["due"]))

    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """Items of an instance, from the index."""
        return list(self._pages("query", table, {"IndexName": INSTANCE_INDEX, **_equals("instance_id", instance_id)}))

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """All pages, as they are asked for."""
        return self._pages("scan", table, {})

    def describe(self, table: str) -> dict[str, Any] | None:
        """Its description by DynamoDB; None: there is no such table. Raises: ServiceFailed."""
        name = self.name_of(table)
        try:
            with translated(f"dynamodb:DescribeTable {name}"):
                return dict(self._client.describe_table(TableName=name)["Table"])
        except ServiceFailed as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise

    def time_to_live(self, table: str) -> dict[str, Any]:
        """What DynamoDB says of its time to live; empty: there is no such table. Raises: ServiceFailed."""
        name = self.name_of(table)
        try:
            with translated(f"dynamodb:DescribeTimeToLive {name}"):
                return dict(self._client.describe_time_to_live(TableName=name)["TimeToLiveDescription"])
        except ServiceFailed as error:
            if error.code == "ResourceNotFoundException":
                return {}
            raise

    def name_of(self, table: str) -> str:
        """Its name in this account."""
        return self._names[table]

    @property
    def _client(self) -> Any:
        return self._clients.get("dynamodb")

    def _write_one(self, one: Write) -> None:
        action, told = self._action(one)
        try:
            with translated(f"dynamodb:{action}Item on {told['TableName']}"):
                (self._client.put_item if action == "Put" else self._client.delete_item)(**told)
        except ServiceFailed as error:
            raise _conflict_or(error) from error

    def _action(self, one: Write) -> tuple[str, dict[str, Any]]:
        told: dict[str, Any] = {"TableName": self._names[one.table]}
        if one.read is not None:
            told["ExpressionAttributeNames"] = {"#version": "version"}
            told["ConditionExpression"] = "#version = :read" if one.read else "attribute_not_exists(#version)"
            if one.read:
                told["ExpressionAttributeValues"] = {":read": {"N": str(one.read)}}
        if one.item is None:
            return "Delete", {**told, "Key": _key(one.key)}
        return "Put", {**told, "Item": {**{name: written(value) for name, value in one.item.items()}, **_key(one.key)}}

    def _pages(self, verb: str, table: str, wanted: dict[str, Any], **extra: Any) -> Iterator[dict[str, Any]]:
        name = self._names[table]
        found = self._client.get_paginator(verb).paginate(TableName=name, **wanted, **extra)
        for page in pages(f"dynamodb:{verb.capitalize()} on {name}", found):
            yield from map(_read, page["Items"])


def _equals(attribute: str, value: str) -> dict[str, Any]:
    return {
        "KeyConditionExpression": "#key = :value", "ExpressionAttributeNames": {"#key": attribute},
        "ExpressionAttributeValues": {":value": {"S": value}},
    }  # fmt: skip


def _key(key: Key) -> dict[str, Any]:
    return {name: {"S": value} for name, value in zip(KEYS, key, strict=True)}


def _conflict_or(error: ServiceFailed) -> Exception:
    """A lost race in its own words. Source: CancellationReasons of TransactionCanceledException."""
    answer = getattr(error.__cause__, "response", None) or {}  # a call without an answer has one, too: None
    reasons = {str(reason.get("Code")) for reason in answer.get("CancellationReasons", [])} - {"None"}
    if error.code in LOST or (error.code == "TransactionCanceledException" and reasons and reasons <= LOST_RACES):
        return Conflict("somebody wrote one of the items since it was read")
    return error


def written(value: Any) -> Any:
    """A value as DynamoDB types it."""
    return TypeSerializer().serialize(_decimal(value))


def _read(item: dict[str, Any]) -> dict[str, Any]:
    deserialize = TypeDeserializer().deserialize
    return {name: _plain(deserialize(value)) for name, value in item.items()}


def _decimal(value: Any) -> Any:
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, list | tuple):
        return [_decimal(one) for one in value]
    return {k: _decimal(v) for k, v in value.items()} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value
