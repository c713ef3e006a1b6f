"""The records of jobs beside the fleet's: what is found by which name, and what is listed."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.jobs.model import RERUN_KEPT_S, JobState, Notice, Origin, Rerun, RerunState
from orchestrator.jobs.records import JobRecords
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS
from simulation.clock import MORNING, VirtualTime
from simulation.examples import a_job, a_session
from simulation.tables import MemoryTables


@pytest.fixture
def tables() -> MemoryTables:
    """Empty ones."""
    return MemoryTables(VirtualTime())


@pytest.fixture
def records(tables: MemoryTables) -> JobRecords:
    """On these tables."""
    return JobRecords(tables)


def a_rerun(**changes: object) -> Rerun:
    """The re-run of the run of the example's job."""
    given: dict[str, object] = {"run_key": "octo/widgets/7", "owner": "octo", "repo": "widgets", "run_id": "7", **changes}
    return Rerun(installation_id="3", **given)  # type: ignore[arg-type]


def test_a_job_its_rerun_and_its_notice_are_each_found_by_their_own_name_though_all_share_it(records: JobRecords) -> None:
    job, rerun = records.put(a_job(job_id="same")), records.put(a_rerun(run_key="same"))
    about: dict[str, Any] = dict.fromkeys(("job_id", "owner", "repo", "installation_id", "head_sha", "title"), "x")
    notice = records.put(Notice(name="same", **about))

    assert (records.job("same"), records.rerun("same"), records.notice("same")) == (job, rerun, notice)
    assert (records.job("other"), records.rerun("other"), records.notice("other")) == (None, None, None)


@pytest.mark.parametrize("origin", [Origin(fork=fork, public=public) for fork in (True, False) for public in (True, False)])
def test_where_a_run_comes_from_is_remembered_for_as_long_as_it_may_have_jobs(
    records: JobRecords, tables: MemoryTables, origin: Origin
) -> None:
    assert records.origin("octo/widgets/7") is None
    records.remember_origin("octo/widgets/7", origin, MORNING)

    written = tables.peek(JOBS, ("octo/widgets/7", "origin"))
    assert records.origin("octo/widgets/7") == origin and records.origin("octo/widgets/8") is None
    assert written is not None and written["expires"] == int(MORNING + RERUN_KEPT_S)


def test_an_origin_that_two_processes_found_is_no_conflict(records: JobRecords) -> None:
    for fork in (False, True):
        records.remember_origin("octo/widgets/7", Origin(fork=fork, public=False), MORNING)

    assert records.origin("octo/widgets/7") == Origin(fork=True, public=False)


def test_the_sessions_of_a_job_are_those_launched_for_it_and_the_one_that_took_it(records: JobRecords) -> None:
    for name, launched_for in (("s-aa", "1"), ("s-bb", "1"), ("s-cc", "2"), ("s-dd", "3")):
        records.put(a_session(session_id=name, launched_for=launched_for, instance_id=f"i-{name}"))

    found = records.sessions_of(a_job(runner_name="tests-s-cc"), "tests")

    assert sorted(one.session_id for one in found) == ["s-aa", "s-bb", "s-cc"]


@pytest.mark.parametrize("runner", ["tests-s-aa", "", "somebody-elses", "other-s-dd", "tests-s-gone"])
def test_each_session_of_a_job_is_named_once_and_runners_that_are_not_ours_or_are_forgotten_not_at_all(
    records: JobRecords, runner: str
) -> None:
    records.put(a_session(session_id="s-aa", launched_for="1"))
    records.put(a_session(session_id="s-dd", launched_for="3"))

    assert [one.session_id for one in records.sessions_of(a_job(runner_name=runner), "tests")] == ["s-aa"]


def test_open_jobs_are_those_that_are_not_completed_and_all_jobs_are_all(records: JobRecords) -> None:
    for number, state in enumerate(JobState):
        records.put(a_job(job_id=str(number), state=state))
    records.put(a_session(session_id="s-aa", state=SessionState.BUSY))
    records.put(a_rerun())

    assert sorted(job.state for job in records.open_jobs()) == sorted(set(JobState) - {JobState.COMPLETED})
    assert sorted(job.job_id for job in records.jobs()) == ["0", "1", "2", "3"]


def test_every_rerun_is_listed_also_one_that_rests(records: JobRecords) -> None:
    records.put(a_rerun())
    records.put(a_rerun(run_key="octo/widgets/8", run_id="8", state=RerunState.RESTING))
    records.put(a_job())

    assert sorted(one.run_id for one in records.reruns()) == ["7", "8"]


@pytest.mark.parametrize(
    ("changes", "waits", "wants"),
    [
        ({"state": JobState.WAITING}, True, False),
        ({"state": JobState.QUEUED}, True, True),
        ({"state": JobState.QUEUED, "refused": "too large"}, False, False),
        ({"state": JobState.IN_PROGRESS}, False, False),
        ({"state": JobState.COMPLETED}, False, False),
    ],
)
def test_a_job_lies_in_its_label_sets_view_while_it_waits_and_wants_a_session_once_it_is_queued(
    records: JobRecords, changes: dict[str, object], waits: bool, wants: bool
) -> None:
    first = records.put(a_job(state=JobState.WAITING))
    records.put(a_job(version=first.version, non_interruptible=True, **changes))

    items = records.view(first.set_key).items
    assert [(one.identity, one.wants_session, one.non_interruptible) for one in items] == ([("1", wants, True)] if waits else [])
