"""The child's output and our own events become one CloudWatch stream, and every line that does not arrive is counted.

The output lies on disk before anything is sent (the spool), so a slow or dead service holds nobody up. This module decides what
becomes of the spooled bytes: lines, events, batches, and what the report may claim.

Source of every limit: PutLogEvents in the CloudWatch Logs API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import msgspec

from agent.calls.retries import is_passing
from agent.contract.names import log_stream_name
from agent.errors import ServiceError, caught
from agent.ports import Clock, Journal, LogReport, Workers

BATCH_EVENTS = 10_000
BATCH_BYTES = 1_048_576
EVENT_OVERHEAD_BYTES = 26
EVENT_BYTES = 262_144 - EVENT_OVERHEAD_BYTES
"""Bytes of one message; larger ones are split. The service has allowed more since 2025, older endpoints have not."""
BATCH_SPAN_MS = 23 * 3_600_000
"""A batch may not span 24 hours."""
EMPTY_LINE = " "
"""The service takes no empty message; a line of nothing is kept as one space."""
EVERY_S = 1.0
"""Seconds between two shipments: a line is readable well within three seconds, and a chatty job costs one call a second."""
AT_ONCE_BYTES = 4 << 20
"""Bytes taken from the spool at once."""
UNENDED_BYTES = 4 << 20
"""A line that has no end by then is cut: progress bars and binary output must not fill the memory."""
RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses after failed shipments; the last one repeats."""


@dataclass(frozen=True)
class Record:
    """Some output of the child, or one line of ours, and when it was spooled."""

    at_ms: int
    ours: bool
    content: bytes


@dataclass(frozen=True)
class LogEvent:
    """One event as the service takes it."""

    at_ms: int
    message: str


class Spool(Protocol):
    """What was written and not yet shipped, on disk."""

    def note(self, line: bytes) -> None:
        """Write one line of ours. Never blocks on the network."""

    def take(self, most_bytes: int) -> list[Record]:
        """The oldest records not taken yet, in order; empty if there are none now."""

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until sealed or well filled; whether more may still come."""

    def seal(self) -> None:
        """Close the spool: nothing more will be written to it."""

    def lines_dropped(self) -> int:
        """Lines never written, because the cap or the disk's floor was reached."""

    def lines_accepted(self) -> int:
        """Lines written so far, one without its end included."""

    def over_limit(self) -> str:
        """In words, where there was more output than one life may ship; empty: there was not."""


class LogService(Protocol):
    """CloudWatch Logs."""

    def create_stream(self, group: str, stream: str) -> None:
        """Make the stream, and the group only if it is missing; already there is success. Raises: ServiceError."""

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        """Ship one batch; returns how many of its events the service rejected. Raises: ServiceError."""


class Continued(str):
    """A piece of a line that goes on in the next event: it is shipped, but the line is counted with its last piece."""

    __slots__ = ()


class Lines:
    """Turns records into events: whole lines, cleaned of secrets, in time order."""

    def __init__(self, cleaned: Callable[[bytes], bytes], hold_back: Callable[[], int]) -> None:
        self._cleaned, self._hold_back = cleaned, hold_back
        self._unended = b""
        self._last_ms = 0

    def events(self, records: Iterable[Record]) -> Iterator[tuple[int, str]]:
        """(milliseconds, message) of every line that is complete; `rest` has what is not."""
        for record in records:
            self._last_ms = max(self._last_ms, record.at_ms)
            if record.ours:
                for piece in pieces(self._cleaned(record.content).decode("utf-8", "replace"), EVENT_BYTES):
                    yield self._last_ms, piece
                continue
            whole, ending, self._unended = (self._unended + record.content).rpartition(b"\n")
            if ending:
                yield from self._split(whole)
            if len(self._unended) > UNENDED_BYTES:
                yield from ((at_ms, Continued(piece)) for at_ms, piece in self._split(self._cut()))

    def _cut(self) -> bytes:
        """The sendable front: whole secrets are replaced first, the beginning of one and of a character stay behind."""
        self._unended = self._cleaned(self._unended)
        at = len(self._unended) - max(1, self._hold_back())
        while at > 0 and self._unended[at] & 0xC0 == 0x80:
            at -= 1
        cut, self._unended = self._unended[:at], self._unended[at:]
        return cut

    def rest(self) -> Iterator[tuple[int, str]]:
        """What was left without a line end when everything was over."""
        if self._unended:
            yield from self._split(self._unended)
            self._unended = b""

    def _split(self, block: bytes) -> Iterator[tuple[int, str]]:
        block = self._cleaned(block)
        longest_fits = len(block) <= EVENT_BYTES // 3
        for line in block.decode("utf-8", "replace").split("\n"):
            text = line[:-1] if line.endswith("\r") else line
            if longest_fits or len(text) <= EVENT_BYTES // 4:
                yield self._last_ms, text or EMPTY_LINE
            else:
                for piece in pieces(text, EVENT_BYTES):
                    yield self._last_ms, piece


def pieces(text: str, most_bytes: int) -> Iterator[str]:
    """`text` in pieces of at most that many UTF-8 bytes, no character torn; joined they are `text`."""
    while len(text) * 4 > most_bytes and len(encoded := text.encode("utf-8", "replace")) > most_bytes:
        head = encoded[:most_bytes].decode("utf-8", "ignore")
        yield Continued(head)
        text = text[len(head) :]
    yield text


def batches(events: Iterable[tuple[int, str]]) -> Iterator[list[LogEvent]]:
    """The events in batches that the service accepts; order is kept."""
    batch: list[LogEvent] = []
    size = 0
    for at_ms, message in events:
        cost = (len(message) if message.isascii() else len(message.encode("utf-8", "replace"))) + EVENT_OVERHEAD_BYTES
        full = size + cost > BATCH_BYTES or len(batch) >= BATCH_EVENTS
        if batch and (full or at_ms - batch[0].at_ms > BATCH_SPAN_MS):
            yield batch
            batch, size = [], 0
        batch.append(LogEvent(at_ms, message))
        size += cost
    if batch:
        yield batch


@dataclass(kw_only=True)
class CloudWatchLogStream:
    """A LogStream (ports) that ships a spool to CloudWatch Logs from one background task."""

    group: str
    instance_id: str
    spool: Spool
    service: Callable[[], LogService]
    workers: Workers
    clock: Clock
    journal: Journal
    cleaned: Callable[[bytes], bytes]
    hold_back: Callable[[], int]
    lines: Lines = field(init=False)
    stream: str = ""
    shipped: int = 0
    cause: str = ""
    made: bool = False
    sealing: bool = False
    gave_up: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        self.lines = Lines(self.cleaned, self.hold_back)

    def open(self, job_id: str) -> None:
        """Begin to ship; the stream is made by the shipping task, before its first batch."""
        self.stream = log_stream_name(self.instance_id, job_id)
        self.workers.begin("log shipping", self.ship)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """One JSON line of ours, in its place among the child's."""
        self.spool.note(msgspec.json.encode({"event": name, "at": self.clock.now(), **fields}, enc_hook=str))

    def ship(self) -> None:
        """Ship until the spool is sealed and empty, or `finish` has given up."""
        shipped = caught(self._ship)
        if shipped.error is not None:
            self.cause, self.gave_up = f"{type(shipped.error).__name__}: {shipped.error}", True
            raise shipped.error

    def _ship(self) -> None:
        more = True
        while more and not self.done:
            sealed = not self.spool.wait(EVERY_S)
            records = self.spool.take(AT_ONCE_BYTES)
            more = not sealed or bool(records)
            due = self.lines.events(records) if more else self.lines.rest()
            if not all(self._shipped(batch) for batch in batches(due)):
                return
        self.done = True

    def finish(self, within_s: float) -> LogReport:
        """Seal, ship what is left, and count: whatever was written and not shipped is lost, whoever holds it now."""
        self.sealing = True
        self.spool.seal()
        until_s = self.clock.monotonic_s() + within_s
        while self.stream and not self.done and not self.gave_up and self.clock.monotonic_s() < until_s:
            self.clock.pause(0.005)
        self.done = True
        shipped = self.shipped
        lost = max(0, self.spool.lines_accepted() - shipped) + self.spool.lines_dropped()
        outcome = "shipped" if not lost else "partial" if shipped else "lost"
        cause = (self.cause or "the time was up before the service answered") if self.stream else "the stream was never opened"
        if over := self.spool.over_limit():
            cause = f"{over} (RUNS_FLEET_LOG_LIMIT_MB)"
            self.journal.event("logs.limit_reached", why=over, lines_lost=lost)
        return LogReport(outcome, shipped, lost, cause if lost else "")

    def _shipped(self, batch: list[LogEvent]) -> bool:
        """Whether the service has the batch; tries until it has, `finish` runs out of time, or no try can help any more."""
        for failures in count():
            try:
                self._put(batch)
                return True
            except ServiceError as error:
                self._note(error)
                if self.sealing and not is_passing(error):
                    self.gave_up = True
            if self.done or self.gave_up:
                return False
            pause_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
            self.clock.pause(min(pause_s, RETRY_S[0]) if self.sealing else pause_s)
        return False

    def _put(self, batch: list[LogEvent]) -> None:
        service = self.service()
        if not self.made:
            service.create_stream(self.group, self.stream)
            self.made = True
        rejected = service.put(self.group, self.stream, batch)
        self.shipped += sum(type(event.message) is not Continued for event in batch) - rejected

    def _note(self, error: ServiceError) -> None:
        if str(error) != self.cause:
            self.cause = str(error)
            self.journal.event("logs.not_shipped", group=self.group, error=str(error))


class DisabledLogStream:
    """The LogStream of a machine whose operator named no log group: says so, and does nothing."""

    def open(self, job_id: str) -> None:
        """There is no stream to open."""

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """There is no stream to write to."""

    def finish(self, within_s: float) -> LogReport:
        """The report of logs that are off: `disabled`."""
        return LogReport("disabled")
