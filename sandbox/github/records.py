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


@dataclass(kw_only=True, eq=False)
class JobRecord:
    """One job of one run, or the call of a workflow: a call is in progress while the jobs of that workflow are."""

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
    caller: JobRecord | None = None
    """The call whose workflow it belongs to; None: it stands in the run's own file."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Of a call: the called workflow's context `inputs`."""
    is_due: bool = False
    """Its needs and its condition are met, and what its file says of it is evaluated."""
    is_tolerated: bool = False
    """`continue-on-error`, or a workflow of another repository: its end stops nothing."""
    is_fail_fast: bool = True
    most_at_once: int = 0
    """Jobs of its matrix that may run at once; 0: all."""
    group: str = ""
    """Its concurrency group in lower case; empty: none."""
    arrived: int = 0
    """Its place in the order in which members came to their groups; 0: it has not."""
    reason: str = ""
    """Why it was ended from outside, or before a runner had it."""

    @property
    def result(self) -> str | None:
        """How it ended, as jobs that need it are told."""
        return "success" if self.is_tolerated and self.conclusion in ("failure", "skipped") else self.conclusion

    @property
    def is_active(self) -> bool:
        """Whether it is queued or in progress."""
        return self.status in ("queued", "in_progress")


@dataclass(kw_only=True, eq=False)
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
    calls: list[JobRecord] = field(default_factory=list)
    """The calls of other workflows; GitHub shows their jobs, not them."""
    inputs: dict[str, Any] = field(default_factory=dict)
    group: str = ""
    arrived: int = 0
    """As for jobs."""
    is_waiting: bool = False
    """Another member of its concurrency group runs: none of its jobs is due."""
    is_blocked: bool = False
    """It, or a job of it, waits for a concurrency group."""

    @property
    def everything(self) -> list[JobRecord]:
        """Its jobs and its calls."""
        return [*self.jobs, *self.calls]

    @property
    def status(self) -> str:
        """The status in GitHub's words."""
        if self.failed_at_start or all(job.status == "completed" for job in self.everything):
            return "completed"
        return "in_progress" if any(job.status in ("in_progress", "completed") for job in self.everything) else "queued"

    @property
    def conclusion(self) -> str | None:
        """The worst of its jobs, once it is over."""
        ends = {job.result for job in self.everything}
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
