"""Why a job is where it is: what happened to it, in order, and what it waits for now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from orchestrator.commands.terminal import counted as counted_of
from orchestrator.commands.terminal import moment
from orchestrator.compute.dispatch import Strategies
from orchestrator.fleet import limits
from orchestrator.fleet.demand import HELD_S, Assessment, assess
from orchestrator.jobs.model import Job, JobState, Rerun
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.requests import JobRequests
from orchestrator.jobs.reruns import run_key
from orchestrator.settings import ServerSettings
from orchestrator.store.launch import Launch
from orchestrator.store.model import LabelSetView, Session, Stack, TokenBucket, WaitlistEntry
from orchestrator.store.naming import repository_key
from orchestrator.store.request import MachineRequest
from orchestrator.store.states import LaunchState, SessionState

CONSOLE_LINES = 6
"""Shown of what a machine printed that died without a word; `sessions --json` has all that is kept."""


class Line(msgspec.Struct, frozen=True):
    """Something that happened. `at`: epoch seconds."""

    at: float
    what: str


class Explanation(msgspec.Struct, frozen=True):
    """A job's story so far. `waits_for`: the first unmet condition; empty if it waits for nothing."""

    job: Job
    lines: tuple[Line, ...]
    waits_for: str = ""


NO_BUCKET = TokenBucket(key="")
"""Nothing was taken yet."""


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """What the records say about a job and its label set now."""

    job: Job
    view: LabelSetView
    sessions: tuple[Session, ...]
    """Its own, and the open ones of its label set."""
    launches: tuple[Launch, ...]
    """Those of these sessions, the open ones of its label set, and those for which there was no capacity lately."""
    stack: Stack
    repository: LabelSetView
    waitlist: tuple[WaitlistEntry, ...] = ()
    """Who waits for a limit of the stack or of a repository."""
    rerun: Rerun | None = None
    of_repository: TokenBucket = NO_BUCKET
    of_label_set: TokenBucket = NO_BUCKET


def gather(records: JobRecords, job: Job, stack_id: str, now: float) -> JobContext:
    """Read what concerns one job, and nothing else. Raises: ServiceFailed."""
    key, repository = job.set_key, repository_key(job.repository)
    view = records.view(key)
    own = {session.session_id: session for session in records.sessions_of(job, stack_id)}
    there = [item.identity for item in view.items if item.kind == "session" and item.identity not in own]
    sessions = (*own.values(), *filter(None, map(records.session, there)))
    made = [item.identity for item in view.items if item.kind == "launch"]
    made += [*(view.label_set.refused_launches if view.label_set is not None else ())]
    made += [session.launch_id for session in own.values()]
    launches = tuple(filter(None, map(records.launch, dict.fromkeys(made))))
    return JobContext(
        job=job, view=view, sessions=sessions, launches=launches, stack=records.stack(), repository=records.view(repository),
        waitlist=tuple(records.waitlist.entries(now)), rerun=records.rerun(run_key(job)),
        of_repository=records.token_bucket(repository), of_label_set=records.token_bucket(key),
    )  # fmt: skip


def job_id_of(text: str) -> str:
    """The job's id in an id or a job's URL (`…/actions/runs/1/job/2`); empty if there is none."""
    found = re.search(r"(?:/job/|^)(\d+)/?(?:[?#].*)?$", text.strip())
    return found[1] if found else ""


@dataclass(frozen=True)
class Explainer:
    """Explains jobs by today's settings and strategies."""

    settings: ServerSettings
    requests: JobRequests
    strategies: Strategies

    def explain(self, context: JobContext, now: float) -> Explanation:
        """What happened to a job, in order, and what it waits for."""
        job = context.job
        waits = self._waits_for(context, now) if job.state in (JobState.QUEUED, JobState.WAITING) else ""
        return Explanation(job, tuple(sorted(_lines(context, now), key=lambda line: line.at)), waits)

    def _waits_for(self, context: JobContext, now: float) -> str:
        """The first condition that is not met, in the order in which they are asked."""
        job = context.job
        if job.state is JobState.WAITING:
            return "an approval on GitHub: it asks for no machine yet"
        if job.refused:
            return f"labels or a policy that let it run: {job.refused}"
        if objection := self.requests.objection(job.repository, job.labels):
            return f"labels that can be served: {objection}"
        found = assess(context.view, now)
        place = next((at for at, item in enumerate(found.waiting, 1) if item.identity == job.job_id), 0)
        return _served(context, found, place) or self._held(context, found, place, now)

    def _held(self, context: JobContext, found: Assessment, place: int, now: float) -> str:
        """Why no machine is on its way to it."""
        label_set = context.view.label_set
        told = label_set.hold_reasons[-1] if label_set is not None and label_set.hold_reasons else None
        recently = HELD_S + self.settings.lease_s  # the same reason is not remembered again sooner
        last = told if told is not None and now - told.at < recently else None
        full = next((one for one in self._headrooms(context, context.job.machine, now) if not one.machines), None)
        backoff_s = (label_set.backoff_until if label_set is not None else now) - now
        conditions: list[tuple[bool, Callable[[], str]]] = [
            (context.stack.paused and bool(found.lacking), lambda: "the stack to be resumed: `runs-fleet resume`"),
            (
                bool(found.lacking) and full is not None,
                lambda: f"{full.why}; {_place(context, full.whose, place)}" if full else "",
            ),
            (bool(found.held), lambda: f"the next launch in {backoff_s:.0f} s: {found.held}" if backoff_s > 0.0 else found.held),
            (
                bool(found.lacking) and last is not None,
                lambda: f"{last.what if last else ''}; {_place(context, '', place)}",
            ),
            (bool(found.lacking), lambda: "the next look at its label set, within RUNS_FLEET_LEASE_SECONDS"),
        ]
        return next((said() for unmet, said in conditions if unmet), "GitHub's delivery that its runner took it")

    def _headrooms(self, context: JobContext, request: MachineRequest, now: float) -> list[limits.Headroom]:
        """What each limit leaves, as the next launch would find it; the stack's count of machines is as of its last launch."""
        settings, strategy = self.settings, self.strategies.of(request.compute)
        each, name = strategy.at_most(request), context.job.repository
        scopes = [
            (settings.per_repository, context.repository, context.of_repository, name),
            (settings.per_label_set, context.view, context.of_label_set, limits.OF_SET),
        ]
        found = []
        for own, view, bucket, whose in scopes:
            found.append(limits.view_headroom(view, own, each, whose))
            if own.launches_per_minute:
                found.append(limits.bucket_headroom(limits.bucket_refilled(bucket, own, now), whose))
        stack = limits.refilled(context.stack, settings, limits.start_rates(self.strategies), now)
        return [*found, limits.stack_headroom(stack, settings, limits.own_limits(settings), each, strategy)]


def _served(context: JobContext, found: Assessment, place: int) -> str:
    """What it waits for where a machine is there or on its way to it; empty: none is."""
    if place > found.supply:
        return ""
    launches = [launch for launch in context.launches if launch.state is not LaunchState.CLOSED]
    counted = [session for session in context.sessions if session.session_id in found.counted]
    booting = [one for one in counted if one.state in (SessionState.LAUNCHED, SessionState.CONFIGURED)]
    ready = [one for one in counted if one.state is SessionState.READY]
    number = f"it is number {place} of those that wait"
    if ready:
        return f"GitHub to assign it to one of {counted_of(len(ready), 'idle runner')}; {number}"
    if booting:
        last = max(booting, key=lambda one: one.deadline)
        until = f"{last.instance_id or last.session_id} gets until {moment(last.deadline)}, and is replaced then"
        return f"one of {counted_of(len(booting), 'machine')} that boot{'s' if len(booting) == 1 else ''}; {until}; {number}"
    return f"the answer to {counted_of(len(launches), 'launch')}" if launches else ""


def _place(context: JobContext, whose: str, in_its_set: int) -> str:
    """Where it stands among all that wait for the same limit."""
    if whose == limits.OF_SET:
        return f"it is number {in_its_set} of its label set"
    mine = next((entry for entry in context.waitlist if entry.set_key == context.job.set_key), None)
    since = (mine.since, mine.set_key) if mine is not None else (context.job.queued_at, context.job.set_key)
    whose = whose or (mine.whose if mine is not None else "")
    before = [entry for entry in context.waitlist if entry.whose == whose and (entry.since, entry.set_key) < since]
    return f"it is number {sum(entry.jobs for entry in before) + in_its_set} of {whose or 'the stack'}"


def _lines(context: JobContext, now: float) -> list[Line]:
    job = context.job
    how = "waits on GitHub for an approval" if job.state is JobState.WAITING else "queued by GitHub"
    lines = [Line(job.queued_at, f"{how}, labels {', '.join(job.labels)}")]
    for launch in context.launches:
        if any(one.item_id == job.job_id for one in launch.sessions) or _made_for(launch, context.sessions, job):
            lines += _of_launch(launch)
    for session in context.sessions:
        if job.job_id in (session.launched_for, session.bound_job) or session.registration_name == job.runner_name:
            lines += _of_session(session, job)
    if context.view.label_set is not None:
        until = job.started_at or job.completed_at or now
        reasons = [one for one in context.view.label_set.hold_reasons if job.queued_at <= one.at <= until]
        lines += [Line(one.at, f"nothing launched for its label set: {one.what}") for one in reasons]
    if context.rerun is not None:
        lines += [Line(one.at, one.what) for one in context.rerun.history if one.what.startswith(f"{job.name}: ")]
    if job.started_at is not None:
        lines.append(Line(job.started_at, f"taken by runner {job.runner_name or 'of somebody else'}"))
    if job.completed_at is not None:
        lines.append(Line(job.completed_at, f"completed: {job.conclusion or 'no conclusion told'}"))
    return lines


def _made_for(launch: Launch, sessions: Iterable[Session], job: Job) -> bool:
    return any(s.launch_id == launch.launch_id and job.job_id in (s.launched_for, s.bound_job) for s in sessions)


def _of_launch(launch: Launch) -> list[Line]:
    lines = [Line(launch.created_at, f"launch {launch.launch_id} committed: {launch.spec}, image {launch.image}")]
    for one in launch.attempts:
        why = f" ({'; '.join(one.reasons)})" if one.reasons else ""
        lines.append(Line(one.at, f"{launch.strategy} asked for {one.wanted} {one.market}, step {one.step}: gave {one.got}{why}"))
    lines += [Line(one.at, f"launch {launch.launch_id}: {one.what}") for one in launch.failures]
    return lines


def _of_session(session: Session, job: Job) -> list[Line]:
    mine = "" if session.launched_for == job.job_id else " (launched for another job)"
    name, told = session.session_id, []
    moments: list[tuple[float | None, str]] = [
        (session.launched_at, f"session {name} got instance {session.instance_id}, {session.market}{mine}"),
        (session.configured_at, f"session {name} configured: runner {session.registration_name} is registered"),
        (session.ready_at, f"session {name} ready: its runner listens"),
        (session.busy_at, f"session {name} busy" + (f" with job {session.bound_job}" if session.bound_job else "")),
        (session.interrupting_at, f"session {name}: its machine is going to be taken away"),
        (session.gone_at, f"session {name}: its instance is gone, by the word of {session.strategy}"),
        (
            session.ended_at,
            f"session {name} ended: {session.status}, {session.reason or 'no reason'}. {session.error}".rstrip(". "),
        ),
        (session.closed_at, f"session {name} closed: nothing of it is left"),
    ]
    told += [Line(at, what) for at, what in moments if at is not None]
    told += [Line(one.at, f"session {name} not configured: {one.what}") for one in session.failures]
    if session.console and (at := session.gone_at or session.ended_at) is not None:
        last = [words for words in session.console.splitlines() if words.strip()][-CONSOLE_LINES:]
        told += [Line(at, f"session {name}, the end of its console: {words[:160]}") for words in last]
    return told
