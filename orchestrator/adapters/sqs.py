"""SQS queues. Errors come out as ServiceFailed."""

from __future__ import annotations

import time

from orchestrator.adapters.aws import Clients, translated
from orchestrator.errors import ServiceFailed
from orchestrator.ports import Received

NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"})
NO_ATTRIBUTE = "InvalidAttributeName"
"""Source: "Common errors" of SQS, GetQueueAttributes."""


class SqsQueue:
    """One SQS queue (ports.Queue)."""

    def __init__(self, clients: Clients, url: str) -> None:
        self._clients, self._url = clients, url
        self._age_s = 0.0

    def send(self, body: str, group: str, deduplication: str) -> None:
        """FIFO parameters for a FIFO queue only."""
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": deduplication} if self._url.endswith(".fifo") else {}
        with translated("sqs:SendMessage"):
            self._clients.get("sqs").send_message(QueueUrl=self._url, MessageBody=body, **fifo)

    def receive(self, wait_s: int) -> list[Received]:
        """Messages, waited for in a long poll."""
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

    def attributes(self) -> dict[str, str] | None:
        """What kind of queue it is; None: there is none. Raises: ServiceFailed."""
        names = ["FifoQueue", "VisibilityTimeout", "MessageRetentionPeriod"]
        for asked in (names, names[1:]):
            try:
                with translated(f"sqs:GetQueueAttributes {self._url}"):
                    told = self._clients.get("sqs").get_queue_attributes(QueueUrl=self._url, AttributeNames=asked)
            except ServiceFailed as error:
                if error.code in NO_QUEUE:
                    return None
                if error.code == NO_ATTRIBUTE and asked is names:
                    continue  # a standard queue does not know the attribute of the other kind
                raise
            return {str(name): str(value) for name, value in told.get("Attributes", {}).items()}
        return None

    def age_s(self) -> float:
        """By the time at which SQS took each message; SQS tells no age of what nobody received."""
        age_s, self._age_s = self._age_s, 0.0
        return age_s
