"""Deliveries, the operator's commands, and the turns in which they are acted on."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest

from agent.contract.config import read_config
from orchestrator.errors import ServiceFailed
from orchestrator.jobs.webhook import JobEvent
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.world import World


def test_a_delivery_is_queued_once_however_often_it_comes() -> None:
    world = World()

    taken = [world.turns.on_webhook(b"the same bytes", an_event()) for _ in range(3)]

    assert taken == [True, True, True]
    assert [msgspec.json.decode(body, type=JobEvent) for body in world.queue.bodies] == [an_event()]


@pytest.mark.parametrize("changes", [{"action": "requested"}, {"labels": ("windows-latest",)}, {"labels": ()}])
def test_a_delivery_that_is_not_ours_is_not_queued(changes: dict[str, object]) -> None:
    world = World()

    assert not world.turns.on_webhook(b"", an_event(**{"action": "queued", **changes}))
    assert world.queue.bodies == []


def test_an_aliased_label_is_ours() -> None:
    assert World().turns.on_webhook(b"", an_event(labels=("ubuntu-latest",)))


def test_a_delivery_that_cannot_be_stored_is_not_taken() -> None:
    world = World()
    world.queue.refuses = True

    with pytest.raises(ServiceFailed):
        world.turns.on_webhook(b"", an_event())


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_queued_delivery_repeated_launches_once(times: int) -> None:
    world = World()

    for _ in range(times):
        world.told(an_event())

    assert (world.compute.launched, len(world.github.runners), len(world.configurations.values)) == (1, 1, 1)


def test_r1_a_launched_session_has_a_configuration_its_agent_can_read() -> None:
    world = World()

    session = world.launched()

    config = read_config(world.configurations.values[session.instance_id])
    assert session.state is SessionState.CONFIGURED
    assert world.configurations.stacks == {session.instance_id: "tests"}
    assert (config.session_id, config.job_id, config.runner_name) == (session.session_id, "1", session.registration_name)
    assert world.github.runners[session.registration_id].labels == session.labels


def test_a_runner_is_told_not_to_update_itself_in_the_very_configuration_that_is_laid_down() -> None:
    world = World()

    session = world.launched()

    laid_down = read_config(world.configurations.values[session.instance_id]).blob()
    files = json.loads(base64.b64decode(laid_down.reveal()))  # type: ignore[union-attr]
    assert json.loads(base64.b64decode(files[".runner"]))["DisableUpdate"] == "True"


def test_two_jobs_make_two_sessions() -> None:
    world = World()

    for job_id in ("1", "2"):
        world.told(an_event(job_id=job_id))

    assert (world.compute.launched, len(world.sessions)) == (2, 2)


def test_what_runs_a_job_is_told_by_github_and_not_by_the_session_launched_for_it() -> None:
    world = World()
    world.launched()

    world.told(an_event("in_progress", runner_name="somebody-else", at=MORNING + 9))

    job = world.records.job("1")
    assert job is not None and (job.runner_name, job.started_at) == ("somebody-else", MORNING + 9)
    assert world.session.registration_name != "somebody-else" and world.session.bound_job == ""


def test_a_job_whose_end_overtook_its_start_was_taken_all_the_same() -> None:
    world = World()
    session = world.launched()
    took = {"runner_name": session.registration_name, "taken_at": MORNING + 5}

    world.told(an_event("completed", conclusion="success", at=MORNING + 9, **took))
    world.told(an_event("in_progress", at=MORNING + 5, **took))

    job = world.records.job("1")
    assert job is not None and (job.started_at, job.completed_at) == (MORNING + 5, MORNING + 9)


def test_a_job_that_no_runner_had_was_never_taken_and_a_start_that_was_told_stands() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", at=MORNING + 4, runner_name=session.registration_name))

    world.told(
        an_event("completed", conclusion="success", at=MORNING + 9, runner_name=session.registration_name, taken_at=MORNING + 5)
    )
    world.told(an_event("completed", job_id="2", conclusion="cancelled", at=MORNING + 9))

    first, second = world.records.job("1"), world.records.job("2")
    assert first is not None and (first.started_at, first.completed_at) == (MORNING + 4, MORNING + 9)
    assert second is None or second.started_at is None


def test_t7_the_job_that_github_names_binds_the_session_whatever_it_was_launched_for() -> None:
    world = World()
    session = world.launched()
    world.told(an_event(job_id="2"))

    world.told(an_event("in_progress", job_id="2", runner_name=session.registration_name))

    bound = world.records.session(session.session_id)
    assert bound is not None and (bound.launched_for, bound.bound_job, bound.state) == ("1", "2", SessionState.BUSY)


def test_a_session_is_bound_once() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("in_progress", runner_name=session.registration_name))
    before = world.session

    world.told(an_event("completed", runner_name=session.registration_name, conclusion="success"))

    assert world.session == before


def test_a_job_that_is_over_before_its_start_was_heard_still_binds_its_session() -> None:
    world = World()
    session = world.launched()
    world.hear_the_end()

    world.told(an_event("completed", runner_name=session.registration_name, conclusion="success"))

    assert (world.session.bound_job, world.session.state, world.session.status) == ("1", SessionState.ENDED, "success")


def test_machines_that_an_operator_prepares_are_what_their_label_asks_for() -> None:
    world = World()

    world.turns.prepare("octo", "widgets", ("runs-fleet",), 3, 600.0)
    world.reconcile()

    assert {session.market for session in world.sessions} == {"spot"} and world.compute.launched == 3
