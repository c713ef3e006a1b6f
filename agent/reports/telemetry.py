"""The messages to the orchestrator: at least once, in order, and never in the way of the work.

One thread decides: it composes every message. Background tasks only look something up (`gather`) and send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.calls.error_codes import Meaning, meaning_of
from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.contract.messages import Message, write_message
from agent.errors import UNREACHABLE, QueueUnusable, ServiceError, caught
from agent.mailbox import Mailbox
from agent.ports import Clock, Journal, Queue

NOTICE_RETRIES = RetryPolicy(within_s=60.0, first_s=1.0, longest_s=10.0)
FINAL_RETRIES = RetryPolicy(within_s=14.0, first_s=0.5, longest_s=4.0)
FINAL_WITHIN_S = 18.0
"""Seconds for the final word, a hung last try included."""
IN_FLIGHT_S = 3.0
"""Seconds a notice that is just being sent may still take before the final word goes out."""
CHECK_RETRIES = RetryPolicy(within_s=10.0, first_s=0.25, longest_s=2.0)
CHECK_WITHIN_S = 15.0
"""Seconds for the queue's first answer, a hung last try included."""
CHECKING = "queue check"
_REMEDY = "check RUNS_FLEET_TERMINATION_QUEUE_URL, the network, the proxy and the authorities it needs, and the clock"
GATHERING, SENDING = "notice lookup", "notice"
"""The background tasks of a notice."""


@dataclass(frozen=True)
class Envelope:
    """The fields that every message of one life repeats."""

    instance_id: str
    job_id: str = ""
    session_id: str = ""
    attempt: int = 0
    traceparent: str = ""


@dataclass(frozen=True)
class _Notice:
    """One message that waits for its turn."""

    kind: str
    compose: Callable[[Any], Message]
    gather: Callable[[], Any] | None


@dataclass(kw_only=True)
class Telemetry:
    """Sends messages one after the other. A notice that still waits when the life ends is dropped, and the log says so."""

    queue: Callable[[], Queue]
    probe: Callable[[], None]
    """Asks whether the queue can be reached. Raises: ServiceError."""
    mailbox: Mailbox
    clock: Clock
    journal: Journal
    _waiting: deque[_Notice] = field(default_factory=deque)
    _current: _Notice | None = None
    _task: str = ""
    """The background task that the current notice waits for."""

    def begin_check(self) -> None:
        """Find out in the background whether messages can be delivered."""
        self.mailbox.begin(CHECKING, lambda: retry(self.probe, is_passing, CHECK_RETRIES, self.clock))

    def finish_check(self) -> None:
        """Wait for the result of `begin_check`; a service that is merely overloaded is no reason to lose the job.

        Raises: QueueUnusable where nobody could be told how the job ended; StoppedEarly.
        """
        end = self.mailbox.ended_by(CHECKING, self.clock.monotonic_s() + CHECK_WITHIN_S)
        if end is None:
            raise QueueUnusable(f"the termination queue did not answer within {CHECK_WITHIN_S:g} s; {_REMEDY}")
        if end.error is None or (is_passing(end.error) and not _is_of_our_side(end.error)):
            return
        raise QueueUnusable(f"the termination queue cannot be used: {end.error}. {_REMEDY}") from end.error

    def notify(self, kind: str, compose: Callable[[Any], Message], gather: Callable[[], Any] | None = None) -> None:
        """Send a notice when its turn comes.

        `gather` runs in a background task and only looks; `compose` then gets its result, on the deciding thread.
        """
        self._waiting.append(_Notice(kind, compose, gather))
        self.pump()

    def pump(self) -> None:
        """Go on where a background task of the current notice has ended; call it whenever something arrived."""
        while self._current is not None or self._waiting:
            if self._current is None:
                self._begin(self._waiting.popleft())
                continue
            end = self.mailbox.ended(self._task)
            if end is None:
                return
            if self._task == SENDING or end.error is not None:
                self._over(end.error)
            else:
                self._send_notice(self._current, end.value)

    def final_word(self, word: Message) -> None:
        """Send the last message; returns once the queue has it.

        Raises: ServiceError, Overdue or whatever else kept it from being sent.
        """
        self._finish_notices()
        self.mailbox.bounded("final word", lambda: self._send(word, FINAL_RETRIES), FINAL_WITHIN_S)

    def _begin(self, notice: _Notice) -> None:
        self._current = notice
        if notice.gather is None:
            self._send_notice(notice, None)
            return
        self._task = GATHERING
        self.mailbox.begin(GATHERING, notice.gather)

    def _send_notice(self, notice: _Notice, gathered: Any) -> None:
        composed = caught(lambda: notice.compose(gathered))
        if composed.error is not None:
            self._over(composed.error)
            return
        message = composed.value
        self._task = SENDING
        self.mailbox.begin(SENDING, lambda: self._send(message, NOTICE_RETRIES))

    def _over(self, error: BaseException | None) -> None:
        assert self._current is not None, "only a current notice can be over"
        outcome = "sent" if error is None else f"failed: {error}"
        self.journal.event("message.outcome", kind=self._current.kind, outcome=outcome)
        self._current = None

    def _finish_notices(self) -> None:
        """Give what is under way a moment, and drop the rest."""
        until_s = self.clock.monotonic_s() + IN_FLIGHT_S
        while self._current is not None:
            self.pump()
            if self._current is not None and self.mailbox.next(until_s) is None:
                break
        left = [*([self._current] if self._current is not None else []), *self._waiting]
        if left:
            self.journal.event("message.dropped", kinds=",".join(notice.kind for notice in left))
        self._waiting.clear()

    def _send(self, message: Message, policy: RetryPolicy) -> None:
        body = self.journal.cleaned(write_message(message))
        queue = self.queue()
        retry(lambda: queue.send(body), is_passing, policy, self.clock)


def _is_of_our_side(error: BaseException) -> bool:
    """Whether what keeps us from the queue is this machine's: its network, its clock, its credentials."""
    ours = (Meaning.CLOCK, Meaning.NO_CREDENTIALS)
    return isinstance(error, ServiceError) and (error.code == UNREACHABLE or meaning_of(error.code) in ours)
