"""Who calls the sandbox's cloud: a message's sender is known when it is received, and so is one whose machine is gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.cloud import Cloud
from sandbox.identity import USER_ID, Senders
from sandbox.imds import ROLE_ID
from sandbox.instances import Idle

PATIENCE_S = 600.0
OURS = f"{ROLE_ID}:i-1"


def received(*names: str) -> bytes:
    """As SQS answers."""
    return json.dumps({"Messages": [{"MessageId": name, "Attributes": {"SenderId": "moto's"}} for name in names]}).encode()


def senders_of(answer: bytes) -> list[str]:
    return [message["Attributes"]["SenderId"] for message in json.loads(answer)["Messages"]]


def test_a_message_that_is_received_before_its_sending_was_answered_has_its_sender() -> None:
    senders, began, answered = Senders(), threading.Event(), threading.Event()

    def send() -> None:
        with senders.sending():
            began.set()
            assert answered.wait(PATIENCE_S)
            senders.sent(b'{"MessageId": "m-1"}', OURS)

    with ThreadPoolExecutor(2) as pool:
        sent = pool.submit(send)
        assert began.wait(PATIENCE_S)
        asked = pool.submit(senders.received, received("m-1"))
        with pytest.raises(TimeoutError):
            asked.result(0.2)
        answered.set()
        assert senders_of(asked.result(PATIENCE_S)) == [OURS]
        sent.result(PATIENCE_S)


def test_what_nobody_sent_is_nobodys_and_what_is_known_waits_for_no_other() -> None:
    senders = Senders()
    senders.sent(b'{"MessageId": "m-1"}', OURS)

    assert senders_of(senders.received(received("m-1", "m-2"))) == [OURS, USER_ID]
    with senders.sending():
        assert senders_of(senders.received(received("m-1"))) == [OURS]
    assert senders.received(b"{}") == b"{}"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    up = Cloud(tmp_path, Idle()).start()
    yield up
    up.stop()


def test_keys_of_a_machine_that_is_gone_are_still_its_own(cloud: Cloud) -> None:
    """As in AWS, until they expire: what it sent last may arrive after its end."""
    ec2 = cloud.client("ec2")
    ec2.create_launch_template(
        LaunchTemplateName="template", LaunchTemplateData={"ImageId": "ami-1", "InstanceType": "m7i.large"}
    )
    made = ec2.create_fleet(
        Type="instant", TargetCapacitySpecification={"TotalTargetCapacity": 1},
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateName": "template", "Version": "1"}}],
    )  # fmt: skip
    (instance_id,) = made["Instances"][0]["InstanceIds"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    url = cloud.client("sqs").create_queue(QueueName="words")["QueueUrl"]

    cloud.client_of(instance_id, "sqs").send_message(QueueUrl=url, MessageBody="last word")
    cloud.client_of("i-00000000000000000", "sqs").send_message(QueueUrl=url, MessageBody="of nobody")

    told = cloud.client("sqs").receive_message(QueueUrl=url, AttributeNames=["SenderId"], MaxNumberOfMessages=10)["Messages"]
    assert {one["Body"]: one["Attributes"]["SenderId"] for one in told} == {
        "last word": f"{ROLE_ID}:{instance_id}",
        "of nobody": USER_ID,
    }


def test_a_message_of_who_speaks_the_query_protocol_has_its_sender_too() -> None:
    senders = Senders()

    senders.sent(
        b"<SendMessageResponse><SendMessageResult><MessageId>m-7</MessageId></SendMessageResult></SendMessageResponse>", OURS
    )

    assert senders_of(senders.received(received("m-7"))) == [OURS]


def test_an_answer_without_a_message_is_nobodys() -> None:
    Senders().sent(b"<ErrorResponse/>", OURS)
    Senders().sent(b"", OURS)
