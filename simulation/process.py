"""Twins of what belongs to a process: its log, its ids, its workers, its wake queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import failure_of


@dataclass
class MemoryJournal:
    """Journal (ports) that remembers."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, **fields: object) -> None:
        """Keep one event of the journal."""
        self.events.append((name, fields))

    @property
    def names(self) -> list[str]:
        """The names alone, in order."""
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[dict[str, object]]:
        """The fields of every event of this name."""
        return [fields for event, fields in self.events if event == name]


@dataclass
class CountedIds:
    """Ids (ports) that count."""

    given: int = 0

    def fresh(self) -> str:
        """An id, never the same twice."""
        self.given += 1
        return f"{self.given:016x}"


class InlineWorkerPool:
    """WorkerPool (ports) that does one thing after the other. A crash is nobody's to catch."""

    def exclusive(self, name: str) -> contextlib.AbstractContextManager[object]:
        """One thread: it always is exclusive."""
        return contextlib.nullcontext()

    def run_all(self, tasks: Sequence[Callable[[], object]]) -> list[Exception]:
        """Run all tasks in their order, on this thread."""
        return [failure for failure in map(failure_of, tasks) if failure is not None]


@dataclass
class CollectedWakes:
    """Wakes (ports) that are collected, for whoever reconciles in a test."""

    waiting: list[str] = field(default_factory=list)

    def wake(self, set_key: str, after_s: float = 0.0) -> None:
        """Once each; what is to be woken later is left to the sweep."""
        if set_key not in self.waiting and after_s <= 0.0:
            self.waiting.append(set_key)

    def taken(self) -> list[str]:
        """All that wait, and none is left."""
        taken, self.waiting = self.waiting, []
        return taken
