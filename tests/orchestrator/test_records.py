"""Records: each under its id, and an item of it in the view of its label set as long as it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from orchestrator.compute.ec2.breakers import Circuits
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.jobs.model import Job, JobState, Notice, Rerun
from orchestrator.jobs.records import JobRecords
from orchestrator.ports import Tables
from orchestrator.store.kinds import Record, changed
from orchestrator.store.launch import Launch, PlannedSession
from orchestrator.store.model import LabelSet, LabelSetView, Session, Stack, TokenBucket
from orchestrator.store.records import HISTORY
from orchestrator.store.states import LaunchState, SessionState
from orchestrator.store.tables import KEPT_S, LABEL_SET_KEPT_S
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.examples import SET, a_job, a_label_set, a_launch, a_session
from simulation.tables import MemoryTables
from tests.orchestrator.dynamo import KEEPERS, tables_of
from tests.orchestrator.full_records import EVERY, FULL, FULL_SESSION

READERS: dict[type[Record], Callable[[JobRecords, Any], Record | None]] = {
    Job: lambda records, job: records.job(job.job_id),
    Session: lambda records, session: records.session(session.session_id),
    Launch: lambda records, launch: records.launch(launch.launch_id),
    LabelSet: lambda records, label_set: records.label_set(label_set.set_key),
    Stack: lambda records, _: records.stack(),
    Circuits: lambda records, circuits: records.read(Circuits, circuits.name),
    TokenBucket: lambda records, bucket: records.token_bucket(bucket.key),
    Rerun: lambda records, rerun: records.rerun(rerun.run_key),
    Notice: lambda records, notice: records.notice(notice.name),
}


@pytest.fixture(params=KEEPERS)
def tables(request: pytest.FixtureRequest) -> Tables:
    """Empty, of each keeper."""
    return tables_of(request)


@pytest.fixture
def records(tables: Tables) -> JobRecords:
    """In these tables."""
    return JobRecords(tables)


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_r5_every_field_of_a_record_comes_back(records: JobRecords, record: Record) -> None:
    (saved,) = records.save(record)

    restored = READERS[type(record)](records, record)
    gone = {"due": 0.0} if restored is not None and getattr(restored, "due", 1.0) == 0.0 else {}
    assert saved == changed(record, version=1)
    assert restored == changed(saved, **gone)


def test_every_field_of_every_record_is_tried_above() -> None:
    for full in FULL:
        fields = msgspec.structs.fields(type(full))
        empty = {f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory() for f in fields}
        same = {name for name, value in empty.items() if getattr(full, name) == value}

        assert same <= {"version", "due"} | ({"name"} if isinstance(full, Stack | Circuits) else set()), full


def test_every_kind_of_record_is_tried_above() -> None:
    ours = {kind for kind in Record.__subclasses__() if kind.__module__.startswith("orchestrator.")}

    assert {type(full) for full in FULL} == set(READERS) == ours


def test_what_was_never_written_is_none_or_as_new(records: JobRecords) -> None:
    assert [records.job("1"), records.session("1"), records.launch("1"), records.label_set(SET)] == [None] * 4
    assert (records.stack(), records.token_bucket("k")) == (Stack(), TokenBucket(key="k"))
    assert records.view(SET) == LabelSetView(set_key=SET)


def test_a_value_that_is_emptied_does_not_stay_behind(records: JobRecords) -> None:
    saved = records.put(FULL_SESSION)

    records.put(changed(saved, error="", gone_at=None, phases_ms={}))

    found = records.session("s-1")
    assert found is not None and (found.error, found.gone_at, found.phases_ms) == ("", None, {})


def test_who_read_before_somebody_wrote_is_told_and_changes_nothing(records: JobRecords) -> None:
    first = records.put(a_job())
    written = records.put(changed(first, conclusion="success"))

    for late in (changed(first, conclusion="failure"), a_job(), a_job(version=7)):
        with pytest.raises(Conflict):
            records.put(late)

    assert records.job("1") == written


def test_records_written_together_are_written_both_or_not_at_all(records: JobRecords) -> None:
    session = records.put(a_session())
    records.put(changed(session, reason="first"))

    with pytest.raises(Conflict):
        records.save(a_job(), changed(session, reason="second"))

    assert (records.job("1"), records.view(SET).items[0].kind) == (None, "session")


def test_a_view_shows_what_is_open_and_nothing_else(records: JobRecords) -> None:
    planned = tuple(
        PlannedSession(session_id=f"s-{n}", set_key=SET if n < 2 else "other", item_id="1", run_id="7") for n in range(3)
    )
    records.save(a_label_set(), a_launch(sessions=planned, sets=(SET, "other")))
    for n, state in enumerate(JobState):
        records.put(a_job(job_id=f"{n}", state=state, completed_at=1.0))
    for n, state in enumerate(SessionState):
        records.put(a_session(session_id=f"s-1{n}", state=state))

    view, other = records.view(SET), records.view("other")

    assert {(item.kind, item.state) for item in view.items} == {
        ("job", "waiting"), ("job", "queued"), ("launch", "intended"), ("session", "launched"), ("session", "configured"),
        ("session", "ready"), ("session", "busy"),
    }  # fmt: skip
    assert view.label_set == changed(a_label_set(), version=1)
    assert [item.sessions for item in (*view.items, *other.items) if item.kind == "launch"] == [("s-0", "s-1"), ("s-2",)]


def test_a_record_that_ends_takes_its_item_away_from_every_view(records: JobRecords) -> None:
    job, session = records.put(a_job()), records.put(a_session())
    launch = records.put(a_launch(sets=(SET, "other")))

    records.put(changed(job, state=JobState.IN_PROGRESS))
    records.put(changed(session, state=SessionState.ENDED))
    records.put(changed(launch, state=LaunchState.CLOSED))

    assert records.view(SET) == LabelSetView(set_key=SET) and records.view("other") == LabelSetView(set_key="other")


def test_h3_what_is_open_is_due_and_what_is_finished_expires(records: JobRecords, tables: Tables) -> None:
    records.put(a_job(due=5.0))
    records.put(a_session(state=SessionState.ENDED, due=6.0))
    records.put(a_session(session_id="s-2", state=SessionState.CLOSED, due=6.0, closed_at=MORNING))
    records.put(a_launch(due=50.0))

    assert sorted(records.overdue(10.0, 100)) == [("1", "job"), ("s-1", "session")]
    finished = tables.get("sessions", ("s-2", "session"))
    assert finished is not None and finished["expires"] == int(MORNING + KEPT_S)
    assert "expires" not in (tables.get("jobs", ("1", "job")) or {})


def test_deadlines_are_spread_over_sixteen_keys_and_all_are_found(records: JobRecords, tables: Tables) -> None:
    for n in range(64):
        records.put(a_job(job_id=str(n), due=1.0))

    shards = {item["shard"] for item in tables.scan("jobs")}

    assert len(shards) > 8 and shards <= {str(n) for n in range(16)}
    assert len(list(records.overdue(2.0, 100))) == 64


def test_one_full_shard_leaves_room_for_the_others(records: JobRecords) -> None:
    for n in range(40):
        records.put(a_job(job_id=str(n), due=float(n)))

    found = list(records.overdue(100.0, 1))

    assert 8 < len(found) <= 16


def test_a_label_set_that_is_woken_is_due_until_it_was_looked_at(records: JobRecords) -> None:
    records.wake(SET, 5.0)

    due = list(records.overdue(6.0, 10))
    rested = records.rest(records.view(SET), None)

    assert (due, rested, list(records.overdue(6.0, 10))) == ([(SET, "wake")], True, [])


def test_a_wake_that_comes_while_somebody_looks_is_not_forgotten(records: JobRecords) -> None:
    records.wake(SET, 5.0)
    view = records.view(SET)
    records.wake(SET, 5.0)

    rested = records.rest(view, None)

    assert (rested, list(records.overdue(6.0, 10))) == (False, [(SET, "wake")])


def test_a_label_set_can_be_looked_at_again_later(records: JobRecords) -> None:
    records.rest(records.view(SET), 50.0)

    assert (list(records.overdue(49.0, 10)), list(records.overdue(50.0, 10))) == ([], [(SET, "wake")])


def test_a_session_is_found_by_its_instance_also_after_its_end(records: JobRecords) -> None:
    records.put(a_session(state=SessionState.CLOSED, closed_at=1.0))

    found = records.session_of("i-1")

    assert found is not None and found.session_id == "s-1"
    assert records.session_of("i-2") is None


def test_of_several_sessions_of_one_instance_the_youngest_is_found(records: JobRecords) -> None:
    for name, at in (("s-1", 5.0), ("s-2", 9.0), ("s-3", None)):
        records.put(a_session(session_id=name, launched_at=at))

    assert (records.session_of("i-1") or a_session()).session_id == "s-2"


def test_two_changes_of_one_record_at_once_are_refused_before_anything_is_written() -> None:
    calls = Calls()

    with pytest.raises(Conflict):
        JobRecords(MemoryTables(VirtualTime(), calls)).save(a_job(), a_job(name="other"))

    assert calls.made == []


def test_a_label_set_that_rests_is_forgotten_when_its_wake_said(records: JobRecords, tables: Tables) -> None:
    records.wake(SET, MORNING)
    records.rest(records.view(SET), None)

    wake = tables.get("sessions", (SET, "wake"))

    assert wake is not None and wake["expires"] == int(MORNING + LABEL_SET_KEPT_S) and "due" not in wake


def test_failures_are_remembered_the_last_ones_and_not_at_any_length(records: JobRecords) -> None:
    for n in range(HISTORY + 3):
        session = records.session("s-1") or a_session()
        records.add_failure(session, float(n), f"{n} " + "x" * 500)

    found = records.session("s-1")
    assert found is not None and [entry.at for entry in found.failures] == [float(n) for n in range(3, HISTORY + 3)]
    assert {len(entry.what) for entry in found.failures} == {300}


def test_a_failure_that_nobody_would_ask_about_writes_the_record_alone(records: JobRecords) -> None:
    records.add_failure(changed(records.put(a_launch()), due=7.0), 1.0, "")

    found = records.launch("l-1")

    assert found is not None and (found.failures, found.due) == ((), 7.0)


@pytest.mark.parametrize("error", [Conflict("late"), ServiceFailed("dynamodb:PutItem", "Busy")])
def test_a_failure_that_cannot_be_remembered_is_no_failure_more(error: Exception) -> None:
    calls = Calls()
    calls.fail("tables.write", error)

    JobRecords(MemoryTables(VirtualTime(), calls)).add_failure(a_session(), 1.0, "why")

    assert calls.made == []


def test_only_what_is_not_over_is_listed_as_open(records: JobRecords) -> None:
    for n, state in enumerate(SessionState):
        records.put(a_session(session_id=f"s-{n}", state=state))
    records.save(a_job(), a_launch(), a_job(job_id="2", state=JobState.COMPLETED))

    states = {session.state for session in records.open_sessions()}

    assert states == {SessionState.LAUNCHED, SessionState.CONFIGURED, SessionState.READY, SessionState.BUSY}
    assert [job.job_id for job in records.open_jobs()] == ["1"]


def test_listings_show_records_and_no_other_rows(records: JobRecords) -> None:
    records.save(a_job(), a_session(), a_launch(), a_label_set(), Stack())
    records.wake(SET, 1.0)

    listed = [*records.jobs(), *records.sessions(), *records.launches()]

    assert [type(one).__name__ for one in listed] == ["Job", "Session", "Launch"]


def test_what_a_view_costs_does_not_grow_with_what_is_finished() -> None:
    tables = MemoryTables(VirtualTime())
    records = JobRecords(tables)
    records.save(a_label_set(), a_job(job_id="open"))

    def examined() -> int:
        before = tables.examined
        records.view(SET)
        list(records.overdue(1.0, 100))
        return tables.examined - before

    few = examined()
    for n in range(2000):
        records.put(a_job(job_id=str(n), state=JobState.COMPLETED, completed_at=1.0))

    assert examined() == few
