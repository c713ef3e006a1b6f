"""Queues on AWS."""

from __future__ import annotations

import os
import time

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.sqs import SqsQueue
from orchestrator.errors import ServiceFailed, Unanswered
from tests.conftest import Moto

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""


def queue_of(name: str, **attributes: str) -> SqsQueue:
    return SqsQueue(CLIENTS, CLIENTS.get("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


def test_a_fifo_queue_takes_a_repeated_message_once_and_keeps_its_group(moto: Moto) -> None:
    queue = queue_of("main.fifo", FifoQueue="true")

    queue.send("first", "job-1", "same")
    queue.send("again", "job-1", "same")
    queue.send("second", "job-2", "other")

    assert [message.body for message in queue.receive(0)] == ["first", "second"]


def test_a_standard_queue_takes_every_message(moto: Moto) -> None:
    queue = queue_of("termination")

    queue.send("a", "group", "same")
    queue.send("b", "group", "same")

    assert sorted(message.body for message in queue.receive(0)) == ["a", "b"]


@pytest.mark.parametrize(("name", "wanted"), [("main.fifo", ("job-1", "same")), ("termination", (None, None))])
def test_s1_group_and_deduplication_are_said_to_a_fifo_queue_alone(moto: Moto, name: str, wanted: tuple[str | None, ...]) -> None:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    queue_of(name, **fifo).send("a", "job-1", "same")

    url = CLIENTS.get("sqs").get_queue_url(QueueName=name)["QueueUrl"]
    (message,) = CLIENTS.get("sqs").receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]

    told = message["Attributes"]
    assert (told.get("MessageGroupId"), told.get("MessageDeduplicationId")) == wanted


def test_a_message_is_there_again_until_it_is_deleted(moto: Moto) -> None:
    queue = queue_of("termination", VisibilityTimeout="0")
    queue.send("a", "", "")
    queue.receive(0)
    (again,) = queue.receive(0)

    queue.delete(again.receipt)

    assert queue.receive(0) == []


def test_a_message_carries_the_queues_word_for_who_sent_it(moto: Moto) -> None:
    queue = queue_of("termination")
    queue.send("a", "", "")

    (message,) = queue.receive(0)

    assert message.sender


def test_the_longest_wait_of_what_was_received_is_told_once(moto: Moto) -> None:
    queue = queue_of("old")
    queue.send("a", "", "")
    time.sleep(1.1)
    queue.send("b", "", "")

    waited = sorted(message.waited_s for message in queue.receive(0))

    assert 0.0 <= waited[0] < waited[1] and queue.age_s() == waited[1] >= 1.0
    assert queue.age_s() == 0.0


def test_a_queue_that_is_not_there_is_a_failure_in_our_words(moto: Moto) -> None:
    with pytest.raises(ServiceFailed, match="sqs:SendMessage"):
        SqsQueue(CLIENTS, f"{moto.url}/123456789012/nowhere").send("a", "", "")


def test_a_service_that_does_not_answer_is_told_apart_from_one_that_refuses(moto: Moto) -> None:
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"

    with pytest.raises(Unanswered, match="NoAnswer"):
        SqsQueue(Clients(), moto.url).depth()


def test_the_depth_counts_what_waits_and_what_somebody_has_in_hand(moto: Moto) -> None:
    queue = queue_of("deep", VisibilityTimeout="30")
    for body in ("a", "b", "c"):
        queue.send(body, "", "")
    before = queue.depth()
    first, *_ = queue.receive(0)
    in_hand = queue.depth()

    queue.delete(first.receipt)

    assert (before, in_hand, queue.depth()) == (3, 3, 2)
