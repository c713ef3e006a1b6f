"""Repositories heard of lately: each once, with its installation, at the cost of a write an hour."""

from __future__ import annotations

import pytest

from orchestrator.errors import ServiceFailed
from orchestrator.ports import Tables
from orchestrator.store.naming import Scope
from orchestrator.store.records import Records
from orchestrator.store.repositories import PARTITION, SEEN_KNOWN, SEEN_S, Repositories
from orchestrator.store.tables import KEPT_S, SESSIONS
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.tables import MemoryTables
from tests.orchestrator.dynamo import KEEPERS, tables_of

WIDGETS = Scope("3", "octo", "widgets")


@pytest.fixture(params=KEEPERS)
def tables(request: pytest.FixtureRequest) -> Tables:
    """Empty, of each keeper."""
    return tables_of(request)


def test_a_repository_is_remembered_once_with_its_installation_until_nobody_hears_of_it(tables: Tables) -> None:
    records = Records(tables)
    records.repositories.heard_of(Scope("3", "octo", "Widgets"), 1000.0)
    records.repositories.heard_of(Scope("3", "octo", "gears"), 5000.0)
    Records(tables).repositories.heard_of(Scope("", "octo", "widgets"), 9000.0)

    assert records.repositories.since(0.0) == [Scope("3", "octo", "gears"), Scope("3", "octo", "Widgets")]
    assert records.repositories.since(1001.0) == [Scope("3", "octo", "gears")]


def test_hearing_of_a_repository_again_and_again_is_written_once_an_hour() -> None:
    calls = Calls()
    records = Records(MemoryTables(VirtualTime(), calls))

    for at in (0.0, 1.0, 3599.0, 3601.0):
        records.repositories.heard_of(Scope("3", "octo", "widgets"), 10_000.0 + at)

    assert calls.made == ["tables.write"] * 2


def test_an_installation_that_becomes_known_later_is_remembered(tables: Tables) -> None:
    Repositories(tables).heard_of(Scope("", "octo", "widgets"), 1000.0)
    before = Repositories(tables).since(1000.0)

    Repositories(tables).heard_of(WIDGETS, 2000.0)

    assert (before, Repositories(tables).since(1001.0)) == ([Scope("", "octo", "widgets")], [WIDGETS])


def test_one_that_is_heard_of_again_counts_from_then_on_and_is_kept_so_much_longer(tables: Tables) -> None:
    repositories = Repositories(tables)
    for at in (MORNING, MORNING + SEEN_S):
        repositories.heard_of(WIDGETS, at)

    kept = tables.get(SESSIONS, (PARTITION, "octo/widgets"))

    assert repositories.since(MORNING + SEEN_S) == [WIDGETS] and repositories.since(MORNING + SEEN_S + 1.0) == []
    assert kept is not None and kept["expires"] == int(MORNING + SEEN_S + KEPT_S)


def test_each_repository_is_written_for_itself_however_soon_after_another() -> None:
    repositories = Repositories(MemoryTables(VirtualTime()))
    scopes = [WIDGETS, Scope("3", "octo", "gears"), Scope("4", "other", "widgets"), Scope("5", "org")]

    for scope in scopes:
        repositories.heard_of(scope, MORNING)

    assert repositories.since(0.0) == sorted(scopes, key=lambda scope: f"{scope.owner}/{scope.repo}")


def test_what_could_not_be_written_was_not_heard_of() -> None:
    calls = Calls()
    repositories = Repositories(MemoryTables(VirtualTime(), calls))
    calls.fail("tables.write", ServiceFailed("dynamodb:PutItem", "InternalServerError"))
    with pytest.raises(ServiceFailed):
        repositories.heard_of(WIDGETS, MORNING)

    repositories.heard_of(WIDGETS, MORNING + 1.0)

    assert repositories.since(0.0) == [WIDGETS]


def test_one_without_installation_that_others_know_better_is_not_asked_about_for_an_hour_either() -> None:
    calls = Calls()
    tables = MemoryTables(VirtualTime(), calls)
    Repositories(tables).heard_of(WIDGETS, MORNING)
    repositories, unnamed = Repositories(tables), Scope("", "octo", "widgets")
    tries: list[float] = []
    calls.script("tables.write", times=None, before=lambda writes: tries.append(writes[0].item["at"]))

    for at in (MORNING, MORNING + 1.0, MORNING + SEEN_S):
        repositories.heard_of(unnamed, at)

    assert tries == [MORNING, MORNING + SEEN_S]


def test_a_process_remembers_only_so_many_and_loses_none_of_the_others() -> None:
    calls = Calls()
    repositories = Repositories(MemoryTables(VirtualTime(), calls))
    for n in range(SEEN_KNOWN + 1):
        repositories.heard_of(Scope("3", "octo", str(n)), MORNING)

    repositories.heard_of(Scope("3", "octo", "0"), MORNING + 1.0)
    repositories.heard_of(Scope("3", "octo", str(SEEN_KNOWN)), MORNING + 1.0)

    assert len(calls.made) == SEEN_KNOWN + 2
    assert len(repositories.since(0.0)) == SEEN_KNOWN + 1
