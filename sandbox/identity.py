"""Who calls: AWS knows an instance by the keys of its role, moto does not."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.imds import ROLE_ID

USER_ID = "AIDASANDBOX"
"""Whoever calls with keys that are no instance's."""
SENT_WITHIN_S = 10.0
"""For how long a message that was received waits for its sender to be known."""
_KEY = re.compile(r"Credential=([A-Z0-9]+)/")
_SERVICE = re.compile(r"Credential=[^/]+/\d+/[a-z0-9-]+/([a-z0-9]+)/")
_MESSAGE_ID = re.compile(rb'(?:"MessageId": ?"|<MessageId>)([^"<]+)')
_PARTS = {"TransactWriteItems": "PutItem"}
"""A transaction is allowed by its parts. Source: "IAM for transactions" of the DynamoDB developer guide."""
_OF_OBJECTS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}
_OF_BUCKETS = {"GET": "s3:ListBucket", "HEAD": "s3:ListBucket", "PUT": "s3:CreateBucket"}


def user_id(authorization: str, owners: Mapping[str, str]) -> str:
    """`AROA…:i-…` for an instance, as STS and SQS say it. Source: "aws:userid" in the IAM user guide.

    `owners`: of each access key, the instance. Keys of an instance that is gone are good until they expire.
    """
    owner = owners.get(key_of(authorization), "")
    return f"{ROLE_ID}:{owner}" if owner else USER_ID


def key_of(authorization: str) -> str:
    """The access key that signed it; empty: nobody."""
    found = _KEY.search(authorization)
    return found[1] if found else ""


def service_of(authorization: str) -> str:
    """For which service it was signed, as signatures write it ("s3", "dynamodb"); empty: nobody signed it."""
    found = _SERVICE.search(authorization)
    return found[1] if found else ""


def caller_identity(who: str) -> bytes:
    """The answer of GetCallerIdentity."""
    inner = f"<Arn>arn:aws:sts::123456789012:assumed-role/{who}</Arn><UserId>{who}</UserId><Account>123456789012</Account>"
    return (
        f'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>{inner}'
        "</GetCallerIdentityResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    ).encode()


def permission(authorization: str, action: str, method: str, path: str) -> str:
    """What IAM calls this call; empty if nobody signed it.

    S3's names are not its operations'. Source: "Actions, resources, and condition keys for Amazon S3".
    """
    service = service_of(authorization)
    if service != "s3":
        return f"{service}:{_PARTS.get(action, action)}" if service else ""
    _, _, key = path.strip("/").partition("/")
    return (_OF_OBJECTS if key else _OF_BUCKETS).get(method, f"s3:{method}")


class Senders:
    """Who sent which message, for those that ask for it on receiving."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._on_their_way = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Within it a message is in the queue perhaps, and nobody knows yet whose it is."""
        with self._changed:
            self._on_their_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._on_their_way -= 1
                self._changed.notify_all()

    def sent(self, answer: bytes, who: str) -> None:
        """Remember it by the message's id: an answer is JSON, or XML to who speaks the query protocol, as the boot script does."""
        found = _MESSAGE_ID.search(answer)
        if found is not None:
            with self._changed:
                self._of[found[1].decode()] = who

    def received(self, answer: bytes) -> bytes:
        """The same messages, each with its true sender where a sender was asked for."""
        told: dict[str, Any] = json.loads(answer)
        names = {message["MessageId"] for message in told.get("Messages", [])}
        with self._changed:
            self._changed.wait_for(lambda: names <= self._of.keys() or not self._on_their_way, SENT_WITHIN_S)
            for message in told.get("Messages", []):
                attributes = message.get("Attributes", {})
                if "SenderId" in attributes:
                    attributes["SenderId"] = self._of.get(message["MessageId"], USER_ID)
        return json.dumps(told).encode()
