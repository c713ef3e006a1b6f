"""A workflow in the stand-in GitHub's rules alone: what is queued when, without runners and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox.github.records import JobRecord, RunRecord
from sandbox.github.state import GitHubState
from sandbox.workflow import read_workflow


class Dispatched:
    """Runs of workflows in one repository; jobs end when a test says so."""

    def __init__(self, directory: Path, text: str, **variables: str) -> None:
        self._directory, self._variables = directory, variables
        self.state = GitHubState("octo", "sandbox", lambda action, job: None)
        self.run = self.begin(text)

    def begin(self, text: str) -> RunRecord:
        """Another run."""
        path = self._directory / "main.yml"
        path.write_text(text, encoding="utf-8")
        return self.state.dispatch(read_workflow(path, self._variables))

    def job(self, name: str, run: RunRecord | None = None) -> JobRecord:
        """The job or call of that name."""
        return next(job for job in (run or self.run).everything if job.plan.name == name)

    def named(self, status: str, run: RunRecord | None = None) -> list[str]:
        """The names of the jobs in that state."""
        return [job.plan.name for job in (run or self.run).jobs if job.status == status]

    def ends(self, run: RunRecord | None = None) -> dict[str, str | None]:
        """How each job ended."""
        return {job.plan.name: job.conclusion for job in (run or self.run).jobs}

    def take(self, *names: str, run: RunRecord | None = None) -> None:
        """Runners take these jobs."""
        for name in names:
            self.state.acquire(self.job(name, run).id)

    def end(self, *names: str, conclusion: str = "success", run: RunRecord | None = None, **outputs: str) -> None:
        """These jobs end; one that waits for a runner is taken first."""
        for name in names:
            job = self.job(name, run)
            if job.status == "queued":
                self.state.acquire(job.id)
            self.state.complete(job.id, conclusion, outputs, [])

    def contexts(self, name: str) -> dict[str, Any]:
        """What expressions of that job may refer to."""
        return self.state.contexts(self.run, self.job(name))
