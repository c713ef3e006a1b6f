"""The verdicts that do not depend on the kind of work, and the values that cross the port between a life and its work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.supervision import Stop
from agent.work import STOPPED, UNIDENTIFIED, Prepared, Verdict, WorkIdentity, verdict_of_early_stop, verdict_of_failure


def test_every_reason_to_stop_has_a_status_and_a_sentence_of_its_own() -> None:
    sentences = [sentence for _, sentence in STOPPED.values()]

    assert set(STOPPED) == set(Stop)
    assert all(sentences) and len(set(sentences)) == len(Stop)


def test_no_stop_is_a_success() -> None:
    assert [stop for stop, (status, _) in STOPPED.items() if status is Status.SUCCESS] == []


@pytest.mark.parametrize("stop", Stop)
def test_an_early_stop_has_the_status_of_its_reason_and_extends_its_sentence(stop: Stop) -> None:
    found = verdict_of_early_stop(stop)

    status, sentence = STOPPED[stop]
    assert found == Verdict(status, stop.value, f"{sentence}, before the runner was started")


@pytest.mark.parametrize("stop", Stop)
def test_the_reason_of_an_early_stop_is_one_word_and_its_exit_code_is_a_failure(stop: Stop) -> None:
    found = verdict_of_early_stop(stop)

    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", found.reason)
    assert found.exit_code == 1


def test_a_failure_before_the_work_knows_no_result_of_a_job() -> None:
    found = verdict_of_failure("download_failed", "no source has it")

    assert (found.exit_code, found.job_result) == (1, "")


def test_a_success_needs_neither_reason_nor_error() -> None:
    found = Verdict(Status.SUCCESS)

    assert (found.reason, found.error, found.job_result) == ("", "", "")


def test_work_that_did_not_say_what_it_is_has_an_empty_identity() -> None:
    assert WorkIdentity() == UNIDENTIFIED == ("", "", "")


def test_an_identity_is_read_in_the_order_run_attempt_job() -> None:
    run_id, run_attempt, job = WorkIdentity(job="build", run_attempt="2", run_id="42")

    assert (run_id, run_attempt, job) == ("42", "2", "build")


def test_what_was_prepared_reports_nothing_unless_it_is_told_to() -> None:
    prepared = Prepared(Path("/opt/actions-runner"))

    assert (prepared.digest, prepared.cache_outcome, dict(prepared.fields)) == ("", "", {})


def test_two_preparations_share_no_log_fields() -> None:
    assert Prepared(Path("a")).fields is not Prepared(Path("b")).fields


@pytest.mark.parametrize(("value", "name"), [(Verdict(Status.SUCCESS), "status"), (Prepared(Path("a")), "directory")])
def test_what_crosses_the_port_cannot_be_changed(value: object, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, name, None)
