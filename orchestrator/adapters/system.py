"""The clock, chance, the log, and the threads that turn the wheels."""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TextIO

from orchestrator.errors import OrchestratorError
from orchestrator.ports import Journal, Queue, Received

AFTER_FAILURE_S = 1.0
BATCH = 10
"""Messages of one ReceiveMessage. Source: SQS quotas."""
COALESCED_S = 0.5
"""Wakes of one label set within this time are one; the first of a quiet time is not kept waiting."""


ALONE = 64
"""Locks for all names."""


class SystemIds:
    """Ids (ports)."""

    def fresh(self) -> str:
        """Sixteen hexadecimal digits."""
        return secrets.token_hex(8)


class TextJournal:
    """Journal (ports) of lines, on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._writing = threading.RLock()  # a signal's handler writes too, perhaps in the middle of a line

    def event(self, name: str, **fields: object) -> None:
        """Time, name, fields."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        line = " ".join([f"{stamp}Z {name}", *(f"{key}={_shown(value)}" for key, value in fields.items())])
        with self._writing, contextlib.suppress(RuntimeError, OSError, ValueError):
            # a reentrant write is refused, a pipe is broken, a disk is full: that line is lost, nothing hangs and no work stops
            self._stream.write(line + "\n")
            self._stream.flush()


def _shown(value: object) -> str:
    """Whatever others chose stays on one line."""
    text = str(value)
    return text if text.isprintable() else repr(text)


class Hands:
    """Crew (ports): threads, shared by all who ask."""

    def __init__(self, number: int) -> None:
        self._outer, self._inner = (ThreadPoolExecutor(number, thread_name_prefix=name) for name in ("crew", "crew-inner"))
        self._within = threading.local()
        self._alone = [threading.Lock() for _ in range(ALONE)]

    def each(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """All, some at once. Tasks may themselves ask for hands once: those are others, so that nobody waits for himself."""
        if len(tasks) < 2:
            return [trouble for trouble in map(_tried, tasks) if trouble is not None]
        if getattr(self._within, "depth", 0):
            return [trouble for trouble in self._inner.map(_tried, tasks) if trouble is not None]
        return [trouble for trouble in self._outer.map(self._deeper, tasks) if trouble is not None]

    def alone(self, name: str) -> threading.Lock:
        """Some names share a lock."""
        return self._alone[zlib.crc32(name.encode()) % ALONE]

    def stop(self) -> None:
        """When all have ended what they do; what none has begun is left to the next process, which finds it due."""
        self._inner.shutdown(wait=False, cancel_futures=True)  # first: the outer ones wait for theirs
        self._outer.shutdown(cancel_futures=True)
        self._inner.shutdown()

    def _deeper(self, task: Callable[[], object]) -> Exception | None:
        self._within.depth = 1
        return _tried(task)


def _tried(task: Callable[[], object]) -> Exception | None:
    try:
        task()
    except Exception as error:  # noqa: BLE001 - a net: whoever gave the tasks looks at what failed
        return error
    return None


class Waker:
    """Wakes (ports): gathers label sets, and hands them over soon, all that came together at once."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._later: dict[str, float] = {}
        self._changed = threading.Condition()
        self._last_s = 0.0

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        """From any thread."""
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


class Wheels:
    """Consumers, the waker and the tick, each in threads of its own; whoever loses a race to another reads again."""

    def __init__(self, journal: Journal, poll_s: int) -> None:
        self._journal, self._poll_s = journal, poll_s
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def consume(self, name: str, queue: Queue, handle: Callable[[Received], None], threads: int = 1) -> None:
        """Handle the messages of a batch side by side, and delete each then; what fails in passing is left to come again."""

        def done(message: Received) -> None:
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

    def awake(self, name: str, waker: Waker, settle: Callable[[Sequence[str]], None], threads: int = 1) -> None:
        """Settle what is woken."""

        def turn() -> float:
            if keys := waker.taken(1.0):
                settle(keys)
            return 0.0

        for _ in range(threads):
            self._spin(name, turn)

    def every(self, name: str, seconds: float, task: Callable[[], object]) -> None:
        """Do `task` at once and then every so often."""

        def turn() -> float:
            task()
            return seconds

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
