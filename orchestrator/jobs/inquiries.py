"""What GitHub says of jobs when it is asked, because its deliveries did not tell: deliveries get lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.fleet.work import Refreshed
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.intake import QUEUED_S, RUNNING_S, STATES, UNHEARD, Intake
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.requests import LabelAliases
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Clock, Journal
from orchestrator.retry_policy import ASKED_AGAIN_S, ASKED_RUNS, DOUBTED_RUNS
from orchestrator.store.kinds import OpenItem, changed, may_become
from orchestrator.store.model import Session
from orchestrator.store.naming import Scope


@dataclass(kw_only=True)
class Inquiries:
    """Questions to GitHub; on ports that are handed in."""

    records: JobRecords
    github: GitHub
    intake: Intake
    aliases: LabelAliases
    clock: Clock
    journal: Journal

    def refresh(self, set_key: str, silent: Sequence[Session], *, urgent: bool) -> Refreshed:
        """Ask about the runs that silent sessions say they work for, and about jobs that wait in the label set. Never raises."""
        told_of = [one for one in silent if one.ran_run and not one.bound_job]
        runs = {(one.ran_run, one.scope): one.registration_name for one in told_of}
        asks = [partial(self.ask_run, scope, run, name) for (run, scope), name in runs.items()]
        most = max(ASKED_RUNS, len(silent)) if urgent else DOUBTED_RUNS
        told = [self._asked_about(set_key, ask) for ask in (*asks, partial(self.ask, set_key, most, urgent=urgent))]
        failed = [one for one in told if isinstance(one, ServiceFailed)]
        until = [one.until for one in failed if isinstance(one, Throttled) and one.until is not None]
        news = any(one for one in told if not isinstance(one, ServiceFailed))
        return Refreshed(answered=not failed, news=news, again_at=max(until, default=None))

    def ask(self, set_key: str, limit: int, *, urgent: bool) -> int:
        """What GitHub says now of the jobs that wait in a label set, of so many runs, oldest first.

        `urgent`: also where little is left of GitHub's limit. Of how many it said anything new. Raises: Conflict; ServiceFailed.
        """
        items = [item for item in self.records.view(set_key).items if item.wants_session]
        runs: dict[str, list[OpenItem]] = {}
        for item in sorted(items, key=lambda item: item.since):
            runs.setdefault(item.run_id, []).append(item)
        return sum(self._asked_of(run, urgent=urgent) for run in itertools.islice(runs.values(), limit))

    def ask_run(self, scope: Scope, run_id: str, runner_name: str) -> int:
        """Which job of a run that runner has by GitHub's word, if any, and what else of the run we did not hear; how much it was.

        Raises: Conflict; ServiceFailed.
        """
        news = 0
        for told in self.github.jobs_of(scope, run_id):
            if told.runner_name == runner_name and self.aliases.are_ours(told.labels):
                self.journal.event("job.state_fetched", job_id=told.job_id, state=told.action)
                self.intake.apply(told, asked=True)
                news += 1
            else:
                news += self._is_news(told)
        return news

    def close_unheard(self, job_id: str, *, overdue: bool = True) -> None:
        """A job that GitHub must have ended by its own limits, or does not know, though we never heard of its end.

        Raises: Conflict; ServiceFailed.
        """
        job = self.records.job(job_id)
        if job is None or job.state is JobState.COMPLETED or (overdue and job.due > self.clock.now()):
            return
        if overdue:
            job = self.records.put(changed(job, due=self.clock.now() + ASKED_AGAIN_S))
        told = self._told(job) if overdue else None
        if told is not None:
            self.intake.apply(told, asked=True)  # first: who is cut off here is due again in an hour, not in a day
            known = self.records.job(job_id)
            if known is not None and known.version == job.version:
                self.records.put(changed(known, due=self.clock.now() + QUEUED_S))
            return
        self.records.put(changed(job, state=JobState.COMPLETED, conclusion=UNHEARD, completed_at=self.clock.now()))
        self.journal.event("job.presumed_over", job_id=job_id, state=job.state.value)
        self.intake.sessions.wake(job.set_key)

    def _asked_about(self, set_key: str, ask: Callable[[], int]) -> int | ServiceFailed:
        """How much was news; or why it cannot be asked now, which keeps nobody from his machine."""
        try:
            return ask()
        except ServiceFailed as error:
            self.journal.event("label_set.query_failed", set_key=set_key, error=str(error))
            return error

    def _asked_of(self, run: Sequence[OpenItem], *, urgent: bool) -> int:
        """Of the jobs of one run, by one call, and by one more for each that the run's latest attempt does not name."""
        job = self.records.job(run[0].identity)
        if job is None:
            return 0
        try:
            latest = {told.job_id: told for told in self.github.jobs_of(job.scope, job.run_id)} if len(run) > 1 else {}
        except Throttled:
            if not urgent:
                raise
            latest, run = {}, run[:1]
        news = sum(self._asked(job.scope, item.identity, latest.get(item.identity), urgent=urgent) for item in run)
        return news + self._closed_with_its_run(job, run)

    def _closed_with_its_run(self, job: Job, items: Sequence[OpenItem]) -> int:
        """Of jobs that GitHub calls queued though their run is over (a `startup_failure`, say): how many were closed.

        Nobody will ever take them, and GitHub never says so of the job itself.
        """
        left = [one for one in map(self.records.job, (item.identity for item in items)) if one and one.state is JobState.QUEUED]
        run = self.github.run(job.scope, job.run_id) if left else None
        if not left or (run is not None and not run.over):
            return 0
        told = f"GitHub says that its run is over ({run.conclusion})" if run is not None else "GitHub does not know its run"
        left = [one for one in left if run is None or run.attempt <= one.run_attempt]  # an earlier attempt's end will be told
        for one in left:
            ended = (run.conclusion if run is not None else "") or UNHEARD
            self.records.put(changed(one, state=JobState.COMPLETED, conclusion=ended, completed_at=self.clock.now()))
            self.journal.event("job.run_is_over", job_id=one.job_id, run=one.run_id, why=told)
            text = f"is queued, and no machine is started for it any more: {told}. Run the workflow again."
            self.intake.notices.post(one, "This job's run is over", text)
        if left:
            self.intake.sessions.wake(job.set_key)
        return len(left)

    def _asked(self, scope: Scope, job_id: str, told: JobEvent | None, *, urgent: bool) -> bool:
        told = told or self.github.job(scope, job_id, urgent=urgent)
        if told is None:
            self.close_unheard(job_id, overdue=False)
            return True
        return self._is_news(told)

    def _is_news(self, told: JobEvent) -> bool:
        """Whether GitHub's answer says of a job that we know more than we knew; it is applied then."""
        job = self.records.job(told.job_id)
        if job is None or not may_become(job, STATES[told.action], asked=True):
            return False
        self.journal.event("job.state_fetched", job_id=job.job_id, state=told.action)
        self.intake.apply(told, asked=True)
        return True

    def _told(self, job: Job) -> JobEvent | None:
        """What GitHub says of a job that must be over; None: nothing, or it will not say any more. Raises: ServiceFailed."""
        try:
            return self.github.job(job.scope, job.job_id)
        except ServiceFailed as error:
            limit_s = RUNNING_S if job.state is JobState.IN_PROGRESS else QUEUED_S
            long_over = self.clock.now() - (job.started_at or job.queued_at) > 2 * limit_s
            if error.code != "404" and not long_over:
                raise
            return None  # the App is not there any more, or may not ask
