"""The one place where the deciding thread waits: for its next event, or for an errand, never longer than it said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from agent.ports import Clock, Crew, ErrandEnded, Event, Inbox, NoticeCame, Signalled
from agent.supervision import NOTICE_RESERVE_S, SECOND_ASK_S, Stop, StopRequested

Value = TypeVar("Value")


class Overdue(Exception):
    """An errand did not end within its bound; it is left to itself, and what it did is unknown."""


class Desk:
    """Sorts what arrives: ends of errands are kept, requests to stop are translated, the rest goes to whoever waits."""

    def __init__(self, inbox: Inbox, crew: Crew, clock: Clock) -> None:
        self._inbox, self._crew, self._clock = inbox, crew, clock
        self._ended: dict[str, ErrandEnded] = {}
        self._signals = 0
        self.stops: list[StopRequested] = []
        self.notices: list[NoticeCame] = []

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        """Start an errand beside us."""
        self._crew.begin(name, task)

    def ended(self, name: str) -> ErrandEnded | None:
        """How the errand ended, told once; None if it has not."""
        return self._ended.pop(name, None)

    def next(self, until_s: float) -> Event | None:
        """The next event, already sorted; None at `until_s`."""
        event = self._inbox.wait(until_s)
        match event:
            case ErrandEnded(name):
                self._ended[name] = event
            case Signalled():
                self._signals += 1
                self.stops.append(StopRequested(Stop.SIGNAL, None if self._signals == 1 else SECOND_ASK_S))
            case NoticeCame(kind="spot"):
                self.notices.append(event)
                self.stops.append(StopRequested(Stop.SPOT_NOTICE, self._left_s(event)))
            case NoticeCame():
                self.notices.append(event)
            case _:
                pass
        return event

    def bounded(self, name: str, task: Callable[[], Value], within_s: float) -> Value:
        """What `task` returns, if it does within `within_s`; other events are sorted meanwhile.

        Raises: Overdue, or whatever `task` raised.
        """
        until_s = self._clock.monotonic_s() + within_s
        self.begin(name, task)
        while (end := self.ended(name)) is None:
            if self.next(until_s) is None:
                raise Overdue(f"{name} did not end within {within_s:g} s")
        if end.error is not None:
            raise end.error
        return end.value  # type: ignore[no-any-return]

    def _left_s(self, notice: NoticeCame) -> float | None:
        if notice.ends_at is None:
            return None
        return (notice.ends_at - self._clock.now()).total_seconds() - NOTICE_RESERVE_S
