"""moto, quicker: its answers are the same as its own."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID, errors, responses, utils
from moto.core.serialize import JSONSerializer, XFormedAttributePicker, get_serializer_class
from moto.core.utils import get_service_model
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.responses import DynamoHandler
from moto.ec2.models import EC2Backend
from moto.ec2.responses import EC2Response
from moto.sqs.responses import SQSResponse

from sandbox.moto_speedups import AttributeSerializer, Dispatcher, quicken, quicken_queries

ASKED: list[dict[str, list[str]] | None] = [
    None, {"resource-id": ["i-1"]}, {"resource-id": ["i-1", "i-2", "i-1"]}, {"resource-id": ["i-9"]}, {"resource-id": ["i-*"]},
    {"resource-id": ["i-1"], "key": ["stack"]}, {"key": ["stack"]}, {"resource-id": ["subnet-1"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Any:
    made = EC2Backend("us-east-1", DEFAULT_ACCOUNT_ID)
    for number in range(3):
        made.create_tags([f"i-{number}", f"subnet-{number}"], {"stack": "sandbox", "number": str(number)})
    return made


@pytest.mark.parametrize("filters", ASKED, ids=str)
def test_tags_are_told_as_moto_tells_them(backend: Any, filters: dict[str, list[str]] | None) -> None:
    own = EC2Backend.describe_tags(backend, filters=filters)
    quicken(backend)

    assert sorted(map(str, backend.describe_tags(filters=filters))) == sorted(map(str, own))


def test_tags_that_come_later_are_told_too(backend: Any) -> None:
    quicken(backend)
    backend.create_tags(["i-7"], {"stack": "later"})

    assert [told["value"] for told in backend.describe_tags(filters={"resource-id": ["i-7"]})] == ["later"]


@pytest.mark.parametrize(
    "host", [None, "moto_api", "dynamodb", "ec2.us-east-1.amazonaws.com", "bucket.s3.us-east-1.amazonaws.com"]
)
def test_a_service_is_found_by_its_host_as_moto_finds_it(host: str | None) -> None:
    quick = Dispatcher()

    assert [quick.get_backend_for_host(host) for _ in range(2)] == [super(Dispatcher, quick).get_backend_for_host(host)] * 2


FEW = st.sampled_from(["a", "b", "c"])
ROWS = st.lists(
    st.fixed_dictionaries({"id": FEW, "row": FEW}, optional={"shard": FEW, "due": st.integers(0, 9), "other": FEW}), max_size=12
)
QUERIES: list[dict[str, Any]] = [
    {"KeyConditionExpression": "id = :x"},
    {"KeyConditionExpression": "id = :x AND begins_with(#row, :x)", "ExpressionAttributeNames": {"#row": "row"}},
    {"IndexName": "by-due", "KeyConditionExpression": "shard = :x"},
    {"IndexName": "by-due", "KeyConditionExpression": "shard = :x AND due <= :n"},
    {"IndexName": "by-due", "KeyConditionExpression": "shard = :x", "Limit": 1, "ScanIndexForward": False},
    {"IndexName": "by-other", "KeyConditionExpression": "other = :x"},
]


@settings(max_examples=25)
@given(rows=ROWS, sought=FEW)
def test_queries_are_answered_as_moto_answers_them(rows: list[dict[str, Any]], sought: str) -> None:
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        backend = dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
        client.create_table(
            TableName="t", BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "N" if name == "due" else "S"}
                for name in ("id", "row", "shard", "due", "other")
            ],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "row", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {"IndexName": "by-due", "Projection": {"ProjectionType": "KEYS_ONLY"}, "KeySchema": [
                    {"AttributeName": "shard", "KeyType": "HASH"}, {"AttributeName": "due", "KeyType": "RANGE"}]},
                {"IndexName": "by-other", "Projection": {"ProjectionType": "ALL"}, "KeySchema": [
                    {"AttributeName": "other", "KeyType": "HASH"}]},
            ],
        )  # fmt: skip
        for row in rows:
            client.put_item(TableName="t", Item={k: {"N": str(v)} if k == "due" else {"S": v} for k, v in row.items()})
        for asked in QUERIES:
            values = {":x": {"S": sought}} | ({":n": {"N": "5"}} if ":n" in asked["KeyConditionExpression"] else {})
            told = {"TableName": "t", "ExpressionAttributeValues": values, **asked}
            backend.__dict__.pop("query", None)
            own = client.query(**told)
            quicken_queries(backend)
            assert "query" in vars(backend)
            quick = client.query(**told)
            for answer in (own, quick):
                answer.pop("ResponseMetadata")
            assert quick == own


SINGLE = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(max_size=3)), st.builds(lambda number: {"N": str(number)}, st.integers()),
    st.builds(lambda truth: {"BOOL": truth}, st.booleans()), st.builds(lambda raw: {"B": raw}, st.binary(max_size=3)),
    st.builds(lambda texts: {"SS": texts}, st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True)),
    st.just({"NULL": True}), st.just({"L": []}), st.just({"M": {}}),
)  # fmt: skip
VALUES = st.recursive(
    SINGLE,
    lambda inner: st.one_of(
        st.builds(lambda several: {"L": several}, st.lists(inner, max_size=3)),
        st.builds(lambda named: {"M": named}, st.dictionaries(st.sampled_from(["S", "M", "name"]), inner, max_size=3)),
    ),
    max_leaves=5,
)
ANSWERS = [
    ("GetItem", lambda item: {"Item": item}),
    ("Query", lambda item: {"Items": [item, item], "Count": 2, "ScannedCount": 2}),
]


@pytest.mark.parametrize(("operation", "answer"), ANSWERS, ids=[operation for operation, _ in ANSWERS])
@given(item=st.dictionaries(st.sampled_from(["id", "S", "row"]), VALUES, max_size=3))
def test_items_are_told_as_moto_tells_them(operation: str, answer: Any, item: dict[str, Any]) -> None:
    model = get_service_model("dynamodb").operation_model(operation)

    quick, own = (
        kind(model, value_picker=XFormedAttributePicker()).serialize(answer(item))["body"]
        for kind in (AttributeSerializer, JSONSerializer)
    )

    assert json.loads(quick) == json.loads(own)


def test_dynamodb_is_asked_through_it() -> None:
    Dispatcher()

    assert get_serializer_class("dynamodb", "json") is AttributeSerializer


def test_what_moto_works_out_for_each_call_is_worked_out_once_and_is_the_same() -> None:
    Dispatcher()

    for action in ("DescribeInstances", "CreateFleet", "TransactWriteItems", "GetBucketACL"):
        assert responses.camelcase_to_underscores(action) == utils.camelcase_to_underscores(action)  # type: ignore[attr-defined]
    for made in (EC2Response, DynamoHandler, SQSResponse):
        first = responses.method_names_from_class(made)  # type: ignore[attr-defined]
        assert first is responses.method_names_from_class(made)  # type: ignore[attr-defined]
        assert first == utils.method_names_from_class(made)
    sqs, dynamodb = get_service_model("sqs"), get_service_model("dynamodb")
    remembered = [errors.ErrorLookupFactory().for_service(model) for model in (sqs, dynamodb, sqs)]
    assert remembered[0] is remembered[2] is not remembered[1]
    for found, code in ((remembered[0], "QueueDoesNotExist"), (remembered[1], "ConditionalCheckFailedException")):
        assert found.from_code(code) is not None and remembered[0].from_code("NoSuchCode") is None
