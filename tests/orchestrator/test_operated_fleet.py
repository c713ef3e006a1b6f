"""Machines that an operator has made before any job asks, and machines that an operator ends."""

from __future__ import annotations

import pytest

from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.fleets import the_label_set


@pytest.mark.parametrize("spelling", ["octo/widgets", "Octo/WIDGETS"])
def test_a_machine_that_was_made_before_is_bound_however_its_repository_is_spelt(spelling: str) -> None:
    world = World()
    owner, _, repo = spelling.partition("/")
    world.turns.prepare(owner, repo, an_event().labels, 1, 600.0)
    world.reconcile()

    world.told(an_event())
    world.told(an_event("in_progress", runner_name=world.session.registration_name))

    assert (world.session.bound_job, world.compute.launched) == ("1", 1)


def test_a_job_takes_a_machine_that_was_made_before_and_none_is_made_instead() -> None:
    world = World()
    world.turns.prepare("octo", "widgets", an_event().labels, 2, 3600.0)
    world.reconcile()
    first, second = world.sessions
    for number, session in (("1", first), ("2", second)):
        world.told(an_event(job_id=number))
        world.told(an_event("in_progress", job_id=number, runner_name=session.registration_name))

    world.ticks(until_s=120.0)

    assert world.compute.launched == 2


def test_machines_that_an_operator_ends_are_no_reason_to_wait() -> None:
    world = World()
    world.told(an_event())

    for _ in range(6):
        world.turns.dismiss(world.sessions[-1].session_id)
        world.reconcile()
        world.clock.at += 1.0

    assert (the_label_set(world).backoff_until, world.compute.launched) == (0.0, 7)
