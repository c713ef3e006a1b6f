"""The orchestrator's log in CloudWatch: what arrives, and what happens where CloudWatch hangs, refuses or is too slow."""

from __future__ import annotations

import logging
import socket
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from orchestrator.adapters.log_group import LogGroup
from tests.conftest import Moto
from tests.waiting import sooner_or_later

GROUP, STREAM = "/runs-fleet/orchestrator", "orchestrator/here/1"
AT = 1_796_097_600.25
QUICK = Config(connect_timeout=0.3, read_timeout=0.3, retries={"total_max_attempts": 1})


def shipping(client: Any, complaints: list[str], lines: int = 100) -> LogGroup:
    return LogGroup(GROUP, client, complaints.append, STREAM, lines).start()


PATIENT = Config(read_timeout=3600, retries={"total_max_attempts": 1})


def at(url: str, config: Config = QUICK) -> Any:
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "k"}  # pragma: allowlist secret
    return boto3.client("logs", endpoint_url=url, region_name="us-east-1", config=config, **keys)


def test_each_line_arrives_with_the_time_at_which_it_was_written_in_a_stream_of_this_process(moto: Moto) -> None:
    complaints: list[str] = []
    shipped = shipping(moto.client("logs"), complaints)

    for number in range(3):
        shipped.put(f"line {number} with 100 % and {{braces}}", logging.INFO, AT + number)
    lost = shipped.stop(600.0)

    events = moto.client("logs").get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)["events"]
    assert [event["message"] for event in events] == [f"line {number} with 100 % and {{braces}}" for number in range(3)]
    assert [event["timestamp"] for event in events] == [int((AT + number) * 1000) for number in range(3)]
    assert (lost, complaints, shipped.shipped) == (0, [], 3)


def test_an_endpoint_that_refuses_costs_lines_that_are_counted_and_told_and_nothing_else() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, and nobody listens
        complaints: list[str] = []
        shipped = shipping(at(url), complaints)
        shipped.put("one", logging.INFO, AT)
        shipped.put("two", logging.INFO, AT)
        assert sooner_or_later(lambda: shipped.lost == 2)

        assert shipped.stop(600.0) == 2
    assert "1 line of this log lost to the log group /runs-fleet/orchestrator" in complaints[0]
    assert complaints[-1] == "2 lines of this log did not reach the log group /runs-fleet/orchestrator"


def test_an_endpoint_that_hangs_holds_nobody_up_and_what_does_not_fit_into_the_queue_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        complaints: list[str] = []
        shipped = shipping(at(f"http://127.0.0.1:{hung.getsockname()[1]}", PATIENT), complaints, lines=10)
        for number in range(50):
            shipped.put(f"line {number}", logging.INFO, AT)  # returns at once, or this test would not end

        assert shipped.lost >= 39
        assert shipped.stop(0.01) == 50


def test_the_end_of_the_process_waits_for_what_is_left_only_for_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:
        client = at(f"http://127.0.0.1:{hung.getsockname()[1]}", PATIENT)
        complaints: list[str] = []
        shipped = shipping(client, complaints)
        shipped.put("one", logging.INFO, AT)
        shipped.put("two", logging.INFO, AT)

        assert shipped.stop(0.01) == 2
        assert complaints == ["2 lines of this log did not reach the log group /runs-fleet/orchestrator"]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_a_refusal_by_aws_is_told_in_its_own_words(code: str) -> None:
    complaints: list[str] = []
    shipped = shipping(Refusing(code), complaints)
    shipped.put("one", logging.INFO, AT)
    assert sooner_or_later(lambda: shipped.lost == 1)

    shipped.stop(600.0)

    assert code in complaints[0]


class Refusing:
    """CloudWatch of which every call is refused, through botocore's own exceptions."""

    def __init__(self, code: str) -> None:
        self._client, self._code = boto3.client("logs", region_name="us-east-1"), code
        self.exceptions = self._client.exceptions

    def put_log_events(self, **_: Any) -> Any:
        """Refused."""
        raise ClientError({"Error": {"Code": self._code, "Message": "no"}}, "PutLogEvents")

    def get_paginator(self, _: str) -> Any:
        """Lists nothing."""
        return self

    result_keys = ()

    def paginate(self, **_: Any) -> Any:
        """No page."""
        return iter(())

    def create_log_group(self, **_: Any) -> None:
        """Made."""
