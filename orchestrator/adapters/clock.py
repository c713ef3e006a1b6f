"""The machine's own clock."""

from __future__ import annotations

import time


class SystemClock:
    """The machine's clocks (ports.Timepiece)."""

    def now(self) -> float:
        """The time now, in epoch seconds."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds since the machine was started, or thereabouts."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """This thread sleeps for so many seconds."""
        time.sleep(seconds)


THE_MACHINES = SystemClock()
"""For adapters that are told of no other."""
