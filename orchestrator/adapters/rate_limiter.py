"""Rate limiter of this process: so many calls within so many seconds; further callers wait."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.adapters.clock import THE_MACHINES
from orchestrator.ports import Timepiece


@dataclass
class Turn:
    """One turn. `late_s`: none was to be had in time; there would be one in so many seconds."""

    late_s: float = 0.0
    used: bool = True
    """Whether the other side may have counted it; one that was not used is somebody else's."""


class RateLimiter:
    """At most `most` turns of this process within any `within_s` seconds, wherever in its turn each is counted by the other side.

    Whoever comes first has the first.
    """

    def __init__(self, most: int, within_s: float, clock: Timepiece = THE_MACHINES) -> None:
        self._within_s, self._clock = within_s, clock
        self._turns: deque[list[float]] = deque(maxlen=max(1, most))
        """When each began, or is to begin; and when it was over, once it is."""
        self._lock = threading.Lock()

    def wait_s(self) -> float:
        """How long whoever came now would wait."""
        with self._lock:
            return max(0.0, self._next_s() - self._clock.monotonic_s())

    @contextlib.contextmanager
    def turn(self, patience_s: float) -> Iterator[Turn]:
        """Wait for a turn and have it; one that would take longer than `patience_s` is not had, and says so."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            at_s = max(now_s, self._next_s())
            mine, turn = [at_s], Turn(at_s - now_s)
            if at_s - now_s <= patience_s:
                self._turns.append(mine)
                turn = Turn()
        if turn.late_s:
            yield turn
            return
        self._clock.pause(max(0.0, at_s - now_s))
        try:
            yield turn
        finally:
            with self._lock:
                mine[0] = self._clock.monotonic_s()
                if not turn.used:
                    self._turns = deque((one for one in self._turns if one is not mine), self._turns.maxlen)

    def _next_s(self) -> float:
        return self._turns[0][0] + self._within_s if len(self._turns) == self._turns.maxlen else 0.0
