"""How often GitHub lets itself be asked: by App and resource, told in every answer's headers.

Source: "Rate limits for the REST API", GitHub docs; the figures for registrations are those that operators report.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque

HOUR_S, MINUTE_S = 3600.0, 60.0
CORE, REGISTRATIONS = "core", "actions_runner_registration"
Headers = tuple[tuple[str, str], ...]


class Limits:
    """Counts. The figures may be changed while it counts."""

    def __init__(self) -> None:
        self.hourly = {CORE: 5_000, REGISTRATIONS: 10_000}
        self.mints_a_minute = 180
        self.refused = 0.0
        """Share of all calls that are refused as too many, though they are not: GitHub's secondary limits tell no figures."""
        self.status = 403
        """Or 429: GitHub says that it may be either."""
        self.says_when = True
        """Whether a secondary limit says when to come again: it may not."""
        self.seen: Counter[str] = Counter()
        self._chance = random.Random(13)
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}
        self._mints: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def count(self, app: str, resource: str) -> tuple[bool, Headers]:
        """Whether this call may be made, and what its answer tells of the limit."""
        now, limit = time.time(), self.hourly[resource]
        with self._lock:
            began, used = self._windows.get((app, resource), (now, 0))
            if now - began >= HOUR_S:
                began, used = now, 0
            allowed = used < limit
            used += allowed
            self._windows[app, resource] = (began, used)
            if self.refused and self._chance.random() < self.refused:
                self.seen["calls refused by GitHub"] += 1
                return False, (("retry-after", "1"),) if self.says_when else ()
            told: Headers = (
                ("x-ratelimit-limit", str(limit)), ("x-ratelimit-remaining", str(max(0, limit - used))), ("x-ratelimit-used", str(used)),
                ("x-ratelimit-reset", str(int(began + HOUR_S))), ("x-ratelimit-resource", resource),
            )  # fmt: skip
            if resource == REGISTRATIONS and allowed and not self._may_mint(app, now):
                return False, (*told, *((("retry-after", str(int(MINUTE_S))),) if self.says_when else ()))
        return allowed, told

    def overview(self, app: str) -> dict[str, dict[str, int]]:
        """What is left of each resource; asking costs nothing."""
        now = time.time()
        with self._lock:
            found = {}
            for resource, limit in self.hourly.items():
                began, used = self._windows.get((app, resource), (now, 0))
                used = used if now - began < HOUR_S else 0
                found[resource] = {"limit": limit, "used": used, "remaining": max(0, limit - used), "reset": int(began + HOUR_S)}
        return found

    def _may_mint(self, app: str, now: float) -> bool:
        """The secondary limit, over the last minute."""
        lately = self._mints.setdefault(app, deque())
        while lately and now - lately[0] >= MINUTE_S:
            lately.popleft()
        if len(lately) >= self.mints_a_minute:
            return False
        lately.append(now)
        return True
