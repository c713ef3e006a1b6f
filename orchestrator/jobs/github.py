"""What is needed of GitHub, as the App sees it. `adapters/github.py` keeps this promise over REST."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.contract.secret import Secret
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.webhook import JobEvent
from orchestrator.store.naming import Scope


@dataclass(frozen=True)
class Minted:
    """A registered runner and its single-use credential."""

    runner_id: int
    blob: Secret


@dataclass(frozen=True)
class RegisteredRunner:
    """A runner, as GitHub lists it."""

    runner_id: int
    name: str
    online: bool
    busy: bool


@dataclass(frozen=True)
class Run:
    """A workflow run. `over`: whether every job of its latest attempt is; `fork`: whether its code comes from one."""

    over: bool
    attempt: int
    conclusion: str = ""
    """Of a run that is over, in GitHub's words."""
    fork: bool = False
    public: bool = False


@dataclass(frozen=True)
class FailedDelivery:
    """A delivery that failed. `guid`: of what was to be told; each try to tell it is a delivery of its own."""

    delivery_id: str
    guid: str


@dataclass(frozen=True)
class EndedJob:
    """A job of a run's latest attempt that is over. `conclusion` is GitHub's word."""

    job_id: str
    name: str
    conclusion: str


@dataclass(frozen=True)
class RunnerRelease:
    """A release of the runner. `digests`: SHA-256 of its archives by architecture (`amd64`, `arm64`), as far as published."""

    version: str
    digests: Mapping[str, str]


class GitHub(Protocol):
    """The GitHub App's view of runners, jobs and deliveries."""

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...]) -> Minted | None:
        """Register a JIT runner of this name; None if the name is taken. Raises: ServiceFailed."""

    def registrations(self, scope: Scope) -> RegistrationQuota:
        """How many runners may be registered now, as far as GitHub tells. Asks it at most for what costs nothing."""

    def find(self, scope: Scope, name: str) -> int | None:
        """The id of the runner of this name. Raises: ServiceFailed."""

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Whether the runner is gone now; False while it runs a job. Raises: ServiceFailed."""

    def registered(self, scope: Scope) -> Iterator[RegisteredRunner]:
        """All runners of the scope. Raises: ServiceFailed."""

    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """A job as a delivery would tell it now; None: unknown to GitHub. `urgent`: no mere check. Raises: ServiceFailed."""

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """The jobs of a run's latest attempt, as a delivery would tell them; none, if GitHub does not know it.

        Raises: ServiceFailed.
        """

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """A run; None: GitHub does not know it. Raises: ServiceFailed."""

    def is_superseded(self, scope: Scope, run_id: str) -> bool:
        """Whether a newer run of the same workflow and branch is there, which may have cancelled it. Raises: ServiceFailed."""

    def ended_badly(self, scope: Scope, run_id: str) -> list[EndedJob]:
        """The jobs of the latest attempt that ended neither well nor on purpose. Raises: ServiceFailed."""

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """Jobs that are queued, as a delivery would tell them; a few calls for each run that is not over.

        Raises: ServiceFailed.
        """

    def failed_deliveries(self, since: float) -> list[FailedDelivery]:
        """Deliveries to this App since then of which no try was answered well, newest first. Raises: ServiceFailed."""

    def answer_to(self, delivery_id: str) -> str:
        """What a delivery was answered by us: status and reason; empty: GitHub does not say. Raises: ServiceFailed."""

    def redeliver(self, delivery_id: str) -> None:
        """Have a delivery sent again. Raises: ServiceFailed."""

    def post_notice(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """Post a notice on a commit's page, where its author looks; False: the App may not. Raises: ServiceFailed."""

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """Run one job again, or all failed ones; False: GitHub does not allow it (now). Raises: ServiceFailed."""

    def release(self, scope: Scope, version: str) -> RunnerRelease | None:
        """The runner's release of this version; empty: the newest. None: GitHub has no such release. Raises: ServiceFailed."""
