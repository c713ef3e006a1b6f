"""The twin of the compute port: a service in memory and a strategy on it, for payloads that travel in the call or are fetched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from orchestrator.readiness import Check, Fault
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources

FULL = "the service is full"


@dataclass
class MemoryInstance:
    """One instance."""

    stack: str
    launch: str
    expires_at: float
    payload: str = ""
    state: InstanceState = InstanceState.RUNNING


@dataclass
class MemoryService:
    """A service that starts instances, each request once."""

    instances: dict[str, MemoryInstance] = field(default_factory=dict)
    answers: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    """Token to the request and what it gave: session to instance id."""
    is_full: bool = False
    is_broken: bool = False

    def look(self) -> Iterator[Fault]:
        """Whether it is in order. Raises: ServiceFailed."""
        if self.is_broken:
            raise ServiceFailed("memory:Describe", "OutOfOrder")
        return iter(())

    def start(self, request: str, payloads: Mapping[str, str]) -> dict[str, str]:
        """Raises: ServiceFailed: out of order, or the token was used for another request."""
        if self.is_broken:
            raise ServiceFailed("memory:Start", "OutOfOrder")
        told = json.loads(request)
        known, given = self.answers.get(told["token"], (request, None))
        if known != request:
            raise ServiceFailed("memory:Start", "TokenReused")
        if given is None:
            given = {
                session: f"i-memory{len(self.instances) + n}" for n, session in enumerate(told["sessions"]) if not self.is_full
            }
            for session, identity in given.items():
                one = MemoryInstance(told["stack"], told["launch"], told["expires_at"], payloads.get(session, ""))
                self.instances[identity] = one
            self.answers[told["token"]] = (request, given)
        return given


class MemoryCompute:
    """A strategy (compute/port.py) on a service in memory, of either payload."""

    def __init__(self, service: MemoryService, payload: Payload, *, name: str, stack: str = "tests") -> None:
        self._service, self._stack, self.name = service, stack, name
        self.traits = Traits(payload=payload, architectures=("amd64",), interruptible=False, names_sender=False)

    def objection(self, request: MachineRequest) -> str:
        """It serves every request."""
        return ""

    def obstacle(self, request: MachineRequest) -> str:
        """Nothing stands in the way."""
        return ""

    def at_most(self, request: MachineRequest) -> Resources:
        """As large as was asked for."""
        return Resources(1, float(request.cpu_min), 0.01)

    def image(self, request: MachineRequest) -> str:
        """Its instances are all the same."""
        return self.name

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """The plan of a launch, of one step."""
        if after is not None:
            return None
        told = {"token": wanted.launch_id, "launch": wanted.launch_id, "sessions": wanted.sessions, "stack": self._stack}
        return Plan(0, json.dumps({**told, "expires_at": wanted.expires_at}))

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """The same request gives the same instances."""
        return self._answer(self._service.start(request, payloads))

    def look_up(self, request: str) -> Started:
        """What the request gave, if it came."""
        _, given = self._service.answers.get(json.loads(request)["token"], ("", {}))
        return self._answer(given) if given else Started(instances=())

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """Those that the service has."""
        mine = [handle for handle in handles if handle.strategy == self.name and handle.instance in self._service.instances]
        return {handle: self._seen(handle.instance) for handle in mine}

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """Those of this stack that are not gone."""
        for identity, one in self._service.instances.items():
            if one.stack == self._stack and one.state is InstanceState.RUNNING:
                yield self._seen(identity)

    def stop_session(self, handle: SessionHandle) -> bool:
        """Terminate the instance of a session."""
        one = self._service.instances.get(handle.instance)
        if one is None or one.state is not InstanceState.RUNNING:
            return False
        one.state = InstanceState.TERMINATED
        return True

    def console_tail(self, handle: SessionHandle) -> str:
        """Its instances print nothing."""
        return ""

    def interrupted(self, placement: str) -> None:
        """Nobody takes its instances back."""

    def classify(self, error: ServiceFailed) -> Failure:
        """A used token is a fault of ours; a service that is out of order may be mended."""
        kind = FailureKind.REFUSED if error.code == "TokenReused" else FailureKind.THROTTLED
        return Failure(kind, f"the service says {error.code}", "look at the service")

    def checks(self) -> Sequence[Check]:
        """Its service is there, or out of order."""
        return (Check(name=f"{self.name}-service", look=self._service.look, needs="nothing"),)

    def maintain(self) -> None:
        """There is nothing to renew."""

    def _answer(self, given: Mapping[str, str]) -> Started:
        missing = None if given else FailureKind.NO_CAPACITY
        assigned = given if self.traits.payload is Payload.IN_CALL else {}
        reasons = () if given else (f"Full: {FULL}",)
        return Started(
            instances=tuple(map(self._seen, given.values())), reasons=reasons, failure=missing, why="" if given else FULL,
            assigned=assigned,
        )  # fmt: skip

    def _seen(self, identity: str) -> ComputeInstance:
        one = self._service.instances[identity]
        handle = SessionHandle(self.name, identity)
        return ComputeInstance(handle=handle, state=one.state, launch_id=one.launch, expires_at=one.expires_at)
