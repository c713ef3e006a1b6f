"""Small things that are remembered beside the records: leases, cursors, suspicions, who waits in line, where code comes from."""

from __future__ import annotations

from typing import Any

import msgspec

from orchestrator.errors import Conflict
from orchestrator.model import Origin, Place
from orchestrator.ports import Tables, Write
from orchestrator.services import Scope, place_of

JOBS, SESSIONS = "jobs", "sessions"
KEPT_S = 14 * 86_400
"""How long a finished record stays to be looked at.

Twice the days for which GitHub lists failed deliveries, and two weeks to ask.
"""
RESCUE_KEPT_S = 35 * 86_400
"""And a run that may still be run again. Source: GitHub lets a workflow run last 35 days."""
SUSPECT_KEPT_S = 86_400.0
LINE, LINED_UP_S = "line", 86_400.0
"""The partition of those who wait for a limit, and how long one stays whom nobody looks at."""
REPOSITORIES = "repositories"
"""The partition that names every repository heard of lately."""
SEEN_S, SEEN_KNOWN = 3600.0, 10_000
"""How often a process writes down that it heard of a repository, and of how many it remembers that it did."""


FORGOTTEN_S = 1800.0
"""Who still waits is written anew long before."""


class Marks:
    """Each under a key of its own, in tables that are handed in."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._seen: dict[Scope, float] = {}

    def leased(self, name: str, now: float, for_s: float) -> bool:
        """Whether a task of this name is ours to do until then; False while somebody else has it. Raises: ServiceFailed."""
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

    def seen(self, scope: Scope, now: float) -> None:
        """Remember that a repository was heard of; an hour's hearings cost one write. Raises: ServiceFailed."""
        if now - self._seen.get(scope, -SEEN_S) < SEEN_S:
            return
        told = {"owner": scope.owner, "repo": scope.repo, "at": now, "expires": int(now + KEPT_S), "version": 1}
        own = {"installation_id": scope.installation_id} if scope.installation_id else {}
        key = (REPOSITORIES, place_of(scope))
        try:
            self._tables.write([Write(SESSIONS, key, {**told, **own}, None if own else 0)])
        except Conflict:
            pass  # it is known, and with its installation
        if len(self._seen) >= SEEN_KNOWN:
            self._seen.clear()
        self._seen[scope] = now

    def repositories(self, since: float) -> list[Scope]:
        """Those heard of since then, by name. Raises: ServiceFailed."""
        found = [item for item in self._tables.rows(SESSIONS, REPOSITORIES) if item["at"] >= since]
        return [Scope(item.get("installation_id", ""), item["owner"], item["repo"]) for item in found]

    def origin(self, run: str) -> Origin | None:
        """Where a run's code comes from, if somebody asked before. Raises: ServiceFailed."""
        item = self._tables.get(JOBS, (run, "origin"))
        return msgspec.convert(item, Origin) if item is not None else None

    def known(self, run: str, origin: Origin, now: float) -> None:
        """Remember it for as long as the run may have jobs. Raises: ServiceFailed."""
        item = {**msgspec.to_builtins(origin), "version": 1, "expires": int(now + RESCUE_KEPT_S)}
        self._tables.write([Write(JOBS, (run, "origin"), item, None)])

    def lined_up(self, place: Place) -> None:
        """Remember that a label set waits for what the whole stack, or its repository, lacks. Raises: ServiceFailed."""
        item = {**plain(place), "version": 1, "expires": int(place.at + LINED_UP_S)}
        self._tables.write([Write(SESSIONS, (LINE, place.set_key), item, None)])

    def let_go(self, set_key: str) -> None:
        """It does not wait any more. Raises: ServiceFailed."""
        self._tables.write([Write(SESSIONS, (LINE, set_key), None)])

    def line(self, now: float) -> list[Place]:
        """Who waits, longest first; some may not wait any more. Raises: ServiceFailed."""
        found = [msgspec.convert(item, Place) for item in self._tables.rows(SESSIONS, LINE)]
        found = [place for place in found if place.at > now - FORGOTTEN_S]
        return sorted(found, key=lambda place: (place.since, place.set_key))

    def reached(self, task: str, name: str) -> None:
        """Remember how far a task has come that goes through names in order. Raises: ServiceFailed."""
        self._tables.write([Write(SESSIONS, (task, "cursor"), {"at": name, "version": 1}, None)])

    def reached_last(self, task: str) -> str:
        """Empty: it has not begun. Raises: ServiceFailed."""
        return str((self._tables.get(SESSIONS, (task, "cursor")) or {}).get("at", ""))

    def once(self, what: str, now: float, kept_s: float) -> bool:
        """Whether it is the first time within so long that somebody asks. Raises: ServiceFailed."""
        key, item = (what, "once"), {"version": 1, "expires": int(now + kept_s)}
        try:
            self._tables.write([Write(SESSIONS, key, item, 0)])
        except Conflict:
            return False
        return True

    def happened(self, what: str) -> bool:
        """Whether somebody asked `once` already. Raises: ServiceFailed."""
        return self._tables.get(SESSIONS, (what, "once")) is not None

    def suspected(self, what: str, now: float, for_s: float) -> bool:
        """Whether `what` has been suspected for so long already; the first time is remembered, and forgotten after a day.

        Raises: ServiceFailed.
        """
        key = (what, "suspect")
        known = self._tables.get(SESSIONS, key)
        if known is None or now - known["since"] > SUSPECT_KEPT_S:
            version = int(known["version"]) if known else 0
            item = {"since": now, "version": version + 1, "expires": int(now + SUSPECT_KEPT_S)}
            self._tables.write([Write(SESSIONS, key, item, version)])
            return False
        return bool(now - known["since"] >= for_s)

    def cleared(self, what: str) -> None:
        """`what` is as it should be: whatever was suspected begins anew. Raises: ServiceFailed."""
        if self._tables.get(SESSIONS, (what, "suspect")) is not None:
            self._tables.write([Write(SESSIONS, (what, "suspect"), None)])


def plain(value: Any) -> dict[str, Any]:
    """Absent instead of null or empty: an empty string must never become an index key."""
    return {k: v for k, v in msgspec.to_builtins(value).items() if v is not None and v not in ("", [], {})}
