"""The clock, the log, and the threads that turn the wheels."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from orchestrator.errors import Conflict, NoCapacity, OrchestratorError
from orchestrator.ports import Journal, Queue, Received

AFTER_FAILURE_S = 1.0


class SystemClock:
    """Clock (ports)."""

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()


class TextJournal:
    """Journal (ports) of lines on standard error."""

    def event(self, name: str, **fields: object) -> None:
        """Time, name, fields."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        sys.stderr.write(" ".join([f"{stamp}Z {name}", *(f"{key}={_shown(value)}" for key, value in fields.items())]) + "\n")
        sys.stderr.flush()


def _shown(value: object) -> str:
    """Whatever others chose stays on one line."""
    text = str(value)
    return text if text.isprintable() else repr(text)


class Wheels:
    """Two consumers and a tick, one turn at a time: a turn reads, decides and commits without another between."""

    def __init__(self, journal: Journal, poll_s: int) -> None:
        self._journal, self._poll_s = journal, poll_s
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def consume(self, name: str, queue: Queue, handle: Callable[[Received], None]) -> None:
        """Handle each message, then delete it; what fails in passing is left to come again."""

        def turn() -> float:
            for message in queue.receive(self._poll_s):
                try:
                    with self._turn:
                        handle(message)
                except (Conflict, NoCapacity, OrchestratorError) as error:
                    self._journal.event("message.postponed", queue=name, error=str(error))
                    continue
                queue.delete(message.receipt)
            return 0.0

        self._spin(name, turn)

    def every(self, name: str, seconds: float, task: Callable[[], object]) -> None:
        """Do `task` at once and then every so often."""

        def turn() -> float:
            with self._turn:
                task()
            return seconds

        self._spin(name, turn)

    def stop(self, within_s: float) -> None:
        """Let the turns that run come to their end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(within_s)

    def _spin(self, name: str, turn: Callable[[], float]) -> None:
        def run() -> None:
            while not self._stopping.is_set():
                try:
                    pause_s = turn()
                except Exception as error:  # noqa: BLE001 - a net: one bad turn must not stop the wheel
                    self._journal.event("turn.failed", wheel=name, error=f"{type(error).__name__}: {error}")
                    pause_s = AFTER_FAILURE_S
                self._stopping.wait(pause_s)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
