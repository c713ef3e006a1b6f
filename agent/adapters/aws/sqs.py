"""The termination queue."""

from __future__ import annotations

import hashlib
import json
import re

from agent.adapters.aws.clients import Clients, translated
from agent.adapters.aws.signing import SignedCalls, json_refusal
from agent.calls.error_codes import Meaning, meaning_of

READ_S = 5.0
_HOST = re.compile(r"^https://(?:[a-z0-9-]+\.)?(?:(?:sqs|queue)\.([a-z]+(?:-[a-z]+)+-\d)|([a-z]+(?:-[a-z]+)+-\d)\.queue)\.")
"""The region in a queue's URL: `sqs.REGION…`, `vpce-….sqs.REGION.vpce…`, and the legacy `queue.REGION…` and `REGION.queue…`.

Source: "Amazon SQS endpoints and quotas" of the AWS general reference, "Internetwork traffic privacy" of the SQS guide.
"""


def region_of(url: str) -> str | None:
    """The region that the queue's URL names; None where it names none."""
    found = _HOST.match(url)
    return next(filter(None, found.groups())) if found else None


class SqsQueue:
    """A Queue (ports). FIFO parameters are sent to a FIFO queue only: a standard one refuses or ignores them."""

    def __init__(self, clients: Clients, url: str, group: str) -> None:
        self._clients, self._url, self._group = clients, url, group

    def send(self, body: str) -> None:
        """Send one message (SendMessage)."""
        fifo = {"MessageGroupId": self._group, "MessageDeduplicationId": hashlib.sha256(body.encode()).hexdigest()}
        extra = fifo if self._url.endswith(".fifo") else {}
        with translated(f"sqs:SendMessage to {self._url}"):
            client = self._clients.client("sqs", read_s=READ_S, region=region_of(self._url))
            client.send_message(QueueUrl=self._url, MessageBody=body, **extra)


class QueueProbe:
    """Asks for the queue with a call signed by hand: it needs no boto3, so it fits beside the wait for the configuration."""

    def __init__(self, calls: SignedCalls, url: str) -> None:
        self._calls, self._url = calls, url

    def check(self) -> None:
        """GetQueueAttributes. Returns if the queue answered, also with a denial: to send needs another permission.

        Raises: ServiceError, with the code of JSON errors as it is. Source: SQS API reference (AWS JSON protocol).
        """
        action = f"sqs:GetQueueAttributes of {self._url}"
        body = json.dumps({"QueueUrl": self._url, "AttributeNames": ["QueueArn"]}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.GetQueueAttributes"}
        answer = self._calls.post(action, body, headers, region_of(self._url))
        if answer.status == 200:
            return
        error = json_refusal(action, answer)
        if meaning_of(error.code) is not Meaning.DENIED:
            raise error
