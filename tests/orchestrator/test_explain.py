"""What happened to a job, in order, and the first thing it waits for."""

from __future__ import annotations

import pytest

from orchestrator.commands.explain import job_id_of
from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.store.states import SessionState
from simulation.examples import an_event
from simulation.world import World, old_records


def story(world: World) -> str:
    return "\n".join(line.what for line in world.explanation().lines)


def test_the_whole_life_of_a_green_job_is_told_in_order() -> None:
    world = World()
    session = world.launched()
    for after_s, status in ((10, "started"), (20, "busy")):
        world.clock.at += after_s
        world.hear(status)
    world.told(an_event("in_progress", runner_name=session.registration_name, at=world.clock.at))
    world.clock.at += 60
    world.hear_the_end()
    world.told(an_event("completed", runner_name=session.registration_name, conclusion="success", at=world.clock.at))

    told = world.explanation()

    assert told.waits_for == "" and [line.at for line in told.lines] == sorted(line.at for line in told.lines)
    for words in (
        "queued by GitHub", "committed", "ec2 asked for 1 spot, step 0: gave 1", "got instance i-", "configured: runner", "ready",
        "busy with job 1", "taken by runner", "ended: success", "completed: success",
    ):  # fmt: skip
        assert words in story(world), words


def test_what_ec2_refused_is_told_step_by_step_with_its_reasons() -> None:
    world = World()
    world.compute.full = {"spot"}
    world.told(an_event())

    told = story(world)

    assert "asked for 1 spot, step 0: gave 0 (InsufficientInstanceCapacity" in told and "1 on-demand, step 2: gave 1" in told


def waits_for(world: World, job_id: str = "1") -> str:
    return world.explanation(job_id).waits_for


def test_a_job_that_waits_for_approval() -> None:
    world = World()
    world.told(an_event("waiting"))

    assert "an approval on GitHub" in waits_for(world)


@pytest.mark.parametrize(
    ("label", "words"),
    [("runs-fleet/cpu=x", "cpu=x: expected"), ("runs-fleet/gen=9", "no instance type of amd64 has 2 to 4 vCPUs")],
)
def test_a_label_that_cannot_be_served(label: str, words: str) -> None:
    world = World()
    world.told(an_event(labels=(label,)))

    assert words in waits_for(world)


def test_a_machine_that_boots_and_the_place_in_the_queue() -> None:
    world = World()
    for number in (1, 2):
        world.told(an_event(job_id=str(number), at=world.clock.at + number))

    assert waits_for(world, "2") == (
        "one of 2 machines that boot; i-00000000000000002 gets until 2026-01-31T12:15:00Z, and is replaced then;"
        " it is number 2 of those that wait"
    )


def test_a_runner_that_listens() -> None:
    world = World()
    world.launched()
    world.hear("started")

    assert "GitHub to assign it to one of 1 idle runner;" in waits_for(world)


def test_no_capacity_and_when_it_is_tried_again() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event())

    assert waits_for(world) == "the next launch in 30 s: EC2 has no capacity"


def test_machines_that_never_work_and_when_it_is_tried_again() -> None:
    world = World()
    world.told(an_event())
    world.end_without_a_job(times=5)

    said = waits_for(world)
    assert said.startswith("the next launch in 60 s: 5 machines in a row ended without a job (amd64-2cpu-interruptible-")
    assert "-amd64:1)" in said
    assert "nothing launched for its label set: 5 machines in a row" in story(world)


def test_a_limit_of_githubs_that_only_the_server_knows_is_told_from_what_it_wrote_down() -> None:
    world = World()
    world.github.quotas = lambda _: RegistrationQuota(0, "GitHub's limit of registrations")
    world.told(an_event())
    world.github.quotas = None

    assert waits_for(world) == "GitHub's limit of registrations; it is number 1 of octo/widgets"
    assert "nothing launched for its label set: GitHub's limit of registrations" in story(world)


def test_what_kept_a_machine_from_its_configuration_is_told_with_its_time() -> None:
    world = World()
    world.calls.fail("github.mint", ServiceFailed("github:generate-jitconfig", "503", "try later"), times=None)
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.calls.unscript("github.mint")
    world.tick(after_s=61.0)

    assert "not configured: github:generate-jitconfig answered 503: try later" in story(world)
    assert world.session.state is SessionState.CONFIGURED


def test_a_launch_that_ec2_did_not_answer_is_told() -> None:
    world = World()
    world.compute.answers = [Unanswered("ec2:CreateFleet", "timed out")]
    with pytest.raises(Unanswered):
        world.told(an_event())
    world.tick(after_s=61.0)

    assert "ec2:CreateFleet answered NoAnswer: timed out" in story(world) and "gave 1" in story(world)


def test_a_job_that_lost_its_machine_is_told_what_became_of_it() -> None:
    world = World()
    session = world.at_work()
    world.hear("busy", session=session)
    world.github.jobs["1"] = an_event("completed", runner_name=session.registration_name, conclusion="failure")
    world.hear_the_end("interrupted", session=session, reason="spot_notice")
    world.told(world.github.jobs["1"])
    world.ticks(until_s=10.0)

    told = story(world)

    assert "build: attempt 1 lost its machine (spot_notice): to be run again when the run is over" in told
    assert "build: run again, as attempt 2" in told


def test_a_stack_that_is_paused() -> None:
    world = World()
    world.turns.pause(paused=True)
    world.told(an_event())

    assert "`runs-fleet resume`" in waits_for(world)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("47331908423", "47331908423"),
        ("https://github.com/o/r/actions/runs/1/job/2", "2"),
        ("https://github.com/o/r/actions/runs/1/job/2?pr=3#step:4:5", "2"),
        ("https://github.com/o/r/actions/runs/1", ""),
        ("build", ""),
        ("", ""),
    ],
)
def test_a_job_is_named_by_its_id_or_its_url(text: str, found: str) -> None:
    assert job_id_of(text) == found


def test_explaining_a_job_reads_what_concerns_it_and_nothing_else() -> None:
    few, many = World(), World()
    old_records(many, 300)
    examined = []
    for world in (few, many):
        world.told(an_event(job_id="42"))
        world.tables.examined = 0
        world.explanation("42")
        examined.append(world.tables.examined)

    assert examined[0] == examined[1] > 0


def test_launches_for_which_ec2_had_nothing_are_told_though_none_became_a_session() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event())

    assert story(world).count("gave 0") >= 3


def test_the_end_of_the_console_of_a_machine_that_died_is_told() -> None:
    world = World()
    session = world.at_work()
    world.compute.consoles[session.instance_id] = "boot\n\nkernel panic: not syncing\n"
    world.becomes("terminated")
    world.ticks(until_s=60.0)

    assert "the end of its console: kernel panic: not syncing" in story(world)


def test_a_job_that_waits_for_an_approval_was_not_queued() -> None:
    world = World()
    world.told(an_event("waiting"))

    assert story(world).startswith("waits on GitHub for an approval")
