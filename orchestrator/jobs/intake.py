"""What GitHub tells of jobs: applied once, in the order of their lives, whatever order the deliveries come in."""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.shown import cut
from orchestrator.fleet.demand import after_work, without_one
from orchestrator.fleet.sessions import Sessions
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.model import JOB_TRANSITIONS_BY_WORD, Job, JobState
from orchestrator.jobs.notices import Notices
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.refusals import Refusals
from orchestrator.jobs.reruns import LOST_AS, Reruns
from orchestrator.jobs.webhook import JobEvent
from orchestrator.jobs.words import compare
from orchestrator.ports import Clock, Journal
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import Record, changed, may_become
from orchestrator.store.model import LabelSet, Session
from orchestrator.store.naming import NAME_LIMIT, Scope, session_of, set_key
from orchestrator.store.states import SessionState

STATES = {
    "waiting": JobState.WAITING,
    "queued": JobState.QUEUED,
    "in_progress": JobState.IN_PROGRESS,
    "completed": JobState.COMPLETED,
}
"""The actions of `workflow_job`, in the order of a job's life. Source: GitHub webhook documentation."""
APPROVAL_S = 31 * 86_400.0
"""An approval may take thirty days. Source: GitHub documentation, "Reviewing deployments"."""
UNHEARD = "unheard"
"""The conclusion of a job that we gave up; GitHub may know better later."""
MOST_LABELS_SHOWN = 200
"""Characters of a job's labels in a notice."""
QUEUED_S, RUNNING_S = 24 * 3600.0 + 600.0, 5 * 86_400.0 + 600.0
"""GitHub cancels a job that was queued for a day, and ends one that ran for five. Source: GitHub Actions usage limits."""


@dataclass(kw_only=True)
class Intake:
    """Deliveries; on ports that are handed in."""

    settings: ServerSettings
    records: JobRecords
    sessions: Sessions
    reruns: Reruns
    notices: Notices
    refusals: Refusals
    github: GitHub
    clock: Clock
    journal: Journal

    def apply(self, event: JobEvent, *, asked: bool = False) -> str:
        """Remember what is news in it, bind the session it names, and wake the label set. Returns its key.

        `asked`: it is no delivery but GitHub's answer. Safe to repeat, also after a part of it: the wake comes last and always.
        Raises: Conflict: read again; ServiceFailed.
        """
        state = STATES[event.action]
        known = self.records.job(event.job_id)
        if known is not None and not asked and _wants_githubs_word(known, state):
            told = self.github.job(known.scope, known.job_id)
            event, asked = (told, True) if told is not None and STATES[told.action] is state else (event, False)
        key = known.set_key if known else set_key(event.owner, event.repo, self.settings.runner_group_id, event.labels)
        if known is None:
            self.records.repositories.heard_of(Scope(event.installation_id, event.owner, event.repo), self.clock.now())
        if known is None or may_become(known, state, asked=asked) or _tells_more(known, event, state, asked=asked):
            self._remember(known or _new(event, key), event, state)
        if state is JobState.COMPLETED:
            self._consider_rerun(event)
        self.sessions.wake(key)
        return key

    def reconsidered(self, job: Job) -> bool:
        """Whether a job that GitHub calls queued wants a machine; one that was refused is judged again by the policy of today.

        Raises: Conflict; ServiceFailed.
        """
        if job.state is not JobState.QUEUED or not job.refused or job.given_up:
            return job.state is JobState.QUEUED and not job.refused
        why = self.refusals.why(job, public=False)
        if why == job.refused:
            return False
        machine = self.refusals.requests.request_of(job.repository, job.labels)
        self.records.put(changed(job, refused=why, machine=machine))
        self.journal.event("job.reconsidered", job_id=job.job_id, why=why)
        return not why

    def _remember(self, job: Job, event: JobEvent, state: JobState) -> None:
        told = self._told(job, event, state)
        session = self._runner_of(told) if state in (JobState.IN_PROGRESS, JobState.COMPLETED) else None
        bound = self._bound(session, told) if session is not None else None
        with_it: list[Record] = [bound] if bound is not None else []
        with_it += self._wiser(told, session)
        is_refused = bool(told.refused) and state is JobState.QUEUED
        notice = self.notices.about(told, *_complaint(told)) if is_refused else None
        is_first = notice is not None and not notice.version  # it is lost with its reason, or neither is
        saved = self.records.save(told, *with_it, *([notice] if notice is not None and is_first else []))
        self.journal.event("job.updated", job_id=job.job_id, state=state.value, runner=told.runner_name)
        if is_refused:
            self.journal.event("job.refused", job_id=job.job_id, repository=job.repository, why=told.refused)
        if is_first:
            self.notices.send(saved[-1])
        elif is_refused:
            self.notices.post(told, *_complaint(told))
        if bound is not None and bound.set_key != job.set_key:
            self.sessions.wake(bound.set_key)  # it took a job of another label set: that one is a session short now

    def _told(self, job: Job, event: JobEvent, state: JobState) -> Job:
        """The job with what the event tells of it."""
        wait_s = APPROVAL_S if state is JobState.WAITING else QUEUED_S
        changes: dict[str, object] = {
            "state": state, "due": self.clock.now() + wait_s, "conclusion": event.conclusion, "completed_at": None,
            "head_sha": event.head_sha or job.head_sha,
        }  # fmt: skip
        if event.runner_name:
            changes["runner_name"] = event.runner_name[:NAME_LIMIT]
        if state is JobState.QUEUED:
            lasting = self.reruns.was_tried(changed(job, run_attempt=event.run_attempt))
            machine = self.refusals.requests.request_of(job.repository, job.labels)
            refused = self.refusals.why(job, public=event.public)
            changes |= {"queued_at": event.at, "refused": refused, "non_interruptible": lasting, "machine": machine}
        if state is JobState.IN_PROGRESS:
            changes |= {"started_at": event.at, "due": self.clock.now() + RUNNING_S}
        if state is JobState.COMPLETED:
            taken_at = job.started_at or event.taken_at or None  # its `in_progress` was overtaken, or lost
            changes |= {"completed_at": event.at or self.clock.now(), "started_at": taken_at}
        return changed(job, **changes)

    def _consider_rerun(self, event: JobEvent) -> None:
        """A job that failed is run again if its machine was taken away; also if whoever heard it first was cut off here.

        With any end its run may be over, for which others of it wait.
        """
        job = self.records.job(event.job_id)
        session = self._runner_of(job) if job is not None else None
        if session is not None:
            if event.conclusion in LOST_AS:
                self.reruns.consider(job, session)
                self.notices.post_cause(job, session)
            compare(self.journal, job, session)
        self.reruns.hurry(f"{event.owner}/{event.repo}/{event.run_id}")

    def _runner_of(self, job: Job) -> Session | None:
        """The session whose runner GitHub names, if it is ours."""
        name = session_of(self.settings.stack_id, job.runner_name)
        session = self.records.session(name) if name else None
        is_ours = session is not None and session.repository.casefold() == job.repository.casefold()
        return session if is_ours else None

    def _bound(self, session: Session, job: Job) -> Session | None:
        """It leaves supply as the job leaves demand. One that is over already keeps its end, and is told what it ran."""
        if session.bound_job:
            return None
        now = self.clock.now()
        busy: dict[str, object] = {"state": SessionState.BUSY, "busy_at": session.busy_at or now, "deadline": session.expires_at}
        busy["due"] = min(session.expires_at, now + self.settings.watch_s)
        ran = session.ran_job or job.name[:300]
        return changed(session, bound_job=job.job_id, ran_job=ran, **({} if session.is_over else busy))

    def _wiser(self, job: Job, session: Session | None) -> list[LabelSet]:
        """The label sets that counted something which is told now.

        A session that ended was counted while nobody knew its job. A job was expected back from a machine that was taken away: it
        is back, or it will not come.
        """
        changes: dict[str, LabelSet] = {}
        now = self.clock.now()

        def of(key: str) -> LabelSet | None:
            return changes.get(key) or self.records.label_set(key)

        if session is not None and session.is_over and (known := of(session.set_key)) and session.session_id in known.working:
            working = {name: at for name, at in known.working.items() if name != session.session_id}
            changes[session.set_key] = changed(known, working=working)
        if session is not None and not session.bound_job and (known := of(session.set_key)) and known.prepared:
            # one that was made before is taken now
            changes[session.set_key] = changed(known, prepared=without_one(known.prepared, now))
        if session is not None and not session.bound_job and (known := of(session.set_key)) and known.idle_exits:
            changes[session.set_key] = after_work(known)
        is_back = job.run_attempt > 1 and job.version == 0  # whatever is told of it first: deliveries get lost
        will_not_come = session is not None and session.interrupting_at is not None and job.conclusion not in ("", *LOST_AS)
        if (is_back or will_not_come) and (known := of(job.set_key)) and known.expected:
            changes[job.set_key] = changed(known, expected=without_one(known.expected, now))
        return list(changes.values())


def _complaint(job: Job) -> tuple[str, str]:
    """Title and text of the notice for where whoever waits for the job looks."""
    labels = cut(", ".join(job.labels), MOST_LABELS_SHOWN)
    return "This job cannot be run", f"(runs-on: {labels}) gets no machine: {job.refused}."


def _wants_githubs_word(known: Job, state: JobState) -> bool:
    """Whether a delivery alone does not prove it: an approval after the queue, a life after an end that we inferred."""
    given_up = known.conclusion == UNHEARD and state is not JobState.COMPLETED
    return given_up or state in JOB_TRANSITIONS_BY_WORD.get(known.state, ())


def _tells_more(known: Job, event: JobEvent, state: JobState, *, asked: bool) -> bool:
    """Whether it tells more than we know though the state is no news: the runner of a job that has none yet, or of one that was
    given up its end, or whatever GitHub answers of it now.
    """
    given_up = known.conclusion == UNHEARD and (asked or state is JobState.COMPLETED)
    return given_up or (known.state is state and bool(event.runner_name) and not known.runner_name)


def _new(event: JobEvent, key: str) -> Job:
    """The job as no delivery has told anything yet of its state."""
    return Job(
        job_id=event.job_id, run_id=event.run_id, run_attempt=event.run_attempt, owner=event.owner, repo=event.repo,
        name=event.name, labels=event.labels, installation_id=event.installation_id, set_key=key, state=JobState.WAITING,
        queued_at=event.at, head_sha=event.head_sha,
    )  # fmt: skip
