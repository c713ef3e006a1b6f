"""What is remembered: jobs (what GitHub wants) and sessions (a runner in a body), two records that are never one.

A session is launched because a job waits, and may run another: only GitHub's `in_progress` tells which.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class JobState(StrEnum):
    """Where a job is, as far as GitHub told."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class SessionState(StrEnum):
    """Where a session is; every state but `closed` has a deadline."""

    LAUNCHING = "launching"
    """The launch request is committed; whether EC2 has seen it is not known."""
    LAUNCHED = "launched"
    """There is an instance; it waits for its configuration."""
    CONFIGURED = "configured"
    """Its configuration lies in SSM and its runner is registered."""
    READY = "ready"
    """The agent said `started`: the secret is read and deleted."""
    BUSY = "busy"
    """The agent said that it took a job."""
    ENDED = "ended"
    """The agent's final word came, or the instance is gone, or its time is up; there may be things to remove."""
    CLOSED = "closed"
    """Instance gone, secret gone, registration gone: nothing of it is left."""


TRANSITIONS: dict[SessionState, frozenset[SessionState]] = {
    SessionState.LAUNCHING: frozenset({SessionState.LAUNCHED, SessionState.ENDED}),
    SessionState.LAUNCHED: frozenset({SessionState.CONFIGURED, SessionState.READY, SessionState.BUSY, SessionState.ENDED}),
    SessionState.CONFIGURED: frozenset({SessionState.READY, SessionState.BUSY, SessionState.ENDED}),
    SessionState.READY: frozenset({SessionState.BUSY, SessionState.ENDED}),
    SessionState.BUSY: frozenset({SessionState.ENDED}),
    SessionState.ENDED: frozenset({SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
}
_JOB_ORDER = (JobState.QUEUED, JobState.IN_PROGRESS, JobState.COMPLETED)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job of one attempt. Times are epoch seconds, None: not yet."""

    job_id: str
    run_id: str
    run_attempt: int
    owner: str
    repo: str
    name: str
    labels: tuple[str, ...]
    installation_id: str
    state: JobState = JobState.QUEUED
    conclusion: str = ""
    runner_name: str = ""
    """Empty until GitHub names the runner that took it."""
    queued_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    version: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One runner in one body. Times are epoch seconds, None: not yet."""

    session_id: str
    launched_for: str
    """The job whose waiting made us launch; it may run another."""
    owner: str
    repo: str
    run_id: str
    labels: tuple[str, ...]
    installation_id: str
    request: str
    """The exact launch request as JSON, committed before the first call; a replay sends the same bytes."""
    state: SessionState = SessionState.LAUNCHING
    deadline: float = 0.0
    """When somebody must look at it, whatever happened."""
    expires_at: float = 0.0
    """When its machine is terminated, whatever it does."""
    instance_id: str = ""
    runner_name: str = ""
    runner_id: int = 0
    attempt: int = 1
    created_at: float = 0.0
    launched_at: float | None = None
    started_at: float | None = None
    gone_at: float | None = None
    """When EC2 first said that the instance is gone, before any final word was heard."""
    ended_at: float | None = None
    closed_at: float | None = None
    status: str = ""
    reason: str = ""
    error: str = ""
    phases_ms: dict[str, int] = {}
    log_outcome: str = ""
    log_lines: int = 0
    ran_job: str = ""
    version: int = 0


def may_become(session: Session, state: SessionState) -> bool:
    """Whether the table allows it."""
    return state in TRANSITIONS[session.state]


def is_news(job: Job, state: JobState) -> bool:
    """Whether an event of `state` tells anything new: late and repeated deliveries change nothing."""
    return _JOB_ORDER.index(state) > _JOB_ORDER.index(job.state)
