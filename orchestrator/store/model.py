"""The records of the fleet: sessions (one registration on one machine), label sets, and what the whole stack has in use.

A session is launched because work waits, and may do any work of its label set: only the origin of the work binds one to the
other. So supply is a number: each label set has a record, and every open launch, session and piece of work leaves an item in
its view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import msgspec

from orchestrator.ports import Write
from orchestrator.store.kinds import HistoryEntry, Kind, OpenItem, Record
from orchestrator.store.naming import Scope, repository_key
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import NOTHING, Resources
from orchestrator.store.states import SESSION_TRANSITIONS, SessionState
from orchestrator.store.tables import JOBS, KEPT_S, LABEL_SET_KEPT_S, SESSIONS

TRAIL = "session#"
"""The rows beside an item of work that name the sessions launched for it, for whoever asks why."""


class RecentLaunch(msgspec.Struct, frozen=True, kw_only=True):
    """What was launched within one second; a strategy may not list it yet."""

    at: float
    resources: Resources


def _session_items(session: Session) -> Mapping[str, OpenItem | None]:
    since = {SessionState.READY: session.ready_at, SessionState.BUSY: session.busy_at}.get(session.state, session.launched_at)
    item = OpenItem(
        kind="session", identity=session.session_id, state=session.state.value, since=since or 0.0,
        bound=bool(session.bound_job), leaving=session.interrupting_at is not None, run_id=session.run_id,
        non_interruptible=session.non_interruptible, each=session.resources,
    )  # fmt: skip
    mine = None if session.is_over else item
    return {session.set_key: mine, repository_key(session.repository): mine}


def _trail(session: Session) -> Iterator[Write]:
    if session.version == 1 and session.launched_for:
        key = (session.launched_for, f"{TRAIL}{session.session_id}")
        yield Write(JOBS, key, {"version": 1, "expires": int(session.expires_at + KEPT_S)}, None)


class Session(Record, frozen=True, kw_only=True):
    """One registration on one machine. Times are epoch seconds, None: not yet."""

    KIND: ClassVar[Kind[Session]] = Kind(
        table=SESSIONS, row="session", key=lambda it: it.session_id, is_over=lambda it: it.is_over,
        is_due=lambda it: it.state is not SessionState.CLOSED, kept_since=lambda it: it.closed_at, items=_session_items,
        read_order=2, also=_trail, transitions=SESSION_TRANSITIONS,
    )  # fmt: skip
    session_id: str
    launch_id: str
    set_key: str
    source: str = "jobs"
    """The name of the source of its work."""
    launched_for: str
    """The work whose waiting made us launch; it may do other work."""
    scope: Scope
    repository: str
    """`owner/repo`."""
    run_id: str
    labels: tuple[str, ...]
    instance_id: str
    strategy: str = "ec2"
    spec: str = ""
    image: str = ""
    market: str = ""
    """What it was asked for as, in the strategy's words."""
    non_interruptible: bool = False
    """Its machine is not taken back."""
    placement: str = ""
    """What gave its machine, in the strategy's words; empty: it did not say."""
    resources: Resources = NOTHING
    """Of its machine; where the strategy did not say which it gave, at most."""
    state: SessionState = SessionState.LAUNCHED
    bound_job: str = ""
    """The work that names this session's registration, by the word of its origin."""
    deadline: float = 0.0
    """When its present state has lasted too long."""
    due: float = 0.0
    """When somebody must look at it; never after `deadline`."""
    expires_at: float = 0.0
    """When its machine is terminated, whatever it does."""
    registration_name: str = ""
    """The name of its registration."""
    registration_id: int = 0
    attempt: int = 1
    """Counts its registrations; a message of an earlier one does not count."""
    launched_at: float | None = None
    configured_at: float | None = None
    ready_at: float | None = None
    busy_at: float | None = None
    interrupting_at: float | None = None
    """When its machine was said to be taken away soon."""
    taken_back: bool = False
    """Whether the service's own word that it takes the machine back was counted where it was placed."""
    gone_at: float | None = None
    """When its machine was first seen to be gone, before any final message was heard."""
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
    """Why its machine was too small for its work, in words; empty: it was not, as far as its agent saw."""
    ran_run: str = ""
    """What its work belongs to, by the work's own word: a hint where to ask."""
    failures: tuple[HistoryEntry, ...] = ()
    """What kept it from its configuration, lately."""
    console: str = ""
    """The end of what its machine printed, if it died without a message."""

    @property
    def is_over(self) -> bool:
        """Whether it ended; there may be things to remove."""
        return self.state in (SessionState.ENDED, SessionState.CLOSED)


class LabelSet(Record, frozen=True, kw_only=True):
    """What is remembered of a label set beside its items: one source, one scope, one set of labels."""

    KIND: ClassVar[Kind[LabelSet]] = Kind(
        table=SESSIONS, row="#label_set", key=lambda it: it.set_key, kept_since=lambda it: it.touched_at + LABEL_SET_KEPT_S,
    )  # fmt: skip
    set_key: str
    source: str = "jobs"
    """The name of the source of its work."""
    scope: Scope
    repository: str
    """`owner/repo`."""
    labels: tuple[str, ...]
    machine: MachineRequest = MachineRequest()
    """What its machines must be, as parsed where its newest work entered."""
    surplus_since: float | None = None
    """Since when there have been more sessions than work."""
    idle_exits: dict[str, int] = {}
    """Sessions that ended without work, since one got some: how many of each kind of machine (`machine_kind`)."""
    backoff_until: float = 0.0
    """Nothing is launched before."""
    backoff_at: float = 0.0
    """When the backoff of idle exits began, or was prolonged."""
    backoff_why: str = ""
    backoff_of: str = ""
    """The kind of machine that did no work; empty: nothing of the kind is why."""
    hold_reasons: tuple[HistoryEntry, ...] = ()
    """Why nothing was launched though something lacked, each time that the reason was another."""
    refusals: int = 0
    """Launches in a row for which there was no machine of any kind that would do."""
    refused_launches: tuple[str, ...] = ()
    """The last launches of that kind."""
    expected: tuple[float, ...] = ()
    """Until when each piece of work counts that an interruption will send back to us."""
    prepared: tuple[float, ...] = ()
    """Until when each machine counts as wanted that an operator asked for."""
    working: dict[str, float] = {}
    """Sessions that ended having had work, of which its origin has not told yet: until when each counts as if it worked."""
    touched_at: float = 0.0
    """When something was last launched for it."""


class Stack(Record, frozen=True, kw_only=True):
    """What holds for the whole stack: whether it launches, and how many launches its limits allow now."""

    KIND: ClassVar[Kind[Stack]] = Kind(table=SESSIONS, row="stack", key=lambda it: it.name)
    name: str = "stack"
    paused: bool = False
    tokens: float = 0.0
    """Sessions that may be launched at once, as of `at`."""
    at: float = 0.0
    in_use: Resources = NOTHING
    """As counted at `counted_at` and launched since."""
    counted_at: float = 0.0
    strategy_tokens: dict[str, float] = {}
    """Machines that each strategy's own start rate allows at once, as of `at`; one that is missing is full."""
    lately: tuple[RecentLaunch, ...] = ()
    """What was launched within a minute, which a strategy may not list yet."""


class TokenBucket(Record, frozen=True, kw_only=True):
    """How many launches a repository or a label set is allowed now."""

    KIND: ClassVar[Kind[TokenBucket]] = Kind(
        table=SESSIONS, row="token_bucket", key=lambda it: it.key, kept_since=lambda it: it.at
    )
    key: str
    """The label set's, or the repository's (`repository_key`)."""
    tokens: float = 0.0
    """As of `at`."""
    at: float = 0.0


class WaitlistEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A label set that waits for its turn. Times are epoch seconds."""

    set_key: str
    since: float
    """Since when its oldest work waits."""
    jobs: int
    """How many pieces of its work wait for it."""
    at: float
    """When it was put off last."""
    whose: str = ""
    """Whose limit it is: the repository's (`owner/repo`), or empty: the stack's."""
    repository: str = ""
    """Whose work waits (`owner/repo`)."""


class LabelSetView(msgspec.Struct, frozen=True, kw_only=True):
    """One label set as it is now: its record (None: never heard of), its open items, and how often somebody has woken it."""

    set_key: str
    label_set: LabelSet | None = None
    items: tuple[OpenItem, ...] = ()
    woken: int = 0
    expires: int = 0
    """When its wake may be forgotten, epoch seconds."""


def arriving(view: LabelSetView) -> frozenset[str]:
    """Sessions that launches are still to give a machine, and that have no item of their own yet."""
    known = {item.identity for item in view.items if item.kind == "session"}
    return frozenset(one for item in view.items if item.kind == "launch" for one in item.sessions) - known
