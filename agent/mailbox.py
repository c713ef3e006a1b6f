"""The one place where the deciding thread waits: for its next event, or for a background task, never longer than it said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from agent.ports import Clock, Event, Inbox, NoticeCame, Signalled, TaskEnded, Workers
from agent.supervision import NOTICE_RESERVE_S, NOTICES, SECOND_ASK_S, Stop, StopRequested

Value = TypeVar("Value")


class Overdue(Exception):
    """A background task did not end within its bound; it is left to itself, and what it did is unknown."""


class StoppedEarly(Exception):
    """A stop was requested before the work was started."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        super().__init__(stop.value)


class Mailbox:
    """Sorts what arrives: ends of background tasks are kept, requests to stop are translated, the rest goes to whoever waits."""

    def __init__(self, inbox: Inbox, workers: Workers, clock: Clock) -> None:
        self._inbox, self._workers, self._clock = inbox, workers, clock
        self._ended: dict[str, TaskEnded] = {}
        self._signals = 0
        self.stops: list[StopRequested] = []
        self.notices: list[NoticeCame] = []

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        """Start a background task beside us."""
        self._workers.begin(name, task)

    def ended(self, name: str) -> TaskEnded | None:
        """How the background task ended, told once; None if it has not."""
        return self._ended.pop(name, None)

    def next(self, until_s: float) -> Event | None:
        """The next event, already sorted; None at `until_s`."""
        event = self._inbox.wait(until_s)
        match event:
            case TaskEnded(name):
                self._ended[name] = event
            case Signalled():
                self._signals += 1
                self.stops.append(StopRequested(Stop.SIGNAL, None if self._signals == 1 else SECOND_ASK_S))
            case NoticeCame(kind):
                self.notices.append(event)
                if (stop := NOTICES[kind].stop) is not None:
                    self.stops.append(StopRequested(stop, self._left_s(event)))
            case _:
                pass
        return event

    def stop_if_asked(self) -> None:
        """Raises: StoppedEarly if a signal or a notice has requested a stop."""
        if self.stops:
            raise StoppedEarly(self.stops[0].stop)

    def ended_by(self, name: str, until_s: float) -> TaskEnded | None:
        """How the background task ended; None if it has not by `until_s`. For the time before the work is started.

        Raises: StoppedEarly as soon as a stop is requested.
        """
        while (end := self.ended(name)) is None:
            self.stop_if_asked()
            if self._clock.monotonic_s() >= until_s:
                return None
            self.next(until_s)
        return end

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
