"""What we say where whoever waits for a job looks: on the page of its commit; in our own log in any case."""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.messages import OUT_OF_MEMORY, FinalWord, Status
from orchestrator.errors import ServiceFailed
from orchestrator.model import Job, Session
from orchestrator.ports import Clock, GitHub, Journal, Scope
from orchestrator.records import Records

KEPT_S = 7 * 86_400.0
"""For how long it is remembered that something was said."""
CAUSES = {
    OUT_OF_MEMORY: "the machine ran out of memory ({}): ask for more with `ram=`",
    "listener_killed": "its runner was killed ({}), most often for want of memory: ask for more with `ram=`",
    "disk_full": "the disk was full ({}): ask for more with `disk=`",
}
"""Ends that are the machine's size and not the job's fault, by the agent's word."""


def cause_of(word: FinalWord) -> str:
    """Why the machine was too small for its job, in words for whoever wrote its labels; empty: it was not."""
    for part in word.degraded:
        name, _, why = part.partition(": ")
        if name == OUT_OF_MEMORY and word.status is Status.FAILURE:
            return CAUSES[name].format(why[:100])
    return CAUSES[word.reason].format(word.error[:100]) if word.reason in CAUSES else ""


@dataclass
class Notes:
    """Notes; on ports that are handed in."""

    records: Records
    github: GitHub
    clock: Clock
    journal: Journal

    def say_cause(self, job: Job | None, session: Session) -> None:
        """That a job is red because its machine was too small, whichever end was told second. Raises: ServiceFailed."""
        if job is not None and session.cause and session.bound_job == job.job_id and job.conclusion == "failure":
            self.say(job, "This job's machine was too small", f"failed, and {session.cause}.")

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
