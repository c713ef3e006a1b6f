"""The cloud's bad behaviour: off until switched on, and as EC2 shows them when they are."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from orchestrator.adapters.dynamodb import table_definition
from sandbox.chaos import FAULTS, HOSTILE, STORM, read_faults
from sandbox.cloud import Cloud
from sandbox.faults import Faults
from sandbox.imds import Metadata
from sandbox.rates import Rates
from tests.waiting import sooner_or_later


class BareInstances:
    """Instances that have metadata and nothing else."""

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}

    def boot(self, instance_id: str, user_data: str) -> None:
        self.machines[instance_id] = type("Machine", (), {"metadata": Metadata(instance_id, "us-east-1")})()

    def end(self, instance_id: str) -> None:
        if machine := self.machines.pop(instance_id, None):
            machine.metadata.stop()

    def stop(self) -> None:
        for instance_id in list(self.machines):
            self.end(instance_id)

    def console(self, instance_id: str) -> str:
        return ""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    up = Cloud(tmp_path_factory.mktemp("cloud"), BareInstances()).start()
    yield up
    up.stop()


@pytest.fixture
def passes(cloud: Cloud) -> Callable[[float], None]:
    """From now on the faults's clock stands still; called, it goes on by so many seconds."""
    told = [time.monotonic()]
    cloud.faults.clock = lambda: told[0]

    def on(seconds: float) -> None:
        told[0] += seconds

    return on


@pytest.fixture
def cloud(standing: Cloud) -> Cloud:
    """Fair faults, one template, one events queue."""
    urllib.request.urlopen(f"{standing.url}/moto-api/reset", data=b"", timeout=600).close()
    standing.faults = Faults()
    data = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m7i.large", "UserData": ""}
    standing.client("ec2").create_launch_template(LaunchTemplateName="template", LaunchTemplateData=data)
    standing.events_queue_url = standing.client("sqs").create_queue(QueueName="events")["QueueUrl"]
    return standing


def fleet(cloud: Cloud, *kinds: str, count: int = 1, market: str = "spot", token: str = "") -> dict[str, Any]:
    subnets = [subnet["SubnetId"] for subnet in cloud.client("ec2").describe_subnets()["Subnets"][:2]]
    overrides = [{"InstanceType": kind, "SubnetId": subnet} for kind in kinds or ("m7i.large",) for subnet in subnets]
    answer: dict[str, Any] = cloud.client("ec2").create_fleet(
        ClientToken=token or uuid.uuid4().hex, Type="instant",
        LaunchTemplateConfigs=[
            {"LaunchTemplateSpecification": {"LaunchTemplateName": "template", "Version": "1"}, "Overrides": overrides}
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": count, "DefaultTargetCapacityType": market},
    )  # fmt: skip
    return answer


def given(answer: dict[str, Any]) -> list[str]:
    return [identity for group in answer.get("Instances", []) for identity in group["InstanceIds"]]


def kinds_of(cloud: Cloud, instance_ids: list[str]) -> set[str]:
    found = cloud.client("ec2").describe_instances(InstanceIds=instance_ids)["Reservations"]
    return {i["InstanceType"] for reservation in found for i in reservation["Instances"]}


def test_in_fair_weather_a_fleet_is_filled_without_complaint(cloud: Cloud) -> None:
    answer = fleet(cloud, count=3)

    assert (len(given(answer)), answer.get("Errors", [])) == (3, [])


def test_a_type_without_capacity_is_named_and_the_next_is_given(cloud: Cloud) -> None:
    cloud.faults.full = {"c7i.large"}

    answer = fleet(cloud, "c7i.large", "m7i.large", count=2)

    assert kinds_of(cloud, given(answer)) == {"m7i.large"} and len(given(answer)) == 2
    errors = {(e["ErrorCode"], e["LaunchTemplateAndOverrides"]["Overrides"]["InstanceType"]) for e in answer["Errors"]}
    assert errors == {("InsufficientInstanceCapacity", "c7i.large")}


@pytest.mark.parametrize("what", ["spot", "m7i.large"])
def test_where_nothing_is_left_the_answer_has_no_instance_and_reasons(cloud: Cloud, what: str) -> None:
    cloud.faults.full = {what}

    answer = fleet(cloud, count=2)

    assert given(answer) == [] and len(answer["Errors"]) == 2
    assert given(fleet(cloud, "c7i.large", market="on-demand"))


def test_a_fleet_may_be_filled_in_part_and_says_so(cloud: Cloud) -> None:
    cloud.faults.partial = 1.0

    answer = fleet(cloud, count=5)

    assert 0 < len(given(answer)) < 5 and answer["Errors"][0]["ErrorCode"] == "InsufficientInstanceCapacity"


def test_a_replay_gives_what_was_given_also_in_bad_weather(cloud: Cloud) -> None:
    cloud.faults.partial, cloud.faults.full = 1.0, {"c7i.large"}

    answers = [fleet(cloud, "c7i.large", "m7i.large", count=6, token="same") for _ in range(3)]

    assert len({tuple(given(answer)) for answer in answers}) == 1
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        fleet(cloud, count=7, token="same")


def test_an_answer_may_be_lost_though_the_instances_are_made(cloud: Cloud) -> None:
    cloud.faults.lost = 1.0
    with pytest.raises(BotoCoreError):
        fleet(cloud, count=2, token="lost")
    cloud.faults.lost = 0.0

    again = given(fleet(cloud, count=2, token="lost"))

    made = [i["InstanceId"] for r in cloud.client("ec2").describe_instances()["Reservations"] for i in r["Instances"]]
    assert len(again) == 2 and sorted(again) == sorted(made)


def test_calls_are_throttled_in_the_services_own_words(cloud: Cloud) -> None:
    cloud.faults.throttled = 1.0

    with pytest.raises(ClientError, match="RequestLimitExceeded"):
        cloud.client("ec2").describe_instances()
    with pytest.raises(ClientError, match="ThrottlingException"):
        cloud.client("ssm").put_parameter(Name="a", Value="b", Type="String")
    assert cloud.client("sqs").list_queues()["QueueUrls"]


def events(cloud: Cloud, number: int) -> list[tuple[str, str]]:
    """The first so many, in the order in which they were told."""
    bodies: list[dict[str, Any]] = []
    while len(bodies) < number:
        told = cloud.client("sqs").receive_message(QueueUrl=cloud.events_queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=3)
        assert told.get("Messages"), f"expected {number} events, found {bodies}"
        bodies += [json.loads(message["Body"]) for message in told["Messages"]]
    return [(body["detail-type"], body["detail"].get("state") or body["detail"].get("instance-action", "")) for body in bodies]


def test_a_reclaim_is_told_by_the_metadata_and_by_events_before_and_when_the_instance_goes(cloud: Cloud) -> None:
    (instance_id,) = given(fleet(cloud))
    machine = cloud.instances.machines[instance_id]

    cloud.reclaim(instance_id, 0.5)

    assert "terminate" in machine.metadata.values["meta-data/spot/instance-action"]
    assert events(cloud, 4) == [
        ("EC2 Instance Rebalance Recommendation", ""), ("EC2 Spot Instance Interruption Warning", "terminate"),
        ("EC2 Instance State-change Notification", "shutting-down"), ("EC2 Instance State-change Notification", "terminated"),
    ]  # fmt: skip
    assert instance_id not in cloud.instances.machines


def test_a_storm_can_be_had_again() -> None:
    had = []
    for _ in range(2):
        faults = Faults(throttled=0.3)
        had.append([faults.refused("CreateFleet") for _ in range(50)])

    assert had[0] == had[1] and 5 < sum(map(bool, had[0])) < 30


def test_deleting_an_instant_fleet_ends_its_instances_and_no_others(cloud: Cloud) -> None:
    kept, doomed = fleet(cloud), fleet(cloud, count=2)

    cloud.client("ec2").delete_fleets(FleetIds=[doomed["FleetId"]], TerminateInstances=True)

    found = cloud.client("ec2").describe_instances()["Reservations"]
    states = {i["InstanceId"]: i["State"]["Name"] for reservation in found for i in reservation["Instances"]}
    gone = {name for group in doomed["Instances"] for name in group["InstanceIds"]}
    assert {name for name, state in states.items() if state == "terminated"} == gone and len(gone) == 2
    alive = set(cloud.instances.machines)
    assert not alive & gone and {name for group in kept["Instances"] for name in group["InstanceIds"]} <= alive


def test_a_reclaim_is_not_throttled_however_bad_the_weather_is(cloud: Cloud) -> None:
    (made,) = fleet(cloud)["Instances"]
    cloud.faults.throttled = 0.8

    for instance_id in made["InstanceIds"]:
        cloud.reclaim(instance_id, 0.0)

    assert sooner_or_later(lambda: not cloud.instances.machines.keys() & set(made["InstanceIds"]))


def test_instances_that_were_just_made_are_shown_late_and_those_of_before_at_once(cloud: Cloud) -> None:
    def shown() -> set[str]:
        return {i["InstanceId"] for r in cloud.client("ec2").describe_instances()["Reservations"] for i in r["Instances"]}

    first = fleet(cloud, count=2)
    before = shown()
    cloud.faults.unseen_s = 1.0
    cloud._born.clear()
    second = fleet(cloud, count=2)

    late = shown()
    cloud.faults.unseen_s = 0.0

    assert late == before == {name for group in first["Instances"] for name in group["InstanceIds"]}
    assert shown() == before | {name for group in second["Instances"] for name in group["InstanceIds"]}
    assert cloud.faults.seen["answers that lag"] == 1


def test_at_the_published_rates_a_bucket_empties_and_fills_again() -> None:
    now = [0.0]
    rates = Rates(clock=lambda: now[0])

    at_once = sum(rates.allows("PutParameter") for _ in range(10))
    now[0] = 1.0
    later = sum(rates.allows("PutParameter") for _ in range(10))

    assert (at_once, later, rates.instances(5000)) == (3, 3, 1000)
    now[0] = 61.0
    assert rates.instances(5000) == 120 and rates.allows("SomethingElse")


def test_beyond_the_published_rates_calls_are_refused_in_the_services_own_words(cloud: Cloud) -> None:
    cloud.faults.rates = Rates(scale=0.01)
    ssm = cloud.client("ssm")
    ssm.put_parameter(Name="/a", Value="v", Type="String")

    with pytest.raises(ClientError, match="ThrottlingException"):
        ssm.put_parameter(Name="/b", Value="v", Type="String")

    assert cloud.faults.seen["calls beyond the published rates"] == 1


def test_a_fleet_beyond_the_published_rates_is_filled_as_far_as_they_allow_and_says_why(cloud: Cloud) -> None:
    cloud.faults.rates = Rates(scale=0.003)

    answer = fleet(cloud, count=5)

    assert len(given(answer)) == 3 and [error["ErrorCode"] for error in answer["Errors"]] == ["RequestLimitExceeded"]


def put(cloud: Cloud, table: str, row: str, value: str, token: str) -> None:
    item = {"id": {"S": "a"}, "row": {"S": row}, "shard": {"S": "0"}, "due": {"N": "1"}, "value": {"S": value}}
    condition = {"ConditionExpression": "attribute_not_exists(id)"}
    cloud.client("dynamodb").transact_write_items(
        TransactItems=[{"Put": {"TableName": table, "Item": item, **condition}}], ClientRequestToken=token
    )


def a_table(cloud: Cloud) -> str:
    name = f"table-{uuid.uuid4().hex[:8]}"
    cloud.client("dynamodb").create_table(**table_definition(name))
    return name


def test_a_transaction_is_done_once_for_its_token_and_other_words_under_it_are_refused(cloud: Cloud) -> None:
    table = a_table(cloud)
    put(cloud, table, "1", "v", "token-1")

    put(cloud, table, "1", "v", "token-1")  # else its own condition would refuse it
    with pytest.raises(ClientError, match="IdempotentParameterMismatchException"):
        put(cloud, table, "1", "other", "token-1")
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        put(cloud, table, "1", "v", "token-2")


def test_a_lost_answer_of_a_transaction_is_no_lost_race_for_our_own_client(cloud: Cloud) -> None:
    """botocore sends it again by itself, with the token that it made for it."""
    from boto3.session import Session
    from botocore.config import Config

    from sandbox.cloud import CREDENTIALS, REGION

    table, sent = a_table(cloud), []
    config = Config(retries={"total_max_attempts": 3, "mode": "standard"})
    client = Session(**CREDENTIALS, region_name=REGION).client("dynamodb", endpoint_url=cloud.url, config=config)

    def lost(request: Any, **_: Any) -> Any:
        sent.append(request.body)
        if len(sent) == 1:
            with urllib.request.urlopen(urllib.request.Request(request.url, request.body, dict(request.headers.items()))):
                raise EndpointConnectionError(endpoint_url=request.url)
        return None

    client.meta.events.register("before-send.dynamodb.TransactWriteItems", lost)
    item = {"id": {"S": "a"}, "row": {"S": "1"}}
    told = {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(id)"}

    client.transact_write_items(TransactItems=[{"Put": told}])

    assert len(sent) == 2 and sent[0] == sent[1]


def test_an_index_and_a_list_show_late_what_was_written_and_the_table_itself_at_once(
    cloud: Cloud, passes: Callable[[float], None]
) -> None:
    table, dynamodb, ssm = a_table(cloud), cloud.client("dynamodb"), cloud.client("ssm")
    cloud.faults.unseen_s = 0.5
    put(cloud, table, "1", "v", "token-3")
    ssm.put_parameter(Name="/late", Value="v", Type="String")
    asked = {"TableName": table, "ExpressionAttributeValues": {":k": {"S": "0"}}, "KeyConditionExpression": "shard = :k"}
    key = {"id": {"S": "a"}, "row": {"S": "1"}}

    def seen() -> tuple[int, bool, int]:
        found = dynamodb.query(**asked, IndexName="due-index")["Count"]
        return found, "Item" in dynamodb.get_item(TableName=table, Key=key), len(ssm.describe_parameters()["Parameters"])

    at_first = seen()
    passes(0.6)

    assert (at_first, seen()) == ((0, True, 0), (1, True, 1))


def test_an_index_shows_what_is_written_anew_as_it_was_a_moment_ago(cloud: Cloud, passes: Callable[[float], None]) -> None:
    table, dynamodb = a_table(cloud), cloud.client("dynamodb")
    item = {"id": {"S": uuid.uuid4().hex}, "row": {"S": "1"}, "shard": {"S": "7"}, "instance_id": {"S": "i-77"}}
    values: dict[str, Any] = {":s": {"S": "7"}, ":before": {"N": "5"}}
    due = {
        "IndexName": "due-index",
        "KeyConditionExpression": "shard = :s AND due <= :before",
        "ExpressionAttributeValues": values,
    }
    of = {
        "IndexName": "instance-index", "KeyConditionExpression": "instance_id = :i",
        "ExpressionAttributeValues": {":i": {"S": "i-77"}},
    }  # fmt: skip

    def seen() -> tuple[int, int]:
        return dynamodb.query(TableName=table, **of)["Count"], dynamodb.query(TableName=table, **due)["Count"]

    dynamodb.put_item(TableName=table, Item={**item, "due": {"N": "9"}})
    assert seen() == (1, 0)
    passes(0.7)
    cloud.faults.unseen_s = 0.6
    key = {name: item[name] for name in ("id", "row")}
    dynamodb.put_item(TableName=table, Item={**item, "due": {"N": "2"}})
    assert "Item" in dynamodb.get_item(TableName=table, Key=key)
    assert seen() == (1, 0), "it is known, and not yet as due"
    passes(0.4)
    dynamodb.put_item(TableName=table, Item={**item, "due": {"N": "3"}})
    passes(0.3)
    assert seen() == (1, 1), "the second write is a moment old, the first is not"
    dynamodb.delete_item(TableName=table, Key=key)
    dynamodb.put_item(TableName=table, Item={**item, "due": {"N": "3"}})
    assert seen() == (0, 0), "it is new"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("lag", {"lag"}),
        ("lag,rates", {"lag", "rates"}),
        ("storm", STORM),
        ("storm,rates", STORM | {"rates"}),
        ("hostile", HOSTILE),
        ("storm,hostile", set(FAULTS) - {"rates"}),
    ],
)
def test_faults_are_switched_on_by_name(text: str, found: set[str]) -> None:
    assert read_faults(text) == found


def test_a_fault_that_nobody_knows_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="found hail") as refusal:
        read_faults("lag,hail")

    assert all(name in str(refusal.value) for name in (*FAULTS, "storm"))
