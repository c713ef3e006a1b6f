"""Decide whether GitHub may be asked now, from what its answers tell of their own limits: what is left is kept for registrations.

Source: "Rate limits for the REST API" of the GitHub docs: headers `x-ratelimit-*`; 403 or 429, with `retry-after` for secondary
limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.retry_policy import LONGEST_PAUSE_S, PAUSE_S


class Need(StrEnum):
    """What a call is for."""

    REGISTRATION = "registration"
    """A machine waits for it."""
    WORK = "work"
    """Somebody's job waits for it, or something would be left over."""
    LOOKING = "looking"
    """It can wait an hour."""
    NOTICE = "notice"
    """As the last; it creates content, for which GitHub has limits of its own."""


REGISTRATIONS = ("actions_runner_registration", "core")
"""The resources that a registration may count against."""
KEPT_BACK = {Need.REGISTRATION: 0.0, Need.WORK: 0.05, Need.LOOKING: 0.25, Need.NOTICE: 0.25}
"""The part of the limit that calls of each need leave untouched."""
MINUTE_S, NOTICES_A_MINUTE, NOTICES_AN_HOUR = 60.0, 20, 240
"""Of one process. GitHub allows 80 requests a minute that create content, and 500 an hour, from everybody in an account.

Source: "Rate limits for the REST API", secondary limits, GitHub docs.
"""
HOUR_S, AHEAD = 3600.0, 0.05
"""What can wait takes only what an even pace over the hour leaves over, and this part of the limit besides: else it would use up
early what registrations need later.
"""


@dataclass(frozen=True)
class Budget:
    """What GitHub last said of one resource; `resets_at` in epoch seconds."""

    limit: int
    remaining: int
    resets_at: float


class Budgets:
    """Of one App: each account (installation) has its own, per resource (`core`, `actions_runner_registration`, …)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Budget] = {}
        self._resource: dict[tuple[str, Need], str] = {}
        self._closed: dict[tuple[str, bool], float] = {}
        """Account, and whether for notices alone: until when."""
        self._in_a_row: dict[tuple[str, bool], int] = {}
        self._notices: dict[str, deque[float]] = {}
        """When they were posted within the last hour."""

    def told(
        self, account: str, need: Need, status: int, headers: Mapping[str, str], now: float, *, limited: bool = False
    ) -> float | None:
        """Learn from an answer; until when nothing of the kind should be asked, if it was a refusal for too many calls.

        `limited`: it calls itself one. A secondary limit may say nothing in its headers. One that notices earned closes notices
        alone: whether it is wider, the next call of another kind shows.
        """
        door = (account, need is Need.NOTICE)
        if need is Need.NOTICE:
            self._notices.setdefault(account, deque(maxlen=NOTICES_AN_HOUR)).append(now)
        limit, remaining, reset = (_number(headers, f"x-ratelimit-{word}") for word in ("limit", "remaining", "reset"))
        resource = headers.get("x-ratelimit-resource", "core")
        if limit is not None and remaining is not None and reset is not None:
            self._known[account, resource] = Budget(int(limit), int(remaining), reset)
            self._resource[account, need] = resource
        if status not in (403, 429):
            if status < 400:
                self._in_a_row.pop(door, None)
            return None
        pause_s = _number(headers, "retry-after")
        if pause_s is not None:
            return self._shut(door, now + pause_s)
        if remaining == 0 and reset is not None:
            return reset  # that resource alone, and the budget says so
        if status != 429 and not limited:
            return None
        self._in_a_row[door] = row = self._in_a_row.get(door, 0) + 1
        return self._shut(door, now + min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(row - 1, 10)))

    def read(self, account: str, resources: Mapping[str, Mapping[str, float]]) -> None:
        """Learn from GitHub's overview. Until an answer tells which of them registrations count against, it is the scarcest."""
        for name, told in resources.items():
            self._known[account, name] = Budget(int(told["limit"]), int(told["remaining"]), float(told["reset"]))
        candidates = [name for name in REGISTRATIONS if name in resources]
        if candidates:
            scarcest = min(candidates, key=lambda name: self._known[account, name].remaining)
            self._resource.setdefault((account, Need.REGISTRATION), scarcest)
        for need in (Need.WORK, Need.LOOKING, Need.NOTICE):
            self._resource.setdefault((account, need), "core")

    def refused(self, account: str, need: Need, now: float) -> float | None:
        """Until when a call of this need is better not made; None: it may be."""
        if (until := self._shut_until(account, need)) > now:
            return until
        if need is Need.NOTICE and (until := self._paced_until(account, now)) > now:
            return until
        budget = self._budget(account, need, now)
        if budget is None or budget.remaining > _kept_back(need, budget, now) * budget.limit:
            return None
        if budget.remaining <= KEPT_BACK[need] * budget.limit:
            return budget.resets_at
        return budget.resets_at - HOUR_S * (budget.remaining / budget.limit + AHEAD) + 1.0  # then that much is left over

    def left(self, account: str, need: Need, now: float) -> int | None:
        """How many calls of this need may be made now; None: GitHub has not said."""
        if self._shut_until(account, need) > now:
            return 0
        budget = self._budget(account, need, now)
        return None if budget is None else max(0, int(budget.remaining - _kept_back(need, budget, now) * budget.limit))

    def _budget(self, account: str, need: Need, now: float) -> Budget | None:
        """What was last said of the resource that such calls count against, unless it has been filled again since."""
        budget = self._known.get((account, self._resource.get((account, need), "")))
        return budget if budget is not None and budget.resets_at > now else None

    def _shut(self, door: tuple[str, bool], until: float) -> float:
        self._closed[door] = max(until, self._closed.get(door, 0.0))
        return self._closed[door]

    def _shut_until(self, account: str, need: Need) -> float:
        doors = [(account, False), (account, True)] if need is Need.NOTICE else [(account, False)]
        return max(self._closed.get(door, 0.0) for door in doors)

    def _paced_until(self, account: str, now: float) -> float:
        """When one notice more stays within what we allow ourselves of GitHub's limits for content."""
        posted = self._notices.get(account, deque[float]())
        of_hour = posted[0] + HOUR_S if len(posted) >= NOTICES_AN_HOUR else now
        lately = [at for at in posted if at > now - MINUTE_S]
        return max(of_hour, lately[-NOTICES_A_MINUTE] + MINUTE_S if len(lately) >= NOTICES_A_MINUTE else now)


def _kept_back(need: Need, budget: Budget, now: float) -> float:
    """Which part of the limit is for others."""
    evenly = (budget.resets_at - now) / HOUR_S - AHEAD if need in (Need.LOOKING, Need.NOTICE) else 0.0
    return max(KEPT_BACK[need], min(1.0, evenly))


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
