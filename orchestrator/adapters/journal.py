"""The orchestrator's log as lines on standard error, and fresh ids."""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
from datetime import UTC, datetime
from typing import TextIO


class SystemIds:
    """Random ids of the operating system (ports.Ids)."""

    def fresh(self) -> str:
        """Sixteen hexadecimal digits."""
        return secrets.token_hex(8)


class TextJournal:
    """Journal (ports) of lines, on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._writing = threading.RLock()  # a signal's handler writes too, perhaps in the middle of a line

    def event(self, name: str, **fields: object) -> None:
        """One line: time, name, fields."""
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
