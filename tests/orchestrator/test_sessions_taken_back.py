"""Sessions that are taken back: only those that are idle by the word of everybody, and none that gets work meanwhile."""

from __future__ import annotations

import pytest

from orchestrator.store.kinds import changed
from orchestrator.store.naming import Scope
from orchestrator.store.states import SessionState
from simulation.examples import an_event, some_settings
from simulation.world import World, old_records
from tests.orchestrator.fleets import queue


def test_t8_a_cancelled_job_leaves_a_surplus_that_is_taken_back_after_a_minute() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("completed", conclusion="cancelled"))

    world.ticks(until_s=50.0)
    kept = world.compute.instances[session.instance_id]
    world.ticks(until_s=90.0)

    assert (kept, world.compute.instances[session.instance_id]) == ("running", "terminated")
    assert (world.session.reason, world.session.state) == ("surplus", SessionState.CLOSED)
    assert (world.github.runners, world.configurations.values) == ({}, {})


def test_a_surplus_runner_that_is_busy_is_kept() -> None:
    world = World()
    session = world.launched()
    for runner in world.github.runners.values():
        runner.busy = True
    world.told(an_event("completed", conclusion="cancelled"))

    world.ticks(until_s=300.0)

    assert world.compute.instances[session.instance_id] == "running"


def is_taken_back(world: World, how: str) -> None:
    """All that is idle: as a surplus of which a minute has passed, or by an operator."""
    if how == "drain":
        world.turns.pause(paused=True)
        world.turns.drain()
    else:
        world.told(an_event("completed", conclusion="cancelled"))
        world.ticks(until_s=120.0)


@pytest.mark.parametrize("how", ["surplus", "drain"])
def test_p5_a_runner_that_github_calls_busy_is_taken_back_by_nobody_though_we_think_it_idle(how: str) -> None:
    world = World()
    session = world.launched()
    world.hear("started")
    world.github.runners[session.registration_id].busy = True

    is_taken_back(world, how)

    assert world.session.state is SessionState.READY
    assert (world.compute.instances[session.instance_id], set(world.github.runners)) == ("running", {session.registration_id})


@pytest.mark.parametrize("how", ["surplus", "drain"])
def test_p10_a_runner_that_gets_a_job_between_the_look_and_the_act_is_kept(how: str) -> None:
    world = World()
    session = world.launched()
    world.hear("started")

    def then_busy(scope: Scope, name: str) -> None:
        world.github.runners[session.registration_id].busy = True

    world.calls.script("github.find", times=None, after=then_busy)
    is_taken_back(world, how)

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.READY, "running")


def test_p9_a_drain_finds_every_idle_session_among_records_of_every_kind_and_nothing_else() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))
    queue(world, 60)
    world.reconcile()
    old_records(world, 20)
    before = {session.session_id: session for session in world.sessions if session.session_id.startswith("s-old")}

    world.turns.pause(paused=True)
    failed = world.turns.drain()

    assert failed == {} and set(world.compute.instances.values()) == {"terminated"} and world.compute.launched == 60
    assert {one.session_id: one for one in world.sessions if one.state is not SessionState.ENDED} == before


def test_p3_what_is_taken_back_is_not_made_again_in_the_same_breath() -> None:
    world = World()
    queue(world, 3, first=0)
    world.reconcile()
    world.told(an_event("completed", job_id="0", conclusion="cancelled"))

    world.ticks(until_s=300.0)

    assert (world.compute.launched, sorted(world.compute.instances.values())) == (3, ["running", "running", "terminated"])


@pytest.mark.parametrize("how", ["bound", "busy", "unknown"])
def test_a_session_that_is_not_idle_is_not_even_asked_about(how: str) -> None:
    world = World()
    session = world.launched()
    changes: dict[str, dict[str, object]] = {"bound": {"bound_job": "1"}, "busy": {"state": SessionState.BUSY}, "unknown": {}}
    known = world.records.put(changed(session, **changes[how]))

    world.turns.sessions.release("s-unknown" if how == "unknown" else known.session_id)

    assert world.session == known and "github.find" not in world.calls.made
