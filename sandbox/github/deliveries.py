"""Webhooks going out: signed, kept on record, and as unreliable as they are told to be."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import queue
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlsplit

REDELIVERIES = 8
"""Tries of one delivery that found nobody: the sandbox's orchestrator may still be starting, or be started again."""
ANSWERED_WITHIN_S = 10.0
"""Source: GitHub documentation, "Best practices for using webhooks"."""


@dataclass
class Behaviour:
    """How badly deliveries behave: the share of each that is lost, repeated, or kept back so that later ones overtake it."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    form_encoded: float = 0.0
    """Sent as the webhook's other content type: the JSON as the field `payload` of a form."""
    late_s: float = 2.0
    chance: random.Random = field(default_factory=lambda: random.Random(7))


@dataclass(kw_only=True)
class Delivery:
    """One delivery, as the App's API lists it."""

    id: int
    guid: str
    action: str
    body: bytes
    at: float
    took_s: float = 0.0
    status_code: int = 0
    redelivery: bool = False
    answer: str = ""
    """The body of the answer, as GitHub keeps it."""


class Deliveries:
    """Sends in order, one after the other, unless its behaviour say otherwise."""

    def __init__(self, secret: str) -> None:
        self.url: str | None = None
        self.more_urls: list[str] = []
        """Other servers behind the same address: each try goes to any of them."""
        self.behaviour = Behaviour()
        self.log: list[Delivery] = []
        self.seen: Counter[str] = Counter()
        """What was lost, late, and repeated."""
        self._secret = secret
        self._ids = itertools.count(1)
        self._waiting: queue.Queue[Delivery | None] = queue.Queue()
        self._closed = threading.Event()

    def put(self, action: str, body: bytes) -> None:
        """Queue the delivery, to be sent soon."""
        self._waiting.put(self._noted(str(uuid.uuid4()), action, body))

    def again(self, delivery_id: int) -> bool:
        """Send one again, with its own id, under a new number; False: there is none of this number."""
        found = next((one for one in self.log if one.id == delivery_id), None)
        if found is not None:
            self._waiting.put(self._noted(found.guid, found.action, found.body, redelivery=True))
        return found is not None

    def run(self) -> None:
        """Send what is queued, until closed."""
        while (delivery := self._waiting.get()) is not None:
            behaviour, chance = self.behaviour, self.behaviour.chance
            if not delivery.redelivery and chance.random() < behaviour.lost:
                delivery.status_code = 502
                self.seen["deliveries lost"] += 1
                continue
            if chance.random() < behaviour.late:
                self.seen["deliveries late"] += 1
                threading.Timer(chance.uniform(0.1, behaviour.late_s), self._sent, (delivery,)).start()
                continue
            self._sent(delivery)
            if chance.random() < behaviour.repeated:
                self.seen["deliveries repeated"] += 1
                self._sent(self._noted(delivery.guid, delivery.action, delivery.body, redelivery=True))

    def close(self) -> None:
        """Stop: nothing more is sent."""
        self._closed.set()
        self._waiting.put(None)

    def send(self, guid: str, body: bytes) -> tuple[int, str]:
        """One try; the status and body it was answered with, 599 for no answer."""
        assert self.url is not None
        parts, kind = urlsplit(self.behaviour.chance.choice([self.url, *self.more_urls])), "application/json"
        if self.behaviour.chance.random() < self.behaviour.form_encoded:
            self.seen["deliveries form-encoded"] += 1
            body, kind = b"payload=" + quote_plus(body).encode(), "application/x-www-form-urlencoded"
        signature = "sha256=" + hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": kind, "User-Agent": "GitHub-Hookshot/stand-in", "X-GitHub-Event": "workflow_job",
            "X-GitHub-Delivery": guid, "X-Hub-Signature-256": signature,
        }  # fmt: skip
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWERED_WITHIN_S)
        try:
            connection.request("POST", parts.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return 599, ""
        finally:
            connection.close()

    def _sent(self, delivery: Delivery) -> None:
        began_s = time.monotonic()
        for attempt in range(REDELIVERIES):
            if self.url is None:
                return
            delivery.status_code, delivery.answer = self.send(delivery.guid, delivery.body)
            if delivery.status_code < 300 or self._closed.wait(min(0.2 * 2**attempt, 2.0)):
                break
        delivery.took_s = time.monotonic() - began_s

    def _noted(self, guid: str, action: str, body: bytes, *, redelivery: bool = False) -> Delivery:
        delivery = Delivery(id=next(self._ids), guid=guid, action=action, body=body, at=time.time(), redelivery=redelivery)
        self.log.append(delivery)
        return delivery
