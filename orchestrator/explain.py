"""Why a job is where it is: what happened to it, in order, and what it waits for now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from orchestrator import caps, planning
from orchestrator.cards import Board
from orchestrator.catalogue import Kind
from orchestrator.demand import HELD_S, level
from orchestrator.model import Job, Launch, Pace, Place, Rescue, Session, Stack
from orchestrator.naming import repository_key
from orchestrator.records import Records
from orchestrator.rescues import run_key
from orchestrator.settings import ServerSettings
from orchestrator.states import JobState, LaunchState, SessionState

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


@dataclass(frozen=True)
class Facts:
    """What the records say about a job and its label set now."""

    job: Job
    board: Board
    sessions: tuple[Session, ...]
    """Its own, and the open ones of its label set."""
    launches: tuple[Launch, ...]
    """Those of these sessions, the open ones of its label set, and those for which EC2 had nothing lately."""
    stack: Stack
    repository: Board
    line: tuple[Place, ...] = ()
    """Who waits for a limit of the stack or of a repository."""
    rescue: Rescue | None = None
    paces: tuple[Pace, Pace] = (Pace(key=""), Pace(key=""))
    """Of the repository, of the label set."""


def gathered(records: Records, job: Job, stack_id: str, now: float) -> Facts:
    """Read for one job, without a look at what does not concern it. Raises: ServiceFailed."""
    key, repository = job.set_key, repository_key(job.owner, job.repo)
    board = records.board(key)
    own = {session.session_id: session for session in records.sessions_of(job, stack_id)}
    there = [card.identity for card in board.cards if card.kind == "session" and card.identity not in own]
    sessions = (*own.values(), *filter(None, map(records.session, there)))
    made = [card.identity for card in board.cards if card.kind == "launch"]
    made += [*(board.ledger.barred if board.ledger is not None else ()), *(session.launch_id for session in own.values())]
    launches = tuple(filter(None, map(records.launch, dict.fromkeys(made))))
    return Facts(
        job, board, sessions, launches, records.stack(), records.board(repository), tuple(records.line(now)),
        records.rescue(run_key(job)), (records.pace(repository), records.pace(key)),
    )  # fmt: skip


def job_id_of(text: str) -> str:
    """The job's id in an id or a job's URL (`…/actions/runs/1/job/2`); empty if there is none."""
    found = re.search(r"(?:/job/|^)(\d+)/?(?:[?#].*)?$", text.strip())
    return found[1] if found else ""


def explained(facts: Facts, settings: ServerSettings, catalogue: Iterable[Kind], now: float) -> Explanation:
    """The whole story."""
    job = facts.job
    how = "waits on GitHub for an approval" if job.state is JobState.WAITING else "queued by GitHub"
    lines = [Line(job.queued_at, f"{how}, labels {', '.join(job.labels)}")]
    for launch in facts.launches:
        if any(one.job_id == job.job_id for one in launch.sessions) or _made_for(launch, facts.sessions, job):
            lines += _of_launch(launch)
    for session in facts.sessions:
        if job.job_id in (session.launched_for, session.bound_job) or session.runner_name == job.runner_name:
            lines += _of_session(session, job)
    if facts.board.ledger is not None:
        until = job.started_at or job.completed_at or now
        holds = [one for one in facts.board.ledger.holds if job.queued_at <= one.at <= until]
        lines += [Line(one.at, f"nothing launched for its label set: {one.what}") for one in holds]
    if facts.rescue is not None:
        lines += [Line(one.at, one.what) for one in facts.rescue.told if one.what.startswith(f"{job.name}: ")]
    if job.started_at is not None:
        lines.append(Line(job.started_at, f"taken by runner {job.runner_name or 'of somebody else'}"))
    if job.completed_at is not None:
        lines.append(Line(job.completed_at, f"completed: {job.conclusion or 'no conclusion told'}"))
    waits = _waits_for(facts, settings, tuple(catalogue), now) if job.state in (JobState.QUEUED, JobState.WAITING) else ""
    return Explanation(job, tuple(sorted(lines, key=lambda line: line.at)), waits)


def _made_for(launch: Launch, sessions: Iterable[Session], job: Job) -> bool:
    return any(s.launch_id == launch.launch_id and job.job_id in (s.launched_for, s.bound_job) for s in sessions)


def _of_launch(launch: Launch) -> list[Line]:
    lines = [Line(launch.created_at, f"launch {launch.launch_id} committed: {launch.spec}, image {launch.image}")]
    for one in launch.tries:
        why = f" ({'; '.join(one.reasons)})" if one.reasons else ""
        lines.append(Line(one.at, f"EC2 asked for {one.wanted} {one.market}, step {one.step}: gave {one.got}{why}"))
    lines += [Line(one.at, f"launch {launch.launch_id}: {one.what}") for one in launch.troubles]
    return lines


def _of_session(session: Session, job: Job) -> list[Line]:
    mine = "" if session.launched_for == job.job_id else " (launched for another job)"
    name, told = session.session_id, []
    moments: list[tuple[float | None, str]] = [
        (session.launched_at, f"session {name} got instance {session.instance_id}, {session.market}{mine}"),
        (session.configured_at, f"session {name} configured: runner {session.runner_name} is registered"),
        (session.ready_at, f"session {name} ready: its runner listens"),
        (session.busy_at, f"session {name} busy" + (f" with job {session.bound_job}" if session.bound_job else "")),
        (session.interrupting_at, f"session {name}: its machine is going to be taken away"),
        (session.gone_at, f"session {name}: EC2 says that its instance is gone"),
        (
            session.ended_at,
            f"session {name} ended: {session.status}, {session.reason or 'no reason'}. {session.error}".rstrip(". "),
        ),
        (session.closed_at, f"session {name} closed: nothing of it is left"),
    ]
    told += [Line(at, what) for at, what in moments if at is not None]
    told += [Line(one.at, f"session {name} not configured: {one.what}") for one in session.troubles]
    if session.console and (at := session.gone_at or session.ended_at) is not None:
        last = [words for words in session.console.splitlines() if words.strip()][-CONSOLE_LINES:]
        told += [Line(at, f"session {name}, the end of its console: {words[:160]}") for words in last]
    return told


def _held(why: str, for_s: float) -> str:
    return f"{for_s:.0f} s to pass: {why}" if for_s > 0.0 else why


def _waits_for(facts: Facts, settings: ServerSettings, catalogue: tuple[Kind, ...], now: float) -> str:
    """The first condition that is not met, in the order in which they are asked."""
    job, ledger = facts.job, facts.board.ledger
    if job.state is JobState.WAITING:
        return "an approval on GitHub: it asks for no machine yet"
    if job.refused:
        return f"labels or a policy that let it run: {job.refused}"
    ask = settings.ask_of(job.owner, job.repo, job.labels)
    found = level(facts.board, now)
    place = next((at for at, card in enumerate(found.waiting, 1) if card.identity == job.job_id), 0)
    served = place <= found.supply
    launches = [launch for launch in facts.launches if launch.state is not LaunchState.CLOSED]
    counted = [s for s in facts.sessions if s.session_id in found.counted]
    coming = [s for s in counted if s.state in (SessionState.LAUNCHED, SessionState.CONFIGURED)]
    ready = [s for s in counted if s.state is SessionState.READY]
    rooms = _rooms(facts, settings, caps.each_of(planning.serving(settings, catalogue, ask)), now)
    full = next((room for room in rooms if not room.machines), None)
    told = ledger.holds[-1] if ledger is not None and ledger.holds else None
    lately = told if told is not None and now - told.at < HELD_S + settings.lease_s else None  # it is not told again sooner
    conditions: list[tuple[bool, Callable[[], str]]] = [
        (bool(ask.complaints), lambda: "labels that can be understood: " + "; ".join(ask.complaints)),
        (
            not planning.serving(settings, catalogue, ask),
            lambda: (
                f"labels that a machine fits: none of {ask.architecture} has {ask.cpu_min} to {ask.cpu_max} vCPUs and the rest"
            ),
        ),
        (
            bool(ready) and served,
            lambda: f"GitHub to give it to one of {len(ready)} runners that listen; it is number {place} of those that wait",
        ),
        (bool(coming) and served, lambda: f"{len(coming)} machines that boot; it is number {place} of those that wait"),
        (bool(launches) and served, lambda: f"EC2's answer to {len(launches)} launches"),
        (facts.stack.paused and bool(found.lacking), lambda: "the stack to be resumed: `runs-fleet resume`"),
        (
            bool(found.lacking) and full is not None,
            lambda: f"{full.why}; {_place(facts, full, place)}" if full else "",
        ),
        (bool(found.held), lambda: _held(found.held, (ledger.backoff_until if ledger else now) - now)),
        (
            bool(found.lacking) and lately is not None,
            lambda: f"{lately.what if lately else ''}; {_place(facts, caps.Room(0, ''), place)}",
        ),
        (bool(found.lacking), lambda: "the next look at its label set, which launches: within the lease"),
    ]
    return next((said() for unmet, said in conditions if unmet), "GitHub to tell that its runner took it")


def _place(facts: Facts, room: caps.Room, in_its_set: int) -> str:
    """Where it stands among all that wait for the same."""
    if room.whose == caps.OF_SET:
        return f"it is number {in_its_set} of its label set"
    mine = next((place for place in facts.line if place.set_key == facts.job.set_key), None)
    since = (mine.since, mine.set_key) if mine is not None else (facts.job.queued_at, facts.job.set_key)
    whose = room.whose or (mine.whose if mine is not None else "")
    before = [place for place in facts.line if place.whose == whose and (place.since, place.set_key) < since]
    return f"it is number {sum(place.jobs for place in before) + in_its_set} of {whose or 'the stack'}"


def _rooms(facts: Facts, settings: ServerSettings, each: caps.Each, now: float) -> list[caps.Room]:
    """What each limit leaves, as the next launch would find it; the stack's count of machines is as of its last launch."""
    name = f"{facts.job.owner}/{facts.job.repo}"
    scopes = [
        (settings.per_repository, facts.repository, facts.paces[0], name),
        (settings.per_label_set, facts.board, facts.paces[1], caps.OF_SET),
    ]
    rooms = []
    for limits, board, pace, whose in scopes:
        rooms.append(caps.room_of(board, limits, each, whose))
        if limits.launches_per_minute:
            rooms.append(caps.room_in_pace(caps.paced(pace, limits, now), whose))
    return [*rooms, caps.room(caps.after_a_pause(facts.stack, settings, now), settings, each)]
