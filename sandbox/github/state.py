"""What the stand-in GitHub knows, and the rules by which it changes. One lock, no I/O.

Source of the rules: GitHub REST and webhook documentation; matching by label subset, one job per JIT runner, 204 and 422.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from sandbox.github.progress import RunProgress
from sandbox.github.records import CheckRecord, JobRecord, Refusal, RunnerRecord, RunRecord
from sandbox.github.reruns import begin_again
from sandbox.plan import Workflow

TOKEN_S = 3600
REQUEUED_AFTER_S = 60.0
"""Seconds in which a runner must take the job it was given. Source: GitHub documentation, "Routing precedence for self-hosted runners"."""
LOST_AFTER_S = 600.0
"""Seconds without a renewed lock after which a job has lost its runner. Source: actions/runner#3539."""


class GitHubState:
    """Everything, behind one lock; `changed` is called with (action, job) for each webhook-worthy change."""

    def __init__(
        self, owner: str, repo: str, changed: Callable[[str, JobRecord], None], lost_after_s: float = LOST_AFTER_S
    ) -> None:
        self.owner, self.repo = owner, repo
        self._changed, self.lost_after_s, self.requeued_after_s = changed, lost_after_s, REQUEUED_AFTER_S
        self.lock = threading.Condition(threading.RLock())
        self.runners: dict[int, RunnerRecord] = {}
        self.runs: dict[int, RunRecord] = {}
        self.checks: list[CheckRecord] = []
        self.tokens: dict[str, float] = {}
        self._serial = 1000
        self.closed = False
        full_name = f"{owner}/{repo}"
        self._progress = RunProgress(self.runs, self.runners, full_name=full_name, next_id=self._next, changed=changed)

    def token(self, prefix: str) -> str:
        """A new access token, valid for an hour."""
        with self.lock:
            token = prefix + secrets.token_hex(18)
            self.tokens[token] = time.time() + TOKEN_S
            return token

    def insist_on_token(self, authorization: str) -> None:
        """Raises: Refusal 401 unless the header carries a token of ours that is still valid."""
        token = authorization.partition(" ")[2]
        if self.tokens.get(token, 0.0) < time.time():
            raise Refusal(401, "Bad credentials")

    def register(
        self, name: str, labels: tuple[str, ...], group_id: int, public_key: Any, *, replace: bool = False
    ) -> RunnerRecord:
        """A new runner, offline. Raises: Refusal 409 if the name is taken."""
        with self.lock:
            taken = next((runner for runner in self.runners.values() if runner.name.lower() == name.lower()), None)
            if taken is not None:
                if not replace or taken.busy:
                    raise Refusal(409, f"Already exists - A runner with the name {name} already exists.")
                del self.runners[taken.id]
            runner = RunnerRecord(
                id=self._next(),
                name=name,
                labels=labels,
                group_id=group_id,
                client_id=secrets.token_hex(16),
                public_key=public_key,
            )
            self.runners[runner.id] = runner
            return runner

    def remove(self, runner_id: int) -> None:
        """Raises: Refusal 404, or 422 while it runs a job."""
        with self.lock:
            runner = self.runners.get(runner_id)
            if runner is None:
                raise Refusal(404, "Not Found")
            if runner.busy:
                raise Refusal(422, f"Runner {runner.name} is currently running a job and cannot be deleted.")
            del self.runners[runner_id]
            self.lock.notify_all()

    def check(self, head_sha: str, name: str, told: dict[str, Any]) -> CheckRecord:
        """Keep a check run that an App posted."""
        status, end, output = str(told.get("status", "queued")), told.get("conclusion"), dict(told.get("output") or {})
        title, summary = output.get("title"), output.get("summary")
        with self.lock:
            record = CheckRecord(
                id=self._next(),
                head_sha=head_sha,
                name=name,
                status=status,
                conclusion=end,
                title=title,
                summary=summary,
                at=time.time(),
            )
            self.checks.append(record)
            return record

    def dispatch(self, workflow: Workflow) -> RunRecord:
        """Start a run: jobs without needs are queued at once."""
        with self.lock:
            run = self._progress.begin(workflow)
            self.lock.notify_all()
            return run

    def open_session(self, runner_id: int, version: str) -> str:
        """Raises: Refusal 404 for a deleted runner, 409 while another session lives."""
        with self.lock:
            runner = self._known(runner_id)
            if runner.session:
                raise Refusal(409, "The runner already has a session.", "TaskAgentSessionConflictException")
            runner.session, runner.version = secrets.token_hex(16), version
            return runner.session

    def close_session(self, session: str) -> None:
        """The runner went away; one that never had a job keeps its registration."""
        with self.lock:
            for runner in self.runners.values():
                if runner.session == session:
                    runner.session = ""

    def next_job(self, session: str, wait_s: float) -> JobRecord | None:
        """A job for this runner, waited for. Raises: Refusal 404 once the runner was removed."""
        until_s = time.monotonic() + wait_s
        with self.lock:
            while not self.closed:
                runner = next((r for r in self.runners.values() if r.session == session), None)
                if runner is None:
                    raise Refusal(404, "Runner not found", "RunnerNotFound")
                job = self._match(runner)
                if job is not None:
                    runner.busy, runner.job = True, job
                    job.runner_id, job.runner_name, job.assigned_at = runner.id, runner.name, time.time()
                    return job
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return None
                self.lock.wait(left_s)
        return None

    def acquire(self, job_id: int) -> tuple[RunRecord, JobRecord]:
        """The runner takes the job: it is in progress. Raises: Refusal 404, 409 if it is not to be had any more."""
        with self.lock:
            run, job = self.job(job_id)
            if job.status != "queued":
                raise Refusal(409, "the job is not queued any more")
            job.status, job.started_at, job.renewed_at = "in_progress", time.time(), time.time()
            self._changed("in_progress", job)
            return run, job

    def renew(self, job_id: int) -> bool:
        """The runner still works; whether the job was cancelled meanwhile."""
        with self.lock:
            _, job = self.job(job_id)
            job.renewed_at = time.time()
            return job.cancelled

    def complete(self, job_id: int, conclusion: str, outputs: dict[str, str], steps: list[dict[str, Any]]) -> None:
        """The runner reports; its single-use registration is gone with that."""
        with self.lock:
            run, job = self.job(job_id)
            if job.status == "completed":
                return
            job.outputs, job.steps = outputs, steps
            self._completed(run, job, conclusion)

    def cancel(self, run_id: int) -> None:
        """Cancel a run: queued jobs end at once, running ones are told. Raises: Refusal 404."""
        with self.lock:
            run = self.runs.get(run_id)
            if run is None:
                raise Refusal(404, "Not Found")
            self._progress.cancel(run)
            self.lock.notify_all()

    def rerun(self, run_id: int, job_id: int | None = None) -> None:
        """A new attempt: one job, or all failed ones, and whatever needs them. Raises: Refusal 404, 403 while the run is not over.

        Source: GitHub REST, "Re-run a job from a workflow run", "Re-run failed jobs from a workflow run".
        """
        with self.lock:
            run = self.runs.get(run_id)
            if run is None:
                raise Refusal(404, "Not Found")
            if run.status != "completed":
                raise Refusal(403, "This workflow run cannot be retried: it is already running")
            chosen = [job for job in run.jobs if (job.conclusion == "failure" if job_id is None else job.id == job_id)]
            if not chosen:
                raise Refusal(403, "This workflow run cannot be retried: it has no such failed jobs")
            begin_again(run, chosen, self._next)
            self._progress.settle(run)
            self.lock.notify_all()

    def reap(self) -> None:
        """Jobs whose runner went silent have failed; those whose runner never took them wait again."""
        with self.lock:
            now = time.time()
            for run in list(self.runs.values()):
                for job in run.jobs:
                    if job.status == "in_progress" and now - job.renewed_at > self.lost_after_s:
                        self._completed(run, job, "failure")
                    if job.status == "queued" and job.runner_id is not None and now - job.assigned_at > self.requeued_after_s:
                        if runner := self.runners.get(job.runner_id):
                            runner.busy, runner.job = False, None
                        job.runner_id, job.runner_name = None, ""
                        self.lock.notify_all()

    def job(self, job_id: int) -> tuple[RunRecord, JobRecord]:
        """The job of that id, and its run. Raises: Refusal 404."""
        for run in self.runs.values():
            for job in (*run.jobs, *run.past):
                if job.id == job_id:
                    return run, job
        raise Refusal(404, "Not Found")

    def contexts(self, run: RunRecord, job: JobRecord) -> dict[str, Any]:
        """What expressions of this job may refer to before it runs."""
        return self._progress.contexts(run, job)

    def _known(self, runner_id: int) -> RunnerRecord:
        runner = self.runners.get(runner_id)
        if runner is None:
            raise Refusal(404, "The runner registration has been deleted", "RunnerNotFound")
        return runner

    def _match(self, runner: RunnerRecord) -> JobRecord | None:
        """The oldest queued job whose labels the runner has, compared without case; any such job, not the one it was made for."""
        if runner.busy:
            return None
        owned = {label.lower() for label in runner.labels}
        open_ = [job for run in self.runs.values() if not run.failed_at_start for job in run.jobs]
        waiting = [job for job in open_ if job.status == "queued" and job.runner_id is None and not job.is_withheld]
        fitting = [job for job in waiting if {label.lower() for label in job.labels} <= owned]
        return min(fitting, key=lambda job: job.queued_at, default=None)

    def _completed(self, run: RunRecord, job: JobRecord, conclusion: str) -> None:
        self._progress.complete(run, job, conclusion)
        self.lock.notify_all()

    def begin_at(self, serial: int) -> None:
        """Ids come after this one."""
        self._serial = serial

    def _next(self) -> int:
        self._serial += 1
        return self._serial
