"""Whether a job is run here: by its labels, the operator's policy, and where its code comes from, which GitHub is asked once."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.contract.shown import cut
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.model import Job, Origin
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.requests import JobRequests
from orchestrator.ports import Clock, WorkerPool

MOST_TOLD = 1_000
"""Characters of a refusal: it quotes what strangers wrote, and stands in records, the log and a notice."""
RUNS_KNOWN = 10_000
"""Runs remembered by this process, so that each is asked for once."""


@dataclass
class Refusals:
    """Judgements of jobs; on ports that are handed in."""

    requests: JobRequests
    records: JobRecords
    github: GitHub
    clock: Clock
    workers: WorkerPool
    _runs: dict[str, Origin] = field(default_factory=dict)

    def why(self, job: Job, *, public: bool) -> str:
        """Why a job is not run here, in words for whoever wrote its labels; empty: it is. Raises: ServiceFailed."""
        rule, fork = self.requests.policy.rule_of(job.repository), False
        readable = not self.requests.parsed(job.labels).complaints  # else GitHub need not be asked
        if readable and rule is not None and not (rule.forks and rule.public):
            origin = self._origin(job)
            if origin is None:
                return f"GitHub does not know its run {job.run_id} (404): it was deleted, or is not the App's to see"
            fork, public = origin.fork, public or origin.public
        return cut(self.requests.refusal(job.repository, job.labels, public=public, fork=fork), MOST_TOLD)

    def _origin(self, job: Job) -> Origin | None:
        """Where the code of its run comes from; None: GitHub does not know the run, and it is trusted with nothing."""
        key = f"{job.repository}/{job.run_id}".casefold()
        with self.workers.exclusive(key):
            known = self._runs.get(key) or self.records.origin(key)
            if known is None:
                found = self.github.run(job.scope, job.run_id)
                if found is None:
                    return None
                known = Origin(fork=found.fork, public=found.public)
                self.records.remember_origin(key, known, self.clock.now())
            if len(self._runs) >= RUNS_KNOWN:
                self._runs.clear()
            self._runs[key] = known
            return known
