"""Who waits for a limit, in which order, and when each is looked at again: the waitlist as one process knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.fleet.demand import HELD_S
from orchestrator.fleet.turn_taking import in_turn
from orchestrator.ports import Clock, Wakes
from orchestrator.store.kinds import changed
from orchestrator.store.model import WaitlistEntry
from orchestrator.store.records import Records

PACED_S, BEHIND_S = 2.0, 30.0
"""Seconds that what the limits do not allow now waits before it is asked again: at the front of the line, and behind it.

Whoever is behind is woken when it comes to the front.
"""
FRONT, FRONT_OF_OTHERS = 5, 20
"""Label sets at the front: of those that wait for the stack's limits, and of those that wait for their own or a repository's."""
WAITLISTED_BEFORE = 20
"""Label sets that waited before, and are looked at with one that wants machines now."""


@dataclass(kw_only=True)
class Line:
    """The waitlist; on ports that are handed in."""

    records: Records
    clock: Clock
    wakes: Wakes
    _entries: dict[str, WaitlistEntry] = field(default_factory=dict)
    """As read or written last."""
    _front: frozenset[str] = frozenset()
    _read_at: float = 0.0

    def read(self, own: Sequence[str], wanting: Sequence[WaitlistEntry]) -> tuple[list[str], frozenset[str]]:
        """Read it anew, for label sets that want machines now.

        Returns those that wait for the stack's limits and whose turn is before one of these, at most a few; and which of these
        have more than a few before them. Raises: ServiceFailed.
        """
        self._read()
        others = [entry for key, entry in self._entries.items() if not entry.whose and key not in own]
        before: list[str] = []
        behind: set[str] = set()
        waiting: list[str] = []
        wanted = {entry.set_key for entry in wanting}
        for entry in in_turn([*others, *wanting], _repository, _age):
            if entry.set_key not in wanted:
                waiting.append(entry.set_key)
                continue
            before = list(waiting)
            if len(waiting) > WAITLISTED_BEFORE:
                behind.add(entry.set_key)
        return before[:WAITLISTED_BEFORE], frozenset(behind)

    def among(self, keys: Sequence[str]) -> list[str]:
        """Which of these wait, as far as this process knows: others may have put them off. Raises: ServiceFailed."""
        if self.clock.now() - self._read_at > BEHIND_S:
            self._read()
        return [key for key in keys if key in self._entries]

    def put_off(self, entry: WaitlistEntry, *, paused: bool) -> None:
        """It waits; `paused`: until it is woken, however long. Raises: ServiceFailed."""
        key, now = entry.set_key, self.clock.now()
        known = self._entries.get(key)
        if known is None or changed(known, at=now) != entry or now - known.at > HELD_S:
            self.records.waitlist.add(entry)
            self._entries[key] = entry
        if not paused:
            pause_s = PACED_S if key in self._front or len(self._front) < FRONT else BEHIND_S
            self.records.wake(key, now + pause_s)
            self.wakes.wake(key, pause_s)

    def leave(self, key: str) -> None:
        """It does not wait any more: whoever comes to the front is woken. Raises: ServiceFailed."""
        self.records.waitlist.remove(key)
        self._entries.pop(key, None)
        front = self._at_the_front()
        for new in front - self._front:
            self.wakes.wake(new)
        self._front = front

    def room(self, repositories: Iterable[str]) -> None:
        """Machines of these repositories may have gone: who waits for a limit of theirs is woken, longest waiting first."""
        for repository in repositories:
            mine = [entry for entry in list(self._entries.values()) if entry.whose and entry.repository == repository]
            for entry in sorted(mine, key=_age)[:FRONT]:
                self.wakes.wake(entry.set_key)

    def _read(self) -> None:
        now = self.clock.now()
        self._entries = {entry.set_key: entry for entry in self.records.waitlist.entries(now)}
        self._front, self._read_at = self._at_the_front(), now

    def _at_the_front(self) -> frozenset[str]:
        waiting = list(self._entries.values())
        of_stack = in_turn([entry for entry in waiting if not entry.whose], _repository, _age)[:FRONT]
        of_others = in_turn([entry for entry in waiting if entry.whose], _repository, _age)[:FRONT_OF_OTHERS]
        return frozenset(entry.set_key for entry in (*of_stack, *of_others))


def _repository(entry: WaitlistEntry) -> str:
    return entry.repository


def _age(entry: WaitlistEntry) -> tuple[float, str]:
    return entry.since, entry.set_key
