"""Requests and answers of the HTTP side, and messages of queues, without a framework.

`serve.py` answers with them through Starlette; a Lambda handler can do so from its own event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from agent.contract.secret import Secret
from orchestrator.errors import DeliveryRefused, ServiceFailed
from orchestrator.jobs.webhook import LIMIT_BYTES, SIGNATURE, JobEvent, has_signature, is_genuine, read_delivery
from orchestrator.ports import Clock, Journal, Received
from orchestrator.readiness import Readiness


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, and its body as JSON."""

    status: int
    content: Mapping[str, object]


DIGITS = 20
"""Of a length; longer ones are too long whatever they say, and costly to read."""
PACED_S = 60.0
"""Seconds in which one kind of refusal is logged once, however often strangers ask."""


class Pace:
    """Lets one event of a kind through each minute, and counts those that it holds back. May be used from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._last, self._held = clock, dict[str, float](), dict[str, int]()

    def due(self, kind: str) -> int | None:
        """How many of this kind were held back since the last that was let through; None: this one is held back."""
        now = self._clock.now()
        if now - self._last.get(kind, -PACED_S) < PACED_S:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._held.pop(kind, 0)


@dataclass(frozen=True)
class Endpoints:
    """What the HTTP side does with each request."""

    secrets: Sequence[Secret]
    """The webhook's secret, and the previous one while it is changed."""
    on_webhook: Callable[[bytes, JobEvent], bool]
    """Takes a genuine delivery; whether it was ours. Raises: ServiceFailed: it could not be stored."""
    journal: Journal
    pace: Pace

    def before_the_body(self, headers: Mapping[str, str]) -> None:
        """Refuse a request whose body need not be read: too long, not signed, or of no declared length.

        GitHub signs and declares each delivery. Raises: DeliveryRefused (413, 401, 411).
        """
        declared = headers.get("content-length", "")
        is_number = declared.isascii() and declared.isdigit()
        if is_number and (len(declared) > DIGITS or int(declared) > LIMIT_BYTES):
            raise DeliveryRefused(413, f"expected at most {LIMIT_BYTES} bytes, {declared[:DIGITS]} are declared")
        if not has_signature(headers.get(SIGNATURE, "")):
            raise DeliveryRefused(401, f"expected a signature in the header {SIGNATURE}: set a secret at the webhook")
        if not is_number:
            raise DeliveryRefused(411, "expected a header content-length: a proxy in front must not send the body in chunks")

    def read_size(self, size: int) -> None:
        """Look at how much of a body has come. Raises: DeliveryRefused (413)."""
        if size > LIMIT_BYTES:
            raise DeliveryRefused(413, f"expected at most {LIMIT_BYTES} bytes, more came")

    def webhook(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """`POST /webhook`: a delivery, durable once it is answered with 200. Header names are lower case."""
        try:
            return self._delivered(headers, body)
        except DeliveryRefused as error:
            return self.refuse(error, headers)
        except ServiceFailed as error:
            self.journal.event("webhook.not_stored", error=str(error))
            return Answer(503, {"error": "the delivery could not be stored: redeliver it"})

    def refuse(self, error: DeliveryRefused, headers: Mapping[str, str]) -> Answer:
        """The answer to a request that is refused, which the log says, too: once a minute for each status, with their number."""
        if (number := self.pace.due(str(error.status))) is not None:
            fields = {"delivery": headers.get("x-github-delivery", "")[:64], "more": number}
            self.journal.event("webhook.refused", status=error.status, why=str(error), **fields)
        return Answer(error.status, {"error": str(error)})

    def dropped(self, why: str) -> None:
        """Log that connections were closed before a request was answered: once a minute for each reason, with their number."""
        if (number := self.pace.due(why)) is not None:
            self.journal.event("connection.dropped", why=why, more=number)

    def health(self) -> Answer:
        """`GET /health`: the process lives."""
        return Answer(200, {"status": "up"})

    def ready(self, *, draining: bool, readiness: Readiness) -> Answer:
        """`GET /ready`: whether it wants deliveries, and the names of the checks that are not passed. Details are in the log."""
        names = {"failed": readiness.failed, "pending": readiness.pending, "unchecked": readiness.unchecked}
        told = {name: list(checks) for name, checks in names.items() if checks}
        if draining:
            return Answer(503, {"status": "draining", **told})
        if not readiness.is_ready:
            return Answer(503, {"status": "not ready", **told})
        return Answer(200, {"status": "ready", **told})

    def _delivered(self, headers: Mapping[str, str], body: bytes) -> Answer:
        signature = headers.get(SIGNATURE, "")
        if not any(is_genuine(body, signature, secret) for secret in self.secrets):
            raise DeliveryRefused(401, "the signature does not fit the body: check the webhook's secret on both sides")
        if headers.get("x-github-event") != "workflow_job":
            return Answer(200, {"taken": False, "why": "only workflow_job is acted on"})
        return Answer(200, {"taken": self.on_webhook(body, read_delivery(body, headers.get("content-type", "")))})


def read_job_message(received: Received, journal: Journal) -> JobEvent | None:
    """The event in a message of the job queue; None: it cannot be read, which the log says, and is dropped."""
    try:
        return msgspec.json.decode(received.body, type=JobEvent)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        journal.event("job_message.unusable", error=str(error))
        return None
