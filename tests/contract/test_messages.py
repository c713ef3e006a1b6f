"""What comes out on the termination queue: the same bytes for the same message, readable for as long as anyone writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import CONTRACT_VERSION
from agent.contract.errors import ContractError
from agent.contract.messages import (
    BootstrapFailed,
    Busy,
    FinalWord,
    Interrupting,
    Message,
    Started,
    Status,
    read_message,
    write_message,
)

GOLDEN = Path(__file__).parent / "golden"
ENVELOPE: dict[str, Any] = {
    "instance_id": "i-0123456789abcdef0",
    "job_id": "47331",
    "message_id": "message-1",
    "session_id": "session-1",
    "attempt": 2,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
BEGAN, ENDED = datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 12, 2, 3, tzinfo=UTC)
VERSION_1: dict[str, Message] = {
    "started": Started(**ENVELOPE, self_termination="permitted", phases_ms={"configuration": 40, "release": 310}),
    "busy": Busy(**ENVELOPE, ran_run_id="9001", ran_run_attempt="1", ran_job="build"),
    "interrupting": Interrupting(**ENVELOPE, reason="spot", ends_at=ENDED),
    "final-word": FinalWord(
        **ENVELOPE,
        status=Status.FAILURE,
        exit_code=1,
        duration_seconds=123,
        started_at=BEGAN,
        completed_at=ENDED,
        error="the job ended with Failed",
        reason="job_failed",
        job_result="Failed",
        runner_exit_code=0,
        ran_run_id="9001",
        ran_run_attempt="1",
        ran_job="build",
        phases_ms={"configuration": 40, "release": 310, "run": 120_000},
        log_outcome="partial",
        log_lines_shipped=4_711,
        log_lines_lost=3,
        diag_outcome="uploaded",
        cache_outcome="already_there",
        digest="releases-api",
        degraded=("RUNS_FLEET_CONFIG_BUCKET: not set, so that part is off",),
    ),
    "final-word-before-configuration": FinalWord(
        instance_id="i-0123456789abcdef0",
        job_id="",
        message_id="message-1",
        status=Status.FAILURE,
        exit_code=75,
        duration_seconds=300,
        started_at=BEGAN,
        completed_at=ENDED,
        error="the configuration never came",
        reason="configuration_missing",
    ),
    "bootstrap-failed": BootstrapFailed(instance_id="i-0123456789abcdef0", error="no space left on device"),
}


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text("utf-8").rstrip("\n")


def a_final_word(**changes: Any) -> str:
    return json.dumps(json.loads(golden("v1/final-word")) | changes)


@pytest.mark.parametrize("name", VERSION_1)
def test_what_version_1_wrote_is_what_we_write_byte_for_byte(name: str) -> None:
    assert write_message(VERSION_1[name]) == golden(f"v1/{name}")


@pytest.mark.parametrize("name", VERSION_1)
def test_what_version_1_wrote_is_readable(name: str) -> None:
    assert read_message(golden(f"v1/{name}")) == VERSION_1[name]


@pytest.mark.parametrize("status", ["success", "failure", "timeout", "interrupted"])
def test_the_seed_s_own_message_is_readable_with_each_of_its_statuses(status: str) -> None:
    body = golden("seed/final-word").replace('"success"', f'"{status}"')

    assert read_message(body) == FinalWord(
        instance_id="i-0123456789abcdef0",
        job_id="67890",
        status=Status(status),
        exit_code=0,
        duration_seconds=123,
        started_at=datetime(2025, 11, 25, 10, tzinfo=UTC),
        completed_at=datetime(2025, 11, 25, 10, 2, 3, tzinfo=UTC),
        error="optional error message",
    )


def test_whoever_knows_only_the_seed_finds_all_of_its_fields_in_ours() -> None:
    seed, ours = json.loads(golden("seed/final-word")), json.loads(golden("v1/final-word"))

    assert {name: type(value) for name, value in seed.items()} == {name: type(ours[name]) for name in seed}


@pytest.mark.parametrize("name", VERSION_1)
def test_every_message_says_its_status_and_who_sent_it(name: str) -> None:
    written = json.loads(write_message(VERSION_1[name]))

    assert written["status"] and written["instance_id"] == "i-0123456789abcdef0"
    assert name == "bootstrap-failed" or written["contract_version"] == CONTRACT_VERSION


@pytest.mark.parametrize("kind", [Started, Busy, Interrupting])
def test_a_notice_without_anything_to_tell_still_says_which_it_is(kind: type[Started]) -> None:
    written = json.loads(write_message(kind(instance_id="i-1", job_id="7")))

    assert written == {"instance_id": "i-1", "job_id": "7", "status": kind.__name__.lower(), "contract_version": 1}


def test_a_runner_that_left_with_0_is_not_a_runner_whose_code_is_unknown() -> None:
    assert json.loads(golden("v1/final-word"))["runner_exit_code"] == 0
    assert "runner_exit_code" not in json.loads(golden("v1/final-word-before-configuration"))


def test_times_are_written_in_utc_wherever_they_were_taken() -> None:
    tokyo = timezone(timedelta(hours=9))
    message = Interrupting(instance_id="i-1", job_id="7", ends_at=datetime(2026, 1, 31, 21, 0, 0, 999_999, tokyo))

    assert json.loads(write_message(message))["ends_at"] == "2026-01-31T12:00:00Z"


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)
final_words = st.builds(
    FinalWord,
    instance_id=words,
    job_id=words,
    message_id=words,
    session_id=words,
    attempt=st.integers(0, 99),
    traceparent=words,
    status=st.sampled_from(Status),
    exit_code=st.integers(-99, 255),
    duration_seconds=st.integers(0, 99_999),
    started_at=moments,
    completed_at=moments,
    error=words,
    reason=words,
    job_result=words,
    runner_exit_code=st.none() | st.integers(-64, 255),
    ran_run_id=words,
    ran_run_attempt=words,
    ran_job=words,
    phases_ms=st.dictionaries(words, st.integers(0, 10**9), max_size=4),
    log_outcome=words,
    log_lines_shipped=st.integers(0, 10**12),
    log_lines_lost=st.integers(0, 10**12),
    diag_outcome=words,
    cache_outcome=words,
    digest=words,
    degraded=st.lists(words, max_size=3).map(tuple),
)


@given(final_words)
def test_r5_every_field_of_a_final_word_survives_being_written_and_read(word: FinalWord) -> None:
    assert read_message(write_message(word)) == word


@pytest.mark.parametrize("name", ["job_id", "ran_run_id", "ran_run_attempt"])
def test_ids_may_come_as_numbers_and_are_kept_as_strings(name: str) -> None:
    assert getattr(read_message(a_final_word(**{name: 47331})), name) == "47331"


@pytest.mark.parametrize("name", VERSION_1)
def test_fields_of_a_later_writer_are_ignored(name: str) -> None:
    body = json.dumps(json.loads(golden(f"v1/{name}")) | {"new": {"deep": [1, None]}})

    assert read_message(body) == VERSION_1[name]


FOREIGN = [
    "",
    "{",
    "[]",
    '"success"',
    "7",
    "null",
    "{}",
    '{"status": "fine"}',
    '{"status": ["success"]}',
    '{"status": null}',
    '{"status": "success"}',
    '{"status": "started"}',
    '{"status": "started", "instance_id": 7, "job_id": "1"}',
    '{"status": "success", "instance_id": "\ud800"}',
    "[" * 4_000,
]


@pytest.mark.parametrize("body", FOREIGN)
def test_what_is_no_message_of_the_contract_is_refused(body: str) -> None:
    with pytest.raises(ContractError):
        read_message(body)


WRONG: list[dict[str, Any]] = [
    {"exit_code": "1"},
    {"duration_seconds": None},
    {"started_at": "yesterday"},
    {"status": "started ", "exit_code": 1},
    {"degraded": "x"},
    {"phases_ms": {"a": "b"}},
    {"instance_id": None},
    {"job_id": True},
]


@pytest.mark.parametrize("change", WRONG)
def test_a_final_word_with_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        read_message(a_final_word(**change))
