"""What the orchestrator is told: at least once, in order, and never in the way of the job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.contract.messages import Message, write_message
from agent.desk import Desk
from agent.ports import Clock, Journal, Queue
from agent.retries import Patience, is_passing, persist

NOTICE_PATIENCE = Patience(within_s=60.0, first_s=1.0, longest_s=10.0)
FINAL_PATIENCE = Patience(within_s=14.0, first_s=0.5, longest_s=4.0)
FINAL_WITHIN_S = 18.0
"""Seconds for the final word, a hung last try included."""
IN_FLIGHT_S = 3.0
"""Seconds a notice that is just being sent may still take before the final word goes out."""


@dataclass(frozen=True)
class Envelope:
    """What every message of this life repeats."""

    instance_id: str
    job_id: str = ""
    session_id: str = ""
    attempt: int = 0
    traceparent: str = ""


@dataclass
class Telemetry:
    """Sends messages one after the other; a notice that is still waiting when the life ends is dropped, and said so."""

    queue: Callable[[], Queue]
    desk: Desk
    clock: Clock
    journal: Journal
    _waiting: deque[tuple[Callable[[], Message], str]] = field(default_factory=deque)
    _sending: str | None = None

    def notify(self, compose: Callable[[], Message], kind: str) -> None:
        """Send a notice when its turn comes; `compose` runs in the background, just before."""
        self._waiting.append((compose, kind))
        self.pump()

    def pump(self) -> None:
        """Go on if the last notice is through; call whenever an errand ended."""
        if self._sending is not None:
            end = self.desk.ended("notice")
            if end is None:
                return
            outcome = "sent" if end.error is None else f"failed: {end.error}"
            self.journal.event("notice.ended", kind=self._sending, outcome=outcome)
            self._sending = None
        if self._waiting:
            compose, self._sending = self._waiting.popleft()
            self.desk.begin("notice", lambda: self._send(compose(), NOTICE_PATIENCE))

    def final_word(self, word: Message) -> None:
        """Send the last message; returns once the queue has it.

        Raises: ServiceError, Overdue or whatever else kept it from being sent.
        """
        self._settle()
        self.desk.bounded("final word", lambda: self._send(word, FINAL_PATIENCE), FINAL_WITHIN_S)

    def _settle(self) -> None:
        until_s = self.clock.monotonic_s() + IN_FLIGHT_S
        while self._sending is not None:
            self.pump()
            if self._sending is not None and self.desk.next(until_s) is None:
                break
        left = [self._sending, *(kind for _, kind in self._waiting)]
        if unsent := [kind for kind in left if kind]:
            self.journal.event("notice.dropped", kinds=",".join(unsent))
        self._waiting.clear()

    def _send(self, message: Message, patience: Patience) -> None:
        body = self.journal.cleaned(write_message(message))
        queue = self.queue()
        persist(lambda: queue.send(body), is_passing, patience, self.clock)
