"""What EventBridge says of instances, and what GitHub says when it is asked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.demand import BUSY_S
from orchestrator.errors import ServiceFailed
from orchestrator.planning import BOOT_S
from orchestrator.ports import Received
from orchestrator.reapers import WORD_S
from orchestrator.states import JobState, SessionState
from tests.orchestrator.memory import MORNING, World, an_event, an_instance_event

WARNING, REBALANCE = "EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"
CHANGE = "EC2 Instance State-change Notification"


def test_a_spot_warning_takes_an_idle_machine_out_of_supply_at_once() -> None:
    world = World()
    session = world.launched()

    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id, **{"instance-action": "terminate"}))
    world.settle()

    assert (world.compute.launched, world.sessions[0].interrupting_at) == (2, MORNING)


def test_a_warning_and_the_agents_own_notice_are_one() -> None:
    world = World()
    session = world.at_work()

    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.hear("interrupting", session=session, reason="spot")

    assert world.compute.launched == 2


def test_a_rebalance_recommendation_is_recorded_and_launches_nothing() -> None:
    world = World()
    session = world.launched()

    world.turns.on_instance_event(an_instance_event(REBALANCE, session.instance_id))
    world.settle()

    assert (world.compute.launched, world.journal.names[-1]) == (1, "session.at_risk")


@pytest.mark.parametrize("state", ["shutting-down", "terminated", "stopping", "stopped"])
def test_an_instance_that_dies_without_a_word_ends_its_session_within_seconds_and_its_console_is_kept(state: str) -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = state
    world.compute.consoles[session.instance_id] = "Kernel panic - not syncing"

    world.turns.on_instance_event(an_instance_event(CHANGE, session.instance_id, state=state))
    world.tick(after_s=WORD_S)

    ended = world.session
    assert (ended.state, ended.status, ended.reason) == (SessionState.ENDED, "interrupted", "instance_gone")
    assert ended.console == "Kernel panic - not syncing"


def test_the_final_word_that_was_on_its_way_is_believed_before_the_event() -> None:
    world = World()
    session = world.at_work()
    world.compute.instances[session.instance_id] = "terminated"

    world.turns.on_instance_event(an_instance_event(CHANGE, session.instance_id, state="terminated"))
    world.hear_the_end("success")

    assert (world.session.status, world.session.console) == ("success", "")


@pytest.mark.parametrize("state", ["pending", "running"])
def test_an_instance_that_comes_up_changes_nothing(state: str) -> None:
    world = World()
    before = world.launched()

    world.turns.on_instance_event(an_instance_event(CHANGE, before.instance_id, state=state))

    assert world.session == before


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "{}", '{"detail-type": 7}', '{"detail-type": "x", "detail": {}}'])
def test_an_event_nobody_can_read_is_logged_and_dropped(body: str) -> None:
    world = World()

    world.turns.on_instance_event(Received(body, "receipt"))

    assert world.journal.names == ["event.unusable"]


def test_an_event_of_somebody_elses_instance_is_dropped() -> None:
    world = World()
    before = world.launched()

    world.turns.on_instance_event(an_instance_event(CHANGE, "i-0123456789abcdef0", state="terminated"))

    assert world.session == before


def test_a_machine_that_says_it_works_while_a_job_still_waits_has_github_asked() -> None:
    world = World()
    session = world.launched()
    world.hear("started")
    world.hear("busy", ran_job="build")
    world.github.jobs["1"] = an_event("in_progress", runner_name=session.runner_name)

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


def test_a_job_that_is_back_is_not_expected_any_more() -> None:
    world = World()
    session = world.at_work()
    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.settle()
    made = world.compute.launched

    world.told(an_event("completed", conclusion="failure"))
    world.told(an_event("queued", job_id="1-again", run_attempt=2))

    assert (made, world.compute.launched) == (2, 2)


def test_a_job_that_ended_well_before_its_machine_went_is_not_expected_back() -> None:
    world = World()
    session = world.at_work()
    world.turns.on_instance_event(an_instance_event(WARNING, session.instance_id))
    world.settle()

    world.told(an_event("completed", conclusion="success", runner_name=session.runner_name))
    world.ticks(until_s=130.0)

    assert sorted(world.compute.instances.values()) == ["running", "terminated"], "the spare is surplus after a minute"


def test_an_agents_notice_of_a_rebalance_launches_nothing_and_hides_no_warning() -> None:
    world = World()
    session = world.launched()

    world.hear("interrupting", reason="rebalance_recommendation")
    before = world.compute.launched
    world.hear("interrupting", session=session, reason="spot_notice")

    assert (before, world.compute.launched) == (1, 2)


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


def test_machines_that_took_their_jobs_while_we_were_away_are_not_ended_for_their_silence() -> None:
    world = World()
    session = world.launched()
    world.github.runners[session.runner_id].busy = True

    world.tick(after_s=BOOT_S + 60.0)

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.BUSY, "running")


def test_machines_that_never_came_up_are_ended_after_their_time_to_boot() -> None:
    world = World()
    session = world.launched()

    world.tick(after_s=BOOT_S + 60.0)

    assert world.compute.instances[session.instance_id] == "terminated"


def test_an_event_that_comes_before_the_index_has_heard_of_its_instance_comes_again_and_counts_then() -> None:
    world = World(index_lag_s=5.0)
    session = world.launched()
    world.compute.instances[session.instance_id] = "terminated"
    told = replace(an_instance_event(CHANGE, session.instance_id, state="terminated"), waited_s=0.5)

    with pytest.raises(ServiceFailed, match="NotYet"):
        world.turns.on_instance_event(told)
    world.clock.at += 6.0
    world.turns.on_instance_event(replace(told, waited_s=6.5))

    assert world.session.gone_at == world.clock.at


@pytest.mark.parametrize("waited_s", [0.5, 25.0])
def test_an_event_of_somebody_elses_instance_is_dropped_where_nothing_was_launched_lately(waited_s: float) -> None:
    world = World()
    world.launched()
    world.clock.at += 600.0

    world.turns.on_instance_event(replace(an_instance_event(CHANGE, "i-foreign", state="terminated"), waited_s=waited_s))

    assert world.session.gone_at is None


@pytest.mark.parametrize(
    ("then", "gone_at"),
    [("2026-01-31T12:00:00Z", MORNING), ("some time", MORNING + 1200.0), ("2099-01-01T00:00:00Z", MORNING + 1200.0)],
)
def test_an_event_that_waited_for_us_tells_when_it_happened(then: str, gone_at: float) -> None:
    world = World()
    session = world.launched()
    world.clock.at += 1200.0

    told = json.loads(an_instance_event(CHANGE, session.instance_id, state="terminated").body)
    world.turns.on_instance_event(Received(json.dumps({**told, "time": then}), "receipt"))

    assert world.session.gone_at == gone_at
