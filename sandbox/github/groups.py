"""Concurrency groups: of all runs and jobs in one, a single member runs. Source: "Concurrency", GitHub Actions docs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sandbox.github.records import JobRecord, RunRecord

Member = RunRecord | JobRecord


def holders(runs: Iterable[RunRecord], group: str) -> list[Member]:
    """The members that run."""
    return [member for member in _members(runs, group) if _holds(member)]


def waiting(runs: Iterable[RunRecord], group: str) -> list[Member]:
    """The members that wait, in the order of their arrival."""
    return sorted((member for member in _members(runs, group) if _waits(member)), key=lambda member: member.arrived)


def encloses(run: RunRecord, job: JobRecord) -> bool:
    """Whether the run, or a call that the job belongs to, is in the job's own group: neither could ever end."""
    around: Member | None = job.caller
    while isinstance(around, JobRecord):
        if around.group == job.group:
            return True
        around = around.caller
    return run.group == job.group


def _members(runs: Iterable[RunRecord], group: str) -> Iterator[Member]:
    for run in runs:
        members: list[Member] = [run, *run.everything]
        yield from (member for member in members if member.group == group)


def _holds(member: Member) -> bool:
    if isinstance(member, JobRecord):
        return member.is_active
    return not member.is_waiting and member.status != "completed"


def _waits(member: Member) -> bool:
    if isinstance(member, JobRecord):
        return member.status == "pending" and member.arrived > 0
    return member.is_waiting and member.status != "completed"
