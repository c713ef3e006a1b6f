"""The rows of `runs-fleet jobs` and `runs-fleet sessions`. Decides what they say; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.commands.terminal import lasting, moment
from orchestrator.jobs.model import Job, JobState
from orchestrator.store.model import Session

PAUSED = "the stack is paused: `runs-fleet resume`"


def session_of(sessions: Sequence[Session], job: Job) -> Session | None:
    """The one that ran it, else the youngest that was launched for it."""
    ran = [
        one for one in sessions if one.bound_job == job.job_id or (job.runner_name and one.registration_name == job.runner_name)
    ]
    return max(ran or sessions, key=lambda one: one.launched_at or 0.0, default=None)


def job_row(job: Job, session: Session | None, web_url: str, now: float, *, paused: bool = False) -> dict[str, Any]:
    """One job. `waited`: until a runner took it, it ended, or now. `web_url`: of GitHub's pages; `paused`: the stack is."""
    until = job.started_at or job.completed_at or now
    refused = job.refused and job.state is not JobState.COMPLETED
    ended = f"{session.status} {session.reason}".strip() if session is not None else ""
    held = PAUSED if paused and job.state is JobState.QUEUED and session is None else ""
    return {
        "job": job.job_id, "name": job.name, "repository": job.repository,
        "state": "refused" if refused else job.state.value, "conclusion": job.conclusion,
        "waited": lasting(until - job.queued_at), "queued": moment(job.queued_at), "runner": job.runner_name,
        "session": session.session_id if session else "", "session_state": session.state.value if session else "",
        "instance": session.instance_id if session else "", "reason": job.refused or ended or held,
        "url": f"{web_url}/{job.repository}/actions/runs/{job.run_id}/job/{job.job_id}",
    }  # fmt: skip


def session_row(one: Session, now: float) -> dict[str, Any]:
    """One session. `age`: since its machine was launched, until it was gone; `deadline`: its machine's end at the latest."""
    over = one.closed_at or one.ended_at
    age = None if one.launched_at is None else (over or now) - one.launched_at
    return {
        "session": one.session_id, "state": one.state.value, "instance": one.instance_id, "market": one.market, "spec": one.spec,
        "repository": one.repository, "job": one.bound_job, "launched": moment(one.launched_at), "age": lasting(age),
        "deadline": "" if over else moment(one.expires_at or None), "status": f"{one.status} {one.reason}".strip(),
    }  # fmt: skip


def web_url(api_url: str) -> str:
    """GitHub's pages for an API: `https://github.com`, or an Enterprise Server's own address.

    Source: "Getting started with the REST API": `https://HOST/api/v3` of GitHub Enterprise Server, `https://api.SUB.ghe.com`.
    """
    if api_url.endswith("/api/v3"):
        return api_url.removesuffix("/api/v3")
    return api_url.replace("://api.", "://", 1)
