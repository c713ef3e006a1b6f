"""The strategy `local`: agents as processes of this machine, each in a directory and a session of its own.

To try things out, and for jobs that are trusted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

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
from orchestrator.errors import FailureKind, ServiceFailed, Unanswered
from orchestrator.readiness import Check, Fault
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources

NAME = "local"
LIVING = frozenset({InstanceState.PENDING, InstanceState.RUNNING})
OCCUPYING = LIVING | {InstanceState.SHUTTING_DOWN}
"""A slot is taken also by an agent on its way out: its processes may still run."""
CONSOLE_CHARACTERS = 4000
"""Characters kept of a console."""
FULL = "every slot of this machine is taken"


class LocalInstances(Protocol):
    """The agents of this machine and their directories."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else starts anything meanwhile. Raises: ServiceFailed."""

    def decided(self, token: str, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was decided for this token by whoever came first."""

    def recalled(self, token: str) -> dict[str, Any] | None:
        """What was decided for this token; None: nothing yet."""

    def begin(self, identity: str, tags: Mapping[str, str]) -> None:
        """Start an agent, if it has not been started yet."""

    def stop(self, identity: str) -> None:
        """Have the agent end, and what it runs."""

    def known(self) -> list[str]:
        """The ids of all agents there ever were."""

    def tags(self, identity: str) -> dict[str, str]:
        """An agent's tags; empty: there is no such agent."""

    def began_at(self, identity: str) -> float:
        """When an agent was started, epoch seconds."""

    def console(self, identity: str) -> str:
        """The end of what an agent printed."""

    def look(self) -> Iterator[Fault]:
        """What keeps agents from being started here."""

    def state(self, identity: str) -> InstanceState:
        """Where the agent is in its life."""


class LocalStrategy:
    """The strategy `local` (compute/port.py)."""

    name = NAME

    def __init__(self, instances: LocalInstances, *, architecture: str, stack_id: str, slots: int) -> None:
        """`slots`: agents at one time."""
        self._instances, self._stack_id, self._slots = instances, stack_id, slots
        self.traits = Traits(
            payload=Payload.FETCHED, architectures=(architecture,), interruptible=False, is_priced=False, names_sender=False
        )

    def objection(self, request: MachineRequest) -> str:
        """Always empty: the machine's size is fixed, whatever the request asks for."""
        return ""

    def obstacle(self, request: MachineRequest) -> str:
        """Always empty: a full machine is reported by `start_sessions`."""
        return ""

    def at_most(self, request: MachineRequest) -> Resources:
        """What was asked for: nobody measures it here."""
        return Resources(1, float(request.cpu_min))

    def image(self, request: MachineRequest) -> str:
        """This machine, always the same."""
        return NAME

    def plan(self, wanted: Wanted, *, after: int | None = None, failure: FailureKind | None = None) -> Plan | None:
        """One step: where this machine is full, nothing else can be asked for."""
        if after is not None:
            return None
        tags = {
            "runs-fleet:managed": "true", "runs-fleet:stack": self._stack_id, "runs-fleet:launch-id": wanted.launch_id,
            "runs-fleet:spec": wanted.request.spec(), "runs-fleet:expires-at": str(int(wanted.expires_at)),
        }  # fmt: skip
        request = {"token": f"{wanted.launch_id}-0", "instances": len(wanted.sessions), "tags": tags}
        return Plan(0, json.dumps(request, sort_keys=True), NAME)

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """What was given the first time is given again. No slot left is no capacity; a disk that fails is an outage."""
        token = json.loads(request)["token"]
        with self._instances.exclusive():
            told = self._instances.decided(token, lambda: self._decision(token, request))
            for identity in told["instances"]:
                self._instances.begin(identity, told["tags"])
        if told["request"] != request:
            raise ServiceFailed("local:start", "IdempotentParameterMismatch", token)
        return self._started(told)

    def look_up(self, request: str) -> Started:
        """What was decided the first time."""
        told = self._instances.recalled(json.loads(request)["token"])
        return self._started(told) if told is not None else Started(instances=())

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, ComputeInstance]:
        """The agents that left a directory."""
        known = [handle for handle in handles if handle.strategy == NAME and self._instances.tags(handle.instance)]
        return {handle: self._seen(handle.instance) for handle in known}

    def list_sessions(self) -> Iterator[ComputeInstance]:
        """The agents of this stack that are not gone, whoever started them."""
        for identity in self._instances.known():
            mine = self._instances.tags(identity).get("runs-fleet:stack") == self._stack_id
            if mine and self._instances.state(identity) in LIVING:
                yield self._seen(identity)

    def stop_session(self, handle: SessionHandle) -> bool:
        """SIGTERM, and SIGKILL some minutes later; gone already is success."""
        if not self._instances.tags(handle.instance) or self._instances.state(handle.instance) not in LIVING:
            return False
        self._instances.stop(handle.instance)
        return True

    def console_tail(self, handle: SessionHandle) -> str:
        """The console of an agent of any state."""
        printed = self._instances.console(handle.instance)
        return "".join(c for c in printed if c.isprintable() or c == "\n")[-CONSOLE_CHARACTERS:]

    def interrupted(self, placement: str) -> None:
        """Nothing to learn: this machine takes nothing back."""

    def classify(self, error: ServiceFailed) -> Failure:
        """A token that was used for another request is a fault of ours; everything else may pass."""
        if isinstance(error, Unanswered) or error.code != "IdempotentParameterMismatch":
            return Failure(
                FailureKind.THROTTLED,
                f"this machine did not start it ({error.code})",
                "look at this machine's disk and at RUNS_FLEET_LOCAL_DIR",
            )
        return Failure(
            FailureKind.REFUSED,
            "this machine refuses what is asked",
            "a token was used for another request: this is a fault of runs-fleet",
        )

    def checks(self) -> Sequence[Check]:
        """The directory, the agent's command, the runner to copy."""
        return (Check(name="local-agents", look=self._instances.look, needs="to read and write the directory"),)

    def maintain(self) -> None:
        """There is nothing to renew."""

    def _decision(self, token: str, request: str) -> dict[str, Any]:
        """How many are given, their ids, and the tags they carry."""
        asked = json.loads(request)
        occupied = sum(self._instances.state(identity) in OCCUPYING for identity in self._instances.known())
        given = max(0, min(int(asked["instances"]), self._slots - occupied))
        reasons = [f"InsufficientSlots: this machine has {self._slots}"] if given < asked["instances"] else []
        instances = [f"i-{hashlib.sha256(f'{token}/{n}'.encode()).hexdigest()[:17]}" for n in range(given)]
        return {"request": request, "instances": instances, "reasons": reasons, "tags": asked["tags"]}

    def _started(self, told: Mapping[str, Any]) -> Started:
        reasons = tuple(told["reasons"])
        return Started(
            instances=tuple(self._seen(identity) for identity in told["instances"]), reasons=reasons,
            failure=FailureKind.NO_CAPACITY if reasons else None, why=FULL if reasons else "",
        )  # fmt: skip

    def _seen(self, identity: str) -> ComputeInstance:
        tags = self._instances.tags(identity)
        expires = tags.get("runs-fleet:expires-at", "")
        return ComputeInstance(
            handle=SessionHandle(NAME, identity), state=self._instances.state(identity),
            launch_id=tags.get("runs-fleet:launch-id", ""), market=NAME, launched_at=self._instances.began_at(identity),
            expires_at=float(expires) if expires.isdigit() else None,
        )  # fmt: skip
