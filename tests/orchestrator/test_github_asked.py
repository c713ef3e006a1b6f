"""What GitHub says when it is asked about jobs and machines of which nothing is heard, and what is given up."""

from __future__ import annotations

import pytest

from orchestrator.fleet.demand import BUSY_S
from orchestrator.jobs.intake import QUEUED_S
from orchestrator.jobs.model import JobState
from orchestrator.store.states import SessionState
from simulation.examples import BOOT_S, an_event
from simulation.world import World


def test_a_machine_that_says_it_works_while_a_job_still_waits_has_github_asked() -> None:
    world = World()
    session = world.launched()
    world.hear("started")
    world.hear("busy", ran_job="build")
    world.github.jobs["1"] = an_event("in_progress", runner_name=session.registration_name)

    world.ticks(until_s=BUSY_S + 40.0)

    job = world.records.job("1")
    assert job is not None and job.state is JobState.IN_PROGRESS
    assert (world.session.bound_job, world.compute.launched) == ("1", 1)


def test_a_job_that_github_says_still_waits_gets_another_machine() -> None:
    world = World()
    world.launched()
    world.hear("started")
    world.hear("busy", ran_job="somebody else's")
    world.github.jobs["1"] = an_event("queued")

    world.ticks(until_s=BUSY_S + 40.0)

    assert world.compute.launched == 2


def test_a_job_that_github_does_not_know_any_more_wants_nothing() -> None:
    world = World()
    world.launched()
    world.hear("busy")
    world.forgotten()

    world.ticks(until_s=BUSY_S + 40.0)

    job = world.records.job("1")
    assert job is not None and (job.state, world.compute.launched) == (JobState.COMPLETED, 1)


def test_a_job_that_waited_two_days_for_its_approval_gets_its_machine() -> None:
    world = World()
    world.told(an_event("waiting"))
    world.clock.at += 2 * 86_400.0
    world.tick()

    world.told(an_event("queued", at=world.clock.at))

    assert world.compute.launched == 1


def test_a_job_that_was_given_up_and_is_heard_of_after_all_gets_its_machine() -> None:
    world = World()
    world.launched()
    world.forgotten()
    world.clock.at += 2 * 86_400.0
    world.tick()
    given_up = world.records.job("1")
    world.github.jobs["1"] = an_event("queued", at=world.clock.at)

    world.told(an_event("queued", at=world.clock.at))

    assert given_up is not None and given_up.conclusion == "unheard"
    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion, job.completed_at) == (JobState.QUEUED, "", None)


@pytest.mark.parametrize("action", ["queued", "in_progress", "waiting"])
def test_a_job_that_was_given_up_does_not_live_again_by_a_late_delivery_alone(action: str) -> None:
    world = World()
    world.launched()
    world.forgotten()
    world.clock.at += 2 * 86_400.0
    world.tick()

    world.told(an_event(action, at=world.clock.at))

    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")


def test_before_a_job_is_given_up_github_is_asked() -> None:
    world = World()
    world.launched()
    world.github.jobs["1"] = an_event("queued")
    world.clock.at += 2 * 86_400.0

    world.tick()

    job = world.records.job("1")
    assert job is not None and job.state is JobState.QUEUED


def test_h8_a_job_that_github_must_have_ended_long_ago_wants_nothing_any_more() -> None:
    world = World()
    world.launched()
    world.forgotten()

    world.clock.at += QUEUED_S
    world.tick()

    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")


def test_machines_that_took_their_jobs_while_we_were_away_are_not_ended_for_their_silence() -> None:
    world = World()
    session = world.launched()
    world.github.runners[session.registration_id].busy = True

    world.tick(after_s=BOOT_S + 60.0)

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.BUSY, "running")


def test_machines_that_never_came_up_are_ended_after_their_time_to_boot() -> None:
    world = World()
    session = world.launched()

    world.tick(after_s=BOOT_S + 60.0)

    assert world.compute.instances[session.instance_id] == "terminated"
