"""What GitHub told and we never heard: deliveries that failed are sent again, and jobs that wait there unknown to us become
known.

GitHub does not redeliver by itself. Each round asks for the failed deliveries of the last days, and looks through some of the
repositories for which something was launched lately, all of them in turn. So with the default round of five minutes and fifty
repositories a round, a lost delivery is made up for within five minutes per fifty repositories.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import labels
from orchestrator.errors import Conflict, OrchestratorError
from orchestrator.intake import Intake
from orchestrator.ports import Clock, GitHub, Journal, Scope
from orchestrator.records import Records
from orchestrator.settings import ServerSettings

DELIVERIES_S = 3 * 86_400.0
"""GitHub keeps deliveries for about three days. Source: GitHub documentation, "Redelivering webhooks"."""
REDELIVERED, REPOSITORIES = 20, 50
"""Of a round: each costs a call or a few of the App's budget."""
LATELY_S = 7 * 86_400.0


@dataclass
class Recovery:
    """Rounds; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    github: GitHub
    intake: Intake
    clock: Clock
    journal: Journal

    def round(self) -> int:
        """One round, unless another replica has it; returns how much was recovered. What fails is in the journal."""
        if not self.records.leased("recovery", self.clock.now(), 0.9 * self.settings.recovery_s):
            return 0
        return self._attempted("deliveries", self._redelivered) + self._attempted("jobs", self._found)

    def _attempted(self, what: str, task: object) -> int:
        try:
            return int(task())  # type: ignore[operator]
        except OrchestratorError as error:
            self.journal.event("recovery.failed", what=what, error=f"{type(error).__name__}: {error}")
            return 0

    def _redelivered(self) -> int:
        """Each failed delivery is asked for once a round; our records make a repetition harmless."""
        failed = self.github.failed_deliveries(self.clock.now() - DELIVERIES_S)[:REDELIVERED]
        for delivery_id in failed:
            self.github.redeliver(delivery_id)
            self.journal.event("delivery.requested_again", delivery=delivery_id)
        return len(failed)

    def _found(self) -> int:
        """Jobs that wait on GitHub, are ours, and that no delivery told of."""
        found = 0
        for scope in self._turn():
            for event in self.github.waiting_jobs(scope):
                ours = labels.is_ours(event.labels, lambda label: self.settings.spec_of(label) is not None)
                if not ours or self.records.job(event.job_id) is not None:
                    continue
                try:
                    self.intake.apply(event)
                except Conflict:
                    continue  # its delivery came just now
                self.journal.event("job.found", job_id=event.job_id, repository=f"{scope.owner}/{scope.repo}")
                found += 1
        return found

    def _turn(self) -> list[Scope]:
        """The repositories whose turn it is: all of them one after the other, by the clock alone."""
        now = self.clock.now()
        seen = {(one.owner, one.repo): one.installation_id for one in self.records.ledgers() if now - one.touched_at < LATELY_S}
        scopes = [Scope(installation, *place) for place, installation in sorted(seen.items())]
        if len(scopes) <= REPOSITORIES:
            return scopes
        first = int(now // self.settings.recovery_s) * REPOSITORIES % len(scopes)
        return (scopes + scopes)[first : first + REPOSITORIES]
