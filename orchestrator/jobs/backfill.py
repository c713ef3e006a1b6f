"""What GitHub told and we never heard: deliveries that failed are sent again, and jobs that wait there unknown to us become
known.

GitHub does not redeliver by itself. Each round asks for the failed deliveries of the last days, and looks through some of the
repositories heard of lately, one after the other, beginning where the last round ended. So with the default round of five minutes
and fifty repositories a round, a lost delivery is made up for within five minutes (and the round's own time) for each fifty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from orchestrator.errors import Conflict, OrchestratorError, ServiceFailed, Throttled
from orchestrator.jobs.github import FailedDelivery, GitHub
from orchestrator.jobs.intake import UNHEARD, Intake
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.requests import LabelAliases
from orchestrator.ports import Clock, Journal
from orchestrator.retry_policy import REDELIVERIES
from orchestrator.settings import ServerSettings
from orchestrator.store.naming import Scope, place_of

DELIVERIES_S = 3 * 86_400.0
"""GitHub keeps deliveries for about three days. Source: GitHub documentation, "Redelivering webhooks"."""
REDELIVERED, REPOSITORIES = 50, 50
"""Of a round: each costs a call or a few of the App's budget. Five points each of the 900 a minute that registrations want, too.

Source: GitHub REST, "Calculating points for the secondary rate limit".
"""
KEPT_NO_MORE = frozenset({"400", "404", "410"})
"""Of a delivery: asking again would be answered the same. 422 is also said to who asks too often."""
LATELY_S = 7 * 86_400.0
CURSOR = "backfill/repositories"


@dataclass(kw_only=True)
class Backfill:
    """Rounds; on ports that are handed in."""

    settings: ServerSettings
    records: JobRecords
    github: GitHub
    intake: Intake
    aliases: LabelAliases
    clock: Clock
    journal: Journal
    _tried: set[str] = field(default_factory=set)
    """Deliveries that this process has asked for already, and that are still among those that failed."""
    _passed: dict[str, Scope] = field(default_factory=dict)
    """Repositories whose turn it was while GitHub wanted to be left alone: they come first in the next round."""

    def round(self) -> int:
        """One round, unless another replica has it; returns how much was recovered. What fails is in the journal."""
        if not self.records.leases.acquire("backfill", self.clock.now(), 0.9 * self.settings.backfill_s):
            return 0
        return self._attempted("deliveries", self._redelivered) + self._attempted("jobs", self._found)

    def _attempted(self, what: str, task: Callable[[], int]) -> int:
        try:
            return task()
        except OrchestratorError as error:
            self.journal.event("backfill.failed", what=what, error=f"{type(error).__name__}: {error}")
            return 0

    def _redelivered(self) -> int:
        """Oldest first, each until GitHub took the request once. One that fails again is another delivery, of the same guid."""
        now, tried, asked = self.clock.now(), 0, 0
        oldest_first = self.github.failed_deliveries(now - DELIVERIES_S)[::-1]
        self._tried &= {one.delivery_id for one in oldest_first}
        for one in sorted(oldest_first, key=lambda one: one.delivery_id in self._tried):
            if tried == REDELIVERED:
                break
            if not self.records.leases.has_happened(f"delivery/{one.delivery_id}"):
                tried += 1
                self._tried.add(one.delivery_id)  # what is refused again and again comes after the others
                asked += self._attempted("delivery", partial(self._again, one))
        return asked

    def _again(self, failed: FailedDelivery) -> int:
        """Asked twice, if we are cut off in between, does no harm: a delivery that comes again changes nothing."""
        now, attempts = self.clock.now(), [f"delivery/{failed.guid}/{number}" for number in range(REDELIVERIES)]
        this = next((name for name in attempts if not self.records.leases.has_happened(name)), "")
        asked = bool(this)
        try:
            if asked:
                self.github.redeliver(failed.delivery_id)
        except ServiceFailed as error:
            if error.code not in KEPT_NO_MORE:
                raise
            asked = False
            self.journal.event("delivery.gone", delivery=failed.delivery_id, error=str(error))
        for name in filter(None, (f"delivery/{failed.delivery_id}", this)):
            self.records.leases.once(name, now, DELIVERIES_S)
        if asked:
            self.journal.event("delivery.requested_again", delivery=failed.delivery_id)
        elif not this:
            fields = {"guid": failed.guid, "times": REDELIVERIES, "why": self._answer_to(failed)}
            self.journal.event("delivery.given_up", delivery=failed.delivery_id, **fields)
        return asked

    def _answer_to(self, failed: FailedDelivery) -> str:
        """What it was answered last; that GitHub does not say now keeps nobody from hearing that it is given up."""
        try:
            return self.github.answer_to(failed.delivery_id)
        except ServiceFailed as error:
            return f"GitHub does not say now: {error}"

    def _found(self) -> int:
        """Jobs that wait on GitHub, are ours, and that no delivery told of."""
        found = 0
        again = list(self._passed.values())[: REPOSITORIES // 2]
        for scope in again:
            found += self._attempted(place_of(scope), partial(self._unless_throttled, scope))
        for scope in self._turn()[: REPOSITORIES - len(again)]:
            if scope not in again:
                found += self._attempted(place_of(scope), partial(self._unless_throttled, scope))
            self.records.leases.set_cursor(CURSOR, place_of(scope))
        return found

    def _unless_throttled(self, scope: Scope) -> int:
        """Raises: Throttled: its turn is not over, it comes before the others in the next round."""
        self._passed.pop(place_of(scope), None)
        try:
            return self._found_in(scope)
        except Throttled:
            self._passed[place_of(scope)] = scope
            raise

    def _found_in(self, scope: Scope) -> int:
        found = 0
        awake: set[str] = set()
        for event in self.github.waiting_jobs(scope):
            if not self.aliases.are_ours(event.labels):
                continue
            try:
                known = self.records.job(event.job_id)
                if known is not None and _is_as_told(known):
                    awake |= {known.set_key} if self.intake.reconsidered(known) else set()
                    continue
                self.intake.apply(event, asked=True)
            except Conflict:
                continue  # its delivery came just now
            self.journal.event("job.found", job_id=event.job_id, repository=place_of(scope))
            found += 1
        for key in sorted(awake):
            self.intake.sessions.wake(key)  # it waits, and GitHub says so: whatever kept its label set from being looked at
        return found

    def _turn(self) -> list[Scope]:
        """The repositories whose turn it is: those after the one that was looked through last, and then from the beginning."""
        scopes = sorted(self.records.repositories.since(self.clock.now() - LATELY_S), key=place_of)
        last = self.records.leases.cursor(CURSOR)
        first = next((at for at, scope in enumerate(scopes) if place_of(scope) > last), 0)
        return [*scopes[first:], *scopes[:first]][:REPOSITORIES]


def _is_as_told(job: Job) -> bool:
    """As one that GitHub lets run; an approval that was never told, or an end that was only inferred, is not that."""
    return job.state is not JobState.WAITING and job.conclusion != UNHEARD
