"""The termination queue."""

from __future__ import annotations

import hashlib
import re

from agent.adapters.aws.clients import Clients, translated

READ_S = 5.0
_HOST = re.compile(r"^https://(?:sqs|queue)\.([a-z0-9-]+)\.amazonaws\.com")


class SqsQueue:
    """A Queue (ports). FIFO parameters are sent to a FIFO queue only: a standard one refuses or ignores them."""

    def __init__(self, clients: Clients, url: str, group: str) -> None:
        self._clients, self._url, self._group = clients, url, group

    def send(self, body: str) -> None:
        """Send one message (SendMessage)."""
        region = _HOST.match(self._url)
        fifo = {"MessageGroupId": self._group, "MessageDeduplicationId": hashlib.sha256(body.encode()).hexdigest()}
        extra = fifo if self._url.endswith(".fifo") else {}
        with translated(f"sqs:SendMessage to {self._url}"):
            client = self._clients.client("sqs", read_s=READ_S, region=region.group(1) if region else None)
            client.send_message(QueueUrl=self._url, MessageBody=body, **extra)
