"""Decide whether a job needs a machine it does not have."""

from __future__ import annotations

from orchestrator.model import Job, JobState, Session


def lacks_a_session(job: Job, existing: Session | None) -> bool:
    """One launch per waiting job, for now: a job that is queued and for which nothing was ever launched."""
    return job.state is JobState.QUEUED and existing is None
