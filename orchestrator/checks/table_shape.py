"""Whether a DynamoDB table has the shape that our records need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.contract.variables import PREFIX
from orchestrator.readiness import Fault

WAITS = {
    "CREATING": "nothing: it is being made (aws dynamodb wait table-exists --table-name {name})",
    "DELETING": "wait until it is gone (aws dynamodb wait table-not-exists --table-name {name}), and make it anew",
    "INACCESSIBLE_ENCRYPTION_CREDENTIALS": "enable the KMS key of the table, and let this role use it",
}
"""What to do about a table that is not active, by its status. Source: TableStatus in the DynamoDB API reference."""
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
        wait = WAITS.get(status, "look at the table in the console: only its owner can help").format(name=name)
        yield Fault(setting=setting, found=f"{name} is {status}", expected="an active table", remedy=wait, holds=True)
        return
    other = json.dumps({**wanted, "TableName": f"{name}-2"}, separators=(",", ":"))
    anew = f"name another table in {setting}: aws dynamodb create-table --cli-input-json '{other}'"
    if (keys := _keys(found, found)) != (needed := _keys(wanted, wanted)):
        kinds = f"{name} has the keys {_words(keys)}"
        yield Fault(setting=setting, found=kinds, expected=f"the keys {_words(needed)}", remedy=anew, holds=True)
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
    if on != "no time to live":
        off = f"--time-to-live-specification Enabled=false,AttributeName={attribute}"
        remedy = f"aws dynamodb update-time-to-live --table-name {name} {off}; and an hour later, because it is limited: {remedy}"
    yield Fault(setting=PREFIX + setting, found=f"{name} has {on}", expected=f"time to live by {EXPIRY}", remedy=remedy)


def _faults_of_index(
    setting: str, name: str, wanted: Mapping[str, Any], table: Mapping[str, Any], index: Mapping[str, Any],
    found: Mapping[str, Any] | None,
) -> Iterator[Fault]:  # fmt: skip
    title, kind = index["IndexName"], index["Projection"]["ProjectionType"]
    schemas = [wanted, index, *(one for one in table.get("GlobalSecondaryIndexes", ()) if one["IndexName"] != title)]
    used = {key for schema in schemas for key, _ in _schema(schema)}
    attributes = [one for one in wanted["AttributeDefinitions"] if one["AttributeName"] in used]
    made = dict(index)
    if (table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED") == "PROVISIONED":
        made["ProvisionedThroughput"] = {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}
    update = {"TableName": name, "AttributeDefinitions": attributes, "GlobalSecondaryIndexUpdates": [{"Create": made}]}
    create = f"aws dynamodb update-table --cli-input-json '{json.dumps(update, separators=(',', ':'))}'"
    if found is None:
        told = f"{create} (one index at a time: wait until another one is there)"
        yield Fault(setting=setting, found=f"{name} has no index {title}", expected="that index", remedy=told, holds=True)
        return
    if (status := str(found.get("IndexStatus", "ACTIVE"))) not in ("ACTIVE", "UPDATING"):
        told = f"the index {title} of {name} is {status}"
        yield Fault(
            setting=setting, found=told, expected="an active index", holds=True,
            remedy="nothing, if it is being made: it is active once it is filled",
        )  # fmt: skip
    drop = {"Delete": {"IndexName": title}}
    delete = f"aws dynamodb update-table --table-name {name} --global-secondary-index-updates '{json.dumps([drop])}'"
    anew = f"delete the index ({delete}), wait until it is gone, and make it anew: {create}"
    if (keys := _keys(found, table)) != (needed := _keys(index, wanted)):
        told = f"the index {title} of {name} has the keys {_words(keys)}"
        yield Fault(setting=setting, found=told, expected=f"the keys {_words(needed)}", remedy=anew, holds=True)
    projected = str(found.get("Projection", {}).get("ProjectionType", ""))
    if kind != "KEYS_ONLY" and projected not in (kind, "ALL"):
        told = f"the index {title} of {name} projects {projected}"
        yield Fault(setting=setting, found=told, expected=f"projection {kind}", remedy=anew, holds=True)


def _schema(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key["AttributeName"]), str(key["KeyType"])) for key in told.get("KeySchema", ())]


def _keys(schema: Mapping[str, Any], table: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The keys of a table, or of an index of it, each with its role and its type."""
    types = {str(one["AttributeName"]): str(one["AttributeType"]) for one in table.get("AttributeDefinitions", ())}
    return [(key, role, types.get(key, "?")) for key, role in _schema(schema)]


def _words(keys: list[tuple[str, str, str]]) -> str:
    return ", ".join(f"{key} ({role}, {kind})" for key, role, kind in keys) or "none"
