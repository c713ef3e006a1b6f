"""Records, whoever keeps them: the twin in memory and the tables in DynamoDB keep the same promises."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.adapters.aws import Clients, DynamoRecords
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.model import JobState, SessionState
from orchestrator.ports import Records
from tests.conftest import Moto
from tests.orchestrator.memory import MemoryRecords, a_job, a_session

CLIENTS = Clients()
"""Made when first needed, which is inside a test; the AWS they reach is one for the process."""
FULL_JOB = a_job(
    name="bäuen \u2028 🚀", labels=("a", "b"), state=JobState.COMPLETED, conclusion="success", runner_name="tests-s-1",
    queued_at=1_769_860_800.123456, started_at=0.1, completed_at=2.0,
)  # fmt: skip
FULL_SESSION = a_session(
    request='{"a": [1, "ü"]}', state=SessionState.ENDED, deadline=1_769_860_800.987654, expires_at=3.0, instance_id="i-1",
    runner_name="tests-s-1", runner_id=12_345_678_901, attempt=2, created_at=0.30000000000000004, launched_at=1.5,
    started_at=2.25, gone_at=3.125, ended_at=4.0, closed_at=5.0, status="failure", reason="disk", error="no room\n", ran_job="b",
    phases_ms={"boot": 7, "configuration": 0}, log_outcome="shipped", log_lines=9,
)  # fmt: skip


def tables() -> DynamoRecords:
    for table, key in (("jobs", "job_id"), ("sessions", "session_id")):
        CLIENTS.get("dynamodb").create_table(
            TableName=table, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        )  # fmt: skip
    return DynamoRecords(CLIENTS, "jobs", "sessions")


@pytest.fixture(params=["memory", "dynamodb"])
def records(request: pytest.FixtureRequest) -> Records:
    if request.param == "memory":
        return MemoryRecords()
    request.getfixturevalue("moto")
    return tables()


def test_what_was_never_written_is_none(records: Records) -> None:
    assert (records.job("1"), records.session("s-1")) == (None, None)
    assert list(records.jobs()) == list(records.sessions()) == list(records.open_sessions()) == []


@pytest.mark.parametrize("job", [FULL_JOB, a_job(), a_job(name="", installation_id="", labels=(), queued_at=0.0)])
def test_every_field_of_a_job_comes_back(records: Records, job: object) -> None:
    saved = records.save_job(job)

    assert saved == msgspec.structs.replace(job, version=1) == records.job("1")
    assert list(records.jobs()) == [saved]


@pytest.mark.parametrize("session", [FULL_SESSION, a_session(), a_session(owner="", repo="", run_id="", labels=(), request="")])
def test_every_field_of_a_session_comes_back(records: Records, session: object) -> None:
    saved = records.save_session(session)

    assert saved == msgspec.structs.replace(session, version=1) == records.session("s-1")
    assert list(records.sessions()) == [saved]


def test_a_value_that_is_emptied_does_not_stay_behind(records: Records) -> None:
    saved = records.save_session(FULL_SESSION)

    records.save_session(msgspec.structs.replace(saved, error="", gone_at=None, phases_ms={}))

    read = records.session("s-1")
    assert read is not None and (read.error, read.gone_at, read.phases_ms) == ("", None, {})


def test_each_write_is_a_new_version(records: Records) -> None:
    first = records.save_job(a_job())
    second = records.save_job(first)

    assert (first.version, second.version, records.job("1")) == (1, 2, second)


def test_the_second_who_makes_a_record_is_told_of_the_conflict(records: Records) -> None:
    first = records.save_session(a_session(reason="first"))

    with pytest.raises(Conflict):
        records.save_session(a_session(reason="second"))

    assert records.session("s-1") == first


def test_who_read_before_somebody_wrote_is_told_of_the_conflict(records: Records) -> None:
    read = records.save_job(a_job())
    written = records.save_job(msgspec.structs.replace(read, conclusion="success"))

    with pytest.raises(Conflict):
        records.save_job(msgspec.structs.replace(read, conclusion="failure"))

    assert records.job("1") == written


def test_a_new_version_of_what_is_not_there_is_a_conflict(records: Records) -> None:
    with pytest.raises(Conflict):
        records.save_session(a_session(version=3))


def test_only_what_is_closed_is_not_open(records: Records) -> None:
    for state in SessionState:
        records.save_session(a_session(session_id=f"s-{state.value}", state=state))

    opened = {session.state for session in records.open_sessions()}

    assert opened == set(SessionState) - {SessionState.CLOSED}
    assert len(list(records.sessions())) == len(SessionState)


def test_more_sessions_than_one_page_holds_are_all_found(moto: Moto) -> None:
    records = tables()
    for number in range(6):
        records.save_session(a_session(session_id=f"s-{number}", request="x" * 300_000))
    first_page = CLIENTS.get("dynamodb").scan(TableName="sessions")

    assert "LastEvaluatedKey" in first_page
    assert {session.session_id for session in records.open_sessions()} == {f"s-{number}" for number in range(6)}
    assert len(list(records.sessions())) == 6


def test_a_closed_first_page_hides_no_open_session_behind_it(moto: Moto) -> None:
    records = tables()
    for number in range(5):
        records.save_session(a_session(session_id=f"c-{number}", request="x" * 300_000, state=SessionState.CLOSED))
    records.save_session(a_session())

    assert [session.session_id for session in records.open_sessions()] == ["s-1"]


def test_a_table_that_is_not_there_is_a_failure_that_names_it(moto: Moto) -> None:
    with pytest.raises(ServiceFailed, match="GetItem on nowhere answered ResourceNotFoundException"):
        DynamoRecords(CLIENTS, "nowhere", "nowhere").job("1")
