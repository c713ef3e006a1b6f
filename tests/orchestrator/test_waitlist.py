"""Label sets that wait for a limit: one list for all processes, longest wait first."""

from __future__ import annotations

import pytest

from orchestrator.errors import ServiceFailed
from orchestrator.store.model import WaitlistEntry
from orchestrator.store.tables import SESSIONS
from orchestrator.store.waitlist import ENTRY_KEPT_S, FORGOTTEN_S, PARTITION, Waitlist
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.tables import MemoryTables


def an_entry(name: str = "a", **changes: object) -> WaitlistEntry:
    """Somebody who waits for the stack's limit since a minute."""
    given: dict[str, object] = {"set_key": name, "since": MORNING - 60.0, "jobs": 3, "at": MORNING, **changes}
    return WaitlistEntry(**given)  # type: ignore[arg-type]


@pytest.fixture
def tables() -> MemoryTables:
    """Empty."""
    return MemoryTables(VirtualTime())


def names(waitlist: Waitlist, now: float = MORNING) -> list[str]:
    return [entry.set_key for entry in waitlist.entries(now)]


@pytest.mark.parametrize("whose", ["", "octo/widgets"])
def test_who_waits_is_seen_by_every_process_as_it_was_written(tables: MemoryTables, whose: str) -> None:
    Waitlist(tables).add(an_entry(whose=whose))

    assert Waitlist(tables).entries(MORNING) == [an_entry(whose=whose)]


def test_who_waits_longest_comes_first_and_of_equals_always_the_same(tables: MemoryTables) -> None:
    waitlist = Waitlist(tables)
    for name, since in (("d", 5.0), ("b", 9.0), ("a", 9.0), ("c", 7.0)):
        waitlist.add(an_entry(name, since=since))

    assert names(waitlist) == ["d", "c", "a", "b"]


def test_who_is_put_off_again_stands_in_the_list_once_as_it_is_now(tables: MemoryTables) -> None:
    waitlist = Waitlist(tables)
    waitlist.add(an_entry(whose="octo/widgets"))

    waitlist.add(an_entry(jobs=5, at=MORNING + 1.0))

    assert waitlist.entries(MORNING) == [an_entry(jobs=5, at=MORNING + 1.0)]


def test_who_waits_no_more_is_gone_and_may_go_twice(tables: MemoryTables) -> None:
    waitlist = Waitlist(tables)
    waitlist.add(an_entry("a"))
    waitlist.add(an_entry("b"))

    for _ in range(2):
        waitlist.remove("a")

    assert names(waitlist) == ["b"]


def test_who_was_not_put_off_for_long_does_not_count_until_he_is_again(tables: MemoryTables) -> None:
    waitlist = Waitlist(tables)
    waitlist.add(an_entry())
    counted = [names(waitlist, MORNING + FORGOTTEN_S + s) for s in (-0.1, 0.0)]

    waitlist.add(an_entry(at=MORNING + FORGOTTEN_S))

    assert counted == [["a"], []]
    assert names(waitlist, MORNING + FORGOTTEN_S) == ["a"]


def test_the_table_forgets_who_is_not_looked_at_but_none_who_counts(tables: MemoryTables) -> None:
    Waitlist(tables).add(an_entry(since=1.0, at=MORNING))

    kept = tables.peek(SESSIONS, (PARTITION, "a"))

    assert kept is not None and kept["expires"] == int(MORNING + ENTRY_KEPT_S)
    assert kept["expires"] > MORNING + FORGOTTEN_S and "shard" not in kept


def test_a_list_that_cannot_be_read_is_no_empty_list() -> None:
    calls = Calls()
    waitlist = Waitlist(MemoryTables(VirtualTime(), calls))
    waitlist.add(an_entry())
    calls.fail("tables.rows", ServiceFailed("dynamodb:Query", "InternalServerError"))

    with pytest.raises(ServiceFailed):
        waitlist.entries(MORNING)

    assert names(waitlist) == ["a"]
