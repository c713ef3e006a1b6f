"""Jobs of which GitHub tells late, something else or nothing: which machines are made for them."""

from __future__ import annotations

from orchestrator.errors import ServiceFailed
from orchestrator.jobs.model import JobState
from orchestrator.store.naming import Scope
from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.fleets import queue, unclaimed


def test_jobs_that_github_gives_to_nobody_get_one_machine_more_each_and_no_more() -> None:
    world = World()
    queue(world, 10)
    world.reconcile()

    unclaimed(world, 1800.0, listens_s=1e9)

    assert world.compute.launched <= 20


def test_a_job_that_waits_for_an_approval_after_all_wants_no_machine_until_it_has_it() -> None:
    world = World()
    world.told(an_event("queued"))
    world.github.jobs["1"] = an_event("waiting")
    world.told(an_event("waiting"))

    unclaimed(world, 3600.0)
    waited = world.records.job("1")
    world.github.jobs["1"] = an_event("queued", at=world.clock.at)
    world.told(an_event("queued", at=world.clock.at))

    assert waited is not None and waited.state is JobState.WAITING
    assert world.compute.launched == 2, "one before anybody knew, one when it was approved"


def test_a_waiting_that_github_does_not_stand_by_changes_nothing() -> None:
    world = World()
    world.told(an_event("queued"))
    world.github.jobs["1"] = an_event("queued")

    world.told(an_event("waiting"))

    job = world.records.job("1")
    assert job is not None and job.state is JobState.QUEUED


def test_a_job_whose_end_was_never_heard_gets_no_machine_after_the_other() -> None:
    world = World()
    world.told(an_event())
    world.github.jobs["1"] = an_event("completed", conclusion="cancelled")

    unclaimed(world, 3600.0)

    job = world.records.job("1")
    assert job is not None and (job.conclusion, world.compute.launched) == ("cancelled", 1)


def test_a_job_that_was_found_and_then_not_looked_at_is_looked_at_in_the_next_round() -> None:
    world = World()
    world.records.repositories.heard_of(Scope("3", "octo", "widgets"), world.clock.now())
    world.github.jobs["2"] = an_event(job_id="2")
    world.calls.fail("tables.count", ServiceFailed("dynamodb:UpdateItem", "ThrottlingException"))
    world.turns.on_backfill()
    world.reconcile()
    missed = world.compute.launched

    world.clock.at += 301.0
    world.turns.on_backfill()
    world.reconcile()

    assert (missed, world.compute.launched) == (0, 1)


def test_the_rounds_go_through_all_repositories_however_long_each_takes() -> None:
    world = World()
    names = [f"r{number:03}" for number in range(120)]
    for name in names:
        world.records.repositories.heard_of(Scope("3", "octo", name), world.clock.now())
    asked: list[str] = []
    world.calls.script("github.waiting_jobs", times=None, before=lambda scope: asked.append(scope.repo))

    for _ in range(3):
        world.turns.on_backfill()
        world.clock.at += 600.0

    assert sorted(set(asked)) == names


def test_a_silent_runner_whose_job_was_never_told_is_found_by_the_run_that_it_names() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    stolen = {"job_id": "2", "run_id": "8", "labels": ("runs-fleet=8/arch=amd64",)}
    world.github.jobs["1"] = an_event("completed", conclusion="cancelled")
    world.told(world.github.jobs["1"])
    world.github.jobs["2"] = an_event("in_progress", runner_name=session.registration_name, **stolen)

    world.ticks(until_s=130.0)

    assert (world.session.bound_job, world.compute.launched) == ("2", 1)


def test_a_run_that_a_job_only_claims_to_be_of_binds_nothing() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")
    world.github.jobs["2"] = an_event("in_progress", job_id="2", run_id="8", runner_name="tests-s-somebody-else-0")

    world.ticks(until_s=130.0)

    assert world.sessions[0].bound_job == "" and world.records.job("2") is None
