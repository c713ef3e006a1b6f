"""Time, chance, threads, the inbox and the agent's own log, for real."""

from __future__ import annotations

import os
import queue
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from agent.adapters.log_levels import level_of
from agent.contract.secret import Secret
from agent.contract.shown import as_field
from agent.phases import Phase
from agent.ports import Event, Inbox, TaskEnded

AHEAD_CHUNKS = 24
"""How many chunks a producer may be ahead of its consumer: some 3 MB, enough to keep both busy."""
NOTICE = "<5>"
SHORTEST_SECRET = 8
"""Shorter strings are not replaced: they would appear by chance and make a log unreadable."""


class SystemClock:
    """The machine's own clock and chance."""

    def monotonic_s(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()

    def now(self) -> datetime:
        """The time of the wall clock, in UTC."""
        return datetime.now(UTC)

    def pause(self, seconds: float) -> None:
        """Sleep for so many seconds."""
        time.sleep(max(0.0, seconds))

    def fraction(self) -> float:
        """A random number in [0, 1)."""
        return random.random()

    def new_id(self) -> str:
        """A random UUID (version 4) as text."""
        return str(uuid.uuid4())


class QueueInbox:
    """An Inbox (ports); `put` of a SimpleQueue may be called from a signal handler."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def post(self, event: Event) -> None:
        """Put an event into the inbox; never blocks."""
        self._events.put(event)

    def wait(self, until_s: float) -> Event | None:
        """The next event, or None at `until_s`, however much is still waiting: a flood of events must not stop the clock."""
        left_s = until_s - time.monotonic()
        try:
            return self._events.get(timeout=min(left_s, threading.TIMEOUT_MAX)) if left_s > 0 else None
        except queue.Empty:
            return None


def _ended(name: str, task: Callable[[], Any]) -> TaskEnded:
    """How a task of a thread ended: the one net of the threads, whoever waits must hear of every end."""
    try:
        return TaskEnded(name, value=task())
    except BaseException as error:  # noqa: BLE001 - the net
        return TaskEnded(name, error=error)


class ThreadWorkers:
    """A Workers (ports) of daemon threads: one that hangs dies with the process."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        """Start a thread; on a machine that has none left, do the background task here and now."""

        def run() -> None:
            """Do the task and tell how it ended."""
            self._inbox.post(_ended(name, task))

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError:
            run()

    def ahead(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Produce in a thread, a bounded number of chunks ahead."""
        ready: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD_CHUNKS)
        stopped = threading.Event()

        def put(item: bytes | BaseException | None) -> None:
            """Hand an item over; wait while the queue is full, unless stopped."""
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.5)
                    return
                except queue.Full:
                    continue

        def read() -> None:
            """Read on ahead of the consumer, until stopped."""
            for chunk in chunks:
                put(chunk)
                if stopped.is_set():
                    return

        def produce() -> None:
            """Read to the end, then hand over how it ended."""
            end = _ended("reading ahead", read)
            if not stopped.is_set():
                put(end.error)  # None ends the consumer's loop, an error comes out there

        threading.Thread(target=produce, name="reading ahead", daemon=True).start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stopped.set()


def goes_to_the_journal(environment: Mapping[str, str]) -> bool:
    """Whether our standard error is read by systemd's journal. Source: JOURNAL_STREAM in systemd.exec(5)."""
    try:
        ours = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{ours.st_dev}:{ours.st_ino}"


class TextJournal:
    """A Journal (ports) of text lines: time, level, event, fields; every known secret replaced by `***`.

    `beacons`: what says how far a machine came is marked for systemd's journal as a notice, which our image shows on the console:
    EC2 keeps that though the machine is dead. Source: sd-daemon(3).
    """

    def __init__(self, stream: TextIO | None = None, *, beacons: bool = False) -> None:
        self._stream, self._beacon = stream or sys.stderr, NOTICE if beacons else ""
        self._secrets: list[str] = []
        self._secret_bytes: list[bytes] = []

    def event(self, name: str, **fields: object) -> None:
        """One line; a stream that is gone must not stop the agent."""
        self._write("", name, fields)

    def _write(self, mark: str, name: str, fields: Mapping[str, object]) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        shown = (f"{key}={as_field(self.cleaned(str(value)))}" for key, value in fields.items())
        text = " ".join([f"{stamp}Z {level_of(name)} {name}", *shown])
        try:
            self._stream.write(mark + text + "\n")
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            return

    def phase(self, phase: Phase) -> None:
        """Say that a phase of the life begins."""
        self._write(self._beacon, "phase.entered", {"phase": phase.value})

    def hide(self, *secrets: Secret) -> None:
        """Longer ones are replaced first, so that a part never uncovers the rest."""
        values = {secret.reveal() for secret in secrets if len(secret.reveal()) >= SHORTEST_SECRET}
        self._secrets = sorted(values.union(self._secrets), key=lambda value: (-len(value), value))
        self._secret_bytes = [secret.encode() for secret in self._secrets]

    def cleaned(self, text: str) -> str:
        """`text` without the secrets that were hidden."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "***")
        return text

    def cleaned_bytes(self, content: bytes) -> bytes:
        """`content` without secrets."""
        for secret in self._secret_bytes:
            if secret in content:
                content = content.replace(secret, b"***")
        return content

    def longest_secret(self) -> int:
        """Its length in bytes: so much is held back where output is cut, so that no cut goes through a secret."""
        return len(self._secret_bytes[0]) if self._secret_bytes else 1


def hide_environment(journal: TextJournal, environment: Mapping[str, str]) -> None:
    """The agent's own credentials never appear either."""
    names = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    journal.hide(*(Secret(environment[name]) for name in names if environment.get(name)))
