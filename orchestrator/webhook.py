"""Decide whether a delivery is genuine and ours, and what it says."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

import msgspec

from agent.contract.secret import Secret
from orchestrator.errors import DeliveryRefused

LIMIT_BYTES = 1 << 20
"""A `workflow_job` delivery is some 20 KB; GitHub's own cap is 25 MB."""


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
    at: float = 0.0
    """Epoch seconds of the event by GitHub's clock."""


def is_genuine(body: bytes, signature: str, secret: Secret) -> bool:
    """Whether `signature` (X-Hub-Signature-256) is GitHub's over exactly these bytes; in constant time."""
    wanted = "sha256=" + hmac.new(secret.reveal().encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))


def read_delivery(body: bytes) -> JobEvent:
    """The event in a genuine `workflow_job` delivery.

    Raises: DeliveryRefused (400) naming what is missing.
    """
    try:
        delivery = json.loads(body)
        job, repository = delivery["workflow_job"], delivery["repository"]
        return JobEvent(
            action=str(delivery["action"]),
            job_id=str(job["id"]),
            run_id=str(job["run_id"]),
            run_attempt=int(job.get("run_attempt") or 1),
            owner=str(repository["owner"]["login"]),
            repo=str(repository["name"]),
            name=str(job["name"]),
            labels=tuple(str(label) for label in job["labels"]),
            installation_id=str((delivery.get("installation") or {}).get("id") or ""),
            conclusion=str(job.get("conclusion") or ""),
            runner_name=str(job.get("runner_name") or ""),
            at=_moment(job),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeliveryRefused(400, f"expected a workflow_job delivery: {error!r}") from error


def deduplication_id(body: bytes) -> str:
    """The same for a redelivery, which has the same bytes."""
    return hashlib.sha256(body).hexdigest()


def _moment(job: dict[str, Any]) -> float:
    raw = job.get("completed_at") or job.get("started_at") or job.get("created_at")
    return datetime.fromisoformat(str(raw).replace("Z", "+00:00")).timestamp() if raw else 0.0
