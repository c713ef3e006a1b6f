"""Repositories heard of lately: whoever must look through all of them finds them here."""

from __future__ import annotations

from orchestrator.errors import Conflict
from orchestrator.ports import Tables, Write
from orchestrator.store.naming import Scope, place_of
from orchestrator.store.tables import KEPT_S, SESSIONS

PARTITION = "repositories"
SEEN_S, SEEN_KNOWN = 3600.0, 10_000
"""How often a process writes down that it heard of a repository, and of how many it remembers that it did."""


class Repositories:
    """One item for each, in tables that are handed in. Every method raises ServiceFailed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._seen: dict[Scope, float] = {}

    def heard_of(self, scope: Scope, now: float) -> None:
        """Remember it; an hour's hearings cost one write."""
        if now - self._seen.get(scope, -SEEN_S) < SEEN_S:
            return
        told = {"owner": scope.owner, "repo": scope.repo, "at": now, "expires": int(now + KEPT_S), "version": 1}
        own = {"installation_id": scope.installation_id} if scope.installation_id else {}
        try:
            self._tables.write([Write(SESSIONS, (PARTITION, place_of(scope)), {**told, **own}, None if own else 0)])
        except Conflict:
            pass  # it is known, and with its installation
        if len(self._seen) >= SEEN_KNOWN:
            self._seen.clear()
        self._seen[scope] = now

    def since(self, since: float) -> list[Scope]:
        """Those heard of since then, by name."""
        found = [item for item in self._tables.rows(SESSIONS, PARTITION) if item["at"] >= since]
        return [Scope(item.get("installation_id", ""), item["owner"], item["repo"]) for item in found]
