"""What kind of machine a job gets that lost one, and how many."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.store.states import SessionState
from simulation.examples import an_event, some_settings
from simulation.world import World
from tests.orchestrator.reruns import ends, happens, is_taken_away, reruns, run_again, running


def market(world: World, at: int = -1) -> str:
    """Of one request."""
    return str(world.compute.requests[at]["TargetCapacitySpecification"]["DefaultTargetCapacityType"])


def test_r1_a_job_that_is_run_again_finds_a_runner_with_the_very_labels_that_it_asks_for() -> None:
    world, labels = World(), ("runs-fleet=7/cpu=4", "Team-A")
    world.github.attempts["7"] = 1
    happens(world, an_event(name="build", labels=labels))
    happens(world, an_event("in_progress", name="build", labels=labels, runner_name=world.session.registration_name))
    world.hear("busy")

    world.hear("interrupting", reason="spot_notice")
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    (again,) = [job for job in world.github.jobs.values() if job.run_attempt == 2]
    world.told(again)

    first, second = world.sessions
    assert again.labels == first.labels == second.labels == world.github.runners[second.registration_id].labels == labels
    assert (first.set_key, first.market, second.market, world.compute.launched) == (second.set_key, "spot", "on-demand", 2)


def test_each_job_that_lost_its_machine_gets_one_that_stays_also_where_they_are_run_again_one_by_one() -> None:
    world = World()
    running(world, "build", "test", "red")
    for name in ("build", "test"):
        is_taken_away(world, name)
    for name in ("build", "test", "red"):
        ends(world, name)

    non_interruptible = []
    for attempt in (2, 3):
        reruns(world)
        again = next(job for job in world.github.jobs.values() if job.run_attempt == attempt and job.action == "queued")
        happens(world, again)
        non_interruptible.append(world.records.job(again.job_id).non_interruptible)  # type: ignore[union-attr]
        happens(world, msgspec.structs.replace(again, action="completed", conclusion="success", at=world.clock.at))

    assert non_interruptible == [True, True]


def test_nothing_is_launched_for_a_job_that_will_not_be_run_again() -> None:
    world = World()
    again = run_again(world)
    happens(world, again)
    session = next(one for one in world.sessions if one.state is SessionState.CONFIGURED)
    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=session.registration_name))
    world.hear("busy", session=session)
    before = world.compute.launched

    world.hear("interrupting", session=session, reason="spot_notice")
    world.ticks(until_s=20.0)

    assert world.compute.launched == before


def test_a_job_that_lost_its_machine_gets_one_that_is_not_taken_back() -> None:
    world = World()
    again = run_again(world)

    world.told(again)

    assert [market(world, at) for at in (0, -1)] == ["spot", "on-demand"]
    told = world.records.job(again.job_id)
    assert told is not None and told.non_interruptible


def test_a_machine_at_work_that_is_about_to_go_is_replaced_by_one_that_is_not_taken_back() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")

    world.hear("interrupting", reason="spot_notice")

    assert [market(world, at) for at in range(len(world.compute.requests))] == ["spot", "on-demand"]


def test_a_job_that_somebody_ran_again_himself_is_as_any_other() -> None:
    world = World()
    running(world, "build")
    ends(world, "build")

    world.told(an_event(job_id="5", name="build", run_attempt=2))

    assert market(world) == "spot"


@pytest.mark.parametrize("label", ["runs-fleet/fallback=wait", "runs-fleet/price=0.2"])
def test_who_wants_spot_and_nothing_else_gets_nothing_else(label: str) -> None:
    world = World()
    world.github.attempts["7"] = 1
    world.told(an_event(labels=(label,)))
    happens(world, an_event("in_progress", runner_name=world.session.registration_name, labels=(label,)))
    world.hear("busy")

    world.hear("interrupting", reason="spot_notice")

    assert {market(world, at) for at in range(len(world.compute.requests))} == {"spot"}


def test_beside_it_others_still_get_spot() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    for number in (11, 12):
        world.turns.on_job_event(an_event(job_id=str(number)))

    world.hear("interrupting", reason="spot_notice", session=world.sessions[0])
    world.ticks(until_s=10.0)

    asked = {
        market(world, at): world.compute.requests[at]["TargetCapacitySpecification"]
        for at in range(1, len(world.compute.requests))
    }
    assert {name: told["TotalTargetCapacity"] for name, told in asked.items()} == {"on-demand": 1, "spot": 2}


def test_a_machine_that_is_about_to_go_after_its_job_is_done_is_not_replaced() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    ends(world, "build", "success")

    world.hear("interrupting", reason="spot_notice")
    world.ticks(until_s=60.0)

    assert world.compute.launched == 1


def test_a_job_whose_end_is_told_while_its_machine_is_said_to_go_is_not_expected_back() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    over = an_event("completed", name="build", conclusion="success", runner_name=world.session.registration_name)

    world.calls.script("tables.write", before=lambda *_: world.replica().on_job_event(over))
    world.hear("interrupting", reason="spot_notice")
    told = world.records.job("1")
    world.ticks(until_s=60.0)

    assert told is not None and told.conclusion == "success" and world.compute.launched == 1


@pytest.mark.parametrize(("label", "settings"), [("runs-fleet/spot=false", {}), ("runs-fleet", {"spot": False})])
def test_where_everything_is_on_demand_a_rescued_job_beside_another_holds_nothing_up(
    label: str, settings: dict[str, bool]
) -> None:
    world = World(settings=some_settings(**settings))
    world.github.attempts["7"] = 1
    world.told(an_event(name="build", labels=(label,)))
    happens(world, an_event("in_progress", name="build", runner_name=world.session.registration_name, labels=(label,)))
    world.hear("busy")
    world.turns.on_job_event(an_event(job_id="11", labels=(label,)))

    world.hear("interrupting", reason="spot_notice", session=world.sessions[0])
    world.ticks(until_s=10.0)

    assert world.compute.launched == 3, "for the one that waits, and for the one that is expected back"


def test_a_job_that_is_back_is_expected_no_more_though_the_first_that_was_told_of_it_is_that_it_runs() -> None:
    world = World()
    running(world, "build")
    world.hear("busy")
    world.hear("interrupting", reason="spot_notice", session=world.sessions[0])
    is_taken_away(world, "build")
    ends(world, "build")
    reruns(world)
    again = next(job for job in world.github.jobs.values() if job.run_attempt == 2)
    spare = next(one for one in world.sessions if one.state is SessionState.CONFIGURED)

    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=spare.registration_name))

    label_set = world.records.label_set(spare.set_key)
    assert label_set is not None and label_set.expected == ()
