"""What is remembered: jobs (what GitHub wants), launches (what we asked of EC2) and sessions (a runner in a body).

A session is launched because jobs wait, and may run any of them: only GitHub's `in_progress` binds one to the other. So supply is
a level: each label set has a ledger, and on the ledger's board lies a card for every record that is not at its end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import msgspec

from orchestrator.states import BY_ITS_WORD, TRANSITIONS, JobState, LaunchState, NoteState, RescueState, SessionState


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
    looked_at: float = 0.0
    """When GitHub was asked last whether the run is over."""
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


Kind = TypeVar("Kind", bound=msgspec.Struct)
Record = Job | Launch | Session | Rescue | Note | Ledger | Stack | Pace | Circuits


def may_become(record: Job | Launch | Session, state: StrEnum, *, asked: bool = False) -> bool:
    """Whether the table allows it: a late or repeated event, which it does not, changes nothing. `asked`: GitHub was."""
    by_its_word = BY_ITS_WORD.get(record.state, frozenset()) if asked else frozenset()
    return state in TRANSITIONS[type(record.state)][record.state] | by_its_word


def changed(record: Kind, **changes: object) -> Kind:
    """A copy with these fields."""
    return msgspec.structs.replace(record, **changes)
