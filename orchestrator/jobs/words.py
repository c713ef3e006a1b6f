"""Whether the agent and GitHub agree how a job ended. The agent's word comes from the job's own machine; GitHub's counts."""

from __future__ import annotations

from agent.contract.messages import Status
from orchestrator.jobs.model import Job, JobState
from orchestrator.ports import Journal
from orchestrator.store.model import Session

GREEN = frozenset({"success", "neutral", "skipped"})
"""Conclusions of a job that ended well. Source: GitHub REST, "Get a job for a workflow run"."""


def compare(journal: Journal, job: Job | None, session: Session) -> None:
    """Say so where they differ, once both have told; whichever tells second gets here with both."""
    if job is None or job.state is not JobState.COMPLETED or not session.status or session.bound_job != job.job_id:
        return
    if (session.status == Status.SUCCESS) != (job.conclusion in GREEN):
        journal.event(
            "job.words_differ", job_id=job.job_id, repository=job.repository, session_id=session.session_id,
            agent=session.status, agents_reason=session.reason, github=job.conclusion,
        )  # fmt: skip
