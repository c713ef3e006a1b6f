"""What the orchestrator needs of others' services: machines, GitHub, and a place where configurations lie until they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from agent.contract.secret import Secret
from orchestrator.webhook import JobEvent


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
    ended_at: float | None = None
    """When it went, if it did and the strategy says so."""


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


def place_of(scope: Scope) -> str:
    """A repository, as keys name it."""
    return f"{scope.owner}/{scope.repo}".casefold()


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
    conclusion: str = ""
    """Of a run that is over, in GitHub's words."""
    fork: bool = False
    public: bool = False


@dataclass(frozen=True)
class Allowance:
    """How many more there may be now; `left` None: nobody knows. `why`: what keeps it from being more."""

    left: int | None = None
    why: str = "GitHub's limit of registrations"
    on_trial: bool = False
    """The App was not let in there lately: one machine shows whether it is now."""


@dataclass(frozen=True)
class Failed:
    """A delivery that failed. `guid`: of what was to be told; each try to tell it is a delivery of its own."""

    delivery_id: str
    guid: str


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

    def job(self, scope: Scope, job_id: str, *, urgent: bool = True) -> JobEvent | None:
        """As a delivery would tell it now; None: GitHub does not know it. `urgent`: no mere check. Raises: ServiceFailed."""

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

    def failed_deliveries(self, since: float) -> list[Failed]:
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
