"""What each HTTP request is answered, and which messages of the job queue are read, without any framework."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from urllib.parse import quote_plus

import msgspec
import pytest

from agent.contract.secret import Secret
from orchestrator.endpoints import Answer, Endpoints, Pace, read_job_message
from orchestrator.errors import DeliveryRefused, ServiceFailed
from orchestrator.jobs.webhook import LIMIT_BYTES, JobEvent
from orchestrator.ports import Received
from orchestrator.readiness import Readiness
from simulation.clock import VirtualTime
from simulation.examples import an_event
from simulation.process import InlineWorkerPool, MemoryJournal

JOB = {"id": 1, "run_id": 7, "name": "build", "labels": ["runs-fleet"]}
REPOSITORY = {"name": "widgets", "owner": {"login": "octo"}}
DELIVERY = json.dumps({"action": "queued", "workflow_job": JOB, "repository": REPOSITORY}).encode()


@dataclass
class Side:
    """The HTTP side, and what it handed on."""

    ours: bool = True
    error: Exception | None = None
    taken: list[tuple[bytes, JobEvent]] = field(default_factory=list)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    clock: VirtualTime = field(default_factory=VirtualTime)

    def __post_init__(self) -> None:
        self.pace = Pace(self.clock)

    @property
    def endpoints(self) -> Endpoints:
        """With two secrets, as while one is changed."""
        return Endpoints((Secret("hush"), Secret("older")), self._take, self.journal, self.pace)

    def post(self, body: bytes = DELIVERY, secret: str = "hush", **headers: str) -> Answer:
        """A delivery as GitHub signs it."""
        signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        told = {"x-github-event": "workflow_job", "x-hub-signature-256": signature}
        return self.endpoints.webhook(told | {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def _take(self, body: bytes, event: JobEvent) -> bool:
        if self.error is not None:
            raise self.error
        self.taken.append((body, event))
        return self.ours


@pytest.mark.parametrize("secret", ["hush", "older"])
def test_a_delivery_under_either_secret_is_handed_on_with_its_own_bytes(secret: str) -> None:
    side = Side()

    assert side.post(secret=secret) == Answer(200, {"taken": True})
    ((body, event),) = side.taken
    assert (body, event.job_id, event.repo) == (DELIVERY, "1", "widgets")


def test_whoever_delivers_hears_whether_it_was_ours() -> None:
    assert Side(ours=False).post() == Answer(200, {"taken": False})


@pytest.mark.parametrize(
    "headers",
    [{"x_hub_signature_256": ""}, {"x_hub_signature_256": "sha256=" + 64 * "0"}, {"x_hub_signature_256": "é"}],
    ids=["none", "another", "no ASCII"],
)
def test_a_delivery_that_nobody_signed_is_refused_before_it_is_read(headers: dict[str, str]) -> None:
    side = Side()

    answer = side.post(b"nonsense", **headers)

    assert (answer.status, side.taken) == (401, []) and "secret on both sides" in str(answer.content["error"])
    assert side.post(secret="guessed").status == 401 and side.taken == []


def test_a_request_without_any_header_is_refused() -> None:
    assert Side().endpoints.webhook({}, DELIVERY).status == 401


@pytest.mark.parametrize("event", ["ping", "push", "workflow_run", ""])
def test_another_event_is_answered_and_its_body_is_not_read(event: str) -> None:
    side = Side()

    answer = side.post(b"nonsense", x_github_event=event)

    assert (answer.status, answer.content["taken"], side.taken) == (200, False, [])


@pytest.mark.parametrize("body", [b"", b"nonsense", b"{}", b'{"action": "queued"}'])
def test_a_signed_delivery_that_cannot_be_read_is_refused_with_what_was_expected(body: bytes) -> None:
    side = Side()

    answer = side.post(body)

    assert (answer.status, side.taken) == (400, []) and "expected a workflow_job delivery" in str(answer.content["error"])


def test_a_delivery_that_cannot_be_stored_is_to_be_delivered_again_and_the_log_says_why() -> None:
    side = Side(error=ServiceFailed("sqs:SendMessage", "AccessDenied", "a role of ours"))

    answer = side.post()

    assert answer.status == 503 and "AccessDenied" not in str(answer.content), "outsiders are not told"
    assert side.journal.events == [("webhook.not_stored", {"error": "sqs:SendMessage answered AccessDenied: a role of ours"})]


def test_a_fault_of_our_own_is_not_taken_for_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        Side(error=ZeroDivisionError()).post()


SIGNED = "sha256=" + "0f" * 32


@pytest.mark.parametrize(
    ("declared", "signature", "status"),
    [
        ("0", SIGNED, None),
        (str(LIMIT_BYTES), SIGNED, None),
        (str(LIMIT_BYTES + 1), SIGNED, 413),
        (str(LIMIT_BYTES + 1), "", 413),
        ("9" * 5000, SIGNED, 413),
        *[("7", signature, 401) for signature in ("", "sha256=", SIGNED[:-1], SIGNED + "0", SIGNED.upper(), SIGNED + "\n")],
        *[(length, SIGNED, 411) for length in ("", "x", "\u00b2", "\u0661", "-1", "1e9")],
    ],
)
def test_a_body_is_refused_before_it_is_read_by_its_length_and_its_signatures_shape(
    declared: str, signature: str, status: int | None
) -> None:
    headers = {"content-length": declared, "x-hub-signature-256": signature}
    told: list[int] = []
    try:
        Side().endpoints.before_the_body(headers)
    except DeliveryRefused as error:
        told.append(error.status)

    assert told == ([] if status is None else [status])


def test_a_body_is_refused_as_soon_as_more_came_than_is_allowed() -> None:
    endpoints = Side().endpoints

    endpoints.read_size(LIMIT_BYTES)
    with pytest.raises(DeliveryRefused, match=f"at most {LIMIT_BYTES}") as caught:
        endpoints.read_size(LIMIT_BYTES + 1)
    assert endpoints.refuse(caught.value, {}) == Answer(413, {"error": str(caught.value)})


def test_a_process_that_drains_lives_and_wants_no_deliveries() -> None:
    endpoints, readiness = Side().endpoints, Readiness((), MemoryJournal(), InlineWorkerPool())
    readiness.look()

    assert [endpoints.ready(draining=it, readiness=readiness).status for it in (False, True)] == [200, 503]
    assert endpoints.health().status == 200


def test_a_message_of_the_job_queue_is_the_event_that_was_queued() -> None:
    journal = MemoryJournal()
    queued = an_event("completed", conclusion="failure", public=True, taken_at=7.5)

    assert read_job_message(Received(msgspec.json.encode(queued).decode(), "receipt"), journal) == queued
    assert journal.events == []


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "{}", '{"action": 7}', "\ud800", '{"x":' + "[" * 50_000])
def test_a_message_of_the_job_queue_that_nobody_can_read_is_logged_and_dropped(body: str) -> None:
    journal = MemoryJournal()

    assert read_job_message(Received(body, "receipt"), journal) is None
    assert journal.names == ["job_message.unusable"] and journal.events[0][1]["error"]


FORM = b"payload=" + quote_plus(DELIVERY).encode()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded; charset=utf-8"])
def test_a_form_encoded_delivery_is_taken_like_any_other(kind: str) -> None:
    side = Side()

    assert side.post(FORM, content_type=kind).status == 200
    ((body, event),) = side.taken
    assert (body, event.job_id) == (FORM, "1")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (FORM, "application/json"),
        (b"payload=%7B", "application/x-www-form-urlencoded"),
        (b"load=1", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (DELIVERY, "application/x-www-form-urlencoded"),
        (b'{"action": "queued", "workflow_job": null}', "application/json"),
        (b"", ""),
    ],
)
def test_a_delivery_that_cannot_be_read_is_refused_with_its_content_type_and_leaves_a_line(body: bytes, kind: str) -> None:
    side = Side()

    answer = side.post(body, content_type=kind, x_github_delivery="guid-1")

    assert answer.status == 400 and f"(content type {kind or 'none'})" in str(answer.content["error"])
    (told,) = side.journal.of("webhook.refused")
    assert (told["status"], told["delivery"], told["why"]) == (400, "guid-1", answer.content["error"])


def test_refusals_of_one_kind_leave_a_line_a_minute_with_their_number() -> None:
    side = Side()

    for _ in range(50):
        side.post(secret="guessed")
    side.post(b"{}")
    side.clock.at += 61.0
    side.post(secret="guessed")

    told = side.journal.of("webhook.refused")
    assert [(one["status"], one["more"]) for one in told] == [(401, 0), (400, 0), (401, 49)]


def test_connections_that_are_dropped_for_one_reason_leave_a_line_a_minute_with_their_number() -> None:
    side = Side()

    for _ in range(3_000):
        side.endpoints.dropped("not HTTP")
    side.endpoints.dropped("too many")
    side.clock.at += 61.0
    side.endpoints.dropped("not HTTP")

    told = [(one["why"], one["more"]) for one in side.journal.of("connection.dropped")]
    assert told == [("not HTTP", 0), ("too many", 0), ("not HTTP", 2_999)]
