"""Clients of AWS: one per service, none of which is waited for without end, and whose errors come out in our words."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from orchestrator.adapters.aws import THROTTLED, Clients, named_region, pages, translated
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from tests.conftest import REGION, Moto

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""
LONGEST_POLL_S = 20
"""Source: WaitTimeSeconds of ReceiveMessage in the SQS API reference."""


@pytest.mark.parametrize("service", ["dynamodb", "ec2", "pricing", "s3", "sqs", "ssm", "sts"])
def test_s6_no_service_is_waited_for_without_end_and_a_long_poll_is_let_come_to_its_own(moto: Moto, service: str) -> None:
    config = CLIENTS.get(service).meta.config

    assert 0 < config.connect_timeout <= 10 and config.read_timeout <= 30
    assert config.read_timeout > (LONGEST_POLL_S if service == "sqs" else 0)


def answered(code: str, message: str = "no") -> ClientError:
    """An error as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateFleet")


@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_being_asked_to_wait_is_told_apart_from_a_refusal(code: str) -> None:
    with pytest.raises(Throttled) as raised, translated("ec2:CreateFleet"):
        raise answered(code)

    assert (raised.value.action, raised.value.code) == ("ec2:CreateFleet", code)


def test_a_refusal_carries_its_code_and_the_beginning_of_its_words() -> None:
    with pytest.raises(ServiceFailed) as raised, translated("ec2:CreateFleet"):
        raise answered("UnauthorizedOperation", "x" * 1000)

    assert not isinstance(raised.value, Throttled | Unanswered) and raised.value.code == "UnauthorizedOperation"
    assert str(raised.value) == f"ec2:CreateFleet answered UnauthorizedOperation: {'x' * 300}"


def test_no_answer_is_neither_a_refusal_nor_a_wish_to_wait_and_other_errors_stay_what_they_are() -> None:
    with pytest.raises(Unanswered), translated("ec2:CreateFleet"):
        raise ConnectTimeoutError(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ZeroDivisionError), translated("ec2:CreateFleet"):
        raise ZeroDivisionError


def test_pages_are_fetched_when_they_are_asked_for_and_an_error_in_the_midst_is_told_after_those_before_it() -> None:
    fetched: list[int] = []

    def listing() -> Iterator[dict[str, Any]]:
        for number in range(2):
            fetched.append(number)
            yield {"page": number}
        raise answered("InternalError")

    found = pages("ec2:DescribeInstances", listing())
    assert (next(found), fetched) == ({"page": 0}, [0])
    assert (next(found), fetched) == ({"page": 1}, [0, 1])
    with pytest.raises(ServiceFailed, match="ec2:DescribeInstances answered InternalError"):
        next(found)


def test_pages_end_and_what_their_reader_raises_is_his_own() -> None:
    assert list(pages("ec2:DescribeInstances", [{"page": 0}, {}, {"page": 1}])) == [{"page": 0}, {}, {"page": 1}]

    with pytest.raises(ClientError):
        for _ in pages("ec2:DescribeInstances", [{"page": 0}]):
            raise answered("RequestLimitExceeded")


def test_each_service_has_one_client_whichever_thread_asks(moto: Moto) -> None:
    clients, found = Clients(boto3.session.Session()), list[Any]()
    threads = [threading.Thread(target=lambda: found.append(clients.get("sts"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8 and len({id(one) for one in found}) == 1
    assert clients.get("sqs") is not clients.get("sts") and clients.region == REGION


def test_a_client_of_another_region_is_there_if_it_is_asked_for(moto: Moto) -> None:
    clients = Clients(boto3.session.Session())

    assert clients.get("pricing", "ap-south-1").meta.region_name == "ap-south-1"
    assert clients.get("ec2").meta.region_name == REGION == clients.region


def test_what_is_safe_to_repeat_is_tried_three_times(moto: Moto) -> None:
    assert CLIENTS.get("ec2").meta.config.retries == {"total_max_attempts": 3, "mode": "standard"}


@pytest.mark.parametrize(
    ("environment", "region"),
    [
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_REGION": ""}, None),
    ],
)
def test_either_variable_names_the_region(environment: dict[str, str], region: str | None) -> None:
    assert named_region(environment) == region


class Late:
    """A session whose credentials are there at the second look: the metadata service did not answer at first."""

    def __init__(self) -> None:
        self._session, self._looks, self.region_name = boto3.session.Session(region_name=REGION), 0, REGION

    def get_credentials(self) -> Any:
        """None at first."""
        self._looks += 1
        return self._session.get_credentials() if self._looks > 1 else None

    def client(self, service: str, **how: Any) -> Any:
        """A real one."""
        return self._session.client(service, **how)


def test_credentials_that_come_later_are_used(moto: Moto) -> None:
    clients = Clients(Late())  # type: ignore[arg-type]

    with pytest.raises(ServiceFailed) as refused:
        clients.get("sqs")

    assert refused.value.code == "NoCredentials"
    assert clients.get("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
