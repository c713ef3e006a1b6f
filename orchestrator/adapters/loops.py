"""The threads of a process: consumers of queues, the wake queue's readers, and what the schedule says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from orchestrator.errors import OrchestratorError, failure_of
from orchestrator.ports import Journal, Queue, Received

AFTER_FAILURE_S, LONGEST_AFTER_FAILURE_S = 1.0, 30.0
"""Seconds until a loop whose turn failed goes on, doubled for each failure in a row."""
BATCH = 10
"""Messages of one ReceiveMessage. Source: SQS quotas."""
COALESCED_S = 0.5
"""Wakes of one label set within this time are one; the first of a quiet time is not kept waiting."""


class WakeQueue:
    """Wakes (ports): gathers label sets, and pools them over soon, all that came together at once."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._later: dict[str, float] = {}
        self._changed = threading.Condition()
        self._last_s = 0.0

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        """Wake a label set; from any thread."""
        with self._changed:
            if after_s > 0.0:
                at_s = time.monotonic() + after_s
                self._later[set_key] = min(at_s, self._later.get(set_key, at_s))
            else:
                self._waiting.add(set_key)
            self._changed.notify_all()

    def taken(self, wait_s: float) -> list[str]:
        """Those that wait, once the last handing over is long enough ago; empty after `wait_s`."""
        until_s = time.monotonic() + wait_s
        with self._changed:
            while (now_s := time.monotonic()) < until_s:
                woken = [key for key, at_s in self._later.items() if at_s <= now_s]
                self._waiting.update(woken)
                for key in woken:
                    del self._later[key]
                ripe_s = self._last_s + COALESCED_S
                if self._waiting and now_s >= ripe_s:
                    self._last_s = now_s
                    taken, self._waiting = sorted(self._waiting), set()
                    return taken
                next_s = ripe_s if self._waiting else min(self._later.values(), default=until_s)
                self._changed.wait(max(0.0, min(until_s, next_s) - now_s))
        return []


class Loops:
    """Consumers of queues, readers of the wake queue and scheduled turns, each in threads of its own."""

    def __init__(self, journal: Journal, poll_s: int) -> None:
        self._journal, self._poll_s = journal, poll_s
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def consume(self, name: str, queue: Queue, handle: Callable[[Received], None], threads: int = 1) -> None:
        """Handle the messages of a batch side by side, and delete each then; what fails in passing is left to come again."""

        def done(message: Received) -> None:
            """Handle one message, then delete it."""
            if self._stopping.is_set():
                return  # it comes again, to somebody who stays
            try:
                handle(message)
                queue.delete(message.receipt)
            except OrchestratorError as error:
                self._journal.event("message.postponed", queue=name, error=f"{type(error).__name__}: {error}")

        def consumer() -> Callable[[], float]:
            pool = ThreadPoolExecutor(BATCH, thread_name_prefix=name)

            def turn() -> float:
                list(pool.map(done, queue.receive(self._poll_s)))
                return 0.0

            return turn

        for _ in range(threads):
            self._spin(name, consumer())

    def reconcile_woken(
        self, name: str, wake_queue: WakeQueue, reconcile: Callable[[Sequence[str]], None], threads: int = 1
    ) -> None:
        """Reconcile the label sets that are woken, all that came together at once."""

        def turn() -> float:
            if keys := wake_queue.taken(1.0):
                reconcile(keys)
            return 0.0

        for _ in range(threads):
            self._spin(name, turn)

    def every(self, name: str, seconds: float, task: Callable[[], object]) -> None:
        """Do `task` at once and then every so often."""

        def turn() -> float:
            task()
            return seconds

        self._spin(name, turn)

    def paced(self, name: str, turn: Callable[[], float]) -> None:
        """Take `turn` at once and then after as many seconds as it returned."""
        self._spin(name, turn)

    def halt(self) -> None:
        """Begin nothing more. From anywhere."""
        self._stopping.set()

    def stop(self, within_s: float) -> None:
        """Let the turns that run come to their end."""
        self.halt()
        until_s = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    @staticmethod
    def _take(turn: Callable[[], float], pauses: list[float]) -> None:
        pauses.append(turn())

    def _spin(self, name: str, turn: Callable[[], float]) -> None:
        def run() -> None:
            failures = 0
            while not self._stopping.is_set():
                pauses: list[float] = []
                error = failure_of(partial(self._take, turn, pauses))
                if error is not None:  # one bad turn must not stop the loop
                    self._journal.event("turn.failed", loop=name, error=f"{type(error).__name__}: {error}")
                failures = 0 if error is None else failures + 1
                again_s = min(LONGEST_AFTER_FAILURE_S, AFTER_FAILURE_S * 2.0 ** min(failures - 1, 10))
                self._stopping.wait(pauses[0] if pauses else again_s)

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
