"""The records of GitHub jobs beside those of the fleet, in the same tables."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from orchestrator.jobs.model import RERUN_KEPT_S, Job, Notice, Origin, Rerun
from orchestrator.ports import Write
from orchestrator.store.model import Session
from orchestrator.store.naming import session_of
from orchestrator.store.records import Records
from orchestrator.store.tables import JOBS


class JobRecords(Records):
    """Everything that is remembered, of the fleet and of GitHub jobs."""

    def job(self, job_id: str) -> Job | None:
        """A job, read consistently. Raises: ServiceFailed."""
        return self.read(Job, job_id)

    def rerun(self, run_key: str) -> Rerun | None:
        """The re-run of a run, read consistently. Raises: ServiceFailed."""
        return self.read(Rerun, run_key)

    def notice(self, name: str) -> Notice | None:
        """A notice, read consistently. Raises: ServiceFailed."""
        return self.read(Notice, name)

    def origin(self, run: str) -> Origin | None:
        """Where a run's code comes from, if somebody asked before. Raises: ServiceFailed."""
        item = self._tables.get(JOBS, (run, "origin"))
        return msgspec.convert(item, Origin) if item is not None else None

    def remember_origin(self, run: str, origin: Origin, now: float) -> None:
        """Remember it for as long as the run may have jobs. Raises: ServiceFailed."""
        item = {**msgspec.to_builtins(origin), "version": 1, "expires": int(now + RERUN_KEPT_S)}
        self._tables.write([Write(JOBS, (run, "origin"), item, None)])

    def sessions_of(self, job: Job, stack_id: str) -> list[Session]:
        """The sessions that were launched for a job, and the one whose runner took it. Raises: ServiceFailed."""
        took = session_of(stack_id, job.runner_name)
        named = dict.fromkeys(filter(None, [*self.sessions_for(job.job_id), took]))
        return [one for one in map(self.session, named) if one is not None]

    def open_jobs(self) -> Iterator[Job]:
        """The jobs that are not completed, as far as the index knows yet. Raises: ServiceFailed."""
        return self.open(Job)

    def jobs(self) -> Iterator[Job]:
        """Every job, from the whole table, for people. Raises: ServiceFailed."""
        return self.all(Job)

    def reruns(self) -> Iterator[Rerun]:
        """Every re-run, from the whole table, for people. Raises: ServiceFailed."""
        return self.all(Rerun)
