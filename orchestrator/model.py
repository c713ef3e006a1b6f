"""What is remembered: jobs (what GitHub wants), launches (what we asked of EC2) and sessions (a runner in a body).

A session is launched because jobs wait, and may run any of them: only GitHub's `in_progress` binds one to the other. So supply is
a level: each label set has a ledger, and on the ledger's board lies a card for every record that is not at its end.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

SHARDS = 16
"""Over how many keys the index of deadlines is spread. Source: 1,000 writes/s per partition key, DynamoDB quotas."""


NAME_LIMIT = 64
"""Characters of a runner's name. Source: actions/runner registration."""
OPEN_LAUNCHES = "launches"
"""The board on which every open launch of the stack has a card."""


class JobState(StrEnum):
    """Where a job is, as far as GitHub told."""

    WAITING = "waiting"
    """Somebody must approve it first: it wants no machine yet."""
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class LaunchState(StrEnum):
    """Where a launch is."""

    INTENDED = "intended"
    """The exact request is committed; whether EC2 has seen it is not known."""
    DEALT = "dealt"
    """EC2 answered, and it is committed which session has which instance; their records may still have to be made."""
    CLOSED = "closed"
    """Every session of it is a record, or will never be one."""


class RescueState(StrEnum):
    """Where the re-run of a run's reclaimed jobs is."""

    WAITING = "waiting"
    """There are jobs to run again, once GitHub lets us."""
    RESTING = "resting"
    """All that may be run again was; another reclaimed job wakes it."""


class NoteState(StrEnum):
    """Where something is that is to be said on a commit."""

    WAITING = "waiting"
    """GitHub has not taken it yet."""
    DONE = "done"
    """It took it, or never will."""


class SessionState(StrEnum):
    """Where a session is; every state but `closed` has a deadline."""

    LAUNCHED = "launched"
    """There is an instance; it waits for its configuration."""
    CONFIGURED = "configured"
    """Its configuration is laid down and its runner is registered."""
    READY = "ready"
    """The agent said `started`: the secret is read and deleted, the runner listens."""
    BUSY = "busy"
    """The agent said that it took a job, or GitHub said which."""
    ENDED = "ended"
    """The agent's final word came, or the instance is gone, or its time is up; there may be things to remove."""
    CLOSED = "closed"
    """Instance gone, secret gone, registration gone: nothing of it is left."""


_AFTER_BOOT = frozenset({SessionState.READY, SessionState.BUSY, SessionState.ENDED})
TRANSITIONS: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    JobState: {
        JobState.WAITING: frozenset({JobState.QUEUED, JobState.IN_PROGRESS, JobState.COMPLETED}),
        JobState.QUEUED: frozenset({JobState.IN_PROGRESS, JobState.COMPLETED}),
        JobState.IN_PROGRESS: frozenset({JobState.COMPLETED}),
        JobState.COMPLETED: frozenset(),
    },
    LaunchState: {
        LaunchState.INTENDED: frozenset({LaunchState.DEALT}),
        LaunchState.DEALT: frozenset({LaunchState.INTENDED, LaunchState.CLOSED}),
        LaunchState.CLOSED: frozenset(),
    },
    RescueState: {
        RescueState.WAITING: frozenset({RescueState.RESTING}),
        RescueState.RESTING: frozenset({RescueState.WAITING}),
    },
    NoteState: {NoteState.WAITING: frozenset({NoteState.DONE}), NoteState.DONE: frozenset()},
    SessionState: {
        SessionState.LAUNCHED: frozenset({SessionState.CONFIGURED}) | _AFTER_BOOT,
        SessionState.CONFIGURED: _AFTER_BOOT,
        SessionState.READY: frozenset({SessionState.BUSY, SessionState.ENDED}),
        SessionState.BUSY: frozenset({SessionState.ENDED}),
        SessionState.ENDED: frozenset({SessionState.CLOSED}),
        SessionState.CLOSED: frozenset(),
    },
}
"""Which state may follow which; what is not here does not happen. A launch is intended again for each step of its fallback."""
BY_ITS_WORD: dict[StrEnum, frozenset[StrEnum]] = {JobState.QUEUED: frozenset({JobState.WAITING})}
"""What may follow besides, if GitHub was asked and says so. Deliveries come in any order, and do not prove it.

A job that an environment protects is told as queued first, then as waiting for its approval.
"""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job of one attempt. Times are epoch seconds, None: not yet."""

    job_id: str
    run_id: str
    run_attempt: int
    owner: str
    repo: str
    name: str
    labels: tuple[str, ...]
    installation_id: str
    set_key: str
    """Of the label set whose ledger counts it."""
    state: JobState = JobState.QUEUED
    conclusion: str = ""
    head_sha: str = ""
    refused: str = ""
    """Why it is not run here, in words for whoever wrote its labels; empty: it is."""
    given_up: bool = False
    """It is refused whatever the policy says: its label asked for that rather than to wait."""
    firm: bool = False
    """An earlier attempt lost its machine: this one gets one that is not taken back, if its label lets it."""
    runner_name: str = ""
    """Empty until GitHub names the runner that took it."""
    queued_at: float = 0.0
    started_at: float | None = None
    completed_at: float | None = None
    due: float = 0.0
    """When somebody must look at it, whatever happened."""
    version: int = 0


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A session that a launch is to give a body. `job_id`, `run_id`: the job whose waiting made us launch; it may run another."""

    session_id: str
    set_key: str
    job_id: str
    run_id: str
    repository: str = ""
    """`owner/repo`."""


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the fallback, asked for. `reasons`: EC2's, code first, for what it did not give."""

    at: float
    step: int
    market: str
    wanted: int
    got: int
    reasons: tuple[str, ...] = ()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth telling whoever asks why. `at`: epoch seconds."""

    at: float
    what: str


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One wish of EC2, for sessions of one or more label sets that need the same kind of machine."""

    launch_id: str
    spec: str
    """Short name of the kind of machine, for tags and tables."""
    request: str
    """The exact request as JSON, committed before the call; a replay sends the same bytes."""
    sessions: tuple[Planned, ...]
    """Those that have no record of their own yet."""
    sets: tuple[str, ...]
    """The label sets it was made for."""
    repositories: tuple[str, ...] = ()
    """And the repositories, `owner/repo`."""
    step: int = 0
    """Row of the fallback table; each has a token of its own."""
    market: str = ""
    """Of that row."""
    asked_at: float = 0.0
    """When that row was committed."""
    lost: bool = False
    """An answer to that row was lost: what it made is asked for again before anything else is."""
    state: LaunchState = LaunchState.INTENDED
    bodies: dict[str, str] = {}
    """Session id to instance id, as dealt in this step."""
    firm: bool = False
    """On demand only: for jobs that lost a machine, or are about to."""
    cpus: int = 0
    """vCPUs of one of its machines at most, and what that may cost an hour on demand, in US dollars."""
    usd: float = 0.0
    pools: dict[str, str] = {}
    """Instance id to the pool that gave it, where EC2 said."""
    tries: tuple[Try, ...] = ()
    """What came of each step that was answered."""
    troubles: tuple[Told, ...] = ()
    """What EC2 answered instead, lately."""
    image: str = ""
    """Launch template and version."""
    created_at: float = 0.0
    expires_at: float = 0.0
    """When its machines are terminated, whatever they do."""
    due: float = 0.0
    version: int = 0


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One runner in one body. Times are epoch seconds, None: not yet."""

    session_id: str
    launch_id: str
    set_key: str
    launched_for: str
    """The job whose waiting made us launch; it may run another."""
    owner: str
    repo: str
    run_id: str
    labels: tuple[str, ...]
    installation_id: str
    instance_id: str
    strategy: str = "ec2"
    spec: str = ""
    image: str = ""
    market: str = ""
    """`spot` or `on-demand`."""
    pool: str = ""
    """Instance type, subnet and market, as the circuit breakers call them; empty: EC2 did not say."""
    cpus: int = 0
    """Of its machine; where EC2 did not say which type it gave, at most."""
    usd: float = 0.0
    """What it costs an hour on demand."""
    state: SessionState = SessionState.LAUNCHED
    bound_job: str = ""
    """The job whose `in_progress` named its runner."""
    deadline: float = 0.0
    """When its present state has lasted too long."""
    due: float = 0.0
    """When somebody must look at it; never after `deadline`."""
    expires_at: float = 0.0
    """When its machine is terminated, whatever it does."""
    runner_name: str = ""
    runner_id: int = 0
    attempt: int = 1
    launched_at: float | None = None
    configured_at: float | None = None
    ready_at: float | None = None
    busy_at: float | None = None
    interrupting_at: float | None = None
    """When its machine was said to be taken away soon."""
    gone_at: float | None = None
    """When EC2 first said that the instance is gone, before any final word was heard."""
    ended_at: float | None = None
    closed_at: float | None = None
    status: str = ""
    reason: str = ""
    error: str = ""
    phases_ms: dict[str, int] = {}
    log_outcome: str = ""
    log_lines: int = 0
    ran_job: str = ""
    cause: str = ""
    """Why its machine was too small for its job, in words; empty: it was not, as far as its agent saw."""
    ran_run: str = ""
    """The run that its job is of, by the job's own word: a hint where to ask."""
    troubles: tuple[Told, ...] = ()
    """What kept it from its configuration, lately."""
    console: str = ""
    """The end of what its machine printed, if it died without a word."""
    version: int = 0


class Rescue(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of one run that lost their machines, and are to be run again.

    Within an attempt they are known by their ids; each attempt renumbers them, so that beyond it their names must do.
    """

    run_key: str
    """`owner/repo/run id`."""
    owner: str
    repo: str
    run_id: str
    installation_id: str
    wanted: dict[str, int] = {}
    """Name to the attempt that was reclaimed."""
    ids: dict[str, str] = {}
    """Id to name of those that were reclaimed in the run's latest attempt."""
    tried: dict[str, tuple[int, ...]] = {}
    """Name to the attempts that were run again."""
    doing: tuple[str, ...] = ()
    """What GitHub is being asked to run again; the answer may have been lost."""
    refusals: int = 0
    """How often GitHub did not let us, in a row."""
    seen_attempt: int = 0
    """The run's latest attempt, as far as we made it: another one is somebody else's."""
    told: tuple[Told, ...] = ()
    """What became of each, by name, lately."""
    state: RescueState = RescueState.WAITING
    changed_at: float = 0.0
    due: float = 0.0
    version: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be said on a commit, once."""

    name: str
    """What it is about: its title, and the job's id."""
    job_id: str
    owner: str
    repo: str
    installation_id: str
    head_sha: str
    """Empty: nobody told us of which commit it is, and it can only be said in the log."""
    title: str
    text: str
    tries: int = 0
    state: NoteState = NoteState.WAITING
    noted_at: float = 0.0
    due: float = 0.0
    version: int = 0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a label set beside its cards: one scope, one set of labels."""

    set_key: str
    owner: str
    repo: str
    installation_id: str
    labels: tuple[str, ...]
    surplus_since: float | None = None
    """Since when there have been more sessions than jobs."""
    barren: dict[str, int] = {}
    """Sessions that ended without a job, since one got one: how many of each kind of machine and image (`kind_of`)."""
    backoff_until: float = 0.0
    """Nothing is launched before."""
    backoff_why: str = ""
    backoff_of: str = ""
    """The kind of machine and image that did no work; empty: nothing of the kind is why."""
    holds: tuple[Told, ...] = ()
    """Why nothing was launched though something lacked, each time that the reason was another."""
    refusals: int = 0
    """Launches in a row for which EC2 had no machine of any kind that would do."""
    barred: tuple[str, ...] = ()
    """The last launches of that kind."""
    expected: tuple[float, ...] = ()
    """Until when each job counts that an interruption will send back to us."""
    prepared: tuple[float, ...] = ()
    """Until when each machine counts as wanted that an operator asked for."""
    working: dict[str, float] = {}
    """Sessions that ended having had a job, of which GitHub has not told yet: until when each counts as if it still worked."""
    touched_at: float = 0.0
    """When something was last launched for it."""
    version: int = 0


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the whole stack: whether it launches, and how many launches its pace allows now."""

    name: str = "stack"
    paused: bool = False
    tokens: float = 0.0
    """Sessions that may be launched at once, as of `at`."""
    at: float = 0.0
    alive: int = 0
    """Machines, as counted at `counted_at` and launched since."""
    counted_at: float = 0.0
    cpus: float = 0.0
    """Their vCPUs."""
    usd: float = 0.0
    """What they cost an hour, on demand, in US dollars."""
    ec2: float = 0.0
    """Instances that EC2's own bucket allows at once, as of `at`."""
    lately: tuple[tuple[float, float, float, float], ...] = ()
    """When how many were launched within a minute, which EC2 may not show yet; their vCPUs and price at most."""
    version: int = 0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How many launches a repository or a label set is allowed now."""

    key: str
    """Of the label set, or the repository's (`repository_key`)."""
    tokens: float = 0.0
    """As of `at`."""
    at: float = 0.0
    version: int = 0


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A label set that waits for its turn. Times are epoch seconds."""

    set_key: str
    since: float
    """Since when its oldest job waits."""
    jobs: int
    """How many of its jobs wait for it."""
    at: float
    """When it was put off last."""
    whose: str = ""
    """Whose limit it is: the repository's (`owner/repo`), or empty: the stack's."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where the code of a run comes from."""

    fork: bool
    public: bool


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong with one pool lately. Times are epoch seconds."""

    refusals: int = 0
    """In a row, for want of capacity."""
    refused_until: float = 0.0
    reclaims: tuple[float, ...] = ()
    """When EC2 took machines of it back, lately."""
    reclaimed_until: float = 0.0


class Circuits(msgspec.Struct, frozen=True, kw_only=True):
    """The circuit breakers of the stack, by pool (`type/subnet/market`)."""

    name: str = "circuits"
    faults: dict[str, Fault] = {}
    version: int = 0


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision about levels needs of one record. `since`: of its state; other fields as in the record."""

    kind: str
    """`job`, `launch` or `session`."""
    identity: str
    state: str
    since: float = 0.0
    bound: bool = False
    leaving: bool = False
    """Its machine is going away."""
    firm: bool = False
    """Of a job and a launch: as in its record; of a session: EC2 does not take its machine back."""
    run_id: str = ""
    cpus: int = 0
    usd: float = 0.0
    """Of each of its machines, at most."""
    sessions: tuple[str, ...] = ()
    """Of a launch: those of this label set that may still get a body."""


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """One label set as it is now: its ledger (None: never heard of), its cards, and how often somebody has woken it."""

    set_key: str
    ledger: Ledger | None = None
    cards: tuple[Card, ...] = ()
    woken: int = 0
    expires: int = 0
    """When its wake may be forgotten, epoch seconds."""


Kind = TypeVar("Kind", bound=msgspec.Struct)
Record = Job | Launch | Session | Rescue | Note | Ledger | Stack | Pace | Circuits


def set_key(owner: str, repo: str, group_id: int, labels: tuple[str, ...]) -> str:
    """The name of a label set: jobs of one scope and group that ask for the same labels, whatever their order and case."""
    told = [f"{owner}/{repo}".casefold(), str(group_id), *sorted({label.casefold() for label in labels})]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:20]


def repository_key(owner: str, repo: str = "") -> str:
    """Under which everything open of one repository lies; `owner` may be `owner/repo`."""
    return f"repository/{owner}/{repo}".rstrip("/").casefold()


def cards(record: Record) -> dict[str, Card | None]:
    """Where a card of this record lies: label set to card, None: no card any more."""
    match record:
        case Job():
            card = Card(
                kind="job", identity=record.job_id, state=record.state.value, since=record.queued_at, run_id=record.run_id,
                firm=record.firm,
            )  # fmt: skip
            wants = record.state in (JobState.WAITING, JobState.QUEUED) and not record.refused
            return {record.set_key: card if wants else None}
        case Session():
            since = {SessionState.READY: record.ready_at, SessionState.BUSY: record.busy_at}.get(record.state, record.launched_at)
            card = Card(
                kind="session", identity=record.session_id, state=record.state.value, since=since or 0.0,
                bound=bool(record.bound_job), leaving=record.interrupting_at is not None, run_id=record.run_id,
                firm=record.market == "on-demand", cpus=record.cpus, usd=record.usd,
            )  # fmt: skip
            mine = card if not is_over(record) else None
            return {record.set_key: mine, repository_key(record.owner, record.repo): mine}
        case Launch():
            of_set = {key: tuple(one.session_id for one in record.sessions if one.set_key == key) for key in record.sets}
            common: dict[str, Any] = {
                "identity": record.launch_id, "state": record.state.value, "since": record.created_at, "firm": record.firm,
                "cpus": record.cpus, "usd": record.usd,
            }  # fmt: skip
            of_set |= {
                repository_key(name): tuple(one.session_id for one in record.sessions if one.repository == name)
                for name in record.repositories
            }
            of_set[OPEN_LAUNCHES] = tuple(one.session_id for one in record.sessions)
            return {
                key: Card(kind="launch", sessions=wanted, **common) if wanted and not is_over(record) else None
                for key, wanted in of_set.items()
            }
        case Rescue() | Note() | Ledger() | Stack() | Pace() | Circuits():
            return {}


def kind_of(spec: str, image: str) -> str:
    """Under which a ledger counts the machines that did no work."""
    return f"{spec} {image}"


def coming(board: Board) -> frozenset[str]:
    """Sessions that launches are still to give a body, and that have no card of their own yet."""
    known = {card.identity for card in board.cards if card.kind == "session"}
    return frozenset(one for card in board.cards if card.kind == "launch" for one in card.sessions) - known


def is_over(record: Record) -> bool:
    """Whether it needs no machine, no deadline and nobody's attention any more (an ended session still needs its remains
    removed).
    """
    match record:
        case Job():
            return record.state is JobState.COMPLETED
        case Launch():
            return record.state is LaunchState.CLOSED
        case Session():
            return record.state in (SessionState.ENDED, SessionState.CLOSED)
        case Rescue():
            return record.state is RescueState.RESTING
        case Note():
            return record.state is NoteState.DONE
        case Ledger() | Stack() | Pace() | Circuits():
            return False


def is_due_some_time(record: Record) -> bool:
    """Whether its deadline stands in the index."""
    if isinstance(record, Ledger | Stack | Pace | Circuits):
        return False
    return record.state is not SessionState.CLOSED if isinstance(record, Session) else not is_over(record)


def identity(record: Record) -> str:
    """The id under which it is kept."""
    match record:
        case Job():
            return record.job_id
        case Launch():
            return record.launch_id
        case Session():
            return record.session_id
        case Rescue():
            return record.run_key
        case Note():
            return record.name
        case Ledger():
            return record.set_key
        case Pace():
            return record.key
        case Stack() | Circuits():
            return record.name


def may_become(record: Job | Launch | Session, state: StrEnum, *, asked: bool = False) -> bool:
    """Whether the table allows it: a late or repeated event, which it does not, changes nothing. `asked`: GitHub was."""
    by_its_word = BY_ITS_WORD.get(record.state, frozenset()) if asked else frozenset()
    return state in TRANSITIONS[type(record.state)][record.state] | by_its_word


def changed(record: Kind, **changes: object) -> Kind:
    """A copy with these fields."""
    return msgspec.structs.replace(record, **changes)


def runner_name(stack_id: str, session: str) -> str:
    """Unique and at most 64 characters: the stack's part is shortened, the session's never."""
    return f"{stack_id[: NAME_LIMIT - len(session) - 1]}-{session}"


def session_of(stack_id: str, runner: str) -> str:
    """The session whose runner has this name; empty if it is not one of this stack's."""
    _, mark, session = runner.rpartition("-s-")
    found = f"s-{session}" if mark else ""
    return found if found and runner_name(stack_id, found) == runner else ""
