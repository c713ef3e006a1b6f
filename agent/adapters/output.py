"""The runner's output: read as it comes, spooled to disk, listened to; the runner is never held up."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from pathlib import Path
from struct import Struct

from agent.ports import Heard, Inbox, OutputEnded
from agent.reports.log_stream import Record
from agent.work import AnnouncementReader

MOST_OF_A_TOPIC = 10
"""A runner announces some ten things in its life. A job can write into its listener's output: what it repeats is not heard any
more, and hides nothing that is new."""
READ_BYTES = 1 << 17
GATHER_S = 0.01
"""Seconds to let output gather after a small read: a child that prints line by line costs 100 wake-ups a second, not 5,000."""
SEGMENT_BYTES = 8 << 20
"""A segment of the spool; whole ones are removed once shipped."""
CAP_BYTES = 1 << 30
"""What may lie unshipped; beyond it the newest lines are dropped and counted."""
LIMIT_BYTES = 100_000_000
"""What a life ships, unless the operator says otherwise. The runner itself writes some ten lines; the rest is the job's doing."""
FLOOR_BYTES = 256 << 20
"""Free disk the spool leaves to the job; beyond it likewise."""
FULL_BYTES = 512 << 10
"""Enough for a shipment: wake the shipper before its interval is over."""
LOOK_AT_DISK_EVERY_BYTES = 4 << 20
_HEADER = Struct("<QBI")


class Output:
    """Reads a descriptor to its end, for the spool and for the announcements."""

    def __init__(self, spool: DiskSpool | None, announcements: AnnouncementReader) -> None:
        self._spool, self._announcements = spool, announcements
        self._unended = b""
        self._heard = Counter[str]()

    def attach(self, readable: int, inbox: Inbox) -> None:
        """Returns at the end of the output. Nothing here waits for anything but the child."""
        try:
            while chunk := os.read(readable, READ_BYTES):
                if self._spool is not None:
                    self._spooled(self._spool, chunk)
                self._listen(chunk, inbox)
                if len(chunk) < READ_BYTES // 4:
                    time.sleep(GATHER_S)
        finally:
            os.close(readable)
            self._listen(b"\n", inbox)
            inbox.post(OutputEnded())

    @staticmethod
    def _spooled(spool: DiskSpool, chunk: bytes) -> None:
        """Whatever happens to the spool's files, the runner's output is read on."""
        try:
            spool.write(chunk)
        except (OSError, LookupError):
            spool.lost(chunk)

    def _listen(self, chunk: bytes, inbox: Inbox) -> None:
        whole, ending, rest = (self._unended + chunk).rpartition(b"\n")
        self._unended = rest[: self._announcements.LONGEST_LINE]
        if ending and self._announcements.worth_reading(whole):
            for line in whole.split(b"\n"):
                for announcement in self._announcements.read(line):
                    topic = self._announcements.topic(announcement)
                    self._heard[topic] += 1
                    if self._heard[topic] <= MOST_OF_A_TOPIC:
                        inbox.post(Heard(announcement))


class DiskSpool:
    """A Spool (agent.reports.log_stream) in segment files; one writer at a time, one reader, both from any thread."""

    def __init__(
        self, directory: Path, *, cap_bytes: int = CAP_BYTES, floor_bytes: int = FLOOR_BYTES, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        """`cap_bytes`: of what lies there at one time; `limit_bytes`: of the child's output, in all."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory, self._cap_bytes, self._floor_bytes = directory, cap_bytes, floor_bytes
        self._limit_bytes, self._taken, self._over_limit = limit_bytes, 0, False
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._segments: deque[tuple[int, Path]] = deque()
        self._serial = 0
        self._written_in_segment = SEGMENT_BYTES
        self._read_at = 0
        self._pending = 0
        self._since_look = LOOK_AT_DISK_EVERY_BYTES
        self._room_on_disk = True
        self._accepted = 0
        self._dropped = 0
        self._full = False
        self._line_is_open = False
        self._skipping = False
        self._sealed = False

    def write(self, chunk: bytes) -> None:
        """Output of the child, as it came; what does not fit is dropped by whole lines, the newest, and counted."""
        with self._filled:
            if self._skipping:
                _, ending, chunk = chunk.partition(b"\n")
                self._skipping = not ending
            if not chunk:
                return
            kept = chunk if self._is_within_limit(len(chunk)) and self._has_room(len(chunk)) else self._end_of_open_line(chunk)
            if kept and not self._append(kept, ours=False):
                kept = b""
            if kept:
                self._accepted += kept.count(b"\n")
                self._line_is_open = not kept.endswith(b"\n")
            if dropped := chunk[len(kept) :]:
                self._skipping = not dropped.endswith(b"\n")
                self._dropped += dropped.count(b"\n") + self._skipping

    def note(self, line: bytes) -> None:
        """One line of the agent's own into the spool."""
        with self._filled:
            if self._has_room(len(line)) and self._append(line, ours=True):
                self._accepted += 1
            else:
                self._dropped += 1

    def take(self, most_bytes: int) -> list[Record]:
        """The oldest records, about `most_bytes` of them; shipped segments are removed."""
        records: list[Record] = []
        with self._lock:
            taken = 0
            while self._pending > 0 and taken < most_bytes:
                descriptor, path = self._segments[0]
                header = os.pread(descriptor, _HEADER.size, self._read_at)
                if len(header) < _HEADER.size:
                    if len(self._segments) == 1:
                        self._pending, self._written_in_segment = 0, SEGMENT_BYTES  # truncated by somebody: start anew
                    os.close(descriptor)
                    path.unlink(missing_ok=True)
                    self._segments.popleft()
                    self._read_at = 0
                    continue
                at_ms, ours, length = _HEADER.unpack(header)
                content = os.pread(descriptor, length, self._read_at + _HEADER.size)
                records.append(Record(at_ms, bool(ours), content))
                self._read_at += _HEADER.size + length
                self._pending -= length
                taken += length
        return records

    def wait(self, seconds: float) -> bool:
        """False once nothing more will come; earlier than `seconds` when there is enough to ship."""
        with self._filled:
            self._filled.wait_for(lambda: self._sealed or self._pending >= FULL_BYTES, seconds)
            return not self._sealed

    def seal(self) -> None:
        """Nothing more will be written; what comes all the same is counted as dropped."""
        with self._filled:
            self._sealed = True
            self._filled.notify_all()

    def lost(self, chunk: bytes) -> None:
        """Count what could not be written; a fresh segment comes next."""
        with self._filled:
            self._dropped += chunk.count(b"\n")
            self._written_in_segment = SEGMENT_BYTES

    def over_limit(self) -> str:
        """In words, where the child has written more than one life may ship; empty: it has not."""
        with self._lock:
            return f"the job's output passed the limit of {self._limit_bytes / 1e6:g} MB" if self._over_limit else ""

    def lines_dropped(self) -> int:
        """Lines that were never written."""
        with self._lock:
            return self._dropped

    def lines_accepted(self) -> int:
        """Lines that were written, one without its end included."""
        with self._lock:
            return self._accepted + self._line_is_open

    def _end_of_open_line(self, chunk: bytes) -> bytes:
        """A line that was begun is also ended where that is possible: no half line stays behind."""
        if not self._line_is_open or self._sealed:
            return b""
        end = chunk.find(b"\n") + 1
        return chunk[:end]

    def _append(self, content: bytes, *, ours: bool) -> bool:
        """Whether it is on disk now, whole; a record that a full disk cut short is taken back."""
        try:
            descriptor = self._segment()
            whole = _HEADER.size + len(content)
            if os.writev(descriptor, [_HEADER.pack(time.time_ns() // 1_000_000, ours, len(content)), content]) < whole:
                os.ftruncate(descriptor, self._written_in_segment)
                return False
        except OSError:
            return False
        self._written_in_segment += whole
        self._pending += len(content)
        if self._pending >= FULL_BYTES:
            self._filled.notify_all()
        return True

    def _is_within_limit(self, more: int) -> bool:
        self._taken += more
        if self._taken > self._limit_bytes and not self._over_limit:
            self._over_limit = True
            told = f'{{"event": "logs.limit_reached", "limit_mb": {self._limit_bytes / 1e6:g}}}'
            self._accepted += self._append(told.encode(), ours=True)
        return not self._over_limit

    def _has_room(self, more: int) -> bool:
        """Once full, there is room again when half is shipped: a trickle must not slip in behind what was dropped."""
        self._since_look += more
        if self._since_look >= LOOK_AT_DISK_EVERY_BYTES or not self._room_on_disk:
            self._since_look = 0
            try:
                free = os.statvfs(self._directory)
                self._room_on_disk = free.f_bavail * free.f_frsize >= self._floor_bytes
            except OSError:
                self._room_on_disk = False
        limit = self._cap_bytes // 2 if self._full else self._cap_bytes
        self._full = self._pending + more > limit
        return self._room_on_disk and not self._full and not self._sealed

    def _segment(self) -> int:
        if self._written_in_segment >= SEGMENT_BYTES or not self._segments:
            path = self._directory / f"{self._serial:08}.spool"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._segments.append((descriptor, path))
            self._serial += 1
            self._written_in_segment = 0
        return self._segments[-1][0]
