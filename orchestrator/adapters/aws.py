"""AWS for the orchestrator: clients, SQS queues, EC2. Errors come out as ServiceFailed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.ports import Received

CONNECT_S, READ_S = 5.0, 15.0
THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown"})
"""AWS's words for "later". Source: the error codes of EC2, SSM and DynamoDB."""
POOL = 50
"""Connections kept per service: more than threads that call."""
LONG_POLL_READ_S = 30.0
"""Longer than any long poll: a header time-out below it would look like a broken queue."""


class Clients:
    """One client per service, made when first needed."""

    def __init__(self, session: boto3.session.Session | None = None) -> None:
        """`session` may be one that has already loaded what its clients need."""
        self._session = session or boto3.session.Session()
        self._made: dict[str, Any] = {}
        self._making = threading.Lock()

    def get(self, service: str, region: str | None = None) -> Any:
        """The client; three tries of its own for what is safe to repeat. From any thread. `region`: if not the usual one."""
        with self._making:
            if service not in self._made:
                read_s = LONG_POLL_READ_S if service == "sqs" else READ_S
                config = Config(
                    connect_timeout=CONNECT_S, read_timeout=read_s, retries={"total_max_attempts": 3, "mode": "standard"},
                    max_pool_connections=POOL,
                )  # fmt: skip
                self._made[service] = self._session.client(service, region_name=region, config=config)
            return self._made[service]

    @property
    def region(self) -> str:
        """Ours."""
        return str(self.get("ec2").meta.region_name)


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """botocore's errors in our words."""
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        kind = Throttled if told.get("Code") in THROTTLED else ServiceFailed
        raise kind(action, str(told.get("Code")), str(told.get("Message", ""))[:300]) from error
    except BotoCoreError as error:
        raise Unanswered(action, str(error)) from error


def pages(action: str, paginated: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One page after the other, each fetched when it is asked for; errors in our words."""
    each = iter(paginated)
    while True:
        with translated(action):
            page = next(each, None)
        if page is None:
            return
        yield page


class SqsQueue:
    """Queue (ports)."""

    def __init__(self, clients: Clients, url: str) -> None:
        self._clients, self._url = clients, url
        self._age_s = 0.0

    def send(self, body: str, group: str, deduplication: str) -> None:
        """FIFO parameters for a FIFO queue only."""
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": deduplication} if self._url.endswith(".fifo") else {}
        with translated("sqs:SendMessage"):
            self._clients.get("sqs").send_message(QueueUrl=self._url, MessageBody=body, **fifo)

    def receive(self, wait_s: int) -> list[Received]:
        """A long poll."""
        with translated("sqs:ReceiveMessage"):
            answer = self._clients.get("sqs").receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s, AttributeNames=["SenderId", "SentTimestamp"]
            )
        now = time.time()
        received = []
        for told in answer.get("Messages", []):
            words = told.get("Attributes", {})
            waited_s = max(0.0, now - int(words.get("SentTimestamp", now * 1000)) / 1000)
            received.append(Received(told["Body"], told["ReceiptHandle"], words.get("SenderId", ""), waited_s))
        self._age_s = max([self._age_s, *(one.waited_s for one in received)])
        return received

    def delete(self, receipt: str) -> None:
        """After the work is done, never before."""
        with translated("sqs:DeleteMessage"):
            self._clients.get("sqs").delete_message(QueueUrl=self._url, ReceiptHandle=receipt)

    def depth(self) -> int:
        """By SQS's own estimate: those that wait, and those that somebody has in hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with translated("sqs:GetQueueAttributes"):
            told = self._clients.get("sqs").get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)

    def age_s(self) -> float:
        """By the time at which SQS took each message; SQS tells no age of what nobody received."""
        age_s, self._age_s = self._age_s, 0.0
        return age_s


class Ec2Api:
    """The EC2 calls the strategy makes."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def create_fleet(self, request: str) -> dict[str, Any]:
        """The stored request, unchanged."""
        with translated("ec2:CreateFleet"):
            return dict(self._clients.get("ec2").create_fleet(**json.loads(request)))

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Every instance that matches, page by page."""
        found = self._clients.get("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        for page in pages("ec2:DescribeInstances", found):
            yield from (i for reservation in page["Reservations"] for i in reservation["Instances"])

    def terminate(self, instance_id: str) -> None:
        """One instance."""
        with translated(f"ec2:TerminateInstances {instance_id}"):
            self._clients.get("ec2").terminate_instances(InstanceIds=[instance_id])

    def console(self, instance_id: str) -> str:
        """What EC2 kept of its console, the latest if it can. Of all answers, botocore decodes this one itself."""
        with translated(f"ec2:GetConsoleOutput {instance_id}"):
            return str(self._clients.get("ec2").get_console_output(InstanceId=instance_id).get("Output", ""))

    def templates(self, names: list[str]) -> dict[str, str]:
        """By a filter: one that is not there is left out."""
        with translated("ec2:DescribeLaunchTemplates"):
            wanted = [{"Name": "launch-template-name", "Values": names}]
            found = self._clients.get("ec2").describe_launch_templates(Filters=wanted)["LaunchTemplates"]
        return {one["LaunchTemplateName"]: str(one["LatestVersionNumber"]) for one in found}

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """By a filter: one that is not there is left out."""
        with translated("ec2:DescribeSubnets"):
            wanted = [{"Name": "subnet-id", "Values": subnet_ids}]
            found = self._clients.get("ec2").describe_subnets(Filters=wanted)["Subnets"]
        return {one["SubnetId"]: one["AvailabilityZone"] for one in found}
