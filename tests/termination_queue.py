"""What an agent sent, read from the termination queue as an orchestrator reads it."""

from __future__ import annotations

from typing import Any

from agent.contract.messages import Message, read_message


def received(sqs: Any, queue_url: str) -> list[Message]:
    """Every message that lies there, in order; each is deleted."""
    found: list[Message] = []
    while batch := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in batch:
            found.append(read_message(message["Body"]))
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found
