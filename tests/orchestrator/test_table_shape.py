"""Tables of another shape than our records need are named, each with the command that corrects it; DynamoDB is moto's."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables, table_definition
from orchestrator.checks.table_shape import faults_of_expiry, faults_of_table
from orchestrator.readiness import Fault
from tests.conftest import Moto

NAME = "some-jobs"


def made(moto: Moto, **changes: Any) -> DynamoTables:
    """A table like ours but for these parameters of CreateTable."""
    moto.client("dynamodb").create_table(**{**table_definition(NAME), **changes})
    return tables()


def tables() -> DynamoTables:
    return DynamoTables(Clients(), {"jobs": NAME})


def looked(found: DynamoTables) -> list[Fault]:
    return list(faults_of_table("JOBS_TABLE", table_definition(NAME), found.describe("jobs")))


def indexes(*wanted: str, **changes: Any) -> list[dict[str, Any]]:
    found = copy.deepcopy(table_definition(NAME)["GlobalSecondaryIndexes"])
    return [{**index, **changes} for index in found if index["IndexName"] in wanted]


def attributes(*names: str) -> list[dict[str, str]]:
    return [one for one in table_definition(NAME)["AttributeDefinitions"] if one["AttributeName"] in names]


def test_a_table_as_it_is_documented_has_no_fault(moto: Moto) -> None:
    assert looked(made(moto)) == []


def test_a_table_that_is_missing_is_named_with_its_setting_and_a_command_that_makes_it(moto: Moto) -> None:
    (fault,) = looked(tables())

    assert (fault.setting, fault.found, fault.holds) == ("RUNS_FLEET_JOBS_TABLE", f"no table {NAME}", True)
    wanted = json.loads(re.search(r"--cli-input-json '(.*)'", fault.remedy)[1])  # type: ignore[index]
    moto.client("dynamodb").create_table(**wanted)
    assert looked(tables()) == []


@pytest.mark.parametrize("missing", ["due-index", "instance-index"])
def test_an_index_that_is_missing_is_named_with_a_command_that_makes_it(moto: Moto, missing: str) -> None:
    other = {"due-index": "instance-index", "instance-index": "due-index"}[missing]
    used = {"due-index": ("shard", "due"), "instance-index": ("instance_id",)}[other]
    found = made(moto, GlobalSecondaryIndexes=indexes(other), AttributeDefinitions=attributes("id", "row", *used))

    (fault,) = looked(found)

    assert (fault.found, fault.holds) == (f"{NAME} has no index {missing}", True)
    wanted = json.loads(re.search(r"--cli-input-json '(.*)'", fault.remedy)[1])  # type: ignore[index]
    for change in wanted["GlobalSecondaryIndexUpdates"]:
        change["Create"].setdefault(
            "ProvisionedThroughput", {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
        )  # moto asks for it
    moto.client("dynamodb").update_table(**wanted)
    assert looked(tables()) == []


def test_an_index_that_projects_too_little_would_lose_fields_of_records(moto: Moto) -> None:
    few = indexes("due-index") + indexes("instance-index", Projection={"ProjectionType": "KEYS_ONLY"})

    (fault,) = looked(made(moto, GlobalSecondaryIndexes=few))

    assert (fault.found, fault.expected) == (f"the index instance-index of {NAME} projects KEYS_ONLY", "projection ALL")
    assert fault.holds


def test_an_index_that_projects_more_than_is_needed_will_do(moto: Moto) -> None:
    much = indexes("due-index", Projection={"ProjectionType": "ALL"}) + indexes("instance-index")

    assert looked(made(moto, GlobalSecondaryIndexes=much)) == []


def test_a_deadline_kept_as_text_would_be_compared_as_text(moto: Moto) -> None:
    kinds = [{**one, "AttributeType": "S"} for one in table_definition(NAME)["AttributeDefinitions"]]

    (fault,) = looked(made(moto, AttributeDefinitions=kinds))

    assert "due (RANGE, S)" in fault.found and "due (RANGE, N)" in fault.expected


def test_a_table_without_its_second_key_is_another_table(moto: Moto) -> None:
    keys = [{"AttributeName": "id", "KeyType": "HASH"}]
    found = made(moto, KeySchema=keys, AttributeDefinitions=attributes("id", "shard", "due", "instance_id"))

    (fault,) = looked(found)

    assert (fault.found, fault.holds) == (f"{NAME} has the keys id (HASH, S)", True)


def test_a_table_that_is_still_being_made_is_waited_for() -> None:
    told = {**table_definition(NAME), "TableStatus": "CREATING"}

    (fault,) = faults_of_table("JOBS_TABLE", table_definition(NAME), told)

    assert (fault.found, fault.holds) == (f"{NAME} is CREATING", True)


def test_without_time_to_live_old_records_would_stay_for_ever_and_the_remedy_switches_it_on(moto: Moto) -> None:
    found = made(moto)
    (fault,) = faults_of_expiry("JOBS_TABLE", NAME, found.time_to_live("jobs"))

    assert (fault.found, fault.holds) == (f"{NAME} has no time to live", False)
    assert fault.remedy.endswith("Enabled=true,AttributeName=expires")
    moto.client("dynamodb").update_time_to_live(
        TableName=NAME, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    )
    assert list(faults_of_expiry("JOBS_TABLE", NAME, found.time_to_live("jobs"))) == []


def test_time_to_live_by_another_attribute_is_none(moto: Moto) -> None:
    found = made(moto)
    moto.client("dynamodb").update_time_to_live(TableName=NAME, TimeToLiveSpecification={"Enabled": True, "AttributeName": "due"})

    (fault,) = faults_of_expiry("JOBS_TABLE", NAME, found.time_to_live("jobs"))

    assert fault.found == f"{NAME} has time to live by due"


def told(**changes: Any) -> dict[str, Any]:
    """DescribeTable's answer of a right table, but for these."""
    return {
        **table_definition(NAME),
        "TableStatus": "ACTIVE",
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        **changes,
    }


def faults(found: dict[str, Any]) -> list[Fault]:
    return list(faults_of_table("JOBS_TABLE", table_definition(NAME), found))


@pytest.mark.parametrize(("status", "number"), [("CREATING", 1), ("DELETING", 1), ("ACTIVE", 0), ("UPDATING", 0)])
def test_an_index_that_is_being_made_answers_nothing_yet(status: str, number: int) -> None:
    found = faults(told(GlobalSecondaryIndexes=indexes("due-index", "instance-index", IndexStatus=status)))

    assert len(found) == 2 * number and all(fault.holds and status in fault.found for fault in found)


def test_an_index_of_a_table_with_provisioned_capacity_is_made_with_some() -> None:
    found = told(GlobalSecondaryIndexes=indexes("due-index"), BillingModeSummary={"BillingMode": "PROVISIONED"})

    assert '"ProvisionedThroughput":{"ReadCapacityUnits":5' in faults(found)[0].remedy


@pytest.mark.parametrize(
    "found",
    [
        told(KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}]),
        told(GlobalSecondaryIndexes=indexes("due-index") + indexes("instance-index", Projection={"ProjectionType": "KEYS_ONLY"})),
    ],
)
def test_no_remedy_deletes_a_table(found: dict[str, Any]) -> None:
    assert not any("delete-table" in fault.remedy or "delete the table" in fault.remedy for fault in faults(found))


def test_time_to_live_by_another_attribute_is_switched_off_first() -> None:
    (fault,) = faults_of_expiry("JOBS_TABLE", NAME, {"TimeToLiveStatus": "ENABLED", "AttributeName": "due"})

    off, on = fault.remedy.index("Enabled=false,AttributeName=due"), fault.remedy.index("Enabled=true,AttributeName=expires")
    assert off < on
