"""Launches, as plays to be cut short (test_cut_off)."""

from __future__ import annotations

import contextlib

from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.fleet.headroom import COUNTED_S
from orchestrator.store.states import SessionState
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.plays import Play, busy, the_first_is_gone_and_its_job_has_another


def nothing_to_be_had(world: World) -> None:
    world.compute.full = {"*"}


def asks_to_fail(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/fallback=fail",), head_sha="0f"))


def it_was_refused(world: World) -> None:
    job = world.records.job("1")
    assert job is not None and job.refused and world.compute.launched == 0
    assert 1 <= len(world.github.notices) <= 2, "once more where nobody knows whether it was heard"


def asks_nonsense(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/cpu=many",), head_sha="0f"))


def no_spot(world: World) -> None:
    world.compute.full = {"spot"}


def asks(world: World) -> None:
    world.told(an_event())


def one_on_demand(world: World) -> None:
    assert (world.session.market, world.session.state, world.compute.launched) == ("on-demand", SessionState.CONFIGURED, 1)


def half_of_them(world: World) -> None:
    """Two jobs of two label sets that need the same machine; there is room for one, later for all."""
    world.compute.room = 1
    for number in (1, 2):
        world.turns.on_job_event(an_event(job_id=str(number), labels=(f"runs-fleet={number}",)))


def settles(world: World) -> None:
    world.reconcile()


def there_is_room_again(world: World) -> None:
    world.compute.room, world.compute.full = None, set()


def each_has_one(world: World) -> None:
    sets = [session.set_key for session in world.sessions]
    assert len(sets) == len(set(sets)) == 2 == world.compute.launched
    assert {session.state for session in world.sessions} == {SessionState.CONFIGURED}


def would_rather_wait(world: World) -> None:
    world.told(an_event(labels=("runs-fleet/fallback=wait",)))


def one_of_spot(world: World) -> None:
    assert (world.session.market, world.session.state, world.compute.launched) == ("spot", SessionState.CONFIGURED, 1)


def refuses(world: World) -> None:
    """Every request, until somebody mends it."""
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "UnauthorizedOperation")] * 3


def a_quota(world: World) -> None:
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "MaxSpotInstanceCountExceeded")]


def one_machine(world: World) -> None:
    assert (world.session.state, world.compute.launched) == (SessionState.CONFIGURED, 1)


def launched_unheard(world: World) -> None:
    """EC2 made a machine, and its answer was lost."""
    world.compute.loses = 1
    with contextlib.suppress(Unanswered):
        world.told(an_event())
    assert (world.compute.launched, world.sessions) == (1, [])


def pauses_and_is_swept(world: World) -> None:
    world.turns.pause(paused=True)
    world.tick(after_s=world.settings.lease_s + 1.0)


def what_was_made_is_used_and_nothing_more_is_asked_for(world: World) -> None:
    assert world.records.stack().paused and (world.compute.sent, world.compute.launched) == (1, 1)
    assert (world.session.state, set(world.configurations.values)) == (SessionState.CONFIGURED, set(world.compute.instances))


def put_off(world: World) -> None:
    """The only machine that the stack may have is at work, and a job of another label set waits for its place."""
    busy(world)
    world.told(an_event(job_id="2", run_id="8", labels=("runs-fleet=8",)))
    assert len(world.records.waitlist.entries(world.clock.now())) == world.compute.launched == 1


def the_other_ends(world: World) -> None:
    session = world.sessions[0]
    world.told(an_event("completed", conclusion="success", runner_name=session.registration_name))
    world.github.runners.pop(session.registration_id, None)  # as GitHub does with an ephemeral runner that had its job
    world.compute.instances[session.instance_id] = "terminated"
    world.hear_the_end(session=session)
    world.tick(after_s=COUNTED_S + 1.0)


def its_place_is_taken(world: World) -> None:
    the_first_is_gone_and_its_job_has_another(world)
    assert [session.launched_for for session in world.sessions] == ["1", "2"]


PLAYS = {
    "spot is full": Play(no_spot, asks, one_on_demand),
    "half a launch is given": Play(half_of_them, settles, each_has_one, again=False, rounds=12, after=there_is_room_again),
    "a job would rather wait": Play(no_spot, would_rather_wait, one_of_spot, rounds=12, after=there_is_room_again),
    "ec2 refuses until it is mended": Play(refuses, asks, one_machine, rounds=30),
    "a quota is used up": Play(a_quota, asks, one_machine, rounds=12),
    "a pause meets a lost answer": Play(
        launched_unheard, pauses_and_is_swept, what_was_made_is_used_and_nothing_more_is_asked_for, rounds=4, step_s=61.0
    ),
    "a place becomes free": Play(put_off, the_other_ends, its_place_is_taken, rounds=6, settings=some_settings(max_sessions=1)),
    "a job would rather fail": Play(nothing_to_be_had, asks_to_fail, it_was_refused),
    "a label cannot be read": Play(lambda world: None, asks_nonsense, it_was_refused),
}
