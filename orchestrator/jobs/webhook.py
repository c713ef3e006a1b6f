"""Decide whether a delivery is genuine and ours, and what it says."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs

import msgspec

from agent.contract.secret import Secret
from orchestrator.errors import DeliveryRefused
from orchestrator.ports import Queue

SIGNATURE = "x-hub-signature-256"
"""The header of a delivery's signature, in lower case. Source: GitHub docs, "Validating webhook deliveries"."""
LIMIT_BYTES = 1 << 20
"""A `workflow_job` delivery is some 20 KB; GitHub's own cap is 25 MB."""


ACTED_ON = frozenset({"waiting", "queued", "in_progress", "completed"})
"""The actions of `workflow_job` that are acted on. Source: GitHub webhook documentation."""
ACTIONS = {"queued": "queued", "in_progress": "in_progress", "completed": "completed"}
"""A job's status in the API to the action that told it; the others (`waiting`, `requested`, `pending`) want no machine yet."""


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What we keep of a `workflow_job` delivery: enough to act on, nothing more."""

    action: str
    job_id: str
    run_id: str
    run_attempt: int
    owner: str
    repo: str
    name: str
    labels: tuple[str, ...]
    installation_id: str
    conclusion: str = ""
    runner_name: str = ""
    head_sha: str = ""
    """The commit whose page can carry a notice about the job."""
    public: bool = False
    """Whether the repository is."""
    at: float = 0.0
    """Epoch seconds of the event by GitHub's clock."""
    taken_at: float = 0.0
    """When its runner took it, by GitHub's clock; 0: none did."""


class _Login(msgspec.Struct):
    login: str


class _Repository(msgspec.Struct):
    name: str
    owner: _Login
    private: bool = True


class _Installation(msgspec.Struct):
    id: int | str


class _Job(msgspec.Struct, kw_only=True):
    """The fields of a `workflow_job` that we read. Source: octokit webhook types."""

    id: int | str
    run_id: int | str
    name: str
    labels: list[str]
    run_attempt: int | None = None
    status: str | None = None
    head_sha: str | None = None
    conclusion: str | None = None
    runner_name: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None


class _Delivery(msgspec.Struct):
    action: str
    workflow_job: _Job
    repository: _Repository
    installation: _Installation | None = None


def has_signature(signature: str) -> bool:
    """Whether it has the shape of GitHub's: a body without one need not be read."""
    return re.fullmatch(r"sha256=[0-9a-f]{64}", signature) is not None


def is_genuine(body: bytes, signature: str, secret: Secret) -> bool:
    """Whether `signature` (X-Hub-Signature-256) is GitHub's over exactly these bytes; in constant time."""
    wanted = "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))


FORM = "application/x-www-form-urlencoded"
"""The other content type that a webhook can have: the JSON is its field `payload`. Source: "Creating webhooks", GitHub docs."""


def read_delivery(body: bytes, content_type: str = "application/json") -> JobEvent:
    """The event in a genuine `workflow_job` delivery, as JSON or as a form.

    Raises: DeliveryRefused (400) naming what is missing, and the content type.
    """
    try:
        document = _unpacked(body, content_type)
        delivery = msgspec.json.decode(document, type=_Delivery)
        installation = str(delivery.installation.id) if delivery.installation else ""
        place = (delivery.repository.owner.login, delivery.repository.name, installation)
        event = _event(delivery.action, delivery.workflow_job, *place, public=not delivery.repository.private)
        msgspec.json.encode(event)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        said = f"expected a workflow_job delivery as JSON, or as a form with the field payload: {error}"
        raise DeliveryRefused(400, f"{said} (content type {content_type[:100] or 'none'})") from error
    return event


def _unpacked(body: bytes, content_type: str) -> bytes | str:
    """The JSON in a body. Raises: ValueError."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        return body
    fields = parse_qs(body.decode("ascii"), strict_parsing=True, encoding="utf-8", errors="strict", max_num_fields=8)
    if len(fields.get("payload", [])) != 1:
        raise ValueError("the form has no field payload")
    return fields["payload"][0]


def as_told(job: object, owner: str, repo: str, installation_id: str) -> JobEvent:
    """What a delivery would tell of a job that GitHub's API describes so. Raises: msgspec.ValidationError: another shape."""
    found = msgspec.convert(job, _Job, strict=False)
    return _event(ACTIONS.get(found.status or "", "waiting"), found, owner, repo, installation_id)


def deduplication_id(body: bytes) -> str:
    """The same for a redelivery, which has the same bytes."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Acceptance:
    """Takes genuine deliveries into the job queue, from which they are acted on."""

    are_ours: Callable[[tuple[str, ...]], bool]
    """Whether a job with these labels is for us."""
    job_queue: Queue

    def accept(self, body: bytes, event: JobEvent) -> bool:
        """A genuine delivery: durable once this returns; whether it was ours. Raises: ServiceFailed: answer 5xx."""
        if event.action not in ACTED_ON or not self.are_ours(event.labels):
            return False
        self.job_queue.send(msgspec.json.encode(event).decode(), event.job_id, deduplication_id(body))
        return True


def _event(action: str, job: _Job, owner: str, repo: str, installation_id: str, *, public: bool = False) -> JobEvent:
    return JobEvent(
        action=action, job_id=str(job.id), run_id=str(job.run_id), run_attempt=job.run_attempt or 1, owner=owner, repo=repo,
        name=job.name, labels=tuple(job.labels), installation_id=installation_id, conclusion=job.conclusion or "",
        runner_name=job.runner_name or "", head_sha=job.head_sha or "", public=public,
        at=_moment(job.completed_at or job.started_at or job.created_at),
        taken_at=_moment(job.started_at if job.runner_name else None),
    )  # fmt: skip


def _moment(raw: str | None) -> float:
    return datetime.fromisoformat(raw.replace("Z", "+00:00")).timestamp() if raw else 0.0
