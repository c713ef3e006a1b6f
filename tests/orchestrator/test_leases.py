"""Marks beside the records: whose task it is, how far it has come, what happened once, what is suspected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.store.leases import SUSPECT_KEPT_S, Leases
from orchestrator.store.tables import SESSIONS
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.tables import MemoryTables


@dataclass
class Marks:
    """Two processes with the same tables."""

    calls: Calls
    tables: MemoryTables
    ours: Leases
    others: Leases


@pytest.fixture
def marks() -> Marks:
    """Without any mark yet."""
    calls = Calls()
    tables = MemoryTables(VirtualTime(), calls)
    return Marks(calls, tables, Leases(tables), Leases(tables))


def test_a_task_is_one_processs_until_its_lease_is_over_and_then_anybodys(marks: Marks) -> None:
    mine = marks.ours.acquire("sweep", MORNING, 30.0)
    during = [leases.acquire("sweep", MORNING + 29.9, 30.0) for leases in (marks.others, marks.ours)]

    after = marks.others.acquire("sweep", MORNING + 30.0, 30.0)

    assert (mine, during, after) == (True, [False, False], True)
    assert not marks.ours.acquire("sweep", MORNING + 59.9, 30.0)


@pytest.mark.parametrize("before", [False, True], ids=["never leased", "leased before"])
def test_of_two_who_ask_at_once_one_gets_the_task(marks: Marks, before: bool) -> None:
    if before:
        marks.ours.acquire("sweep", MORNING - 100.0, 30.0)
    theirs: list[bool] = []
    marks.calls.script("tables.get", after=lambda *_: theirs.append(marks.others.acquire("sweep", MORNING, 30.0)))

    assert marks.ours.acquire("sweep", MORNING, 30.0) is False
    assert theirs == [True]


def test_tasks_of_other_names_are_leased_apart(marks: Marks) -> None:
    assert [marks.ours.acquire(name, MORNING, 30.0) for name in ("sweep", "backfill", "sweep")] == [True, True, False]


def test_a_task_goes_on_where_it_was_left_by_any_process(marks: Marks) -> None:
    before = marks.others.cursor("backfill")
    for name in ("octo/gears", "octo/widgets"):
        marks.ours.set_cursor("backfill", name)

    assert (before, marks.others.cursor("backfill"), marks.ours.cursor("audit")) == ("", "octo/widgets", "")
    marks.ours.set_cursor("backfill", "")
    assert marks.others.cursor("backfill") == ""


def test_only_who_asks_first_is_told_that_it_is_the_first_time(marks: Marks) -> None:
    before = marks.ours.has_happened("told")

    asked = [leases.once("told", MORNING + n, 60.0) for n, leases in enumerate((marks.ours, marks.others, marks.ours))]

    assert (before, asked, marks.others.has_happened("told")) == (False, [True, False, False], True)
    assert not marks.ours.has_happened("other")


def test_what_happened_once_is_forgotten_by_the_table_as_long_after_the_first_time_as_was_asked_for(marks: Marks) -> None:
    marks.ours.once("told", MORNING, 60.0)
    marks.ours.once("told", MORNING + 30.0, 60.0)

    kept = marks.tables.peek(SESSIONS, ("told", "once"))

    assert kept is not None and kept["expires"] == int(MORNING + 60.0)


def test_a_suspicion_counts_from_the_first_time_whoever_has_it(marks: Marks) -> None:
    at = (0.0, 299.9, 300.0, 301.0)

    found = [leases.suspect("i-1", MORNING + s, 300.0) for s, leases in zip(at, (marks.ours, marks.others) * 2, strict=True)]

    assert found == [False, False, True, True]
    assert not marks.ours.suspect("i-2", MORNING + 301.0, 300.0)


def test_the_first_time_is_no_confirmation_even_of_a_suspicion_that_needs_no_time(marks: Marks) -> None:
    assert [marks.ours.suspect("i-1", MORNING, 0.0) for _ in range(2)] == [False, True]


def test_a_suspicion_that_was_wrong_begins_anew(marks: Marks) -> None:
    marks.ours.suspect("i-1", MORNING, 300.0)

    marks.others.clear("i-1")

    assert [marks.ours.suspect("i-1", MORNING + s, 300.0) for s in (300.0, 599.0, 600.0)] == [False, False, True]


def test_a_suspicion_that_nobody_confirmed_for_a_day_begins_anew(marks: Marks) -> None:
    marks.ours.suspect("i-1", MORNING, 300.0)
    in_time = marks.ours.suspect("i-1", MORNING + SUSPECT_KEPT_S, 300.0)

    late = marks.ours.suspect("i-1", MORNING + SUSPECT_KEPT_S + 1.0, 300.0)

    kept = marks.tables.peek(SESSIONS, ("i-1", "suspect"))
    assert (in_time, late) == (True, False)
    assert kept is not None and kept["expires"] == int(MORNING + 2 * SUSPECT_KEPT_S + 1.0)
    assert marks.ours.suspect("i-1", MORNING + SUSPECT_KEPT_S + 301.0, 300.0)


def test_clearing_what_nobody_suspects_writes_nothing(marks: Marks) -> None:
    marks.ours.clear("i-1")

    assert marks.calls.made == ["tables.get"]


def test_marks_of_one_name_do_not_disturb_each_other(marks: Marks) -> None:
    leases = marks.ours
    leases.suspect("x", MORNING, 0.0)
    leases.set_cursor("x", "far")

    assert (leases.acquire("x", MORNING, 9.0), leases.once("x", MORNING, 9.0)) == (True, True)
    leases.clear("x")
    assert (leases.cursor("x"), leases.has_happened("x"), leases.acquire("x", MORNING, 9.0)) == ("far", True, False)


ACTS: dict[str, Callable[[Leases], object]] = {
    "acquire": lambda leases: leases.acquire("x", MORNING, 9.0),
    "set_cursor": lambda leases: leases.set_cursor("x", "far"),
    "once": lambda leases: leases.once("x", MORNING, 9.0),
    "suspect": lambda leases: leases.suspect("x", MORNING, 0.0),
}


@pytest.mark.parametrize("name", ACTS)
def test_tables_that_fail_are_no_answer(marks: Marks, name: str) -> None:
    marks.calls.fail("tables.write", ServiceFailed("dynamodb:PutItem", "InternalServerError"))

    with pytest.raises(ServiceFailed):
        ACTS[name](marks.ours)

    assert list(marks.tables.scan(SESSIONS)) == []


def test_of_two_who_suspect_at_once_the_second_does_not_take_the_first_time_for_its_own(marks: Marks) -> None:
    marks.calls.script("tables.get", after=lambda *_: marks.others.suspect("x", MORNING, 300.0))

    with pytest.raises(Conflict):
        marks.ours.suspect("x", MORNING + 1.0, 300.0)

    assert marks.ours.suspect("x", MORNING + 300.0, 300.0)
