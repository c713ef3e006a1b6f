"""Every call of every twin, in order; and what a twin answers otherwise, scripted.

A test says what is to happen at a call (`Calls.script`) instead of replacing a method: an error before the effect, an error
after it (the answer is lost), something that happens meanwhile, another answer.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.errors import Unanswered

Method = TypeVar("Method", bound=Callable[..., Any])


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Step:
    """What happens at one call. Each function gets the call's arguments."""

    before: Callable[..., object] | None = None
    """Called before the effect; what it raises is raised, and there is no effect."""
    answer: Callable[..., Any] | None = None
    """Called instead of the twin: its result is the answer, and there is no effect."""
    after: Callable[..., object] | None = None
    """Called after the effect, before the caller hears of it; what it raises is raised."""
    changes: Callable[[Any], Any] | None = None
    """Makes another answer of the twin's own, after the effect."""


NOTHING = Step()
"""A call at which the twin answers by itself."""


@dataclass
class Calls:
    """Every call in order; after the `fatal` one (counted from 1) its effect stands and nothing else happens."""

    made: list[str] = field(default_factory=list)
    fatal: int = 0
    failure: type[Exception] | type[Crash] = Crash
    _steps: dict[str, list[Step | None]] = field(default_factory=lambda: defaultdict(list))
    _always: dict[str, Step] = field(default_factory=dict)

    def script(self, name: str, *, times: int | None = 1, skip: int = 0, **step: Callable[..., Any]) -> None:
        """At the next `times` calls of this name (None: at every call from now on), after `skip` of them, this happens."""
        if times is None:
            self._always[name] = Step(**step)
            return
        self._steps[name] += [None] * skip + [Step(**step)] * times

    def fail(self, name: str, error: Exception, *, times: int | None = 1, skip: int = 0) -> None:
        """The next `times` calls of this name fail so, and have no effect."""
        self.script(name, times=times, skip=skip, before=lambda *_, **__: raise_(error))

    def lose(self, name: str, *, times: int | None = 1) -> None:
        """The next `times` calls of this name take effect and are never answered."""
        self.script(name, times=times, after=lambda *_, **__: raise_(Unanswered(name)))

    def unscript(self, name: str) -> None:
        """The twin answers as it does by itself again."""
        self._steps.pop(name, None)
        self._always.pop(name, None)

    def step(self, name: str) -> Step:
        """What happens at the call that is made now."""
        if steps := self._steps.get(name):
            return steps.pop(0) or NOTHING
        return self._always.get(name, NOTHING)

    def record(self, name: str) -> None:
        """A call has taken effect, and its caller has not heard of it yet."""
        self.made.append(name)
        if len(self.made) == self.fatal:
            raise Unanswered(name) if self.failure is Unanswered else self.failure(name)


def call(name: str) -> Callable[[Method], Method]:
    """A method of a twin (with its `_calls`) that is recorded, and that a test may script under this name."""

    def decorated(method: Method) -> Method:
        @functools.wraps(method)
        def called(twin: Any, *args: Any, **kwargs: Any) -> Any:
            step = twin._calls.step(name)
            if step.before is not None:
                step.before(*args, **kwargs)
            if step.answer is not None:
                return step.answer(*args, **kwargs)
            answer = method(twin, *args, **kwargs)
            if step.after is not None:
                step.after(*args, **kwargs)
            twin._calls.record(name)
            return step.changes(answer) if step.changes is not None else answer

        return called  # type: ignore[return-value]

    return decorated


def raise_(error: BaseException) -> None:
    """Raise it, where an expression is wanted."""
    raise error
