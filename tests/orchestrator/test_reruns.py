"""What of a run is run again, and when: the jobs whose machines were taken away, once, when the run is over."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.jobs.github import EndedJob
from orchestrator.jobs.reruns import next_rerun
from orchestrator.store.states import SessionState
from simulation.examples import some_settings
from simulation.world import World
from tests.orchestrator.reruns import ends, happens, is_taken_away, reruns, run_again, running


def test_nothing_is_run_again_while_the_run_still_runs() -> None:
    world = World()
    running(world, "build", "test")
    is_taken_away(world, "build")
    ends(world, "build")

    early = list(reruns(world))
    ends(world, "test", "success")

    assert (early, reruns(world)) == ([], [("7", "")])


def test_beside_a_job_that_is_really_red_only_the_reclaimed_one_is_run_again() -> None:
    world = World()
    running(world, "build", "test")
    is_taken_away(world, "build")

    ends(world, "build")
    ends(world, "test")

    assert reruns(world) == [("7", "1")]


def test_two_reclaimed_jobs_beside_a_red_one_are_run_again_one_after_the_other() -> None:
    world = World()
    running(world, "build", "test", "red")
    for name in ("build", "test"):
        is_taken_away(world, name)
    for name in ("build", "test", "red"):
        ends(world, name)

    first = list(reruns(world))
    again = next(job for job in world.github.jobs.values() if job.run_attempt == 2 and job.action == "queued")
    happens(world, msgspec.structs.replace(again, action="completed", conclusion="success"))

    assert first == [("7", "1")] and [job.partition("+")[0] for _, job in reruns(world)] == ["1", "2"]


def test_a_job_reclaimed_again_is_given_up_and_that_is_said() -> None:
    world = World()
    again = run_again(world)

    again = msgspec.structs.replace(again, head_sha="0f")
    world.told(again)
    session = next(s for s in world.sessions if s.state is SessionState.CONFIGURED)
    happens(world, msgspec.structs.replace(again, action="in_progress", runner_name=session.registration_name))
    world.hear_the_end("interrupted", session=session, reason="spot_notice")
    ends(world, "build")

    assert len(reruns(world)) == 1
    exhausted = [fields for name, fields in world.journal.events if name == "rerun.exhausted"]
    assert exhausted and exhausted[0]["attempt"] == 2
    assert world.github.notices == [
        "`build` failed because its machine was taken away (spot_notice), as in attempt 1: it is not run again by itself."
    ]


def test_of_two_jobs_of_one_name_the_one_that_lost_its_machine_is_known_by_its_id() -> None:
    both = [EndedJob("1", "build", "failure"), EndedJob("2", "build", "failure")]

    assert next_rerun(("build",), (), both) == ((), ""), "in another attempt nobody can tell them apart"
    assert next_rerun(("build",), ("2",), both) == (("build",), "2")
    assert next_rerun(("build",), ("1", "2"), both) == (("build",), "")


@pytest.mark.parametrize("conclusion", ["timed_out", "action_required", "startup_failure"])
def test_beside_a_job_that_ended_badly_on_its_own_only_the_other_is_run_again(conclusion: str) -> None:
    badly = [EndedJob("1", "build", "failure"), EndedJob("2", "slow", conclusion)]

    assert next_rerun(("build",), ("1",), badly) == (("build",), "1")


def test_the_rest_of_a_matrix_that_fails_fast_is_cancelled_because_of_the_one_that_lost_its_machine() -> None:
    matrix = [EndedJob("1", "build", "failure"), *(EndedJob(str(n), f"m{n}", "cancelled") for n in range(2, 7))]

    assert next_rerun(("build",), ("1",), matrix) == (("build",), "")
    assert next_rerun(("build",), ("1",), [*matrix, EndedJob("9", "lint", "failure")]) == (("build",), "1")


def test_two_reclaimed_jobs_of_one_name_are_both_run_again() -> None:
    world = World()
    running(world, "build", "build")
    for number in ("1", "2"):
        session = next(one for one in world.sessions if one.bound_job == number)
        world.hear_the_end("interrupted", session=session, reason="spot_notice")
        world.compute.instances[session.instance_id] = "terminated"
        told = world.github.jobs[number]
        happens(world, msgspec.structs.replace(told, action="completed", conclusion="failure", at=world.clock.at))

    assert reruns(world) == [("7", "")]


def test_when_the_last_job_of_a_long_run_is_over_the_reclaimed_one_is_run_again_at_once() -> None:
    world = World()
    running(world, "build", "long")
    is_taken_away(world, "build")
    ends(world, "build")
    world.ticks(until_s=4 * 3600.0, every_s=30.0)

    ends(world, "long", "success")
    world.ticks(until_s=15.0)

    assert len(world.github.reruns) == 1


@pytest.mark.parametrize(
    ("wanted", "failed", "chosen"),
    [
        ("", "ab", ((), "")),
        ("a", "", ((), "")),
        ("a", "a", (("a",), "")),
        ("ab", "ab", (("a", "b"), "")),
        ("ab", "a", (("a",), "")),
        ("a", "ab", (("a",), "id-a")),
        ("ab", "abc", (("a",), "id-a")),
    ],
)
def test_what_is_run_again_next(wanted: str, failed: str, chosen: tuple[tuple[str, ...], str]) -> None:
    assert next_rerun(tuple(wanted), (), [EndedJob(f"id-{name}", name, "failure") for name in failed]) == chosen


def test_a_long_run_whose_jobs_end_one_after_the_other_is_not_asked_for_each_time() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    running(world, *(f"job-{number}" for number in range(30)))
    is_taken_away(world, "job-0")
    ends(world, "job-0")
    before = world.calls.made.count("github.run")

    for number in range(1, 29):
        world.ticks(until_s=10.0)
        ends(world, f"job-{number}", "success")

    assert world.calls.made.count("github.run") - before <= 7


@pytest.mark.parametrize(("days", "again"), [(29.0, [("7", "")]), (31.0, [])])
def test_what_github_does_not_run_again_any_more_is_dropped_thirty_days_after_it_was_wanted(
    days: float, again: list[tuple[str, str]]
) -> None:
    world = World()
    running(world, "build", "test")
    is_taken_away(world, "build")
    ends(world, "build")
    world.clock.at += days * 86_400.0
    ends(world, "test", "success")
    world.ticks(until_s=7_200.0, every_s=600.0)

    assert reruns(world) == again


def test_of_several_that_are_run_again_one_by_one_name_and_id_are_of_the_same_job() -> None:
    badly = [EndedJob("1", "build", "cancelled"), EndedJob("2", "test", "cancelled"), EndedJob("3", "red", "failure")]

    assert next_rerun(["build", "test"], ["1", "2"], badly) == (("build",), "1")
