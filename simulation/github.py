"""The twin of GitHub as the App sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from agent.contract.secret import Secret
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.github import EndedJob, FailedDelivery, Minted, RegisteredRunner, Run, RunnerRelease
from orchestrator.jobs.webhook import JobEvent
from orchestrator.store.naming import Scope
from simulation.calls import Calls, call
from simulation.examples import a_blob


@dataclass
class Registration:
    """A runner, as GitHub lists it."""

    name: str
    labels: tuple[str, ...]
    busy: bool = False
    online: bool = False


class MemoryGitHub:
    """GitHub (services): names are unique, a busy runner stays."""

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self.runners: dict[int, Registration] = {}
        self.jobs: dict[str, JobEvent] = {}
        """As a delivery would tell each now."""
        self.agrees: Callable[[str], JobEvent | None] = lambda job_id: None
        """What it says of a job that is not in `jobs`."""
        self.attempts: dict[str, int] = {}
        """Latest attempt of each run."""
        self.reruns: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        """Runs that GitHub does not know (any more)."""
        self.cancelled: set[str] = set()
        """Runs that somebody cancelled."""
        self.forks: set[str] = set()
        """Runs whose code comes from one."""
        self.left: int | None = None
        self.quotas: Callable[[Scope], RegistrationQuota] | None = None
        """What it says of registrations, by scope; None: what is left."""
        self.may_post_notices = True
        self.notices: list[str] = []
        self.lost: list[str] = []
        """Deliveries that failed, newest first."""
        self.lost_at: dict[str, float] = {}
        """When, of those that failed some time ago."""
        self.redelivered: list[str] = []
        self.kept_no_more: set[str] = set()
        """Deliveries that are listed, and unknown when they are asked for."""
        self.refused: set[str] = set()
        """Deliveries that it does not send again now."""
        self.answered: dict[str, str] = {}
        """What deliveries were answered."""
        self.ended: dict[str, str] = {}
        """Runs that are over though a job of them may still be called queued, with their conclusions."""
        self.superseded: set[str] = set()
        """Runs of whose workflow and branch there is a newer one."""
        self.releases: dict[str, RunnerRelease] = {"": RunnerRelease("2.336.0", {"amd64": "ab" * 32, "arm64": "cd" * 32})}
        """Of the runner by version; empty: the newest."""
        self._serial = 0

    def registrations(self, scope: Scope) -> RegistrationQuota:
        """How many registrations are left, as the test says."""
        return self.quotas(scope) if self.quotas is not None else RegistrationQuota(self.left)

    @call("github.mint")
    def mint(self, scope: Scope, name: str, labels: tuple[str, ...]) -> Minted | None:
        """None if the name is taken; one less is left."""
        self.left = None if self.left is None else self.left - 1
        if any(runner.name == name for runner in self.runners.values()):
            return None
        self._serial += 1
        self.runners[self._serial] = Registration(name, labels)
        return Minted(self._serial, Secret(a_blob(self._serial, name)))

    @call("github.find")
    def find(self, scope: Scope, name: str) -> int | None:
        """The runner of that name."""
        return next((number for number, runner in self.runners.items() if runner.name == name), None)

    @call("github.remove")
    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Remove the runner, unless it is busy."""
        runner = self.runners.get(runner_id)
        if runner is not None and not runner.busy:
            del self.runners[runner_id]
        return runner is None or not runner.busy

    @call("github.registered")
    def registered(self, scope: Scope) -> Iterator[RegisteredRunner]:
        """All runners that are registered."""
        return iter([RegisteredRunner(number, r.name, r.online, r.busy) for number, r in self.runners.items()])

    @call("github.job")
    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """As `jobs` says, else as `agrees`."""
        return self.jobs.get(job_id) or self.agrees(job_id)

    @call("github.jobs_of")
    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """The jobs in `jobs` that are asked for."""
        return iter(self._latest(run_id))

    @call("github.run")
    def run(self, scope: Scope, run_id: str) -> Run | None:
        """As `attempts` says: over if none of its jobs in `jobs` is not."""
        if run_id in self.gone:
            return None
        latest = self._latest(run_id)
        over = bool(latest) and all(job.action == "completed" for job in latest)
        if run_id in self.ended:
            return Run(over=True, attempt=self.attempts.get(run_id, 1), conclusion=self.ended[run_id])
        ends = {job.conclusion for job in self._latest(run_id)}
        ended = "cancelled" if run_id in self.cancelled or ("cancelled" in ends and "failure" not in ends) else "failure"
        attempt, fork = self.attempts.get(run_id, 1), run_id in self.forks
        return Run(over=over, attempt=attempt, conclusion=ended if over else "", fork=fork)

    @call("github.post_notice")
    def post_notice(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """Keep the notice, if the App may post it."""
        if self.may_post_notices:
            self.notices.append(text)
        return self.may_post_notices

    @call("github.waiting_jobs")
    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """The jobs in `jobs` that are asked for."""
        return iter(
            [job for job in self.jobs.values() if job.action == "queued" and (job.owner, job.repo) == (scope.owner, scope.repo)]
        )

    @call("github.failed_deliveries")
    def failed_deliveries(self, since: float) -> list[FailedDelivery]:
        """As `lost` and `lost_at` say; a name up to a `~` is its guid."""
        return [FailedDelivery(one, one.partition("~")[0]) for one in self.lost if self.lost_at.get(one, since) >= since]

    @call("github.answer_to")
    def answer_to(self, delivery_id: str) -> str:
        """As `answered` says."""
        return self.answered.get(delivery_id, "")

    @call("github.redeliver")
    def redeliver(self, delivery_id: str) -> None:
        """It stays in the list, as on GitHub: the new try is another delivery."""
        if delivery_id in self.kept_no_more | self.refused:
            raise ServiceFailed("github:redeliver", "404" if delivery_id in self.kept_no_more else "422")
        self.redelivered.append(delivery_id)

    @call("github.is_superseded")
    def is_superseded(self, scope: Scope, run_id: str) -> bool:
        """As `superseded` says."""
        return run_id in self.superseded

    @call("github.ended_badly")
    def ended_badly(self, scope: Scope, run_id: str) -> list[EndedJob]:
        """Jobs of the latest attempt that ended badly."""
        latest = [job for job in self._latest(run_id) if job.conclusion not in ("", "success", "skipped", "neutral")]
        return [EndedJob(job.job_id, job.name, job.conclusion) for job in latest]

    @call("github.rerun")
    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """A new attempt: those that run again have new ids and are queued, the others are as they were. One at a time."""
        latest = self._latest(run_id)
        badly = ("failure", "timed_out", "cancelled")
        again = [job for job in latest if job.conclusion in badly and job_id in ("", job.job_id)]
        allowed = bool(again) and all(job.action == "completed" for job in latest)
        if allowed:
            self.attempts[run_id] = self.attempts.get(run_id, 1) + 1
            for job in latest:
                told = {"job_id": f"{job.job_id}+", "run_attempt": self.attempts[run_id]}
                fresh = {"action": "queued", "conclusion": "", "runner_name": ""} if job in again else {}
                self.jobs[told["job_id"]] = msgspec.structs.replace(job, **told, **fresh)  # type: ignore[index]
            self.reruns.append((run_id, job_id))
        return allowed

    @call("github.release")
    def release(self, scope: Scope, version: str) -> RunnerRelease | None:
        """As `releases` says."""
        return self.releases.get(version)

    def _latest(self, run_id: str) -> list[JobEvent]:
        return [job for job in self.jobs.values() if job.run_id == run_id and job.run_attempt == self.attempts.get(run_id, 1)]
