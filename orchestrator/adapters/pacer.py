"""As many of something within a time as somebody else takes, and whoever is too many waits for his turn."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator


class Pacer:
    """At most `most` turns of this process within any `within_s` seconds, wherever in its turn each is counted by the other side.

    Whoever comes first has the first.
    """

    def __init__(self, most: int, within_s: float) -> None:
        self._within_s = within_s
        self._turns: deque[list[float]] = deque(maxlen=max(1, most))
        """When each began, or is to begin; and when it was over, once it is."""
        self._lock = threading.Lock()

    def wait_s(self) -> float:
        """How long whoever came now would wait."""
        with self._lock:
            return max(0.0, self._next_s() - time.monotonic())

    @contextlib.contextmanager
    def turn(self, patience_s: float) -> Iterator[float]:
        """Wait for a turn and have it: gives 0. Gives the seconds it would take, if over `patience_s`: then it is none."""
        with self._lock:
            now_s = time.monotonic()
            at_s = max(now_s, self._next_s())
            mine, late = [at_s], at_s - now_s > patience_s
            if not late:
                self._turns.append(mine)
        if late:
            yield at_s - now_s
            return
        time.sleep(max(0.0, at_s - now_s))
        try:
            yield 0.0
        finally:
            with self._lock:
                mine[0] = time.monotonic()

    def _next_s(self) -> float:
        return self._turns[0][0] + self._within_s if len(self._turns) == self._turns.maxlen else 0.0
