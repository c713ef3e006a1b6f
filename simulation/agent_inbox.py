"""Twins of the agent's inbox, workers and log; scripted answers; what hangs for ever."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from agent.contract.secret import Secret
from agent.errors import ServiceError, caught
from agent.phases import Phase
from agent.ports import Event, TaskEnded
from simulation.clock import BIRTH_S, AgentClock

Answer = TypeVar("Answer")
END_OF_TIME_S = BIRTH_S + 14 * 86_400
"""No life lasts two weeks: whoever still waits then waits for ever."""


class HangsForever(BaseException):
    """A call that never comes back: the background task that made it is never heard of again."""


class WaitsForEver(BaseException):
    """The deciding thread waits for something that will never come: no net of the agent may hide that from a test."""


HANGS = HangsForever("this call never comes back")


def refused(code: str, action: str = "the service", detail: str = "") -> ServiceError:
    """An answer of AWS that is an error."""
    return ServiceError(action, code, detail)


class Script(Generic[Answer]):
    """Answers given one after the other, the last one for ever; an exception among them is raised."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self._answers = list(answers)

    def next(self) -> Answer:
        """The next answer to come."""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@dataclass(order=True)
class Scheduled:
    """An event that will arrive, unless it is called off."""

    at_s: float
    nth: int
    event: Event = field(compare=False)
    called_off: bool = field(default=False, compare=False)


class VirtualInbox:
    """Inbox (ports) over a heap of moments; waiting is a jump of the clock."""

    def __init__(self, clock: AgentClock) -> None:
        self._clock = clock
        self._ahead: list[Scheduled] = []
        self._nth = count()

    def post(self, event: Event) -> None:
        """Put an event in, due at once."""
        self.schedule(self._clock.monotonic_s(), event)

    def schedule(self, at_s: float, event: Event) -> Scheduled:
        """Let `event` arrive at that moment of the monotonic clock."""
        entry = Scheduled(at_s, next(self._nth), event)
        heapq.heappush(self._ahead, entry)
        return entry

    def wait(self, until_s: float) -> Event | None:
        """The next event, at the time when it is due; None at `until_s`."""
        until_s = max(until_s, self._clock.monotonic_s())
        while self._ahead and self._ahead[0].at_s <= until_s:
            entry = heapq.heappop(self._ahead)
            if not entry.called_off:
                self._clock.jump(max(entry.at_s, self._clock.monotonic_s()))
                return entry.event
        if until_s > END_OF_TIME_S:
            raise WaitsForEver(f"nothing will happen before {until_s}")
        self._clock.jump(until_s)
        return None


class VirtualWorkers:
    """Workers (ports) that does every background task inline, on a forked clock."""

    def __init__(self, clock: AgentClock, inbox: VirtualInbox) -> None:
        self._clock, self._inbox = clock, inbox
        self.hung: list[str] = []

    def begin(self, name: str, task: Callable[[], Any]) -> None:
        """Run a background task to its end, on virtual time."""
        begun_s = self._clock.monotonic_s()
        try:
            outcome = caught(task)
        except HangsForever:
            self.hung.append(name)
            return
        finally:
            ended_s = self._clock.monotonic_s()
            self._clock.jump(begun_s)
        self._inbox.schedule(ended_s, TaskEnded(name, outcome.returned, outcome.error))

    def ahead(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks, read at once: nothing runs beside it here."""
        return chunks


class VirtualJournal:
    """Journal (ports) that remembers; `on_phase` does something at the moment a phase begins."""

    def __init__(self, clock: AgentClock) -> None:
        self._clock = clock
        self._secrets: list[str] = []
        self.events: list[tuple[float, str, dict[str, object]]] = []
        self.phases: list[Phase] = []
        self.on_phase: dict[Phase, Callable[[], None]] = {}

    def event(self, name: str, **fields: object) -> None:
        """Keep an event of the agent."""
        self.events.append((self._clock.age_s, name, fields))

    def phase(self, phase: Phase) -> None:
        """Keep that a phase begins."""
        self.phases.append(phase)
        if (plant := self.on_phase.get(phase)) is not None:
            plant()

    def hide(self, *secrets: Secret) -> None:
        """Remember a secret that no line may show."""
        self._secrets += [secret.reveal() for secret in secrets]

    def cleaned(self, text: str) -> str:
        """The text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def told(self, name: str) -> list[dict[str, object]]:
        """The fields of every event of that name."""
        return [fields for _, event, fields in self.events if event == name]
