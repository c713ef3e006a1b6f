"""The orchestrator's log as lines on standard error, and fresh ids."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from agent.contract.shown import MOST_FIELD, as_field, as_json
from orchestrator.log_levels import level_of


class SystemIds:
    """Random ids of the operating system (ports.Ids)."""

    def fresh(self) -> str:
        """Sixteen hexadecimal digits."""
        return secrets.token_hex(8)


class TextJournal:
    """Journal (ports) of lines, on standard error, and in a log group if one is named."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        """`as_json`: an object a line."""
        self._stream, self._as_json = stream or sys.stderr, as_json
        self._also: Callable[[str, int, float], None] | None = None
        self._writing = threading.RLock()  # a signal's handler writes too, perhaps in the middle of a line

    def ship(self, also: Callable[[str, int, float], None]) -> None:
        """From now on `also` gets each line too, with its level, and when it was written (epoch seconds)."""
        self._also = also

    def event(self, name: str, **fields: object) -> None:
        """One line: time, level, name, fields."""
        now = datetime.now(UTC)
        line = self._written(now, name, fields)
        if self._also is not None:
            self._also(line, level_of(name), now.timestamp())

    def say_here(self, name: str, **fields: object) -> None:
        """One line on standard error alone: about what else the log is written to."""
        self._written(datetime.now(UTC), name, fields)

    def _written(self, now: datetime, name: str, fields: Mapping[str, object]) -> str:
        stamp, level = f"{now.strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3]}Z", logging.getLevelName(level_of(name))
        if self._as_json:
            line = as_json({"time": stamp, "level": level, "event": name, **fields}, most=MOST_FIELD)
        else:
            line = " ".join([stamp, level, name, *(f"{key}={as_field(value)}" for key, value in fields.items())])
        with self._writing, contextlib.suppress(RuntimeError, OSError, ValueError):
            # a reentrant write is refused, a pipe is broken, a disk is full: that line is lost, nothing hangs and no work stops
            self._stream.write(line + "\n")
            self._stream.flush()
        return line
