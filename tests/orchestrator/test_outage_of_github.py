"""GitHub that does not answer, refuses or will not tell: no job waits for ever, and no machine is bought for nothing."""

from __future__ import annotations

from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.model import JobState
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.world import World

DAY_S = 86_400.0


def unplugged(world: World) -> list[float]:
    """The App is installed there no more: nothing of its repository can be asked. Returns when something is."""
    asked: list[float] = []

    def refused(*_: object, **__: object) -> None:
        asked.append(world.clock.at)
        raise ServiceFailed("github:installation token", "404", "Not Found")

    for name in ("mint", "find", "remove", "job", "run", "jobs_of"):
        world.calls.script(f"github.{name}", times=None, before=refused)
    return asked


def test_jobs_of_an_app_that_was_taken_away_end_and_machines_are_not_bought_for_them_for_ever() -> None:
    world = World()
    world.launched()
    refused = unplugged(world)

    world.ticks(until_s=DAY_S + 7200.0, every_s=600.0)
    bought, asked = world.compute.launched, len(refused)
    world.ticks(until_s=4 * 3600.0, every_s=600.0)

    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")
    assert world.compute.launched == bought, "nothing is bought for it any more"
    assert len(refused) == asked > 0, "and nobody is asked about it"


def test_a_job_that_github_will_not_tell_of_is_asked_about_once_an_hour_and_given_up_after_a_day_more() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event())
    asked = []

    def suspended(*_: object, **__: object) -> None:
        asked.append(world.clock.at)
        raise ServiceFailed("github:installation token", "403", "This installation has been suspended")

    world.calls.script("github.job", times=None, before=suspended)
    world.ticks(until_s=DAY_S + 3 * 3600.0, every_s=600.0)
    after_a_day = len(asked)
    world.ticks(until_s=DAY_S, every_s=600.0)

    job = world.records.job("1")
    assert 1 <= after_a_day <= 4
    assert job is not None and job.conclusion == "unheard"


def test_a_run_that_may_not_be_asked_about_now_keeps_nobody_from_asking_about_the_jobs() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")

    world.calls.fail("github.jobs_of", Throttled("github:GET", "BudgetSpent"), times=None)
    world.github.jobs["1"] = an_event("in_progress", runner_name=session.registration_name)
    world.ticks(until_s=130.0)

    assert world.session.bound_job == "1" and world.compute.launched == 1


def test_where_a_whole_run_may_not_be_asked_about_its_oldest_job_is_asked_about_alone() -> None:
    world = World()
    session = world.launched()
    world.told(an_event(job_id="2", at=MORNING + 1.0))
    world.hear("busy", session=session, ran_run_id="8")

    world.calls.fail("github.jobs_of", Throttled("github:GET", "BudgetSpent"), times=None)
    world.github.jobs["1"] = an_event("in_progress", runner_name=session.registration_name)
    world.ticks(until_s=130.0)

    bound = world.records.session(session.session_id)
    assert bound is not None and bound.bound_job == "1" and world.compute.launched == 2


def test_the_reason_for_waiting_is_told_for_as_long_as_it_holds() -> None:
    world = World()
    spent = RegistrationQuota(0, "GitHub's limit of registrations")
    world.github.quotas = lambda _: spent
    world.told(an_event(at=MORNING))
    said = []
    for _ in range(12):
        world.ticks(until_s=60.0)
        world.github.quotas = None  # whoever explains does not ask GitHub
        said.append(world.explanation().waits_for)
        world.github.quotas = lambda _: spent

    assert {words.partition(";")[0] for words in said} == {"GitHub's limit of registrations"}
