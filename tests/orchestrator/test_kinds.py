"""A new kind of record is one class with one description; everything else follows from that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, ClassVar

import msgspec
import pytest

from orchestrator.jobs.model import Job, JobState
from orchestrator.ports import Write
from orchestrator.store.kinds import Kind, OpenItem, Record, changed, is_over, may_become
from orchestrator.store.launch import Launch
from orchestrator.store.model import LabelSet, Session
from orchestrator.store.records import Records, read_item
from orchestrator.store.tables import JOBS, KEPT_S, SESSIONS
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.examples import SET, a_job, a_label_set, a_launch, a_session
from simulation.tables import MemoryTables
from simulation.world import World


class ParcelState(StrEnum):
    """Where a parcel is."""

    PACKED = "packed"
    SENT = "sent"
    LOST = "lost"
    THERE = "there"


def beside(parcel: Parcel) -> Iterator[Write]:
    """A row of its own, written with the parcel."""
    yield Write(JOBS, (parcel.name, "stamp"), {"version": 1, "of": parcel.version})


class Parcel(Record, frozen=True, kw_only=True):
    """A kind of record that nothing but this file knows."""

    KIND: ClassVar[Kind[Parcel]] = Kind(
        table=JOBS, row="parcel", key=lambda it: it.name, is_over=lambda it: it.state is ParcelState.THERE,
        kept_since=lambda it: it.there_at, read_order=2, also=beside,
        items=lambda it: {
            SET: None if it.state is ParcelState.THERE else OpenItem(kind="parcel", identity=it.name, state=it.state.value)
        },
        transitions={
            ParcelState.PACKED: frozenset({ParcelState.SENT, ParcelState.THERE}), ParcelState.THERE: frozenset(),
            ParcelState.SENT: frozenset({ParcelState.THERE}), ParcelState.LOST: frozenset({ParcelState.THERE}),
        },
        transitions_by_word={ParcelState.SENT: frozenset({ParcelState.LOST})},
    )  # fmt: skip
    name: str
    state: ParcelState = ParcelState.PACKED
    there_at: float | None = None
    due: float = 0.0


class Shelf(Record, frozen=True, kw_only=True):
    """A kind with the shortest description."""

    KIND: ClassVar[Kind[Shelf]] = Kind(table=SESSIONS, row="shelf", key=lambda it: it.name)
    name: str


class Alarm(Record, frozen=True, kw_only=True):
    """A kind that says itself when its deadline stands."""

    KIND: ClassVar[Kind[Alarm]] = Kind(
        table=SESSIONS, row="alarm", key=lambda it: it.name, is_over=lambda it: it.rung, is_due=lambda it: it.armed
    )
    name: str
    rung: bool = False
    armed: bool = False
    due: float = 0.0


@pytest.fixture
def tables() -> MemoryTables:
    """Empty."""
    return MemoryTables(VirtualTime())


def test_a_new_kind_is_kept_read_listed_and_seen_in_its_view(tables: MemoryTables) -> None:
    records = Records(tables)

    saved = records.put(Parcel(name="p", due=5.0))

    assert records.read(Parcel, "p") == saved and saved.version == 1
    assert list(records.all(Parcel)) == list(records.open(Parcel)) == [saved]
    assert records.view(SET).items == (OpenItem(kind="parcel", identity="p", state="packed"),)
    assert list(records.overdue(6.0, 9)) == [("p", "parcel")]


def test_a_new_kind_that_is_over_is_kept_for_a_while_and_nobody_looks_at_it(tables: MemoryTables) -> None:
    records = Records(tables)
    parcel = records.put(Parcel(name="p", due=5.0))

    over = records.put(changed(parcel, state=ParcelState.THERE, there_at=MORNING))

    kept = tables.peek(JOBS, ("p", "parcel")) or {}
    assert (is_over(parcel), is_over(over)) == (False, True)
    assert (kept["expires"], records.view(SET).items, list(records.overdue(6.0, 9))) == (int(MORNING + KEPT_S), (), [])
    assert list(records.open(Parcel)) == [] and list(records.all(Parcel)) != []


def test_listing_what_is_open_reads_no_record_of_another_kind() -> None:
    calls = Calls()
    records = Records(MemoryTables(VirtualTime(), calls))
    records.save(a_launch(), a_session(), Alarm(name="a", armed=True), Alarm(name="s-1", armed=True))
    calls.made.clear()

    names = [alarm.name for alarm in records.open(Alarm)]

    assert (sorted(names), calls.made.count("tables.get")) == (["a", "s-1"], 2)


def test_what_a_kind_writes_beside_its_record_is_written_with_every_version(tables: MemoryTables) -> None:
    parcel = Records(tables).put(Parcel(name="p"))
    first = tables.peek(JOBS, ("p", "stamp")) or {}

    Records(tables).put(parcel)

    assert (first["of"], (tables.peek(JOBS, ("p", "stamp")) or {})["of"]) == (1, 2)


def test_a_kind_that_says_no_more_is_never_over_never_due_never_forgotten_and_in_no_view(tables: MemoryTables) -> None:
    shelf = Records(tables).put(Shelf(name="s"))

    assert not is_over(shelf) and not Shelf.KIND.has_deadline(shelf)
    assert list(tables.scan(SESSIONS)) == [{"name": "s", "version": 1, "id": "s", "row": "shelf"}]
    assert list(tables.scan(JOBS)) == []


@pytest.mark.parametrize("rung", [False, True])
@pytest.mark.parametrize("armed", [False, True])
def test_a_kind_that_says_itself_when_it_is_due_is_asked_and_nothing_else(rung: bool, armed: bool) -> None:
    assert Alarm.KIND.has_deadline(Alarm(name="a", rung=rung, armed=armed)) is armed


def test_only_a_state_that_the_table_names_may_follow() -> None:
    allowed = {(old, new) for old in ParcelState for new in ParcelState if may_become(Parcel(name="p", state=old), new)}

    assert allowed == {
        (old, ParcelState.THERE) for old in ParcelState if old is not ParcelState.THERE
    } | {(ParcelState.PACKED, ParcelState.SENT)}  # fmt: skip


def test_the_word_of_the_origin_allows_more_and_nothing_less() -> None:
    for old in ParcelState:
        parcel = Parcel(name="p", state=old)
        more = {new for new in ParcelState if may_become(parcel, new, asked=True) and not may_become(parcel, new)}
        less = {new for new in ParcelState if may_become(parcel, new) and not may_become(parcel, new, asked=True)}

        assert (more, less) == ({ParcelState.LOST} if old is ParcelState.SENT else set(), set())


def test_a_queued_job_waits_for_approval_again_only_if_github_was_asked() -> None:
    queued = a_job(state=JobState.QUEUED)

    assert (may_become(queued, JobState.WAITING), may_become(queued, JobState.WAITING, asked=True)) == (False, True)
    assert not may_become(a_job(state=JobState.IN_PROGRESS), JobState.WAITING, asked=True)


@pytest.mark.parametrize("kind", [Job, Launch])
def test_a_field_that_is_absent_from_a_table_comes_back_empty(kind: type[Record]) -> None:
    found = msgspec.structs.asdict(read_item(kind, {"version": 7}))

    required = {field.name for field in msgspec.structs.fields(kind) if field.required}
    assert {repr(found[name]) for name in required} <= {"''", "()", "0"} and found["version"] == 7
    assert (found.get("labels", ()), found.get("sessions", ()), found.get("sets", ())) == ((), (), ())


def test_a_view_is_read_label_set_first_then_launches_then_sessions_then_work(tables: MemoryTables) -> None:
    Records(tables).save(a_job(), a_session(), a_launch(), a_label_set())

    rows = [row["row"] for row in tables.rows(SESSIONS, SET)]

    assert rows[0] == LabelSet.KIND.row
    assert [item.kind for item in Records(tables).view(SET).items] == ["launch", "session", "job"]
    assert Launch.KIND.read_order < Session.KIND.read_order < Job.KIND.read_order


def test_no_two_kinds_lie_in_the_same_place() -> None:
    World()
    kinds = [kind.KIND for kind in Record.__subclasses__()]

    assert len({(kind.table, kind.row) for kind in kinds}) == len(kinds)
    assert not {kind.row for kind in kinds} & {"wake", "lease", "cursor", "once", "suspect", "origin"}
    assert all(not kind.row.startswith(("item#", "session#")) for kind in kinds)


CHANGES: list[Callable[[Any], Any]] = [lambda one: changed(one, name="other"), lambda one: changed(one)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_is_a_copy_with_everything_else_as_it_was(change: Callable[[Any], Any]) -> None:
    parcel = Parcel(name="p", state=ParcelState.SENT, due=5.0, version=3)

    other = change(parcel)

    assert other is not parcel and parcel == Parcel(name="p", state=ParcelState.SENT, due=5.0, version=3)
    assert changed(other, name="p") == parcel
