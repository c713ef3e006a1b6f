"""The orchestrator's own log in CloudWatch Logs, by watchtower, beside standard error; whatever AWS does, no turn waits for it.

watchtower's handler sends each line by itself here (`use_queues=False`): its own queue has no bound, and its end waits for
whatever is in it. Ours is bounded, counts what it drops, and is given up after five seconds when the process ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any

from botocore.config import Config
from watchtower import CloudWatchLogHandler, WatchtowerWarning

from orchestrator.adapters.aws import Clients

LINES = 10_000
"""Lines that wait at most; some minutes of a busy fleet, a few megabytes."""
FLUSH_S = 5.0
"""Seconds that the end of the process waits for what is left."""
CONFIG = Config(connect_timeout=2.0, read_timeout=3.0, retries={"total_max_attempts": 1})
"""watchtower tries five times by itself."""
TOLD_EACH = 1000
"""Of so many lost lines, one complaint."""


class LogGroup:
    """Ships lines to a log group, from a thread of its own. `complain` is told what was lost, never through this."""

    def __init__(self, group: str, client: Any, complain: Callable[[str], None], stream: str = "", lines: int = LINES) -> None:
        self._group, self._client, self._complain = group, Watched(client), complain
        self._stream = stream or f"orchestrator/{platform.node()}/{os.getpid()}"
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(lines)
        self.came = self.lost = self.shipped = 0
        self._thread = threading.Thread(target=self._ship, daemon=True, name="log group")

    def start(self) -> LogGroup:
        """Ship from now on."""
        self._thread.start()
        return self

    def put(self, line: str, level: int, created: float) -> None:
        """One line; returns at once. Lost, and counted, if too many wait."""
        self.came += 1
        record = logging.LogRecord("runs-fleet", level, "", 0, "%s", (line,), None)
        record.created, record.msecs = created, (created % 1) * 1000.0
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._lose("the queue is full")

    def stop(self, within_s: float = FLUSH_S) -> int:
        """Ship what is left, for a while; returns how many lines were never shipped."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(within_s)
        missing = self.came - self.shipped
        if missing:
            self._complain(f"{counted(missing)} did not reach the log group {self._group}")
        return missing

    def _ship(self) -> None:
        warnings.simplefilter("ignore", WatchtowerWarning)  # it says there what the client has told us
        handler: CloudWatchLogHandler | None = None
        while (record := self._waiting.get()) is not None:
            self._client.error = None
            try:
                handler = handler or CloudWatchLogHandler(
                    log_group_name=self._group, log_stream_name=self._stream.replace(":", "-"), use_queues=False,
                    boto3_client=self._client,
                )  # fmt: skip
                handler.emit(record)  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001 - the log of a log: whatever it is, the thread goes on
                self._client.error = error
            if self._client.error is not None:
                self._lose(str(self._client.error))
            else:
                self.shipped += 1

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost % TOLD_EACH == 1:
            self._complain(f"{counted(self.lost)} lost to the log group {self._group}: {why}")


def counted(lines: int) -> str:
    """In words."""
    return f"{lines} line{'' if lines == 1 else 's'} of this log"


class Watched:
    """CloudWatch's client, of which it is known whether the last PutLogEvents was answered well: watchtower only warns."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.error: Exception | None = None

    def put_log_events(self, **told: Any) -> Any:
        """The call; its failure is remembered."""
        try:
            answer = self._client.put_log_events(**told)
        except Exception as error:
            self.error = error
            raise
        self.error = None
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def log_group(group: str, clients: Clients, complain: Callable[[str], None]) -> LogGroup:
    """The shipper of this process, started."""
    return LogGroup(group, clients.fresh("logs", CONFIG), complain).start()
