"""Whether a DynamoDB table has the shape that our records need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.environment import PREFIX
from orchestrator.readiness import Fault

EXPIRY = "expires"
"""The attribute by which DynamoDB removes what is no longer wanted."""


def faults_of_table(setting: str, wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> Iterator[Fault]:
    """`wanted`: CreateTable's parameters; `found`: `Table` of DescribeTable's answer, None: there is no such table."""
    name, setting = str(wanted["TableName"]), PREFIX + setting
    create = f"aws dynamodb create-table --cli-input-json '{json.dumps(wanted, separators=(',', ':'))}'"
    if found is None:
        yield Fault(setting=setting, found=f"no table {name}", expected="a table of this name", remedy=create, holds=True)
        return
    status = str(found.get("TableStatus", ""))
    if status not in ("ACTIVE", "UPDATING"):
        wait = f"aws dynamodb wait table-exists --table-name {name}"
        yield Fault(setting=setting, found=f"{name} is {status}", expected="an active table", remedy=wait, holds=True)
        return
    anew = f"delete the table and make it anew, or name another one: {create}"
    if _keys(wanted, found) != _keys(wanted, wanted):
        kinds = f"{name} has the keys {_words(_keys(wanted, found))}"
        yield Fault(setting=setting, found=kinds, expected=f"the keys {_words(_keys(wanted, wanted))}", remedy=anew, holds=True)
    have = {str(index["IndexName"]): index for index in found.get("GlobalSecondaryIndexes", ())}
    for index in wanted["GlobalSecondaryIndexes"]:
        yield from _faults_of_index(setting, name, wanted, found, index, have.get(index["IndexName"]))


def faults_of_expiry(setting: str, name: str, found: Mapping[str, Any]) -> Iterator[Fault]:
    """`found`: `TimeToLiveDescription` of DescribeTimeToLive's answer."""
    status, attribute = str(found.get("TimeToLiveStatus", "DISABLED")), str(found.get("AttributeName", ""))
    if status in ("ENABLED", "ENABLING") and attribute == EXPIRY:
        return
    on = f"time to live by {attribute}" if status in ("ENABLED", "ENABLING") else "no time to live"
    specification = f"--time-to-live-specification Enabled=true,AttributeName={EXPIRY}"
    remedy = f"aws dynamodb update-time-to-live --table-name {name} {specification}"
    yield Fault(setting=PREFIX + setting, found=f"{name} has {on}", expected=f"time to live by {EXPIRY}", remedy=remedy)


def _faults_of_index(
    setting: str, name: str, wanted: Mapping[str, Any], table: Mapping[str, Any], index: Mapping[str, Any],
    found: Mapping[str, Any] | None,
) -> Iterator[Fault]:  # fmt: skip
    title, kind = index["IndexName"], index["Projection"]["ProjectionType"]
    schemas = [wanted, index, *(one for one in table.get("GlobalSecondaryIndexes", ()) if one["IndexName"] != title)]
    used = {key for schema in schemas for key, _ in _schema(schema)}
    attributes = [one for one in wanted["AttributeDefinitions"] if one["AttributeName"] in used]
    update = {
        "TableName": name, "AttributeDefinitions": attributes, "GlobalSecondaryIndexUpdates": [{"Create": dict(index)}],
    }  # fmt: skip
    create = f"aws dynamodb update-table --cli-input-json '{json.dumps(update, separators=(',', ':'))}'"
    if found is None:
        yield Fault(setting=setting, found=f"{name} has no index {title}", expected="that index", remedy=create, holds=True)
        return
    drop = {"Delete": {"IndexName": title}}
    delete = f"aws dynamodb update-table --table-name {name} --global-secondary-index-updates '{json.dumps([drop])}'"
    anew = f"delete the index ({delete}), wait until it is gone, and make it anew: {create}"
    types = {str(one["AttributeName"]): str(one["AttributeType"]) for one in table.get("AttributeDefinitions", ())}
    right = {str(one["AttributeName"]): str(one["AttributeType"]) for one in wanted["AttributeDefinitions"]}
    keys = [(key, role, types.get(key, "?")) for key, role in _schema(found)]
    needed = [(key, role, right[key]) for key, role in _schema(index)]
    if keys != needed:
        told = f"the index {title} of {name} has the keys {_words(keys)}"
        yield Fault(setting=setting, found=told, expected=f"the keys {_words(needed)}", remedy=anew, holds=True)
    projected = str(found.get("Projection", {}).get("ProjectionType", ""))
    if projected not in (kind, "ALL"):
        told = f"the index {title} of {name} projects {projected}"
        yield Fault(setting=setting, found=told, expected=f"projection {kind}", remedy=anew, holds=True)


def _schema(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key["AttributeName"]), str(key["KeyType"])) for key in told.get("KeySchema", ())]


def _keys(wanted: Mapping[str, Any], told: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    types = {str(one["AttributeName"]): str(one["AttributeType"]) for one in told.get("AttributeDefinitions", ())}
    return [(key, role, types.get(key, "?")) for key, role in _schema(told)]


def _words(keys: list[tuple[str, str, str]]) -> str:
    return ", ".join(f"{key} ({role}, {kind})" for key, role, kind in keys) or "none"
