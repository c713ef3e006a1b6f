"""What an outage of the webhook leaves behind: GitHub is asked what became of jobs, and tells of those we never heard of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.fleet.demand import BUSY_S, STALE_S
from orchestrator.jobs.backfill import REPOSITORIES
from orchestrator.jobs.intake import QUEUED_S
from orchestrator.jobs.model import JobState
from orchestrator.jobs.webhook import JobEvent
from orchestrator.store.naming import Scope
from simulation.calls import Calls
from simulation.examples import SET, an_event
from simulation.world import World


def ran_unheard(world: World, run_id: str, *job_ids: str) -> None:
    """Short jobs whose `in_progress` and `completed` got lost; their agents have said everything."""
    sessions = [one for one in world.sessions if one.launched_for in job_ids]
    for session in sessions:
        told = {"job_id": session.launched_for, "run_id": run_id, "runner_name": session.registration_name}
        world.github.jobs[session.launched_for] = an_event("completed", conclusion="success", at=world.clock.at + 30.0, **told)
        world.hear("started", session=session)
        world.hear("busy", session=world.records.session(session.session_id), ran_job="build", ran_run_id=run_id)
        world.compute.instances[session.instance_id] = "terminated"
        world.hear_the_end(session=world.records.session(session.session_id), ran_job="build")


def still_queued(world: World) -> int:
    """How many jobs wait, as far as we know."""
    return sum(job.state is JobState.QUEUED for job in world.records.jobs())


def test_jobs_that_ran_while_no_webhook_came_through_are_asked_for_and_get_no_second_machine() -> None:
    calls = Calls()
    world = World(calls)
    for number in range(30):
        world.turns.on_job_event(an_event(job_id=str(number), run_id="7"))
    world.reconcile()
    ran_unheard(world, "7", *map(str, range(30)))
    calls.made.clear()

    world.ticks(BUSY_S + 60.0)

    assert (still_queued(world), world.compute.launched) == (0, 30)
    asked = Counter(one for one in calls.made if one in ("github.job", "github.jobs_of"))
    assert asked["github.jobs_of"] <= 2 and asked["github.job"] <= 2, "of one run by one call, not job by job"
    label_set = world.records.label_set(SET)
    assert label_set is not None and label_set.working == {}, "and nobody is asked about again"


def test_what_github_did_not_answer_about_is_asked_again() -> None:
    world = World()
    world.launched()
    ran_unheard(world, "7", "1")
    asked = []

    def refuses(*told: object, **_: object) -> None:
        asked.append(told)
        raise ServiceFailed("github:list jobs", "502", "bad gateway")

    for name in ("github.jobs_of", "github.job"):
        world.calls.script(name, times=None, before=refuses)
    world.clock.at += BUSY_S + 1.0
    world.wakes.wake(SET)
    world.reconcile()
    label_set = world.records.label_set(SET)
    assert asked and label_set is not None and label_set.working, "it is not forgotten"
    for name in ("github.jobs_of", "github.job"):
        world.calls.unscript(name)
    world.ticks(120.0)

    assert still_queued(world) == 0


def test_jobs_that_github_ended_unheard_are_all_found_soon_and_not_five_at_a_time() -> None:
    """Cancelled while the endpoint was down: machines are there for them, and nobody takes these."""
    world = World()
    for number in range(60):
        world.turns.on_job_event(an_event(job_id=str(number), run_id=str(number)))
    world.reconcile()
    for session in world.sessions:
        world.hear("started", session=session)
        told = {"job_id": session.launched_for, "run_id": session.launched_for}
        world.github.jobs[session.launched_for] = an_event("completed", conclusion="cancelled", at=world.clock.at, **told)

    world.ticks(STALE_S + 600.0)

    assert still_queued(world) == 0
    assert world.compute.launched <= 60 + 60 + 10, "at most one more for each that still looked as if it waited"


def test_jobs_of_one_run_that_github_ended_unheard_are_asked_about_together() -> None:
    calls = Calls()
    world = World(calls)
    for number in range(30):
        world.turns.on_job_event(an_event(job_id=str(number)))
    world.reconcile()
    for session in world.sessions:
        world.hear("started", session=session)
        world.github.jobs[session.launched_for] = an_event("completed", conclusion="cancelled", job_id=session.launched_for)
    calls.made.clear()

    world.ticks(STALE_S + 600.0)

    assert (still_queued(world), calls.made.count("github.job")) == (0, 0) and 1 <= calls.made.count("github.jobs_of") <= 2


@pytest.mark.parametrize("known", ["waiting", "unheard"])
def test_a_job_that_github_lets_run_is_found_though_we_thought_otherwise(known: str) -> None:
    world = World()
    if known == "waiting":
        world.told(an_event("waiting"))
    else:
        world.compute.full = {"*"}
        world.told(an_event())
        world.forgotten()
        world.tick(after_s=QUEUED_S)
        given_up = world.records.job("1")
        assert given_up is not None and given_up.conclusion == known
        world.compute.full = set()
    world.github.jobs = {"1": an_event()}
    world.ticks(until_s=700.0)

    world.turns.on_backfill()
    world.reconcile()

    job = world.records.job("1")
    assert job is not None and job.state is JobState.QUEUED and world.compute.launched == 1


def test_repositories_whose_turn_it_was_while_github_wanted_to_be_left_alone_come_first_in_the_next_round() -> None:
    world = World()
    names = [f"repo{number:03}" for number in range(2 * REPOSITORIES)]
    for name in names:
        world.turns.on_job_event(an_event("completed", conclusion="success", job_id=name, repo=name))
    looked: list[str] = []
    shut = [True]

    def waiting_jobs(scope: Scope) -> Iterator[JobEvent]:
        if shut[0] and len(looked) >= 20:
            raise Throttled("github:list runs", "BudgetSpent", "kept for others")
        looked.append(scope.repo)
        return iter(())

    world.calls.script("github.waiting_jobs", times=None, answer=waiting_jobs)
    for _ in range(3):
        world.turns.on_backfill()
        world.clock.at += world.settings.backfill_s
        shut[0] = False

    half = REPOSITORIES // 2
    assert looked[:20] == names[:20], "then GitHub wanted to be left alone"
    assert looked[20 : 20 + half] == names[20 : 20 + half]
    assert looked[20 + half : 20 + 2 * half] == names[REPOSITORIES : REPOSITORIES + half], "and the others have their turn, too"
    assert set(looked) >= set(names[: REPOSITORIES + half])
