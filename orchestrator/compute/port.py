"""The compute port: the promise that every strategy makes to the fleet.

A strategy receives what is wanted and decides itself what to ask its service for. It plans first: the plan is stored, then
sent, and a replay sends the same bytes. What its service answers it translates into our terms. A new strategy is one module
with a class that keeps this promise, and one line in the table of `orchestrator/strategies.py`; the conformance suite judges
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from orchestrator.errors import FailureKind, ServiceFailed
from orchestrator.readiness import Check
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources


class SessionHandle(msgspec.Struct, frozen=True):
    """A compute instance in words that can be stored: which strategy made it, and what that strategy calls it."""

    strategy: str
    instance: str


class InstanceState(StrEnum):
    """Where a compute instance is, in the words every strategy translates its own into."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Nothing runs there, but it may still cost something."""
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"


GONE = frozenset({InstanceState.TERMINATED, InstanceState.SHUTTING_DOWN})
"""States that cost nothing any more and from which no instance comes back."""
DOWN = frozenset({InstanceState.STOPPING, InstanceState.STOPPED})
"""Nothing runs there, but the instance must still be ended."""


@dataclass(frozen=True, kw_only=True)
class ComputeInstance:
    """What a strategy says of one compute instance."""

    handle: SessionHandle
    state: InstanceState
    launch_id: str = ""
    """The launch that made it; empty where the strategy does not say."""
    placement: str = ""
    """Where it was placed, in the strategy's words; empty where the strategy does not say."""
    market: str = ""
    """What it was asked for as, in the strategy's words."""
    resources: Resources | None = None
    """What it takes; None: the strategy does not know."""
    launched_at: float = 0.0
    """Epoch seconds."""
    expires_at: float | None = None
    """When it is terminated whatever it does, epoch seconds; None: it carries no such mark."""
    ended_at: float | None = None
    """When it went, if it did and the strategy says so; epoch seconds."""
    why_ended: str = ""
    """Why it went, in the service's own words; empty: it lives, or the service does not say."""
    was_taken_back: bool = False
    """Whether the service took it back, by the service's own word."""
    was_refused: bool = False
    """Whether it went because it cannot be run as it was asked for: another one would go the same way."""


class Payload(StrEnum):
    """How a session's configuration reaches its compute instance."""

    FETCHED = "fetched"
    """The instance looks for it under its own id, which is known only after the start."""
    IN_CALL = "in call"
    """It travels in the call that starts the instance, so the session is registered before."""


@dataclass(frozen=True)
class StartRate:
    """How many instances the service lets be started: so many at once, then so many a second."""

    burst: float
    per_second: float
    words: str
    """What limits it, for people."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is true of every compute instance of a strategy, as data."""

    payload: Payload
    architectures: tuple[str, ...]
    interruptible: bool
    """Whether instances may be taken back."""
    runs_runner: bool = True
    """Whether GitHub's runner can work there (it needs a writable disk and processes of its own)."""
    longest_runtime_s: float | None = None
    """After which the service ends an instance; None: never by itself."""
    memory_gib: tuple[float, float] | None = None
    """Least and most memory; None: whatever the request asks for."""
    is_priced: bool = True
    """Whether an instance costs something by the hour."""
    names_sender: bool = True
    """Whether the queue itself says which instance sent a message, so that nobody can speak for another."""
    start_rate: StartRate | None = None
    """None: the service does not limit starts."""
    unseen_s: float = 0.0
    """Seconds in which the service may not know an instance that it has just made."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is wanted of a strategy: so many compute instances of one kind, each for one session."""

    launch_id: str
    request: MachineRequest
    sessions: tuple[str, ...]
    """The ids of the sessions."""
    expires_at: float
    """When the instances are to be terminated whatever they do, epoch seconds."""


@dataclass(frozen=True)
class Plan:
    """One step of a strategy's fallback. It is stored before it is sent."""

    step: int
    """Steps are numbered from 0; each has a token of its own."""
    request: str
    """The exact request in the strategy's own words."""
    market: str = ""
    """What it asks for, in the strategy's words."""
    interruptible: bool = False
    """Whether what it asks for may be taken back."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What came of a request: instances, perhaps fewer than wanted, and what is true of those that are missing."""

    instances: tuple[ComputeInstance, ...]
    reasons: tuple[str, ...] = ()
    """The service's own reasons, `code: message` each."""
    failure: FailureKind | None = None
    """What follows from them for the missing ones; None: nothing is missing, or nobody said why."""
    why: str = ""
    """The same in words for people."""
    assigned: Mapping[str, str] = field(default_factory=dict)
    """Session to instance id where the strategy itself decided it (its payload travels in the call); empty: any may have any."""


@dataclass(frozen=True)
class Failure:
    """An error of the service in our terms."""

    kind: FailureKind
    words: str
    """What it means, for people who wait."""
    hint: str = ""
    """What to do about it, for the log."""


class Compute(Protocol):
    """A strategy: it starts, finds and ends compute instances."""

    @property
    def name(self) -> str:
        """The name in handles, settings and labels."""

    @property
    def traits(self) -> Traits:
        """What is true of all its instances."""

    def objection(self, request: MachineRequest) -> str:
        """Why no instance will ever do for a request as things stand, for people; empty: one will. Makes no call."""

    def obstacle(self, request: MachineRequest) -> str:
        """Why nothing can be started for a request now, though an instance would do; empty: it can. Raises: ServiceFailed."""

    def at_most(self, request: MachineRequest) -> Resources:
        """What one instance for a request takes at most. Makes no call."""

    def image(self, request: MachineRequest) -> str:
        """What instances for a request boot from, so that a new image is recognised. Raises: ServiceFailed."""

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """The next step to ask for: the first (`after` None), or the one that follows step `after` for this failure.

        None: nothing else can be asked for now. Raises: ServiceFailed.
        """

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """Send a stored request; a replay gives the same instances. `sent_before`: an earlier answer may have been lost.

        `payloads`: session to configuration, where it travels in the call. No capacity is an answer without instances; an outage
        raises: ServiceFailed, Unanswered.
        """

    def look_up(self, request: str) -> Started:
        """What earlier sendings of a request made, as far as it is to be seen by now. Raises: ServiceFailed."""

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """The instances it knows, of these. Raises: ServiceFailed."""

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """Every instance of this stack that is not gone, whoever made it. Raises: ServiceFailed."""

    def stop_session(self, handle: SessionHandle) -> bool:
        """End an instance; False: it was gone already, which is success. Raises: Throttled: try later; ServiceFailed: denied."""

    def console_tail(self, handle: SessionHandle) -> str:
        """The end of what the instance printed, as far as it is kept; empty: nothing. Raises: ServiceFailed."""

    def interrupted(self, placement: str) -> None:
        """An instance of this placement was taken back: ask elsewhere for a while. Raises: ServiceFailed."""

    def classify(self, error: ServiceFailed) -> Failure:
        """An error of its service in our terms."""

    def checks(self) -> Sequence[Check]:
        """What must be true outside before it can start instances. Making the list makes no call."""

    def maintain(self) -> None:
        """What is to be done every minute: renew what it knows of its service. Raises: ServiceFailed."""
