"""What operators ask for, as plays to be cut short (test_cut_off)."""

from __future__ import annotations

from orchestrator.store.naming import set_key
from simulation.world import World
from tests.orchestrator.plays import (
    Play,
    busy,
    deregistered,
    idle,
    nothing_is_left_of_the_only_one,
    paused_with_a_job,
    unregistered,
)

LABELS = ("runs-fleet",)


def dismisses(world: World) -> None:
    world.turns.dismiss(world.sessions[0].session_id)
    world.reconcile()


def resumes(world: World) -> None:
    world.turns.pause(paused=False)
    world.reconcile()


def one_machine_and_no_pause(world: World) -> None:
    assert not world.records.stack().paused and world.compute.launched == 1


def drains(world: World) -> None:
    world.turns.pause(paused=True)
    world.turns.drain()


def prepares(world: World) -> None:
    world.turns.prepare("octo", "widgets", LABELS, 2, 600.0)
    world.reconcile()


def all_or_none_is_prepared(world: World) -> None:
    label_set = world.records.label_set(set_key("octo", "widgets", 1, LABELS))
    assert world.compute.launched == (2 if label_set is not None and label_set.prepared else 0)


PLAYS = {
    "an operator ends a session": Play(busy, dismisses, nothing_is_left_of_the_only_one, after=unregistered),
    "an operator resumes": Play(paused_with_a_job, resumes, one_machine_and_no_pause),
    "an operator drains": Play(idle, drains, nothing_is_left_of_the_only_one, after=deregistered),
    "an operator prepares": Play(lambda world: None, prepares, all_or_none_is_prepared, again=False),
}
