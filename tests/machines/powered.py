"""Whatever has a power switch and a console: what it printed so far, and how long until it is off."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from typing import IO

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Powered:
    """One machine; whoever makes it starts its first process and lets its console be read."""

    PATIENCE_S = 600.0
    """How long some words of its console are waited for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._written = bytearray()
        self._more = threading.Condition()
        self._begun_s = 0.0

    @property
    def console(self) -> str:
        """Everything printed so far, without colours."""
        return ESCAPES.sub("", bytes(self._written).decode("utf-8", "replace"))

    @property
    def on(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    def shows(self, words: str, within_s: float | None = None) -> float:
        """Wait until the console shows `words`; seconds since power-on."""
        until_s = time.monotonic() + (self.PATIENCE_S if within_s is None else within_s)
        with self._more:
            while words not in self.console:
                left_s = until_s - time.monotonic()
                assert left_s > 0 and self.on, f"never showed {words!r}:\n{self.console[-6000:]}"
                self._more.wait(min(left_s, 1.0))
        return time.monotonic() - self._begun_s

    def wait_off(self, within_s: float) -> float:
        """Seconds from power-on to off. Raises: AssertionError with the end of the console if it stays on."""
        assert self._process is not None
        try:
            self._process.wait(max(0.1, within_s - (time.monotonic() - self._begun_s)))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still on after {within_s} s:\n{self.console[-8000:]}") from None
        return time.monotonic() - self._begun_s

    def goes_off(self, within_s: float) -> None:
        """From now, the moment of the failure. Raises: AssertionError with the end of the console if it stays on."""
        self.wait_off(time.monotonic() - self._begun_s + within_s)

    def _read(self, console: IO[bytes]) -> None:
        """Until it is closed; unbuffered, so that what is printed is there at once."""
        with contextlib.suppress(OSError), console:
            while piece := console.read(1 << 16):
                with self._more:
                    self._written += piece
                    self._more.notify_all()
        with self._more:
            self._more.notify_all()
