"""What GitHub tells of jobs: applied once, in the order of their lives, whatever order the deliveries come in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator import planning
from orchestrator.cards import Card, is_over
from orchestrator.catalogue import Catalogue
from orchestrator.demand import after_a_job, without_one
from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.labels import read_ask
from orchestrator.model import Job, Ledger, Note, Origin, Record, Session, changed, may_become
from orchestrator.naming import NAME_LIMIT, session_of, set_key
from orchestrator.notes import Notes
from orchestrator.policy import refusal
from orchestrator.ports import Clock, Crew, Journal
from orchestrator.records import Records
from orchestrator.rescues import Rescues
from orchestrator.services import GitHub, Scope
from orchestrator.sessions import Sessions
from orchestrator.settings import ServerSettings
from orchestrator.states import BY_ITS_WORD, JobState, SessionState
from orchestrator.webhook import JobEvent

STATES = {
    "waiting": JobState.WAITING,
    "queued": JobState.QUEUED,
    "in_progress": JobState.IN_PROGRESS,
    "completed": JobState.COMPLETED,
}
"""The actions of `workflow_job`, in the order of a job's life. Source: GitHub webhook documentation."""
RUNS_KNOWN = 10_000
"""Runs remembered by this process, so that each is asked for once."""
APPROVAL_S = 31 * 86_400.0
"""An approval may take thirty days. Source: GitHub documentation, "Reviewing deployments"."""
UNHEARD = "unheard"
"""The conclusion of a job that we gave up; GitHub may know better later."""
ASKED_AGAIN_S = 3600.0
"""How soon GitHub is asked again about a job that must be over, if it did not answer."""
QUEUED_S, RUNNING_S = 24 * 3600.0 + 600.0, 5 * 86_400.0 + 600.0
"""GitHub cancels a job that was queued for a day, and ends one that ran for five. Source: GitHub Actions usage limits."""


@dataclass
class Intake:
    """Deliveries; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    sessions: Sessions
    rescues: Rescues
    notes: Notes
    github: GitHub
    catalogue: Catalogue
    clock: Clock
    journal: Journal
    crew: Crew
    _runs: dict[str, Origin] = field(default_factory=dict)

    def apply(self, event: JobEvent, *, asked: bool = False) -> str:
        """Remember what is news in it, bind the session it names, and wake the label set. Returns its key.

        `asked`: it is no delivery but GitHub's answer. Safe to repeat, also after a part of it: the wake comes last and always.
        Raises: Conflict: read again; ServiceFailed.
        """
        state = STATES[event.action]
        known = self.records.job(event.job_id)
        if known is not None and not asked and _wants_githubs_word(known, state):
            told = self.github.job(Scope(known.installation_id, known.owner, known.repo), known.job_id)
            event, asked = (told, True) if told is not None and STATES[told.action] is state else (event, False)
        key = known.set_key if known else set_key(event.owner, event.repo, self.settings.runner_group_id, event.labels)
        if known is None:
            self.records.seen(Scope(event.installation_id, event.owner, event.repo), self.clock.now())
        if known is None or may_become(known, state, asked=asked) or _tells_more(known, event, state, asked=asked):
            self._remember(known or _new(event, key), event, state)
        if state is JobState.COMPLETED:
            self._rescued(event)
        self.sessions.wake(key)
        return key

    def reconsidered(self, job: Job) -> bool:
        """Whether a job that GitHub calls queued wants a machine; one that was refused is judged again by the policy of today.

        Raises: Conflict; ServiceFailed.
        """
        if job.state is not JobState.QUEUED or not job.refused or job.given_up:
            return job.state is JobState.QUEUED and not job.refused
        why = self._refusal(job, public=False)
        if why == job.refused:
            return False
        self.records.put(changed(job, refused=why))
        self.journal.event("job.reconsidered", job_id=job.job_id, why=why)
        return not why

    def ask(self, set_key: str, limit: int, *, urgent: bool) -> int:
        """What GitHub says now of the jobs that wait in a label set, of so many runs, oldest first: deliveries get lost.

        `urgent`: also where little is left of GitHub's limit. Of how many it said anything new.

        Raises: Conflict; ServiceFailed.
        """
        cards = [card for card in self.records.board(set_key).cards if card.kind == "job" and card.state == JobState.QUEUED]
        runs: dict[str, list[Card]] = {}
        for card in sorted(cards, key=lambda card: card.since):
            runs.setdefault(card.run_id, []).append(card)
        return sum(self._asked_of(run, urgent=urgent) for run in itertools.islice(runs.values(), limit))

    def _asked_of(self, run: Sequence[Card], *, urgent: bool) -> int:
        """Of the jobs of one run, by one call, and by one more for each that the run's latest attempt does not name."""
        job = self.records.job(run[0].identity)
        if job is None:
            return 0
        scope = Scope(job.installation_id, job.owner, job.repo)
        try:
            latest = {told.job_id: told for told in self.github.jobs_of(scope, job.run_id)} if len(run) > 1 else {}
        except Throttled:
            if not urgent:
                raise
            latest, run = {}, run[:1]
        return sum(self._asked(scope, card.identity, latest.get(card.identity), urgent=urgent) for card in run)

    def _asked(self, scope: Scope, job_id: str, told: JobEvent | None, *, urgent: bool) -> bool:
        told = told or self.github.job(scope, job_id, urgent=urgent)
        if told is None:
            self.forget(job_id, overdue=False)
            return True
        return self._is_news(told)

    def _is_news(self, told: JobEvent) -> bool:
        """Whether GitHub's answer says of a job that we know more than we knew; it is applied then."""
        job = self.records.job(told.job_id)
        if job is None or not may_become(job, STATES[told.action], asked=True):
            return False
        self.journal.event("job.asked", job_id=job.job_id, state=told.action)
        self.apply(told, asked=True)
        return True

    def ask_run(self, scope: Scope, run_id: str, runner_name: str) -> int:
        """Which job of a run that runner has by GitHub's word, if any, and what else of the run we did not hear; how much it was.

        Raises: Conflict; ServiceFailed.
        """
        news = 0
        for told in self.github.jobs_of(scope, run_id):
            if told.runner_name == runner_name and self.settings.are_ours(told.labels):
                self.journal.event("job.asked", job_id=told.job_id, state=told.action)
                self.apply(told, asked=True)
                news += 1
            else:
                news += self._is_news(told)
        return news

    def forget(self, job_id: str, *, overdue: bool = True) -> None:
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
            self.apply(told, asked=True)  # first: who is cut off here is due again in an hour, not in a day
            known = self.records.job(job_id)
            if known is not None and known.version == job.version:
                self.records.put(changed(known, due=self.clock.now() + QUEUED_S))
            return
        self.records.put(changed(job, state=JobState.COMPLETED, conclusion=UNHEARD, completed_at=self.clock.now()))
        self.journal.event("job.unheard", job_id=job_id, state=job.state.value)
        self.sessions.wake(job.set_key)

    def _told(self, job: Job) -> JobEvent | None:
        """What GitHub says of a job that must be over; None: nothing, or it will not say any more. Raises: ServiceFailed."""
        try:
            return self.github.job(Scope(job.installation_id, job.owner, job.repo), job.job_id)
        except ServiceFailed as error:
            limit_s = RUNNING_S if job.state is JobState.IN_PROGRESS else QUEUED_S
            long_over = self.clock.now() - (job.started_at or job.queued_at) > 2 * limit_s
            if error.code != "404" and not long_over:
                raise
            return None  # the App is not there any more, or may not ask

    def _remember(self, job: Job, event: JobEvent, state: JobState) -> None:
        wait_s = APPROVAL_S if state is JobState.WAITING else QUEUED_S
        changes: dict[str, object] = {"state": state, "due": self.clock.now() + wait_s, "conclusion": event.conclusion}
        changes["completed_at"] = None
        changes["head_sha"] = event.head_sha or job.head_sha
        if event.runner_name:
            changes["runner_name"] = event.runner_name[:NAME_LIMIT]
        if state is JobState.QUEUED:
            firm = self.rescues.was_tried(changed(job, run_attempt=event.run_attempt))
            changes |= {"queued_at": event.at, "refused": self._refusal(job, public=event.public), "firm": firm}
        if state is JobState.IN_PROGRESS:
            changes |= {"started_at": event.at, "due": self.clock.now() + RUNNING_S}
        if state is JobState.COMPLETED:
            taken_at = job.started_at or event.taken_at or None  # its `in_progress` was overtaken, or lost
            changes |= {"completed_at": event.at or self.clock.now(), "conclusion": event.conclusion, "started_at": taken_at}
        told: Job = changed(job, **changes)
        session = self._runner_of(told) if state in (JobState.IN_PROGRESS, JobState.COMPLETED) else None
        bound = self._bound(session, told) if session is not None else None
        with_it: list[Record] = [bound] if bound is not None else []
        with_it += self._wiser(told, session)
        note = self._complaint(told) if told.refused and state is JobState.QUEUED else None
        saved = self.records.save(told, *with_it, *([note] if note is not None else []))
        self.journal.event("job.told", job_id=job.job_id, state=state.value, runner=told.runner_name)
        if told.refused and state is JobState.QUEUED:
            self.journal.event("job.refused", job_id=job.job_id, repository=f"{job.owner}/{job.repo}", why=told.refused)
        if note is not None:
            self.notes.send(saved[-1])
        if bound is not None and bound.set_key != job.set_key:
            self.sessions.wake(bound.set_key)  # it took a job of another label set: that one is a session short now

    def _rescued(self, event: JobEvent) -> None:
        """A job that failed is run again if its machine was taken away; also if whoever heard it first was cut off here.

        With any end its run may be over, for which others of it wait.
        """
        if event.conclusion == "failure":
            job = self.records.job(event.job_id)
            session = self._runner_of(job) if job is not None else None
            if session is not None:
                self.rescues.consider(job, session)
                self.notes.say_cause(job, session)
        self.rescues.hurry(f"{event.owner}/{event.repo}/{event.run_id}")

    def objection(self, owner: str, repo: str, labels: tuple[str, ...]) -> str:
        """Why a job with these labels would be refused there, whatever its code; empty: it would not."""
        if not self.settings.are_ours(labels):
            return "no label is ours: expected runs-fleet, runs-fleet=… or runs-fleet/…, or an alias"
        return self._judged(owner, repo, labels, public=False, fork=False)

    def _refusal(self, job: Job, *, public: bool) -> str:
        """Why it is not run here: labels that cannot be understood or served, or the operator's policy. Raises: ServiceFailed."""
        rule, fork = self.settings.policy.rule_of(job.owner, job.repo), False
        readable = not read_ask(job.labels, self.settings.spec_of).complaints  # else GitHub need not be asked
        if readable and rule is not None and not (rule.forks and rule.public):
            origin = self._origin(job)
            fork, public = origin.fork, public or origin.public
        return self._judged(job.owner, job.repo, job.labels, public=public, fork=fork)

    def _judged(self, owner: str, repo: str, labels: tuple[str, ...], *, public: bool, fork: bool) -> str:
        """Why these labels get no machine there, by themselves, by the policy, or for want of such a machine; empty: they do."""
        ask, rule = read_ask(labels, self.settings.spec_of), self.settings.policy.rule_of(owner, repo)
        wanted = self.settings.ask_of(owner, repo, labels)
        return (
            "; ".join(ask.complaints)
            or refusal(rule, ask, public=public, fork=fork)
            or planning.unservable(self.settings, self.catalogue, wanted)
        )

    def _origin(self, job: Job) -> Origin:
        """Where the code of its run comes from, asked for once; a run that GitHub does not know is trusted with nothing."""
        key = f"{job.owner}/{job.repo}/{job.run_id}".casefold()
        with self.crew.alone(key):
            known = self._runs.get(key) or self.records.origin(key)
            if known is None:
                found = self.github.run(Scope(job.installation_id, job.owner, job.repo), job.run_id)
                if found is None:
                    return Origin(fork=True, public=True)
                known = Origin(fork=found.fork, public=found.public)
                self.records.known(key, known, self.clock.now())
            if len(self._runs) >= RUNS_KNOWN:
                self._runs.clear()
            self._runs[key] = known
            return known

    def _complaint(self, job: Job) -> Note | None:
        """For where whoever waits for the job looks."""
        return self.notes.about(
            job, "This job cannot be run", f"(runs-on: {', '.join(job.labels)}) gets no machine: {job.refused}."
        )

    def _runner_of(self, job: Job) -> Session | None:
        """The session whose runner GitHub names, if it is ours."""
        name = session_of(self.settings.stack_id, job.runner_name)
        session = self.records.session(name) if name else None
        return session if session is not None and is_same(session, job) else None

    def _bound(self, session: Session, job: Job) -> Session | None:
        """It leaves supply as the job leaves demand. One that is over already keeps its end, and is told what it ran."""
        if session.bound_job:
            return None
        now = self.clock.now()
        busy: dict[str, object] = {"state": SessionState.BUSY, "busy_at": session.busy_at or now, "deadline": session.expires_at}
        busy["due"] = min(session.expires_at, now + self.settings.watch_s)
        return changed(
            session, bound_job=job.job_id, ran_job=session.ran_job or job.name[:300], **({} if is_over(session) else busy)
        )

    def _wiser(self, job: Job, session: Session | None) -> list[Ledger]:
        """The ledgers that counted something which is told now.

        A session that ended was counted while nobody knew its job. A job was expected back from a machine that was taken away: it
        is back, or it will not come.
        """
        changes: dict[str, Ledger] = {}

        def of(key: str) -> Ledger | None:
            return changes.get(key) or self.records.ledger(key)

        if session is not None and is_over(session) and (ledger := of(session.set_key)) and session.session_id in ledger.working:
            working = {name: at for name, at in ledger.working.items() if name != session.session_id}
            changes[session.set_key] = changed(ledger, working=working)
        if session is not None and not session.bound_job and (ledger := of(session.set_key)) and ledger.prepared:
            # one that was made before is taken now
            changes[session.set_key] = changed(ledger, prepared=without_one(ledger.prepared, self.clock.now()))
        if session is not None and not session.bound_job and (ledger := of(session.set_key)) and ledger.barren:
            changes[session.set_key] = after_a_job(ledger)
        is_back = job.run_attempt > 1 and job.version == 0  # whatever is told of it first: deliveries get lost
        will_not_come = session is not None and session.interrupting_at is not None and job.conclusion not in ("", "failure")
        if (is_back or will_not_come) and (ledger := of(job.set_key)) and ledger.expected:
            changes[job.set_key] = changed(ledger, expected=without_one(ledger.expected, self.clock.now()))
        return list(changes.values())


def _wants_githubs_word(known: Job, state: JobState) -> bool:
    """Whether a delivery alone does not prove it: an approval after the queue, a life after an end that we inferred."""
    given_up = known.conclusion == UNHEARD and state is not JobState.COMPLETED
    return given_up or state in BY_ITS_WORD.get(known.state, ())


def _tells_more(known: Job, event: JobEvent, state: JobState, *, asked: bool) -> bool:
    """Whether it tells more than we know though the state is no news: the runner of a job that has none yet, or of one that was
    given up its end, or whatever GitHub answers of it now.
    """
    given_up = known.conclusion == UNHEARD and (asked or state is JobState.COMPLETED)
    return given_up or (known.state is state and bool(event.runner_name) and not known.runner_name)


def is_same(session: Session, job: Job) -> bool:
    """Whether both are of one repository; GitHub does not tell its names apart by case."""
    return f"{session.owner}/{session.repo}".casefold() == f"{job.owner}/{job.repo}".casefold()


def _new(event: JobEvent, key: str) -> Job:
    """The job as no delivery has told anything yet of its state."""
    return Job(
        job_id=event.job_id, run_id=event.run_id, run_attempt=event.run_attempt, owner=event.owner, repo=event.repo,
        name=event.name,
        labels=event.labels, installation_id=event.installation_id, set_key=key, state=JobState.WAITING, queued_at=event.at,
        head_sha=event.head_sha,
    )  # fmt: skip
