"""Records: each under its id, and a card of it on the board of its label set as long as it is open."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.cards import Board
from orchestrator.errors import Conflict
from orchestrator.marks import KEPT_S
from orchestrator.model import Circuits, Fault, Note, Pace, Planned, Record, Rescue, Stack, Told, Try, changed
from orchestrator.ports import Tables
from orchestrator.records import Records
from orchestrator.services import Scope
from orchestrator.states import JobState, LaunchState, NoteState, RescueState, SessionState
from tests.orchestrator.memory import MORNING, SET, Calls, ManualClock, MemoryTables, a_job, a_launch, a_ledger, a_session
from tests.orchestrator.test_tables import dynamo

FULL_JOB = a_job(
    firm=True,
    name="bäuen \u2028 🚀", labels=("a", "b"), state=JobState.COMPLETED, conclusion="success", runner_name="tests-s-1",
    head_sha="0f", refused="no",
    queued_at=1_769_860_800.123456, started_at=0.1, completed_at=2.0, given_up=True,
)  # fmt: skip
FULL_SESSION = a_session(
    state=SessionState.CLOSED, deadline=1_769_860_800.987654, expires_at=3.0, instance_id="i-1", spec="amd64", image="t:3",
    market="spot", pool="m7i.large/subnet-1/spot", bound_job="9",
    runner_name="tests-s-1", runner_id=12_345_678_901, attempt=2, launched_at=1.5,
    configured_at=1.75, ready_at=2.25,
    busy_at=2.5, interrupting_at=2.75, gone_at=3.125, ended_at=4.0, closed_at=5.0, status="failure", reason="disk",
    error="no room\n", ran_job="b", phases_ms={"boot": 7, "configuration": 0}, log_outcome="shipped", log_lines=9,
    console="Kernel panic", cpus=2, usd=0.125, ran_run="7", cause="too small", troubles=(Told(at=2.5, what="no"),),
)  # fmt: skip
FULL_LAUNCH = a_launch(
    firm=True, repositories=("octo/widgets",),
    state=LaunchState.CLOSED, step=3, bodies={"s-1": "i-1"}, pools={"i-1": "m7i.large/subnet-1/spot"},
    tries=(Try(at=1.5, step=0, market="spot", wanted=2, got=1,
    reasons=("A: b",)),), image="t:3", created_at=0.5, expires_at=7.0,
    sessions=(), sets=(SET, "other"), cpus=2, usd=0.125, troubles=(Told(at=2.5, what="no"),),
    market="spot", asked_at=0.75, lost=True,
)  # fmt: skip
FULL_LEDGER = a_ledger(
    surplus_since=1.5, barren={"amd64 t:3": 7}, backoff_until=9.25, backoff_why="why", backoff_of="amd64 t:3", refusals=2,
    barred=("l-1",),
    expected=(3.5, 4.5), prepared=(6.5,), holds=(Told(at=1.5, what="why"),),
    touched_at=2.0,
    working={"s-1": 5.5},
)  # fmt: skip
FULL_RESCUE = Rescue(
    run_key="octo/widgets/7", owner="octo", repo="widgets", run_id="7", installation_id="3", wanted={"build": 1},
    doing=("build",),
    tried={"test": (1, 2)}, seen_attempt=2, state=RescueState.RESTING, changed_at=3.5,
    told=(Told(at=2.5, what="build: again"),), ids={"1": "build"}, refusals=2, looked_at=2.5,
)  # fmt: skip
FULL_NOTE = Note(
    name="title/1", job_id="1", owner="octo", repo="widgets", installation_id="3", head_sha="c0ffee", title="title", text="text",
    tries=2, state=NoteState.DONE, noted_at=1.5,
)  # fmt: skip
EVERY = [
    FULL_RESCUE,
    FULL_NOTE,
    FULL_JOB,
    FULL_SESSION,
    FULL_LAUNCH,
    FULL_LEDGER,
    Stack(paused=True, tokens=7.5, at=3.0, alive=3, counted_at=4.0, cpus=8.0, usd=0.5, ec2=7.5, lately=((4.5, 2.0, 8.0, 0.5),)),
    Circuits(faults={"m7i.large/subnet-1/spot": Fault(refusals=2, refused_until=3.5, reclaims=(1.5,), reclaimed_until=2.5)}),
    Pace(key="repository/octo/widgets", tokens=1.5, at=2.5),
]
EVERY += [a_job(), a_session(), a_launch(), a_ledger(), Stack(), Circuits()]
EVERY += [a_job(name="", installation_id="", labels=(), queued_at=0.0), a_session(owner="", repo="", run_id="", labels=())]


@pytest.fixture(params=["memory", "dynamodb"])
def tables(request: pytest.FixtureRequest) -> Tables:
    if request.param == "memory":
        return MemoryTables(ManualClock())
    request.getfixturevalue("moto")
    return dynamo()


@pytest.fixture
def records(tables: Tables) -> Records:
    return Records(tables)


def read(records: Records, record: Record) -> Record | None:
    name = type(record).__name__.lower()
    if isinstance(record, Stack | Circuits):
        return getattr(records, name)()  # type: ignore[no-any-return]
    identity = {"ledger": "set_key", "rescue": "run_key", "pace": "key", "note": "name"}.get(name, f"{name}_id")
    found: Record | None = getattr(records, name)(getattr(record, identity))
    return found


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_r5_every_field_of_a_record_comes_back(records: Records, record: Record) -> None:
    (saved,) = records.save(record)

    restored = read(records, record)
    gone = {"due": 0.0} if restored is not None and getattr(restored, "due", 1.0) == 0.0 else {}
    assert saved == changed(record, version=1)  # type: ignore[type-var]
    assert restored == changed(saved, **gone)


def test_every_field_of_every_record_is_tried_above() -> None:
    for full in EVERY[:9]:
        plain = msgspec.to_builtins(full)
        defaults = {f.name: f.default for f in msgspec.structs.fields(type(full)) if f.default is not msgspec.NODEFAULT}
        same = {name for name, value in defaults.items() if plain.get(name) == value}

        assert same <= {"version", "due", "strategy", "name", "bodies", "pools", "faults", "phases_ms"}, same


def test_a_value_that_is_emptied_does_not_stay_behind(records: Records) -> None:
    saved = records.put(FULL_SESSION)

    records.put(changed(saved, error="", gone_at=None, phases_ms={}))

    found = records.session("s-1")
    assert found is not None and (found.error, found.gone_at, found.phases_ms) == ("", None, {})


def test_who_read_before_somebody_wrote_is_told_and_changes_nothing(records: Records) -> None:
    first = records.put(a_job())
    written = records.put(changed(first, conclusion="success"))

    for late in (changed(first, conclusion="failure"), a_job(), a_job(version=7)):
        with pytest.raises(Conflict):
            records.put(late)

    assert records.job("1") == written


def test_records_written_together_are_written_both_or_not_at_all(records: Records) -> None:
    session = records.put(a_session())
    records.put(changed(session, reason="first"))

    with pytest.raises(Conflict):
        records.save(a_job(), changed(session, reason="second"))

    assert (records.job("1"), records.board(SET).cards[0].kind) == (None, "session")


def test_a_board_shows_what_is_open_and_nothing_else(records: Records) -> None:
    planned = tuple(Planned(session_id=f"s-{n}", set_key=SET if n < 2 else "other", job_id="1", run_id="7") for n in range(3))
    records.save(a_ledger(), a_launch(sessions=planned, sets=(SET, "other")))
    for n, state in enumerate(JobState):
        records.put(a_job(job_id=f"{n}", state=state, completed_at=1.0))
    for n, state in enumerate(SessionState):
        records.put(a_session(session_id=f"s-1{n}", state=state))

    board, other = records.board(SET), records.board("other")

    assert {(card.kind, card.state) for card in board.cards} == {
        ("job", "waiting"), ("job", "queued"), ("launch", "intended"), ("session", "launched"), ("session", "configured"),
        ("session", "ready"), ("session", "busy"),
    }  # fmt: skip
    assert board.ledger == changed(a_ledger(), version=1)
    assert [card.sessions for card in (*board.cards, *other.cards) if card.kind == "launch"] == [("s-0", "s-1"), ("s-2",)]


def test_a_record_that_ends_takes_its_card_away_from_every_board(records: Records) -> None:
    job, session = records.put(a_job()), records.put(a_session())
    launch = records.put(a_launch(sets=(SET, "other")))

    records.put(changed(job, state=JobState.IN_PROGRESS))
    records.put(changed(session, state=SessionState.ENDED))
    records.put(changed(launch, state=LaunchState.CLOSED))

    assert records.board(SET) == Board(set_key=SET) and records.board("other") == Board(set_key="other")


def test_h3_what_is_open_is_due_and_what_is_finished_expires(records: Records, tables: Tables) -> None:
    records.put(a_job(due=5.0))
    records.put(a_session(state=SessionState.ENDED, due=6.0))
    records.put(a_session(session_id="s-2", state=SessionState.CLOSED, due=6.0, closed_at=MORNING))
    records.put(a_launch(due=50.0))

    assert sorted(records.overdue(10.0, 100)) == [("1", "job"), ("s-1", "session")]
    finished = tables.get("sessions", ("s-2", "session"))
    assert finished is not None and finished["expires"] == int(MORNING + KEPT_S)
    assert "expires" not in (tables.get("jobs", ("1", "job")) or {})


def test_deadlines_are_spread_over_sixteen_keys_and_all_are_found(records: Records, tables: Tables) -> None:
    for n in range(64):
        records.put(a_job(job_id=str(n), due=1.0))

    shards = {item["shard"] for item in tables.scan("jobs")}

    assert len(shards) > 8 and shards <= {str(n) for n in range(16)}
    assert len(list(records.overdue(2.0, 100))) == 64


def test_one_full_shard_leaves_room_for_the_others(records: Records) -> None:
    for n in range(40):
        records.put(a_job(job_id=str(n), due=float(n)))

    found = list(records.overdue(100.0, 1))

    assert 8 < len(found) <= 16


def test_a_label_set_that_is_woken_is_due_until_it_was_looked_at(records: Records) -> None:
    records.wake(SET, 5.0)

    due = list(records.overdue(6.0, 10))
    rested = records.rest(records.board(SET), None)

    assert (due, rested, list(records.overdue(6.0, 10))) == ([(SET, "wake")], True, [])


def test_a_wake_that_comes_while_somebody_looks_is_not_forgotten(records: Records) -> None:
    records.wake(SET, 5.0)
    board = records.board(SET)
    records.wake(SET, 5.0)

    rested = records.rest(board, None)

    assert (rested, list(records.overdue(6.0, 10))) == (False, [(SET, "wake")])


def test_a_label_set_can_be_looked_at_again_later(records: Records) -> None:
    records.rest(records.board(SET), 50.0)

    assert (list(records.overdue(49.0, 10)), list(records.overdue(50.0, 10))) == ([], [(SET, "wake")])


def test_a_session_is_found_by_its_instance_also_after_its_end(records: Records) -> None:
    records.put(a_session(state=SessionState.CLOSED, closed_at=1.0))

    found = records.session_of("i-1")

    assert found is not None and found.session_id == "s-1"
    assert records.session_of("i-2") is None


def test_a_repository_is_remembered_once_with_its_installation_until_nobody_hears_of_it(records: Records, tables: Tables) -> None:
    records.seen(Scope("3", "octo", "Widgets"), 1000.0)
    records.seen(Scope("3", "octo", "gears"), 5000.0)
    Records(tables).seen(Scope("", "octo", "widgets"), 9000.0)

    assert records.repositories(0.0) == [Scope("3", "octo", "gears"), Scope("3", "octo", "Widgets")]
    assert records.repositories(1001.0) == [Scope("3", "octo", "gears")]


def test_hearing_of_a_repository_again_and_again_is_written_once_an_hour() -> None:
    calls = Calls()
    records = Records(MemoryTables(ManualClock(), calls))

    for at in (0.0, 1.0, 3599.0, 3601.0):
        records.seen(Scope("3", "octo", "widgets"), 10_000.0 + at)

    assert calls.made == ["tables.write"] * 2


def test_listings_show_records_and_no_other_rows(records: Records) -> None:
    records.save(a_job(), a_session(), a_launch(), a_ledger(), Stack())
    records.wake(SET, 1.0)

    listed = [*records.jobs(), *records.sessions(), *records.launches()]

    assert [type(one).__name__ for one in listed] == ["Job", "Session", "Launch"]


def test_what_a_board_costs_does_not_grow_with_what_is_finished() -> None:
    tables = MemoryTables(ManualClock())
    records = Records(tables)
    records.save(a_ledger(), a_job(job_id="open"))

    def examined() -> int:
        before = tables.examined
        records.board(SET)
        list(records.overdue(1.0, 100))
        return tables.examined - before

    few = examined()
    for n in range(2000):
        records.put(a_job(job_id=str(n), state=JobState.COMPLETED, completed_at=1.0))

    assert examined() == few
