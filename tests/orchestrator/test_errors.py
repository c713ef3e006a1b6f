"""Failures say whose fault they are in words that a log can carry, and the one broad net catches failures and nothing else."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    Conflict,
    DeliveryRefused,
    NotServed,
    OrchestratorError,
    ServiceFailed,
    SettingsInvalid,
    Throttled,
    Unanswered,
    Unlaunchable,
    failure_of,
    without_header,
)
from simulation.calls import Crash, raise_


def test_what_a_service_answered_is_said_with_its_own_word_and_its_detail_if_there_is_one() -> None:
    bare, told = ServiceFailed("sqs:SendMessage", "AccessDenied"), ServiceFailed("ec2:CreateFleet", "Busy", "try later")

    assert (str(bare), bare.action, bare.code) == ("sqs:SendMessage answered AccessDenied", "sqs:SendMessage", "AccessDenied")
    assert (str(told), told.action, told.code) == ("ec2:CreateFleet answered Busy: try later", "ec2:CreateFleet", "Busy")


def test_a_throttled_call_says_when_it_may_come_again_if_that_is_known() -> None:
    known, unknown = Throttled("github:mint", "403", "slow down", until=1234.0), Throttled("github:mint", "403")

    assert (known.until, known.code, str(known)) == (1234.0, "403", "github:mint answered 403: slow down")
    assert unknown.until is None


def test_a_call_without_an_answer_is_told_from_every_answer_by_a_code_of_our_own() -> None:
    error = Unanswered("ec2:CreateFleet", "read timed out")

    assert (error.action, error.code) == ("ec2:CreateFleet", "NoAnswer") and str(error).endswith(": read timed out")


def test_settings_that_are_wrong_are_said_all_at_once() -> None:
    error = SettingsInvalid(("A is missing", "B is no number"))

    assert error.problems == ("A is missing", "B is no number")
    assert str(error) == "the settings are not usable: A is missing; B is no number"


def test_a_refused_delivery_has_its_status_and_its_complaint() -> None:
    error = DeliveryRefused(413, "too long")

    assert (error.status, str(error)) == (413, "too long")


@pytest.mark.parametrize("kind", [Throttled, Unanswered])
def test_whoever_waits_for_a_service_to_fail_hears_of_every_way_it_does(kind: type[ServiceFailed]) -> None:
    assert issubclass(kind, ServiceFailed)


@pytest.mark.parametrize("kind", [Conflict, DeliveryRefused, NotServed, ServiceFailed, SettingsInvalid, Unlaunchable])
def test_every_failure_with_a_name_is_caught_by_the_loops(kind: type[Exception]) -> None:
    assert issubclass(kind, OrchestratorError)


@pytest.mark.parametrize("kind", [Conflict, DeliveryRefused, NotServed, SettingsInvalid, Unlaunchable])
def test_what_is_no_services_fault_is_not_taken_for_it(kind: type[Exception]) -> None:
    assert not issubclass(kind, ServiceFailed)


@pytest.mark.parametrize("error", [Conflict("lost"), ServiceFailed("a", "b"), ValueError("a bug"), KeyError("a bug")])
def test_whatever_a_task_raises_is_what_it_failed_by(error: Exception) -> None:
    assert failure_of(lambda: raise_(error)) is error


@pytest.mark.parametrize("answer", [None, 0, ValueError("an answer")])
def test_a_task_that_returns_anything_did_not_fail(answer: object) -> None:
    assert failure_of(lambda: answer) is None


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1), Crash()])
def test_the_end_of_the_process_is_nobodys_to_catch(end: BaseException) -> None:
    with pytest.raises(type(end)):
        failure_of(lambda: raise_(end))


@pytest.mark.parametrize(
    "words",
    [
        "An HTTP Client raised an unhandled exception: Invalid header value b'SECRET\\n'",
        "Invalid leading whitespace, reserved character(s), or return character(s) in header value: 'Bearer SECRET\\n'",
    ],
)
def test_a_header_that_a_library_quotes_is_cut_away(words: str) -> None:
    assert "SECRET" not in without_header(words) and without_header(words).endswith("header value")


def test_other_words_stay() -> None:
    assert without_header("Connect timeout on endpoint URL") == "Connect timeout on endpoint URL"
