"""What the orchestrator needs from the world, each as small as the need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agent.contract.secret import Secret
from orchestrator.webhook import JobEvent


class Clock(Protocol):
    """Wall time."""

    def now(self) -> float:
        """Epoch seconds."""


class Ids(Protocol):
    """Chance."""

    def fresh(self) -> str:
        """Sixteen hexadecimal digits that nobody had before."""


class Journal(Protocol):
    """The orchestrator's own log."""

    def event(self, name: str, **fields: object) -> None:
        """One line: a name that never varies, and fields."""


class Crew(Protocol):
    """Hands for what may be done side by side."""

    def each(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """Do all, some at once; returns what failed, when all have ended."""

    def alone(self, name: str) -> AbstractContextManager[object]:
        """Within it nobody else of this process is within the same name. It must not be asked for twice by one task."""


class Wakes(Protocol):
    """The way to have a label set looked at soon. Losing one is harmless: what it was for stands in the tables."""

    def wake(self, set_key: str) -> None:
        """Soon, and once for many wakes in between."""


Key = tuple[str, str]
"""Partition and row."""


@dataclass(frozen=True)
class Write:
    """One item of a transaction: becomes `item`, or goes (None), provided that its version is still `read`.

    `read` 0: provided that there is none; None: whatever is there.
    """

    table: str
    key: Key
    item: Mapping[str, Any] | None
    read: int | None = None


@dataclass(frozen=True)
class Due:
    """An entry of the index of deadlines. It may be some seconds old: read the record before acting on it."""

    key: Key
    at: float


class Tables(Protocol):
    """DynamoDB, as far as we use it: items of plain values under (partition, row); a number `version` counts their writes.

    Only an item with `shard` and `due` is in the index of deadlines, only one with `instance_id` in that of instances. What may
    not be stored (an empty string as an index key,
    more than 400 KB) is a ServiceFailed. Source: DynamoDB quotas and "GSI" chapters.
    """

    def get(self, table: str, key: Key) -> dict[str, Any] | None:
        """Read consistently. Raises: ServiceFailed."""

    def write(self, writes: Sequence[Write]) -> None:
        """All, or Conflict and none; at most 100. Raises: Conflict, ServiceFailed, Unanswered: perhaps written."""

    def count(self, table: str, key: Key, also: Mapping[str, Any]) -> int:
        """Add one to the item's version, made if need be, and set `also`; returns the new version. Raises: ServiceFailed."""

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """Every item of a partition, all pages, read consistently from the table itself. Raises: ServiceFailed."""

    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """From the index, earliest first, page by page as they are asked for. Raises: ServiceFailed."""

    def of_instance(self, table: str, instance_id: str) -> list[dict[str, Any]]:
        """From the index. Raises: ServiceFailed."""

    def scan(self, table: str) -> Iterator[dict[str, Any]]:
        """Everything, for people. Raises: ServiceFailed."""


class SessionHandle(msgspec.Struct, frozen=True):
    """A body, in words that can be stored: which strategy made it, and what that strategy calls it."""

    strategy: str
    body: str


@dataclass(frozen=True)
class Body:
    """What a strategy says of one body. `state`: `pending`, `running`, `stopping`, `stopped`, `shutting-down`, `terminated`."""

    handle: SessionHandle
    state: str
    launch_id: str = ""
    """Whose it is; empty where nobody said."""
    kind: str = ""
    """Instance type."""
    pool: str = ""
    """What gave it (`circuits.pool_name`); empty where nobody said."""
    market: str = ""
    launched_at: float = 0.0
    expires_at: float | None = None


@dataclass(frozen=True)
class Started:
    """What came of a launch: bodies, perhaps fewer than wanted, and the reasons for those that are missing."""

    bodies: tuple[Body, ...]
    reasons: tuple[str, ...] = ()
    """`code: message` each; the code decides what is tried next."""
    refused: tuple[str, ...] = ()
    """The pools that had nothing."""


@dataclass(frozen=True)
class Site:
    """Where bodies can be made: launch template and version per architecture, and a subnet of each zone."""

    templates: Mapping[str, tuple[str, str]]
    subnets: Mapping[str, str]


class Compute(Protocol):
    """The strategy that makes and ends bodies."""

    @property
    def name(self) -> str:
        """As its handles call it."""

    def site(self) -> Site:
        """What a request may name. Raises: ServiceFailed."""

    def start_sessions(self, request: str, *, sent_before: bool) -> Started:
        """Send the stored request; a replay gives the same bodies. `sent_before`: an answer may have been lost.

        No capacity is an answer without bodies; an outage raises: ServiceFailed, Unanswered.
        """

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, Body]:
        """Those it knows. Raises: ServiceFailed."""

    def look_up(self, request: str) -> tuple[Body, ...]:
        """What earlier sendings of a request made, as far as it is to be seen by now. Raises: ServiceFailed."""

    def stop_session(self, handle: SessionHandle) -> bool:
        """Ask; False: it was gone already, which is success. Raises: Throttled: try later; ServiceFailed: denied."""

    def list_sessions(self) -> Iterator[Body]:
        """Every body of this stack that is not gone, whoever made it. Raises: ServiceFailed."""

    def last_words(self, handle: SessionHandle) -> str:
        """The end of what the body printed, as far as anybody kept it; empty: nothing. Raises: ServiceFailed."""


@dataclass(frozen=True)
class Minted:
    """A registered runner and its single-use credential."""

    runner_id: int
    blob: Secret


@dataclass(frozen=True)
class Scope:
    """Where a runner belongs."""

    installation_id: str
    owner: str
    repo: str


@dataclass(frozen=True)
class Registered:
    """A runner, as GitHub lists it."""

    runner_id: int
    name: str
    online: bool
    busy: bool


@dataclass(frozen=True)
class Run:
    """A workflow run. `over`: whether every job of its latest attempt is; `fork`: whether its code comes from one."""

    over: bool
    attempt: int
    fork: bool = False
    public: bool = False


@dataclass(frozen=True)
class Allowance:
    """How many more there may be now; `left` None: nobody knows. `why`: what keeps it from being more."""

    left: int | None = None
    why: str = "GitHub's limit of registrations"


@dataclass(frozen=True)
class Ended:
    """A job of a run's latest attempt that is over. `conclusion` is GitHub's word."""

    job_id: str
    name: str
    conclusion: str


class GitHub(Protocol):
    """The GitHub App's view of runners."""

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """A JIT runner of this name; None if the name is taken. Raises: ServiceFailed."""

    def registrations(self, scope: Scope) -> Allowance:
        """How many runners may be registered now, as far as GitHub tells. Asks it at most for what costs nothing."""

    def find(self, scope: Scope, name: str) -> int | None:
        """The id of the runner of this name. Raises: ServiceFailed."""

    def remove(self, scope: Scope, runner_id: int) -> bool:
        """Whether it is gone now; False while it runs a job. Raises: ServiceFailed."""

    def registered(self, scope: Scope) -> Iterator[Registered]:
        """All of the scope. Raises: ServiceFailed."""

    def job(self, scope: Scope, job_id: str) -> JobEvent | None:
        """As a delivery would tell it now; None: GitHub does not know it. Raises: ServiceFailed."""

    def jobs_of(self, scope: Scope, run_id: str) -> Iterator[JobEvent]:
        """Those of a run's latest attempt, as a delivery would tell them; none, if GitHub does not know it.

        Raises: ServiceFailed.
        """

    def run(self, scope: Scope, run_id: str) -> Run | None:
        """None: GitHub does not know it. Raises: ServiceFailed."""

    def ended_badly(self, scope: Scope, run_id: str) -> list[Ended]:
        """The jobs of the latest attempt that ended neither well nor on purpose. Raises: ServiceFailed."""

    def waiting_jobs(self, scope: Scope) -> Iterator[JobEvent]:
        """Jobs that are queued, as a delivery would tell them; a few calls for each run that is not over.

        Raises: ServiceFailed.
        """

    def failed_deliveries(self, since: float) -> list[str]:
        """Ids of deliveries to this App since then of which no try was answered well, newest first. Raises: ServiceFailed."""

    def redeliver(self, delivery_id: str) -> None:
        """Have it sent again. Raises: ServiceFailed."""

    def note(self, scope: Scope, head_sha: str, title: str, text: str) -> bool:
        """A note on the commit's page, where whoever waits for a job looks; False: the App may not. Raises: ServiceFailed."""

    def rerun(self, scope: Scope, run_id: str, job_id: str = "") -> bool:
        """Run one job again, or all failed ones; False: GitHub does not allow it (now). Raises: ServiceFailed."""


class Configurations(Protocol):
    """Where the configurations of this stack's machines are laid down, each for its own machine's eyes only."""

    def put(self, instance_id: str, value: str) -> bool:
        """Lay it down, or find exactly this there (the answer to an earlier try was lost); False: another one is there.

        Raises: ServiceFailed.
        """

    def replace(self, instance_id: str, value: str) -> bool:
        """Have this there instead of another; False: the other one is deleted, and it may be laid down in a while.

        Raises: ServiceFailed.
        """

    def exists(self, instance_id: str) -> bool:
        """Whether it is there, without reading it. Raises: ServiceFailed."""

    def delete(self, instance_id: str) -> None:
        """Gone already is success. Raises: ServiceFailed."""

    def instances(self) -> Iterator[str]:
        """Whose are there, of this stack's. Raises: ServiceFailed."""


@dataclass(frozen=True)
class Received:
    """One message; `receipt` deletes it."""

    body: str
    receipt: str
    sender: str = ""
    """SQS's own word for who sent it (`AROA…:i-…`); empty where the queue does not say."""
    waited_s: float = 0.0
    """How long it lay there before this; 0: the queue does not say."""


class Queue(Protocol):
    """One SQS queue."""

    def send(self, body: str, group: str, deduplication: str) -> None:
        """Durable on return. Raises: ServiceFailed."""

    def receive(self, wait_s: int) -> list[Received]:
        """Up to ten. Raises: ServiceFailed."""

    def delete(self, receipt: str) -> None:
        """Done with it. Raises: ServiceFailed."""

    def depth(self) -> int:
        """How many messages wait, about. Raises: ServiceFailed."""

    def age_s(self) -> float:
        """How long the longest-lying message had waited of those received here since this was asked last; 0: none was."""
