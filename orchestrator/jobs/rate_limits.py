"""Decide whether GitHub may be asked now, from what its answers tell of their own limits: what is left is kept for registrations.

Source: "Rate limits for the REST API" of the GitHub docs: headers `x-ratelimit-*`; 403 or 429, with `retry-after` for secondary
limits.
"""

from __future__ import annotations

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


REGISTRATIONS = ("actions_runner_registration", "core")
"""The resources that a registration may count against."""
KEPT_BACK = {Need.REGISTRATION: 0.0, Need.WORK: 0.05, Need.LOOKING: 0.25}
"""The part of the limit that calls of each need leave untouched."""
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
        self._closed: dict[str, float] = {}
        self._in_a_row: dict[str, int] = {}

    def told(
        self, account: str, need: Need, status: int, headers: Mapping[str, str], now: float, *, limited: bool = False
    ) -> float | None:
        """Learn from an answer; until when nothing should be asked, if the answer was a refusal for too many calls.

        `limited`: it calls itself one. A secondary limit may say nothing in its headers.
        """
        limit, remaining, reset = (_number(headers, f"x-ratelimit-{word}") for word in ("limit", "remaining", "reset"))
        resource = headers.get("x-ratelimit-resource", "core")
        if limit is not None and remaining is not None and reset is not None:
            self._known[account, resource] = Budget(int(limit), int(remaining), reset)
            self._resource[account, need] = resource
        if status not in (403, 429):
            if status < 400:
                self._in_a_row.pop(account, None)
            return None
        pause_s = _number(headers, "retry-after")
        if pause_s is not None:
            return self._shut(account, now + pause_s)
        if remaining == 0 and reset is not None:
            return reset  # that resource alone, and the budget says so
        if status != 429 and not limited:
            return None
        self._in_a_row[account] = row = self._in_a_row.get(account, 0) + 1
        return self._shut(account, now + min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(row - 1, 10)))

    def read(self, account: str, resources: Mapping[str, Mapping[str, float]]) -> None:
        """Learn from GitHub's overview. Until an answer tells which of them registrations count against, it is the scarcest."""
        for name, told in resources.items():
            self._known[account, name] = Budget(int(told["limit"]), int(told["remaining"]), float(told["reset"]))
        candidates = [name for name in REGISTRATIONS if name in resources]
        if candidates:
            scarcest = min(candidates, key=lambda name: self._known[account, name].remaining)
            self._resource.setdefault((account, Need.REGISTRATION), scarcest)
        for need in (Need.WORK, Need.LOOKING):
            self._resource.setdefault((account, need), "core")

    def refused(self, account: str, need: Need, now: float) -> float | None:
        """Until when a call of this need is better not made; None: it may be."""
        if (until := self._closed.get(account, 0.0)) > now:
            return until
        budget = self._budget(account, need, now)
        if budget is None or budget.remaining > _kept_back(need, budget, now) * budget.limit:
            return None
        if budget.remaining <= KEPT_BACK[need] * budget.limit:
            return budget.resets_at
        return budget.resets_at - HOUR_S * (budget.remaining / budget.limit + AHEAD) + 1.0  # then that much is left over

    def left(self, account: str, need: Need, now: float) -> int | None:
        """How many calls of this need may be made now; None: GitHub has not said."""
        if self._closed.get(account, 0.0) > now:
            return 0
        budget = self._budget(account, need, now)
        return None if budget is None else max(0, int(budget.remaining - _kept_back(need, budget, now) * budget.limit))

    def _budget(self, account: str, need: Need, now: float) -> Budget | None:
        """What was last said of the resource that such calls count against, unless it has been filled again since."""
        budget = self._known.get((account, self._resource.get((account, need), "")))
        return budget if budget is not None and budget.resets_at > now else None

    def _shut(self, account: str, until: float) -> float:
        self._closed[account] = max(until, self._closed.get(account, 0.0))
        return self._closed[account]


def _kept_back(need: Need, budget: Budget, now: float) -> float:
    """Which part of the limit is for others."""
    evenly = (budget.resets_at - now) / HOUR_S - AHEAD if need is Need.LOOKING else 0.0
    return max(KEPT_BACK[need], min(1.0, evenly))


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
