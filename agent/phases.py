"""The phases of a life, and what took how long."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where in its life the agent is; each is entered at most once, in this order."""

    WAKING = "waking"
    PREPARING = "preparing"
    REGISTERING = "registering"
    STARTING = "starting"
    RUNNING = "running"
    SETTLING = "settling"
    REPORTING = "reporting"
    CLEANING = "cleaning"
    TERMINATING = "terminating"


class Stopwatch:
    """Named spans on a monotonic clock that is read by the caller. Spans may overlap."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._taken: dict[str, int] = {}

    def begin(self, name: str, now_s: float) -> None:
        """The span `name` starts; a second start of the same name is ignored."""
        self._begun.setdefault(name, now_s)

    def end(self, name: str, now_s: float) -> None:
        """The span `name` is over; ending what never began is ignored."""
        if name in self._begun and name not in self._taken:
            self._taken[name] = round((now_s - self._begun[name]) * 1000)

    def taken_ms(self) -> dict[str, int]:
        """Milliseconds of every ended span, in the order they ended."""
        return dict(self._taken)
