"""What we say where whoever waits for a job looks: on the page of its commit; in our own log in any case."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import ServiceFailed
from orchestrator.model import Job
from orchestrator.ports import Clock, GitHub, Journal, Scope
from orchestrator.records import Records

KEPT_S = 7 * 86_400.0
"""For how long it is remembered that something was said."""


@dataclass
class Notes:
    """Notes; on ports that are handed in."""

    records: Records
    github: GitHub
    clock: Clock
    journal: Journal

    def say(self, job: Job, title: str, text: str) -> None:
        """Once for each attempt and title; that it cannot be said is said in the log. Raises: ServiceFailed (of the tables)."""
        name = f"{title}/{job.owner}/{job.repo}/{job.run_id}/{job.run_attempt}/{job.name}"
        if not self.records.once(name, self.clock.now(), KEPT_S):
            return
        try:
            said = bool(job.head_sha) and self.github.note(
                Scope(job.installation_id, job.owner, job.repo), job.head_sha, title, f"`{job.name}` {text}"
            )
        except ServiceFailed as error:
            said = False
            self.journal.event("job.note_failed", job_id=job.job_id, error=str(error))
        if not said:
            self.journal.event(
                "job.noted_silently", job_id=job.job_id, title=title, hint="the App has no permission to write checks"
            )
