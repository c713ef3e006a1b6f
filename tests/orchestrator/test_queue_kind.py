"""Queues of another kind than their messages need are named, each with the command that corrects it; SQS is moto's."""

from __future__ import annotations

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.sqs import SqsQueue
from orchestrator.checks.queue_kind import faults_of_names, faults_of_queue
from orchestrator.readiness import Fault
from tests.conftest import Moto


def looked(url: str, *, fifo: bool) -> list[Fault]:
    return list(faults_of_queue("QUEUE_URL", url, SqsQueue(Clients(), url).attributes(), fifo=fifo))


def made(moto: Moto, name: str, **attributes: str) -> str:
    return str(moto.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def test_queues_as_they_are_documented_have_no_fault(moto: Moto) -> None:
    jobs = made(moto, "jobs.fifo", FifoQueue="true", VisibilityTimeout="30")
    messages = made(moto, "messages", VisibilityTimeout="120")

    assert looked(jobs, fifo=True) == looked(messages, fifo=False) == []


def test_a_queue_that_is_missing_is_named_with_its_setting(moto: Moto) -> None:
    url = made(moto, "there.fifo", FifoQueue="true").replace("there", "nowhere")

    (fault,) = looked(url, fifo=True)

    assert (fault.setting, fault.found, fault.holds) == ("RUNS_FLEET_QUEUE_URL", f"no queue {url}", True)
    assert "--queue-name nowhere.fifo" in fault.remedy


@pytest.mark.parametrize(("name", "attributes", "fifo", "is_one"), [
    ("plain", {}, True, "a standard queue"), ("one.fifo", {"FifoQueue": "true"}, False, "a FIFO queue"),
])  # fmt: skip
def test_a_queue_of_the_other_kind_would_refuse_or_reorder_messages(
    moto: Moto, name: str, attributes: dict[str, str], fifo: bool, is_one: str
) -> None:
    url = made(moto, name, **attributes)

    (fault,) = looked(url, fifo=fifo)

    assert (fault.found, fault.holds) == (f"{url} is {is_one}", True)


@pytest.mark.parametrize(
    ("attribute", "value", "least"), [("VisibilityTimeout", "29", 30), ("MessageRetentionPeriod", "60", 3600)]
)
def test_a_time_that_is_too_short_is_named_with_a_command_that_corrects_it(
    moto: Moto, attribute: str, value: str, least: int
) -> None:
    url = made(moto, "messages", **{attribute: value})

    (fault,) = looked(url, fifo=False)

    assert (fault.found, fault.holds) == (f"{url} has {attribute}={value}", False)
    assert fault.remedy == f"aws sqs set-queue-attributes --queue-url {url} --attributes {attribute}={least}"
    moto.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={attribute: str(least)})
    assert looked(url, fifo=False) == []


def test_one_queue_for_two_purposes_would_give_each_consumer_half_of_both() -> None:
    (fault,) = faults_of_names({"QUEUE_URL": "u1", "TERMINATION_QUEUE_URL": "u2", "EVENTS_QUEUE_URL": "u2"})

    assert fault.found == "u2 is named by RUNS_FLEET_TERMINATION_QUEUE_URL and RUNS_FLEET_EVENTS_QUEUE_URL" and fault.holds


def test_one_table_for_both_is_named_too() -> None:
    (fault,) = faults_of_names({"JOBS_TABLE": "t", "SESSIONS_TABLE": "t", "QUEUE_URL": "u"})

    assert fault.found == "t is named by RUNS_FLEET_JOBS_TABLE and RUNS_FLEET_SESSIONS_TABLE" and fault.holds
