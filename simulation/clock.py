"""The one clock of a virtual world: it stands still until somebody lets time pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

MORNING = 1_769_860_800.0
"""2026-01-31T12:00:00Z, when every virtual world begins; epoch seconds."""
BIRTHDAY = datetime.fromtimestamp(MORNING, UTC)
"""The same moment as the agent reads it."""
BIRTH_S = 1_000.0
"""The monotonic clock then: not zero, so that nothing can mistake it for a duration."""


@dataclass
class VirtualTime:
    """Time that passes only when it is told to; a pause passes at once."""

    at: float = MORNING
    """Epoch seconds."""
    pauses: list[float] = field(default_factory=list)
    """Every pause, in seconds."""

    @property
    def age_s(self) -> float:
        """Seconds since the world began."""
        return self.at - MORNING

    def now(self) -> float:
        """Epoch seconds (Clock of the orchestrator)."""
        return self.at

    def monotonic_s(self) -> float:
        """Seconds since some moment before the world began."""
        return BIRTH_S + self.age_s

    def pause(self, seconds: float) -> None:
        """Move the time on by so many seconds."""
        self.pauses.append(seconds)
        self.at += max(0.0, seconds)


class AgentClock:
    """The same time as the agent reads it (Clock of `agent/ports.py`)."""

    def __init__(self, time: VirtualTime | None = None, *, fraction: float = 0.0) -> None:
        """`fraction`: what every random number is."""
        self.time = time or VirtualTime()
        self._fraction, self._ids = fraction, count(1)

    @property
    def age_s(self) -> float:
        """Seconds since the world began."""
        return self.time.age_s

    @property
    def pauses(self) -> list[float]:
        """Every pause, in seconds."""
        return self.time.pauses

    def monotonic_s(self) -> float:
        """Seconds since some moment before the world began."""
        return self.time.monotonic_s()

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return BIRTHDAY + timedelta(seconds=self.age_s)

    def pause(self, seconds: float) -> None:
        """Time passes, nobody waits."""
        self.time.pause(seconds)

    def jump(self, to_s: float) -> None:
        """Be at that moment of the monotonic clock; only the worker twin ever goes back, from a task's time to the life's."""
        self.time.at = MORNING + to_s - BIRTH_S

    def fraction(self) -> float:
        """Always the same: nothing here is random."""
        return self._fraction

    def new_id(self) -> str:
        """Counted, so that they differ."""
        return f"{next(self._ids):08d}-virtual"
