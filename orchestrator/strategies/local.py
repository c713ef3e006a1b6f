"""Bodies on this machine, each an agent in a directory and a session of its own: to try things out, and for jobs one trusts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from orchestrator.errors import ServiceFailed
from orchestrator.services import Body, SessionHandle, Site, Started

NAME = "local"
LIVING = ("pending", "running")
CONSOLE = 4000
"""Characters kept of a console."""


class Bodies(Protocol):
    """The processes of this machine, as far as this strategy needs them."""

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else starts anything meanwhile. Raises: ServiceFailed."""

    def decided(self, token: str, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was decided for this token by whoever came first."""

    def recalled(self, token: str) -> dict[str, Any] | None:
        """None: nothing was decided for this token yet."""

    def begin(self, identity: str, tags: Mapping[str, str]) -> None:
        """Have it live, if it has not lived yet."""

    def stop(self, identity: str) -> None:
        """Have it end."""

    def known(self) -> list[str]:
        """All there ever were."""

    def tags(self, identity: str) -> dict[str, str]:
        """Empty: there is no such body."""

    def began_at(self, identity: str) -> float:
        """Epoch seconds."""

    def console(self, identity: str) -> str:
        """The end of what it printed."""

    def state(self, identity: str) -> str:
        """As of a Body (ports)."""


class LocalStrategy:
    """Compute (services)."""

    name = NAME

    def __init__(self, bodies: Bodies, *, architecture: str, stack_id: str, slots: int) -> None:
        """`slots`: bodies at one time."""
        self._bodies, self._architecture, self._stack_id, self._slots = bodies, architecture, stack_id, slots

    def site(self) -> Site:
        """This machine, of its own architecture."""
        return Site({self._architecture: (NAME, "1")}, {NAME: NAME})

    def start_sessions(self, request: str, *, sent_before: bool) -> Started:
        """What was given the first time is given again. No slot left is no capacity; a disk that fails is an outage."""
        token = json.loads(request)["ClientToken"]
        with self._bodies.alone():
            told = self._bodies.decided(token, lambda: self._decision(token, request))
            for identity in told["bodies"]:
                self._bodies.begin(identity, told["tags"])
        if told["request"] != request:
            raise ServiceFailed("local:start", "IdempotentParameterMismatch", token)
        return Started(tuple(self._seen(identity) for identity in told["bodies"]), tuple(told["reasons"]))

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, Body]:
        """Those of whom there is anything."""
        known = [handle for handle in handles if handle.strategy == NAME and self._bodies.tags(handle.body)]
        return {handle: self._seen(handle.body) for handle in known}

    def look_up(self, request: str) -> tuple[Body, ...]:
        """What was decided the first time."""
        told = self._bodies.recalled(json.loads(request)["ClientToken"])
        return tuple(self._seen(identity) for identity in told["bodies"]) if told is not None else ()

    def stop_session(self, handle: SessionHandle) -> bool:
        """Gone already is success."""
        if not self._bodies.tags(handle.body) or self._bodies.state(handle.body) not in LIVING:
            return False
        self._bodies.stop(handle.body)
        return True

    def list_sessions(self) -> Iterator[Body]:
        """Those of this stack that are not gone, whoever began them."""
        for identity in self._bodies.known():
            if self._bodies.tags(identity).get("runs-fleet:stack") == self._stack_id and self._bodies.state(identity) in LIVING:
                yield self._seen(identity)

    def last_words(self, handle: SessionHandle) -> str:
        """Of a body of any state."""
        return "".join(c for c in self._bodies.console(handle.body) if c.isprintable() or c == "\n")[-CONSOLE:]

    def _decision(self, token: str, request: str) -> dict[str, Any]:
        """How many are given, who they are, and what they are told to be."""
        asked = json.loads(request)
        wanted = int(asked["TargetCapacitySpecification"]["TotalTargetCapacity"])
        given = max(0, min(wanted, self._slots - self._occupied()))
        reasons = [f"InsufficientSlots: this machine has {self._slots}"] if given < wanted else []
        tags = {tag["Key"]: tag["Value"] for tag in asked["TagSpecifications"][0]["Tags"]}
        bodies = [f"i-{hashlib.sha256(f'{token}/{n}'.encode()).hexdigest()[:17]}" for n in range(given)]
        return {"request": request, "bodies": bodies, "reasons": reasons, "tags": tags}

    def _occupied(self) -> int:
        """Also by those that are on their way out: their processes may still run."""
        states = map(self._bodies.state, self._bodies.known())
        return sum(state in (*LIVING, "shutting-down") for state in states)

    def _seen(self, identity: str) -> Body:
        tags = self._bodies.tags(identity)
        expires = tags.get("runs-fleet:expires-at", "")
        return Body(
            SessionHandle(NAME, identity), self._bodies.state(identity), tags.get("runs-fleet:launch-id", ""), NAME, market=NAME,
            launched_at=self._bodies.began_at(identity), expires_at=float(expires) if expires.isdigit() else None,
        )  # fmt: skip
