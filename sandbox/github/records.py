"""What the stand-in GitHub keeps: runners, jobs, runs, check runs; and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.plan import PlannedJob, Workflow


class Refusal(Exception):
    """An error answer: status, and the message GitHub gives."""

    def __init__(self, status: int, message: str, kind: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status, self.message, self.kind, self.headers = status, message, kind, headers
        super().__init__(message)


@dataclass(kw_only=True)
class RunnerRecord:
    """A registered runner."""

    id: int
    name: str
    labels: tuple[str, ...]
    group_id: int
    client_id: str
    public_key: Any
    ephemeral: bool = True
    session: str = ""
    version: str = ""
    busy: bool = False
    job: JobRecord | None = None


@dataclass(kw_only=True)
class JobRecord:
    """One job of one run."""

    id: int
    run_id: int
    plan: PlannedJob
    status: str = "pending"
    """`pending` (its needs are not met; GitHub shows nothing yet), then as GitHub says."""
    conclusion: str | None = None
    runner_id: int | None = None
    runner_name: str = ""
    queued_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    renewed_at: float = 0.0
    assigned_at: float = 0.0
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    attempt: int = 1
    labels: tuple[str, ...] = ()
    """Of `runs-on`, as they are when the job is queued."""
    is_withheld: bool = False
    """It asks for a runner group that has none of our runners: it stays queued, and nobody is given it."""


@dataclass
class RunRecord:
    """One run of one workflow."""

    id: int
    number: int
    workflow: Workflow
    jobs: list[JobRecord] = field(default_factory=list)
    """Of the latest attempt; what was not run again is as it was."""
    past: list[JobRecord] = field(default_factory=list)
    """What was run again since."""
    attempt: int = 1
    failed_at_start: bool = False
    """The run is over (`startup_failure`), and its jobs stay queued for ever."""

    @property
    def status(self) -> str:
        """The status in GitHub's words."""
        if self.failed_at_start or all(job.status == "completed" for job in self.jobs):
            return "completed"
        return "in_progress" if any(job.status in ("in_progress", "completed") for job in self.jobs) else "queued"

    @property
    def conclusion(self) -> str | None:
        """The worst of its jobs, once it is over."""
        ends = {job.conclusion for job in self.jobs}
        if self.failed_at_start:
            return "startup_failure"
        if self.status != "completed":
            return None
        return next((word for word in ("failure", "cancelled", "success") if word in ends), "skipped")


@dataclass(frozen=True, kw_only=True)
class CheckRecord:
    """A check run that an App wrote on a commit's page."""

    id: int
    head_sha: str
    name: str
    status: str
    conclusion: str | None
    title: str | None
    summary: str | None
    at: float
