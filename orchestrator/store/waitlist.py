"""Label sets that wait for a limit of the stack or of a repository: one list in the tables for all processes."""

from __future__ import annotations

import msgspec

from orchestrator.ports import Tables, Write
from orchestrator.store.model import WaitlistEntry
from orchestrator.store.tables import SESSIONS, plain

PARTITION = "waitlist"
ENTRY_KEPT_S = 86_400.0
"""Seconds after which the table forgets an entry that nobody looks at."""
FORGOTTEN_S = 1800.0
"""Seconds after which an entry does not count any more: who still waits is written anew long before."""


class Waitlist:
    """Entries by label set, in tables that are handed in. Every method raises ServiceFailed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def add(self, entry: WaitlistEntry) -> None:
        """Remember that a label set waits; an earlier entry of it is replaced."""
        item = {**plain(entry), "version": 1, "expires": int(entry.at + ENTRY_KEPT_S)}
        self._tables.write([Write(SESSIONS, (PARTITION, entry.set_key), item, None)])

    def remove(self, set_key: str) -> None:
        """The label set does not wait any more; none there is success."""
        self._tables.write([Write(SESSIONS, (PARTITION, set_key), None)])

    def entries(self, now: float) -> list[WaitlistEntry]:
        """Who waits, longest first; some may not wait any more."""
        found = [msgspec.convert(item, WaitlistEntry) for item in self._tables.rows(SESSIONS, PARTITION)]
        found = [entry for entry in found if entry.at > now - FORGOTTEN_S]
        return sorted(found, key=lambda entry: (entry.since, entry.set_key))
