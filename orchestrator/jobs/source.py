"""GitHub jobs as a source of work: the promise of `fleet/work.py`, kept by the modules of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from agent.contract.messages import FinalWord
from orchestrator.errors import Unlaunchable
from orchestrator.fleet.work import Refreshed, Registered, RegistrationQuota
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.inquiries import Inquiries
from orchestrator.jobs.jit import JitRegistrations
from orchestrator.jobs.model import SOURCE, Job, JobState, Notice, Rerun
from orchestrator.jobs.notices import Notices, cause_of
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.registrations import RegistrationCollector
from orchestrator.jobs.reruns import Reruns
from orchestrator.jobs.words import compare
from orchestrator.ports import Journal
from orchestrator.store.kinds import changed
from orchestrator.store.model import LabelSet, LabelSetView, Session
from orchestrator.store.naming import Scope

NO_MACHINE = "This job gets no machine"
"""The title of its notice."""


@dataclass(kw_only=True)
class JobSource:
    """GitHub jobs as a source of work (fleet/work.py)."""

    records: JobRecords
    github: GitHub
    registrations: JitRegistrations
    inquiries: Inquiries
    notices: Notices
    reruns: Reruns
    collector: RegistrationCollector
    group_id: int
    """The runner group that runners are registered in."""
    journal: Journal
    name: str = SOURCE

    def describe(self, view: LabelSetView) -> LabelSet | None:
        """By the newest job that waits; an App that is installed again has another installation, a policy other bounds."""
        job = self._newest(view)
        known = view.label_set
        if job is None:
            return known
        installation = job.installation_id or (known.scope.installation_id if known is not None else "")
        scope = Scope(installation, job.owner, job.repo, self.group_id)
        if known is not None:
            return changed(known, scope=scope, machine=job.machine)
        return LabelSet(
            set_key=view.set_key, source=SOURCE, scope=scope, repository=job.repository, labels=job.labels, machine=job.machine
        )

    def refresh(self, set_key: str, silent: Sequence[Session], *, urgent: bool) -> Refreshed:
        """GitHub is asked about the runs of silent sessions, and about jobs that wait."""
        return self.inquiries.refresh(set_key, silent, urgent=urgent)

    def quota(self, label_set: LabelSet) -> RegistrationQuota:
        """By GitHub's own count of registrations; where they were refused, one is tried before any machine is launched."""
        told = self.github.registrations(label_set.scope)
        if not told.on_trial:
            return told
        if self.registrations.is_allowed(label_set.scope):
            return self.github.registrations(label_set.scope)
        return RegistrationQuota(0, told.why)

    def waits(self, item_ids: Sequence[str], why: str) -> None:
        """A notice on the commit of each job."""
        for job in self._queued(item_ids):
            text = f"waits: {why}. It is tried again, every ten minutes at the latest."
            self.notices.post(job, "This job waits for a machine", text)

    def waits_for_nothing(self, item_ids: Sequence[str], why: str) -> None:
        """A notice on the commit of each job."""
        for job in filter(None, map(self.records.job, item_ids)):
            self.notices.post(job, "This job waits for what is not there", f"waits: {why}.")

    def give_up(self, item_ids: Sequence[str], why: str) -> None:
        """`fallback=fail`: who asked so would rather know than wait. GitHub itself has no way to fail a queued job."""
        self._refuse(item_ids, f"there is no machine for it ({why}), and its label says fallback=fail")

    def _refuse(self, item_ids: Sequence[str], refused: str) -> None:
        """No machine is launched for these jobs any more, and the commit of each says why."""
        for job in self._queued(item_ids):
            text = f"is not run: {refused}. Cancel the run, or run it again later."
            notice = self.notices.about(job, NO_MACHINE, text)
            is_first = notice is not None and not notice.version
            given_up = changed(job, refused=refused, given_up=True)
            saved = self.records.save(given_up, *([notice] if notice is not None and is_first else []))
            self.journal.event("job.refused", job_id=job.job_id, repository=job.repository, why=refused)
            if is_first:
                self.notices.send(saved[-1])
            else:
                self.notices.post(job, NO_MACHINE, text)

    def register(self, session: Session) -> Registered:
        """Register a just-in-time runner for the session; where GitHub refuses that for good, the commit says so.

        Where its configuration can never be written, the jobs that wait in its label set are refused: each would get a machine
        that does nothing.
        """
        try:
            registered = self.registrations.register(session)
            return replace(registered, configuration=partial(self._configuration, registered))
        except Unlaunchable as error:
            job = self.records.job(session.launched_for) if session.launched_for else None
            if job is not None:
                self.notices.post(job, NO_MACHINE, f"gets no machine: {error}.")
            raise

    def _configuration(self, registered: Registered, session: Session) -> str:
        try:
            return registered.configuration(session)
        except Unlaunchable as error:
            waiting = [item.identity for item in self.records.view(session.set_key).items if item.wants_session]
            self._refuse(waiting, f"its machine can never be configured ({error})")
            raise

    def untaken(self, item_ids: Sequence[str], why: str) -> None:
        """A notice on the commit of each job."""
        for job in self._queued(item_ids):
            text = (
                f"is queued by GitHub's word, and no machine is given it: {why}. Look at the runner groups (may this repository"
                " and workflow use the group of this fleet?), at a `group` in its runs-on, and cancel the run if it is over."
            )
            self.notices.post(job, "This job is taken by no machine", text)

    def registration_of(self, session: Session) -> int:
        """The id of the session's runner."""
        return self.registrations.find(session)

    def withdraw(self, session: Session) -> bool:
        """Its runner is removed, if GitHub agrees that it is idle."""
        return self.registrations.withdraw(session)

    def is_working(self, session: Session) -> bool:
        """Whether its runner works, by GitHub's word."""
        return self.registrations.is_working(session)

    def is_unregistered(self, session: Session) -> bool:
        """Asked only where its job's end does not say so already: calls are few."""
        job = self._job_of(session)
        return (job is not None and job.state is JobState.COMPLETED) or self.registrations.is_unregistered(session)

    def will_return(self, session: Session) -> bool:
        """A job that is over, or was run again before, will not come back."""
        job = self._job_of(session)
        return job is None or (job.state is not JobState.COMPLETED and self.reruns.will_try(job))

    def cause_of(self, word: FinalWord) -> str:
        """In words for whoever wrote the labels."""
        return cause_of(word)

    def ended(self, session: Session) -> None:
        """Its job is run again if both were told that it was taken away; whichever is told second gets here with both."""
        if session.bound_job:
            job = self.records.job(session.bound_job)
            self.reruns.consider(job, session)
            self.notices.post_cause(job, session)
            compare(self.journal, job, session)

    def end_corrected(self, session: Session) -> None:
        """Its job was not reclaimed after all."""
        if session.bound_job:
            self.reruns.withdraw(self.records.job(session.bound_job))

    @property
    def due(self) -> Mapping[str, Callable[[str], None]]:
        """Jobs of whose end nobody heard, re-runs, and notices."""
        return {
            Job.KIND.row: self.inquiries.close_unheard,
            Rerun.KIND.row: self.reruns.attempt,
            Notice.KIND.row: self.notices.attempt,
        }

    @property
    def collectors(self) -> Mapping[str, Callable[[], None]]:
        """Registrations that are left over."""
        return {"registrations": self.collector.collect}

    def _newest(self, view: LabelSetView) -> Job | None:
        """The newest job that waits in a view, or, where none does, any that lies there."""
        mine = sorted((item for item in view.items if item.source == SOURCE), key=lambda item: (item.since, item.identity))
        waiting = [item for item in mine if item.wants_session]
        if not waiting and view.label_set is not None:
            return None
        for item in reversed(waiting or mine):
            if (job := self.records.job(item.identity)) is not None:
                return job
        return None

    def _queued(self, item_ids: Sequence[str]) -> list[Job]:
        """The jobs of these that wait and are not refused."""
        jobs = filter(None, map(self.records.job, item_ids))
        return [job for job in jobs if job.state is JobState.QUEUED and not job.refused]

    def _job_of(self, session: Session) -> Job | None:
        return self.records.job(session.bound_job) if session.bound_job else None
