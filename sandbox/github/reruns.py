"""Which jobs of a run are run again: the chosen ones and whatever needs them, also across calls of workflows."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.github.records import JobRecord, RunRecord


def begin_again(run: RunRecord, chosen: list[JobRecord], next_id: Callable[[], int]) -> None:
    """A new attempt with new records for these jobs and for all that need them; a call of a workflow goes on with its new jobs."""
    again, reopened = set(chosen), set[JobRecord]()
    while True:
        open_ = again | reopened
        after = {job for job in run.everything if job not in again and any(_needs(job, one) for one in open_)}
        around = {one.caller for one in open_ if one.caller is not None} - open_
        if not after and not around:
            break
        again |= after
        reopened |= around
    run.attempt += 1
    for records in (run.jobs, run.calls):
        for job in [one for one in records if one in again or _is_within(one, again)]:
            run.past += [job] if records is run.jobs else []
            at = records.index(job)
            new = JobRecord(id=next_id(), run_id=run.id, plan=job.plan, attempt=run.attempt, caller=job.caller)
            records[at : at + 1] = [] if _is_within(job, again) else [new]
    for call in reopened - again:
        call.status, call.conclusion = "in_progress", None


def _needs(job: JobRecord, other: JobRecord) -> bool:
    return job.caller is other.caller and other.plan.key in job.plan.needs


def _is_within(job: JobRecord, calls: set[JobRecord]) -> bool:
    """Whether it belongs to a call that begins anew, and makes its jobs anew."""
    caller = job.caller
    while caller is not None:
        if caller in calls:
            return True
        caller = caller.caller
    return False
