"""Of conditional writes made at once one wins, as in AWS; what waits for itself, or only reads, waits for nobody."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.serialized_writes import SerializedWrites
from tests.conftest import Moto

AT_ONCE, ROUNDS = 12, 10
PATIENCE_S = 600.0


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns all the time, so that whoever looks before he writes is seen between the two."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(write: Callable[[int], Any]) -> list[str]:
    """The errors' codes of that many writes begun together; one that succeeded has none."""
    start = threading.Barrier(AT_ONCE)

    def one(number: int) -> str:
        start.wait(PATIENCE_S)
        try:
            write(number)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def test_one_object_is_written_by_one(moto: Moto, hasty: None) -> None:
    s3 = moto.client("s3")
    s3.create_bucket(Bucket="bucket")
    for name in map(str, range(ROUNDS)):
        said = at_once(lambda number, key=name: s3.put_object(Bucket="bucket", Key=key, Body=str(number), IfNoneMatch="*"))  # type: ignore[misc]

        winner = said.index("")
        assert sorted(said) == ["", *["PreconditionFailed"] * (AT_ONCE - 1)]
        assert s3.get_object(Bucket="bucket", Key=name)["Body"].read() == str(winner).encode()


def test_one_item_is_put_by_one(moto: Moto, hasty: None) -> None:
    tables = moto.client("dynamodb")
    tables.create_table(
        TableName="table", BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    for name in map(str, range(ROUNDS)):
        said = at_once(
            lambda number, key=name: tables.put_item(  # type: ignore[misc]
                TableName="table",
                Item={"id": {"S": key}, "by": {"N": str(number)}},
                ConditionExpression="attribute_not_exists(id)",
            )
        )

        assert sorted(said) == ["", *["ConditionalCheckFailedException"] * (AT_ONCE - 1)]
        assert tables.get_item(TableName="table", Key={"id": {"S": name}})["Item"]["by"]["N"] == str(said.index(""))


def test_one_parameter_is_laid_down_by_one(moto: Moto, hasty: None) -> None:
    ssm = moto.client("ssm")
    for name in map(str, range(ROUNDS)):
        said = at_once(lambda number, at=name: ssm.put_parameter(Name=f"/{at}", Value=str(number), Type="String"))  # type: ignore[misc]

        assert sorted(said) == ["", *["ParameterAlreadyExists"] * (AT_ONCE - 1)]
        assert ssm.get_parameter(Name=f"/{name}")["Parameter"]["Value"] == str(said.index(""))


class Meeting:
    """An application of which a number of calls must be inside together before any is answered."""

    def __init__(self, calls: int) -> None:
        self._all = threading.Barrier(calls)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self._all.wait(PATIENCE_S)
        start_response("200 OK", [])
        return [b"met"]


@pytest.mark.parametrize(("service", "method"), [("s3", "GET"), ("s3", "HEAD"), ("sqs", "POST"), ("ec2", "POST"), ("", "POST")])
def test_who_only_reads_or_waits_for_messages_keeps_nobody_waiting(service: str, method: str) -> None:
    ordered = SerializedWrites(Meeting(2))
    signed = f"AWS4-HMAC-SHA256 Credential=AKIA/20260131/us-east-1/{service}/aws4_request" if service else ""

    def call(_: int) -> bytes:
        environ = {"HTTP_AUTHORIZATION": signed, "REQUEST_METHOD": method, "wsgi.input": io.BytesIO()}
        return b"".join(ordered(environ, lambda *told: None))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, range(2))) == [b"met"] * 2


def test_a_slow_client_keeps_nobody_waiting() -> None:
    ordered, slow = SerializedWrites(lambda environ, _: [environ["wsgi.input"].read()]), threading.Event()

    class Trickle(io.BytesIO):
        def read(self, *told: Any) -> bytes:
            assert slow.wait(PATIENCE_S)
            return super().read(*told)

    def call(body: io.BytesIO) -> bytes:
        signed = "AWS4-HMAC-SHA256 Credential=AKIA/20260131/us-east-1/s3/aws4_request"
        environ = {"HTTP_AUTHORIZATION": signed, "REQUEST_METHOD": "PUT", "CONTENT_LENGTH": "4", "wsgi.input": body}
        return b"".join(ordered(environ, lambda *told: None))

    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(call, Trickle(b"late"))
        assert call(io.BytesIO(b"soon")) == b"soon"
        slow.set()
        assert late.result(PATIENCE_S) == b"late"
