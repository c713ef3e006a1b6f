"""Two strategies made for tests, on a service of their own: what adding a strategy takes, and nothing more.

In `toy-call` a session's payload travels in the call that starts its instance, as ECS will have it; in `toy-fetch` the instance
fetches it under its own id, as on EC2.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.compute.port import (
    ComputeInstance,
    Failure,
    InstanceState,
    Payload,
    Plan,
    SessionHandle,
    Started,
    Traits,
    Wanted,
)
from orchestrator.errors import FailureKind, ServiceFailed
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources
from tests.orchestrator.conformance import Subject, Surroundings

FULL = "the toy box is empty"


@dataclass
class Toy:
    """One instance."""

    stack: str
    launch: str
    expires_at: float
    payload: str = ""
    state: InstanceState = InstanceState.RUNNING


@dataclass
class ToyBox:
    """The service: it starts toys, each request once."""

    toys: dict[str, Toy] = field(default_factory=dict)
    answers: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    """Token to the request and what it gave: session to instance id."""
    empty: bool = False
    broken: bool = False

    def start(self, request: str, payloads: Mapping[str, str]) -> dict[str, str]:
        """Raises: ServiceFailed: out of order, or the token was used for another request."""
        if self.broken:
            raise ServiceFailed("toys:Start", "BoxBroken")
        told = json.loads(request)
        known, given = self.answers.get(told["token"], (request, None))
        if known != request:
            raise ServiceFailed("toys:Start", "TokenReused")
        if given is None:
            given = {session: f"i-toy{len(self.toys) + n}" for n, session in enumerate(told["sessions"]) if not self.empty}
            for session, identity in given.items():
                toy = Toy(told["stack"], told["launch"], told["expires_at"], payloads.get(session, ""))
                self.toys[identity] = toy
            self.answers[told["token"]] = (request, given)
        return given


class ToyStrategy:
    """Compute (`compute/port.py`)."""

    def __init__(self, box: ToyBox, payload: Payload, stack: str = "tests") -> None:
        self._box, self._stack = box, stack
        self.name = "toy-call" if payload is Payload.IN_CALL else "toy-fetch"
        self.traits = Traits(payload=payload, architectures=("amd64",), interruptible=False, names_sender=False)

    def objection(self, request: MachineRequest) -> str:
        """Any toy will do."""
        return ""

    def obstacle(self, request: MachineRequest) -> str:
        """Nothing stands in the way."""
        return ""

    def at_most(self, request: MachineRequest) -> Resources:
        """As large as was asked for."""
        return Resources(1, float(request.cpu_min), 0.01)

    def image(self, request: MachineRequest) -> str:
        """All toys are the same."""
        return self.name

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """One step."""
        if after is not None:
            return None
        told = {"token": wanted.launch_id, "launch": wanted.launch_id, "sessions": wanted.sessions, "stack": self._stack}
        return Plan(0, json.dumps({**told, "expires_at": wanted.expires_at}))

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """The same request gives the same toys."""
        return self._answer(self._box.start(request, payloads))

    def look_up(self, request: str) -> Started:
        """What the request gave, if it came."""
        _, given = self._box.answers.get(json.loads(request)["token"], ("", {}))
        return self._answer(given) if given else Started(instances=())

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """Those in the box."""
        mine = [handle for handle in handles if handle.strategy == self.name and handle.instance in self._box.toys]
        return {handle: self._seen(handle.instance) for handle in mine}

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """Those of this stack that are not gone."""
        for identity, toy in self._box.toys.items():
            if toy.stack == self._stack and toy.state is InstanceState.RUNNING:
                yield self._seen(identity)

    def stop_session(self, handle: SessionHandle) -> bool:
        """Put it away."""
        toy = self._box.toys.get(handle.instance)
        if toy is None or toy.state is not InstanceState.RUNNING:
            return False
        toy.state = InstanceState.TERMINATED
        return True

    def console_tail(self, handle: SessionHandle) -> str:
        """Toys print nothing."""
        return ""

    def interrupted(self, placement: str) -> None:
        """Nobody takes toys back."""

    def classify(self, error: ServiceFailed) -> Failure:
        """A used token is a fault of ours; a broken box may be mended."""
        kind = FailureKind.REFUSED if error.code == "TokenReused" else FailureKind.THROTTLED
        return Failure(kind, f"the toy box says {error.code}", "look into the box")

    def maintain(self) -> None:
        """There is nothing to renew."""

    def _answer(self, given: Mapping[str, str]) -> Started:
        missing = None if given else FailureKind.NO_CAPACITY
        assigned = given if self.traits.payload is Payload.IN_CALL else {}
        reasons = () if given else (f"BoxEmpty: {FULL}",)
        return Started(
            instances=tuple(map(self._seen, given.values())), reasons=reasons, failure=missing, why="" if given else FULL,
            assigned=assigned,
        )  # fmt: skip

    def _seen(self, identity: str) -> ComputeInstance:
        toy = self._box.toys[identity]
        handle = SessionHandle(self.name, identity)
        return ComputeInstance(handle=handle, state=toy.state, launch_id=toy.launch, expires_at=toy.expires_at)


@contextlib.contextmanager
def _toys(payload: Payload) -> Iterator[Subject]:
    box = ToyBox()
    toys = ToyStrategy(box, payload)

    @contextlib.contextmanager
    def drought() -> Iterator[ToyStrategy]:
        box.empty = True
        yield toys
        box.empty = False

    @contextlib.contextmanager
    def outage() -> Iterator[ToyStrategy]:
        box.broken = True
        yield toys
        box.broken = False

    yield Subject(compute=toys, neighbour=ToyStrategy(box, payload, "neighbours"), drought=drought, outage=outage)


def called(_: Surroundings) -> contextlib.AbstractContextManager[Subject]:
    """Toys whose payload travels in the call."""
    return _toys(Payload.IN_CALL)


def fetched(_: Surroundings) -> contextlib.AbstractContextManager[Subject]:
    """Toys that fetch it."""
    return _toys(Payload.FETCHED)
