"""How a run goes on: which job is due, what it waits for, and what its end means for the others. No lock of its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from sandbox.github.evaluation import concurrency_of, evaluate, input_value, is_true
from sandbox.github.groups import Member, encloses, holders, waiting
from sandbox.github.records import JobRecord, RunnerRecord, RunRecord
from sandbox.plan import Concurrency, Workflow
from sandbox.runner.expressions import condition, render
from sandbox.runner.functions import ExpressionError
from sandbox.workflow.calls import InputError
from sandbox.workflow.matrix import MatrixError, combinations, display_name

FAILED_FAST = "`{}` of the same matrix failed, and fail-fast is on"
REPLACED = "a newer one took its place in the concurrency group {}"
DEADLOCK = "the concurrency group {} is held by the run that it belongs to, so neither could end"


class RunProgress:
    """Runs and their jobs; the caller holds the state's lock."""

    def __init__(
        self, runs: dict[int, RunRecord], runners: dict[int, RunnerRecord], *, full_name: str, next_id: Callable[[], int],
        changed: Callable[[str, JobRecord], None],
    ) -> None:  # fmt: skip
        """`full_name`: `owner/repository`. `changed`: called with (action, job) for each change that GitHub announces."""
        self._runs, self._runners, self._full_name, self._next_id, self._changed = runs, runners, full_name, next_id, changed
        self._arrivals = 0

    def begin(self, workflow: Workflow) -> RunRecord:
        """A new run; what needs nothing is queued at once, unless the run's group is taken."""
        run = RunRecord(id=self._next_id(), number=len(self._runs) + 1, workflow=workflow)
        run.inputs = {name: input_value(name, wanted, None, {}) for name, wanted in workflow.inputs.items()}
        self._runs[run.id] = run
        self._add(run, workflow, None)
        if workflow.concurrency is not None:
            self._ask_for_group(run, workflow.concurrency)
        self.settle(run)
        return run

    def complete(self, run: RunRecord, job: JobRecord, conclusion: str) -> None:
        """The job is over: queue whatever is due now, here and in runs that waited for it."""
        self._finish(run, job, conclusion)
        self._settle_all(run)

    def cancel(self, run: RunRecord) -> None:
        """Queued jobs end at once, running ones are told."""
        for job in run.everything:
            self._stop(run, job)
        self._settle_all(run)

    def settle(self, run: RunRecord) -> None:
        """Queue or skip whatever is due; skipping may make more due."""
        run.is_blocked = run.is_waiting = run.is_waiting and run.status != "completed" and not self._may_go(run)
        moved = not run.is_waiting
        while moved:
            outcomes = [self._moves(run, job) for job in run.everything]
            moved = any(outcomes)

    def contexts(self, run: RunRecord, job: JobRecord) -> dict[str, Any]:
        """What expressions of this job may refer to before it runs."""
        workflow = job.caller.plan.calls if job.caller and job.caller.plan.calls else run.workflow
        strategy = {
            "fail-fast": job.is_fail_fast, "job-index": job.plan.index, "job-total": job.plan.total,
            "max-parallel": job.most_at_once or job.plan.total,
        }  # fmt: skip
        contexts: dict[str, Any] = {
            "github": self._github(run, job.plan.key), "needs": {key: self._need(run, job, key) for key in job.plan.needs},
            "matrix": job.plan.matrix, "strategy": strategy, "vars": run.workflow.variables, "env": workflow.env,
            "inputs": job.caller.inputs if job.caller else run.inputs,
        }  # fmt: skip
        contexts["env"] = {name: render(text, contexts) for name, text in {**workflow.env, **job.plan.env}.items()}
        return contexts

    def _settle_all(self, run: RunRecord) -> None:
        """This run, and those that waited for a group of it."""
        for one in [run, *(other for other in self._runs.values() if other is not run and other.is_blocked)]:
            self.settle(one)

    def _moves(self, run: RunRecord, job: JobRecord) -> bool:
        """Whether anything became of a pending job."""
        if job.status != "pending" or any(other.status != "completed" for other in self._needed(run, job)):
            return False
        try:
            if not job.is_due and not self._becomes_due(run, job):
                return True
            if self._waits(run, job):
                return False
        except (ExpressionError, MatrixError, InputError) as error:
            job.reason = str(error)
            self._finish(run, job, "failure")
            return True
        if job.status == "pending":
            self._start(run, job)
        return True

    def _becomes_due(self, run: RunRecord, job: JobRecord) -> bool:
        """Evaluate what its file says of it; False: it was skipped, or taken apart into the jobs of its matrix."""
        contexts, needed = self.contexts(run, job), self._needed(run, job)
        status = {
            "success": all(other.result == "success" for other in needed),
            "failure": any(other.result == "failure" for other in self._ancestors(run, job)),
            "cancelled": any(o.result == "cancelled" for o in needed),
        }  # fmt: skip
        if not condition(job.plan.condition, contexts, status):
            self._finish(run, job, "skipped")
            return False
        if job.plan.matrix_source is not None:
            self._expand(run, job, contexts)
            return False
        evaluate(job, contexts)
        job.is_due = True
        return True

    def _expand(self, run: RunRecord, job: JobRecord, contexts: dict[str, Any]) -> None:
        """One job for each combination takes the place of this one."""
        made = combinations(job.plan.matrix_source, contexts)
        records = run.calls if job.plan.calls else run.jobs
        plans = [
            dataclasses.replace(
                job.plan, matrix=one, matrix_source=None, index=at, total=len(made), name=display_name(job.plan.name, one)
            )
            for at, one in enumerate(made)
        ]
        at = records.index(job)
        records[at : at + 1] = [
            JobRecord(id=self._next_id(), run_id=run.id, plan=plan, attempt=job.attempt, caller=job.caller) for plan in plans
        ]

    def _waits(self, run: RunRecord, job: JobRecord) -> bool:
        """Whether a job that is due must wait for others of its matrix or of its group."""
        if job.most_at_once and sum(other.is_active for other in self._alike(run, job, job.plan.key)) >= job.most_at_once:
            return True
        concurrency = concurrency_of(job)
        if not job.group or concurrency is None:
            return False
        if not job.arrived:
            if encloses(run, job):
                job.reason = DEADLOCK.format(job.group)
                self._finish(run, job, "cancelled")
                return False
            self._arrive(job, concurrency, self.contexts(run, job))
        blocked = not self._may_go(job)
        run.is_blocked |= blocked
        return blocked

    def _ask_for_group(self, run: RunRecord, concurrency: Concurrency) -> None:
        contexts = {"github": self._github(run, ""), "vars": run.workflow.variables, "inputs": run.inputs}
        try:
            run.group = render(concurrency.group, contexts).lower()
            run.is_waiting = True
            self._arrive(run, concurrency, contexts)
        except ExpressionError as error:
            for job in run.everything:
                job.reason = str(error)
                self._finish(run, job, "failure")

    def _arrive(self, member: Member, concurrency: Concurrency, contexts: dict[str, Any]) -> None:
        """A new member of a group: by default it takes the place of the one that waits, and may end the one that runs."""
        replaced = [] if concurrency.waits_in_line else waiting(self._runs.values(), member.group)
        running = holders(self._runs.values(), member.group) if is_true(concurrency.cancel_in_progress, contexts) else []
        self._arrivals += 1
        member.arrived = self._arrivals
        for other in [one for one in (*replaced, *running) if one is not member]:
            run = self._runs[other.run_id] if isinstance(other, JobRecord) else other
            for job in [other] if isinstance(other, JobRecord) else run.everything:
                job.reason = job.reason or REPLACED.format(member.group)
                self._stop(run, job)

    def _may_go(self, member: Member) -> bool:
        """Whether nobody holds the group and nobody came to it before."""
        return not holders(self._runs.values(), member.group) and waiting(self._runs.values(), member.group)[0] is member

    def _start(self, run: RunRecord, job: JobRecord) -> None:
        if job.plan.remote:
            self._finish(run, job, "skipped")
        elif job.plan.calls is not None:
            job.status, job.started_at = "in_progress", time.time()
            self._add(run, job.plan.calls, job)
            self._end_call(run, job)
        else:
            job.status, job.queued_at = "queued", time.time()
            self._changed("queued", job)

    def _add(self, run: RunRecord, workflow: Workflow, caller: JobRecord | None) -> None:
        for plan in workflow.jobs:
            named = dataclasses.replace(plan, name=f"{caller.plan.name} / {plan.name}") if caller else plan
            record = JobRecord(id=self._next_id(), run_id=run.id, plan=named, attempt=run.attempt, caller=caller)
            (run.calls if plan.calls else run.jobs).append(record)

    def _finish(self, run: RunRecord, job: JobRecord, conclusion: str) -> None:
        """The end of one job, of the others of its matrix if it fails them, and of the call it belongs to."""
        job.status, job.conclusion, job.completed_at = "completed", conclusion, time.time()
        job.started_at = job.started_at or job.completed_at
        if job.runner_id is not None:
            self._runners.pop(job.runner_id, None)
        if job.plan.calls is None:
            self._changed("completed", job)
        if job.result == "failure" and job.is_fail_fast and job.plan.total > 1:
            for other in [one for one in self._alike(run, job, job.plan.key) if one.status != "completed"]:
                other.reason = other.reason or FAILED_FAST.format(job.plan.name)
                self._stop(run, other)
        if job.caller is not None:
            self._end_call(run, job.caller)

    def _end_call(self, run: RunRecord, call: JobRecord) -> None:
        """A call ends with the last of its jobs."""
        inner = [job for job in run.everything if job.caller is call]
        if call.status != "in_progress" or any(job.status != "completed" for job in inner) or call.plan.calls is None:
            return
        keys = dict.fromkeys(job.plan.key for job in inner)
        jobs = {key: self._result_of([job for job in inner if job.plan.key == key]) for key in keys}
        contexts = {**self.contexts(run, call), "jobs": jobs, "inputs": call.inputs}
        try:
            call.outputs = {name: render(text, contexts) for name, text in call.plan.calls.outputs.items()}
        except ExpressionError as error:
            call.reason = str(error)
        ends = {job.result for job in inner}
        worst = next((word for word in ("failure", "cancelled", "success") if word in ends), "skipped" if inner else "success")
        self._finish(run, call, "failure" if call.reason else worst)

    def _stop(self, run: RunRecord, job: JobRecord) -> None:
        if job.plan.calls is not None and job.status == "in_progress":
            for inner in [one for one in run.everything if one.caller is job]:
                self._stop(run, inner)
        elif job.status == "in_progress":
            job.cancelled = True
        elif job.status != "completed":
            self._finish(run, job, "cancelled")

    def _alike(self, run: RunRecord, job: JobRecord, key: str) -> list[JobRecord]:
        """The jobs of that key in the job's own workflow."""
        return [other for other in run.everything if other.caller is job.caller and other.plan.key == key]

    def _needed(self, run: RunRecord, job: JobRecord) -> list[JobRecord]:
        return [other for key in job.plan.needs for other in self._alike(run, job, key)]

    def _ancestors(self, run: RunRecord, job: JobRecord) -> set[JobRecord]:
        """What it needs, directly or by others: `failure()` asks for all of them. Source: "Expressions", GitHub Actions docs."""
        found, new = set[JobRecord](), {job}
        while new := {needed for one in new for needed in self._needed(run, one)} - found:
            found |= new
        return found

    def _need(self, run: RunRecord, job: JobRecord, key: str) -> dict[str, Any]:
        return self._result_of(self._alike(run, job, key))

    @staticmethod
    def _result_of(jobs: list[JobRecord]) -> dict[str, Any]:
        outputs: dict[str, str] = {}
        for job in jobs:
            outputs.update(job.outputs)
        results = [job.result for job in jobs]
        worst = next((word for word in ("failure", "cancelled", "skipped") if word in results), "success")
        return {"result": worst, "outputs": outputs}

    def _github(self, run: RunRecord, key: str) -> dict[str, Any]:
        owner = self._full_name.partition("/")[0]
        return {
            "run_id": str(run.id), "run_number": str(run.number), "run_attempt": str(run.attempt), "job": key,
            "repository": self._full_name, "repository_owner": owner, "workflow": run.workflow.name,
            "event_name": run.workflow.event, "ref": "refs/heads/main", "ref_name": "main", "actor": owner, "sha": "0" * 40,
        }  # fmt: skip
