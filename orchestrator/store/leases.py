"""Leases of tasks, cursors, marks of what is done once, and suspicions with their age, stored beside the records."""

from __future__ import annotations

from orchestrator.errors import Conflict
from orchestrator.ports import Tables, Write
from orchestrator.store.tables import SESSIONS

SUSPECT_KEPT_S = 86_400.0
"""Seconds after which a suspicion that nobody confirmed begins anew."""


class Leases:
    """Each mark lies under a key of its own, in tables that are handed in. Every method raises ServiceFailed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def acquire(self, name: str, now: float, for_s: float) -> bool:
        """Whether the task of this name is ours to do for so long; False while another process has it."""
        key = (name, "lease")
        held = self._tables.get(SESSIONS, key) or {}
        if held.get("until", 0.0) > now:
            return False
        version = int(held.get("version", 0))
        try:
            self._tables.write([Write(SESSIONS, key, {"until": now + for_s, "version": version + 1}, version)])
        except Conflict:
            return False
        return True

    def set_cursor(self, task: str, name: str) -> None:
        """Remember how far a task has come that goes through names in order."""
        self._tables.write([Write(SESSIONS, (task, "cursor"), {"at": name, "version": 1}, None)])

    def cursor(self, task: str) -> str:
        """How far the task has come; empty: it has not begun."""
        return str((self._tables.get(SESSIONS, (task, "cursor")) or {}).get("at", ""))

    def once(self, what: str, now: float, kept_s: float) -> bool:
        """Whether it is the first time within `kept_s` that somebody asks."""
        key, item = (what, "once"), {"version": 1, "expires": int(now + kept_s)}
        try:
            self._tables.write([Write(SESSIONS, key, item, 0)])
        except Conflict:
            return False
        return True

    def has_happened(self, what: str) -> bool:
        """Whether somebody asked `once` already."""
        return self._tables.get(SESSIONS, (what, "once")) is not None

    def suspect(self, what: str, now: float, for_s: float) -> bool:
        """Whether `what` has been suspected for `for_s` already; the first time is remembered, and forgotten after a day."""
        key = (what, "suspect")
        known = self._tables.get(SESSIONS, key)
        if known is None or now - known["since"] > SUSPECT_KEPT_S:
            version = int(known["version"]) if known else 0
            item = {"since": now, "version": version + 1, "expires": int(now + SUSPECT_KEPT_S)}
            self._tables.write([Write(SESSIONS, key, item, version)])
            return False
        return bool(now - known["since"] >= for_s)

    def clear(self, what: str) -> None:
        """`what` is as it should be: a new suspicion begins anew."""
        if self._tables.get(SESSIONS, (what, "suspect")) is not None:
            self._tables.write([Write(SESSIONS, (what, "suspect"), None)])
