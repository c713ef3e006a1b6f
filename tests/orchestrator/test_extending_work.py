"""What a new source of work and a new kind of record take: `chores.py`, and one line. These tests are docs/extending.md, done."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from orchestrator.fleet.work import Sources
from orchestrator.store.kinds import may_become
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.chores import KEY, OVERDUE_S, SOURCE, Chore, Chores, ChoreState, chores

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world() -> World:
    """A stack that does jobs and chores."""
    found = World()
    found.turns = found.replica(more_sources=chores)
    return found


def source(world: World) -> Chores:
    """The chores of the stack."""
    sources: Sources = world.turns.sources
    return cast("Chores", next(one for one in sources if one.name == SOURCE))


def test_a_whole_piece_of_work_of_a_new_source(world: World) -> None:
    source(world).add("dishes", MORNING)
    world.reconcile()

    session = world.session
    assert (session.source, session.launched_for, session.state) == (SOURCE, "dishes", SessionState.CONFIGURED)
    assert world.configurations.values == {session.instance_id: f"do dishes in {session.session_id}"}

    world.hear("started", started_at="2026-01-31T12:00:10Z")
    world.hear("busy")
    world.hear_the_end(job_id="dishes")
    world.ticks(900.0, every_s=30.0)

    assert world.session.state is SessionState.CLOSED
    assert [chore.state for chore in world.records.all(Chore)] == [ChoreState.DONE]
    assert (set(world.compute.instances.values()), world.github.runners) == ({"terminated"}, {})


def test_two_sources_do_not_take_each_others_machines(world: World) -> None:
    source(world).add("dishes", MORNING)
    world.told(an_event())

    assert sorted((one.source, one.launched_for) for one in world.sessions) == [("chores", "dishes"), ("jobs", "1")]
    assert len({one.set_key for one in world.sessions}) == 2


def test_work_of_a_source_that_is_not_there_any_more_waits_and_says_why(world: World) -> None:
    source(world).add("dishes", MORNING)

    world.turns = world.replica()
    world.reconcile()
    world.tick(60.0)

    assert (world.sessions, world.compute.instances) == ([], {})


def test_a_new_kind_of_record_has_deadline_expiry_item_and_transitions_from_its_description(world: World) -> None:
    source(world).add("dishes", MORNING)
    assert [item.identity for item in world.records.view(KEY).items] == ["dishes"]
    assert [chore.name for chore in world.records.open(Chore)] == ["dishes"]

    world.wakes.taken()
    world.clock.at += OVERDUE_S + 1.0
    world.turns.on_sweep()

    chore = next(world.records.all(Chore))
    assert (chore.state, world.records.view(KEY).items) == (ChoreState.OVERDUE, ())
    assert [may_become(chore, state) for state in ChoreState] == [False, True, False]
    world.records.put(Chore(name="dishes", since=MORNING, due=0.0, state=ChoreState.DONE, version=chore.version))
    item = world.tables.peek("sessions", ("dishes", "chore"))
    assert item is not None and "shard" not in item and item["expires"] > MORNING


def test_only_these_files_know_the_new_source_and_its_record() -> None:
    folders = ("orchestrator", "agent", "simulation", "tests")
    paths = [path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")]

    known = {str(path.relative_to(CHECKOUT)) for path in paths if "chores" in path.read_text("utf-8").lower()}
    assert known == {"tests/orchestrator/chores.py", "tests/orchestrator/test_extending_work.py"}
