"""What the clock alone sets off: which turns, how often, and that nothing else is needed to notice what nobody told."""

from __future__ import annotations

import pytest

from orchestrator.jobs.model import JobState
from orchestrator.schedule import SCHEDULE
from orchestrator.store.states import SessionState
from simulation.examples import BOOT_S, an_event, some_settings
from simulation.world import World


def take(world: World, name: str) -> object:
    """Take the turn of this name, as whoever keeps the schedule does."""
    (cadence,) = [one for one in SCHEDULE if one.name == name]
    return cadence.take(world.turns)


def test_each_turn_has_a_name_of_its_own_and_is_as_frequent_as_its_own_setting_says() -> None:
    settings = some_settings(sweep_s=3.0, tick_s=50.0, backfill_s=700.0)

    assert [(one.name, one.every_s(settings)) for one in SCHEDULE] == [("sweep", 3.0), ("tick", 50.0), ("backfill", 700.0)]


def test_the_sweep_ends_what_is_past_its_deadline() -> None:
    world = World()
    session = world.launched()
    world.clock.at += BOOT_S + 60.0

    take(world, "sweep")

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.ENDED, "terminated")


def test_the_tick_collects_garbage() -> None:
    world = World()
    world.configurations.put("i-gone", "left over")

    for _ in range(3):
        take(world, "tick")
        world.clock.at += 601.0

    assert world.configurations.values == {}


def test_the_backfill_asks_github_for_deliveries_that_failed() -> None:
    world = World()
    world.github.lost = ["d-1"]

    take(world, "backfill")

    assert world.github.redelivered == ["d-1"]


@pytest.mark.parametrize(("left_out", "found"), [("", True), ("backfill", False)])
def test_a_job_of_which_no_webhook_ever_told_gets_its_machine_by_the_schedule_alone(left_out: str, found: bool) -> None:
    world = World(settings=some_settings(backfill_s=300.0))
    world.turns.on_job_event(an_event("completed", job_id="0", conclusion="success"))  # the repository is known
    world.github.jobs = {"1": an_event()}
    due = {one: world.clock.at for one in SCHEDULE if one.name != left_out}

    for _ in range(400):
        for cadence in [one for one, at in due.items() if at <= world.clock.at]:
            cadence.take(world.turns)
            due[cadence] = world.clock.at + cadence.every_s(world.settings)
        world.reconcile()
        world.clock.at += 1.0

    job = world.records.job("1")
    assert (job is not None and job.state is JobState.QUEUED, world.compute.launched) == (found, int(found))
