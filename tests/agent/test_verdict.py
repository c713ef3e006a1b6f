"""How a life ended: what was seen goes in, the one true status comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.contract.messages import Status
from agent.runner import verdict
from agent.runner.announcements import JOB_RESULTS
from agent.supervision import Complained, Complaint, Limits, Stop, Watch
from agent.work import Verdict, verdict_of_early_stop, verdict_of_failure

GONE = Watch(limits=Limits(21_600.0, 90.0, 240.0), started_s=0.0, connected=True, exit_code=0)
BUSY = replace(GONE, job="build")
CODES = {name: code for code, name in JOB_RESULTS.items()}


def done(result: str, *, before_stop: bool = False, stop: Stop | None = None) -> Watch:
    """A runner whose job ended so."""
    return replace(BUSY, job_result=result, job_result_before_stop=before_stop, stop=stop)


def complaining(complaint: Complaint, **fields: object) -> Watch:
    """A runner that said this before it left."""
    return replace(GONE, complaints=(Complained(complaint, "in its own words"),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        ("Succeeded", Status.SUCCESS, ""),
        ("SucceededWithIssues", Status.SUCCESS, ""),
        ("Skipped", Status.SUCCESS, ""),
        ("Failed", Status.FAILURE, "job_failed"),
        ("Canceled", Status.FAILURE, "job_canceled"),
        ("Abandoned", Status.FAILURE, "job_abandoned"),
    ],
)
def test_a_jobs_result_is_the_lifes(result: str, status: Status, reason: str) -> None:
    found = verdict.of(replace(BUSY, exit_code=CODES[result]))

    assert found == verdict.of(replace(done(result), exit_code=CODES[result]))
    assert (found.status, found.reason, found.job_result) == (status, reason, result)


@pytest.mark.parametrize("result", ["Failed", "Canceled", "Abandoned"])
@pytest.mark.parametrize("code", [None, 0, 1, 100, 101, 137, -9])
def test_a_red_line_counts_whatever_the_exit_code(code: int | None, result: str) -> None:
    assert verdict.of(replace(done(result), exit_code=code)).reason == f"job_{result.lower()}"


@pytest.mark.parametrize("result", ["Succeeded", "SucceededWithIssues", "Skipped"])
@pytest.mark.parametrize(
    ("code", "reason"), [(0, "job_unproven"), (1, "job_unproven"), (7, "job_unproven"), (137, "listener_killed")]
)
def test_a_green_line_proves_nothing_because_a_job_can_write_it(code: int, reason: str, result: str) -> None:
    found = verdict.of(replace(done(result), exit_code=code))

    assert (found.status, found.reason, found.job_result) == (Status.FAILURE, reason, result)
    assert result in found.error or reason == "listener_killed"


@pytest.mark.parametrize("code", [102, 103, 105])
@pytest.mark.parametrize("line", ["Succeeded", "SucceededWithIssues"])
def test_the_listeners_code_overrules_a_line_that_says_something_better(line: str, code: int) -> None:
    found = verdict.of(replace(done(line), exit_code=code))

    assert (found.status, found.job_result) == (Status.FAILURE, JOB_RESULTS[code])


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        (Stop.MAX_RUNTIME, Status.TIMEOUT, "max_runtime"),
        (Stop.SPOT_NOTICE, Status.INTERRUPTED, "spot_notice"),
        (Stop.SIGNAL, Status.INTERRUPTED, "signal"),
        (Stop.UNCLAIMED, Status.INTERRUPTED, "raced"),
        (Stop.DISK, Status.FAILURE, "disk_full"),
        (Stop.RESTART_LOOP, Status.FAILURE, "restart_loop"),
        (Stop.LINGERED, Status.FAILURE, "lingered"),
    ],
)
def test_each_reason_to_stop_a_busy_runner_has_its_status(stop: Stop, status: Status, reason: str) -> None:
    found = verdict.of(replace(BUSY, stop=stop))

    assert (found.status, found.reason, bool(found.error)) == (status, reason, True)


def test_an_idle_runner_that_was_stopped_was_unclaimed() -> None:
    found = verdict.of(replace(GONE, stop=Stop.UNCLAIMED))

    assert (found.status, found.reason) == (Status.INTERRUPTED, "unclaimed")


@pytest.mark.parametrize("stop", Stop)
@pytest.mark.parametrize(("result", "status"), [("Succeeded", Status.SUCCESS), ("Failed", Status.FAILURE)])
def test_a_job_that_ended_before_the_stop_has_its_own_status(stop: Stop, result: str, status: Status) -> None:
    ended = replace(done(result, before_stop=True, stop=stop), exit_code=CODES[result])

    assert verdict.of(ended).status is status


@pytest.mark.parametrize("stop", Stop)
@pytest.mark.parametrize("code", [0, 137, None])
def test_a_green_line_before_a_stop_makes_no_stopped_job_green(stop: Stop, code: int | None) -> None:
    """A job that expects to be stopped can write one first."""
    found = verdict.of(replace(done("Succeeded", before_stop=True, stop=stop), exit_code=code))

    assert found.status is not Status.SUCCESS and found.job_result == "Succeeded"


@pytest.mark.parametrize("stop", [Stop.MAX_RUNTIME, Stop.SPOT_NOTICE, Stop.SIGNAL, Stop.DISK])
def test_a_completed_line_after_the_stop_does_not_but_is_passed_on(stop: Stop) -> None:
    found = verdict.of(done("Canceled", stop=stop))

    assert (found.reason, found.job_result) == (stop.value, "Canceled")


@pytest.mark.parametrize(
    ("watch", "status", "reason"),
    [
        (BUSY, Status.FAILURE, "job_lost"),
        (replace(BUSY, exit_code=0), Status.FAILURE, "job_lost"),
        (replace(BUSY, exit_code=137), Status.FAILURE, "listener_killed"),
        (replace(BUSY, exit_code=-9), Status.FAILURE, "listener_killed"),
        (replace(BUSY, exit_code=143), Status.FAILURE, "listener_killed"),
        (replace(GONE, exit_code=137), Status.FAILURE, "listener_killed"),
        (replace(GONE, exit_code=134), Status.FAILURE, "listener_killed"),
        (GONE, Status.INTERRUPTED, "unclaimed"),
        (replace(GONE, exit_code=0), Status.INTERRUPTED, "unclaimed"),
        (complaining(Complaint.REMOVED_BY_SERVER, connected=False), Status.INTERRUPTED, "unclaimed"),
        (complaining(Complaint.REGISTRATION_DELETED, exit_code=1), Status.FAILURE, "registration_deleted"),
        (complaining(Complaint.VERSION_REFUSED, exit_code=7), Status.FAILURE, "version_refused"),
        (complaining(Complaint.SESSION_CONFLICT, exit_code=5), Status.FAILURE, "session_conflict"),
        (complaining(Complaint.NOT_CONFIGURED, exit_code=1), Status.FAILURE, "not_configured"),
        (complaining(Complaint.CLOCK_SKEW, exit_code=1), Status.FAILURE, "clock_skew"),
        (complaining(Complaint.WORK_DIRECTORY, exit_code=1), Status.FAILURE, "work_directory"),
        (complaining(Complaint.UPDATING, exit_code=4), Status.FAILURE, "updating"),
        (replace(GONE, connected=False), Status.FAILURE, "runner_failed"),
        (replace(GONE, exit_code=1), Status.FAILURE, "runner_failed"),
        (replace(GONE, exit_code=2), Status.FAILURE, "runner_failed"),
        (replace(GONE, exit_code=5), Status.FAILURE, "session_conflict"),
        (replace(GONE, exit_code=7), Status.FAILURE, "version_refused"),
    ],
)
def test_a_runner_that_left_by_itself_is_judged_by_what_it_said_and_how_it_left(
    watch: Watch, status: Status, reason: str
) -> None:
    found = verdict.of(watch)

    assert (found.status, found.reason, bool(found.error)) == (status, reason, True)


@pytest.mark.parametrize("complaint", [Complaint.REGISTRATION_DELETED, Complaint.VERSION_REFUSED, Complaint.SESSION_CONFLICT])
def test_a_refusal_is_named_in_the_error_with_the_runners_own_words(complaint: Complaint) -> None:
    assert "in its own words" in verdict.of(complaining(complaint, exit_code=1)).error


def test_a_runner_that_would_not_go_is_judged_too() -> None:
    assert verdict.of(replace(BUSY, exit_code=None, stop=Stop.MAX_RUNTIME)).status is Status.TIMEOUT


@pytest.mark.parametrize("stop", [Stop.SIGNAL, Stop.SPOT_NOTICE])
def test_a_stop_before_the_runner_was_started_is_an_interruption(stop: Stop) -> None:
    found = verdict_of_early_stop(stop)

    assert (found.status, found.reason) == (Status.INTERRUPTED, stop.value)
    assert "before the runner was started" in found.error


def test_a_failure_before_there_was_a_runner_keeps_its_name_and_sentence() -> None:
    assert verdict_of_failure("digest_mismatch", "the bytes differ") == Verdict(
        Status.FAILURE, "digest_mismatch", "the bytes differ"
    )


@pytest.mark.parametrize("status", Status)
def test_the_exit_code_is_zero_if_and_only_if_the_status_is_success(status: Status) -> None:
    assert (Verdict(status).exit_code == 0) == (status is Status.SUCCESS)
