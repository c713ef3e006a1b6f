"""What is asked of GitHub because nobody told us: how much at once, what an answer changes, and what comes of no answer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.fleet.work import Refreshed
from orchestrator.jobs.inquiries import Inquiries
from orchestrator.jobs.intake import QUEUED_S, RUNNING_S, UNHEARD
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.source import JobSource
from orchestrator.retry_policy import ASKED_AGAIN_S, ASKED_RUNS, ASKED_S, DOUBTED_S
from orchestrator.store.model import Session
from simulation.calls import raise_
from simulation.clock import MORNING
from simulation.examples import SCOPE, SET, a_job, a_session, an_event
from simulation.world import World
from tests.orchestrator.fleets import the_label_set


def inquiries(world: World) -> Inquiries:
    """Those of the world's turns."""
    source = world.turns.sources.of(a_session())
    assert isinstance(source, JobSource)
    return source.inquiries


def waiting(world: World, *runs: str) -> None:
    """A job that waits in each of these runs; the first one waits longest."""
    for number, run in enumerate(runs, 1):
        world.records.put(a_job(job_id=str(number), run_id=run, queued_at=MORNING + number))


def asked(world: World) -> list[tuple[str, bool]]:
    """The jobs of which GitHub is asked from now on, and whether that is urgent."""
    jobs: list[tuple[str, bool]] = []
    world.calls.script("github.job", times=None, before=lambda _, job_id, urgent=True: jobs.append((job_id, urgent)))
    return jobs


def a_silent_session(world: World, **changes: object) -> Session:
    """One that says it works for the run of the example's job, of which nothing is known."""
    given: dict[str, object] = {
        "session_id": "s-aa",
        "ran_run": "7",
        "registration_name": "tests-s-aa",
        "expires_at": MORNING,
        **changes,
    }
    return world.records.put(a_session(**given))


def job(world: World, job_id: str = "1") -> Job:
    """As it is written now."""
    found = world.records.job(job_id)
    assert found is not None
    return found


def test_only_the_runs_that_waited_longest_are_asked_about() -> None:
    world = World()
    waiting(world, "7", "8", "9")
    jobs = asked(world)

    assert inquiries(world).ask(SET, 2, urgent=True) == 0
    assert jobs == [("1", True), ("2", True)]


@pytest.mark.parametrize(
    ("urgent", "silent", "runs"), [(True, 0, ASKED_RUNS), (True, ASKED_RUNS + 1, ASKED_RUNS + 1), (False, 0, 8)]
)
def test_more_runs_are_asked_about_where_more_sessions_are_silent_or_it_is_a_mere_check(
    urgent: bool, silent: int, runs: int
) -> None:
    world = World()
    waiting(world, *map(str, range(10, 18)))
    jobs = asked(world)

    inquiries(world).refresh(SET, [a_session()] * silent, urgent=urgent)

    assert jobs == [(str(number), urgent) for number in range(1, runs + 1)]


def test_the_jobs_of_one_run_cost_one_call_and_one_more_for_each_that_its_latest_attempt_does_not_name() -> None:
    world = World()
    waiting(world, "7", "7", "7")
    told = {"conclusion": "cancelled", "run_attempt": 2}
    world.github.jobs = {number: an_event("completed", job_id=number, **told) for number in ("1", "2")}
    world.github.attempts["7"] = 2
    jobs = asked(world)

    assert inquiries(world).ask(SET, 5, urgent=True) == 2
    assert (world.calls.made.count("github.jobs_of"), jobs) == (1, [("3", True)])
    assert [job(world, number).state.value for number in ("1", "2", "3")] == ["completed", "completed", "queued"]


@pytest.mark.parametrize("urgent", [True, False])
def test_while_github_throttles_one_job_of_a_run_is_asked_about_and_only_if_it_is_urgent(urgent: bool) -> None:
    world = World()
    waiting(world, "7", "7")
    jobs = asked(world)
    world.calls.fail("github.jobs_of", Throttled("github", "429"))

    told = inquiries(world).refresh(SET, [], urgent=urgent)

    assert (told.answered, jobs) == (urgent, [("1", True)] if urgent else [])


@pytest.mark.parametrize(("conclusion", "news"), [("", False), ("cancelled", True)])
def test_what_github_says_of_a_job_that_waits_is_news_only_if_we_knew_less(conclusion: str, news: bool) -> None:
    world = World()
    waiting(world, "7")
    world.github.jobs["1"] = an_event("completed" if news else "queued", conclusion=conclusion)

    assert inquiries(world).refresh(SET, [], urgent=True) == Refreshed(answered=True, news=news)
    assert (job(world).conclusion, world.wakes.waiting) == (conclusion, [SET] if news else [])


def test_a_job_that_github_does_not_know_any_more_is_over_and_its_label_set_is_looked_at() -> None:
    world = World()
    waiting(world, "7")
    world.forgotten()

    assert inquiries(world).ask(SET, 5, urgent=True) == 1
    assert (job(world).state, job(world).conclusion, world.wakes.waiting) == (JobState.COMPLETED, UNHEARD, [SET])


@pytest.mark.parametrize("call", ["github.job", "github.jobs_of"])
def test_what_cannot_be_asked_now_is_said_and_keeps_nothing_else_from_being_asked(call: str) -> None:
    world = World()
    waiting(world, "9")
    silent = a_silent_session(world)
    world.github.jobs["1"] = an_event("completed", run_id="9", conclusion="success")
    world.github.jobs["2"] = an_event("in_progress", job_id="2", runner_name=silent.registration_name)
    world.calls.script(call, before=lambda *_, **__: raise_(Unanswered("github")))

    assert inquiries(world).refresh(SET, [silent], urgent=True) == Refreshed(answered=False, news=True)
    assert [fields["set_key"] for fields in world.journal.of("label_set.query_failed")] == [SET]
    assert (world.records.job("2") is not None, job(world).state is JobState.COMPLETED) == (
        call == "github.job",
        call == "github.jobs_of",
    )


def test_the_job_that_a_silent_sessions_runner_has_is_bound_to_it_though_no_delivery_told_of_it() -> None:
    world = World()
    silent = a_silent_session(world)
    world.github.jobs["5"] = an_event("in_progress", job_id="5", runner_name=silent.registration_name)
    world.github.jobs["6"] = an_event("in_progress", job_id="6", runner_name="another")

    assert inquiries(world).refresh(SET, [silent], urgent=True) == Refreshed(answered=True, news=True)
    assert (world.session.bound_job, job(world, "5").state) == ("5", JobState.IN_PROGRESS)
    assert world.records.job("6") is None, "whoever runs it"
    assert world.journal.of("job.state_fetched") == [{"job_id": "5", "state": "in_progress"}]


def test_what_a_run_is_asked_about_tells_also_of_its_other_jobs() -> None:
    world = World()
    waiting(world, "7")
    silent = a_silent_session(world)
    world.github.jobs["1"] = an_event("completed", conclusion="skipped")

    assert inquiries(world).ask_run(SCOPE, "7", silent.registration_name) == 1
    assert job(world).conclusion == "skipped"
    assert world.journal.of("job.state_fetched") == [{"job_id": "1", "state": "completed"}]


def test_a_job_of_a_silent_sessions_runner_that_is_not_ours_by_its_labels_is_left_alone() -> None:
    world = World()
    silent = a_silent_session(world)
    world.github.jobs["5"] = an_event("in_progress", job_id="5", runner_name=silent.registration_name, labels=("windows",))

    assert inquiries(world).ask_run(SCOPE, "7", silent.registration_name) == 0
    assert world.records.job("5") is None and not world.session.bound_job


def test_only_sessions_that_name_a_run_and_are_not_bound_are_asked_about_and_each_runs_runner_once() -> None:
    world = World()
    silent = [a_session(), a_session(ran_run="7", bound_job="1"), a_session(ran_run="8"), a_session(ran_run="8")]

    inquiries(world).refresh(SET, silent, urgent=True)

    assert world.calls.made.count("github.jobs_of") == 1


@pytest.mark.parametrize(("due_s", "state"), [(1.0, JobState.QUEUED), (0.0, JobState.COMPLETED)])
def test_a_job_is_given_up_when_it_is_due_and_not_before(due_s: float, state: JobState) -> None:
    world = World()
    world.forgotten()
    world.records.put(a_job(due=MORNING + due_s))

    inquiries(world).close_unheard("1")

    assert job(world).state is state and ("job.presumed_over" in world.journal.names) is (state is JobState.COMPLETED)


def test_a_job_that_is_over_or_was_never_heard_of_is_not_given_up() -> None:
    world = World()
    world.records.put(a_job(state=JobState.COMPLETED, conclusion="success"))

    for job_id, overdue in (("1", True), ("1", False), ("2", True)):
        inquiries(world).close_unheard(job_id, overdue=overdue)

    assert job(world).conclusion == "success" and "github.job" not in world.calls.made


@pytest.mark.parametrize("action", ["queued", "in_progress"])
def test_a_job_that_is_due_and_lives_by_githubs_word_is_due_again_a_day_later_or_by_the_end_of_its_run(action: str) -> None:
    world = World()
    world.records.put(a_job(due=MORNING))
    world.github.jobs["1"] = an_event(action, runner_name="another" if action == "in_progress" else "")

    inquiries(world).close_unheard("1")

    assert (job(world).state.value, job(world).due) == (action, MORNING + (QUEUED_S if action == "queued" else RUNNING_S))


@pytest.mark.parametrize(
    ("code", "started_s", "given_up"),
    [("500", None, False), ("500", -2 * RUNNING_S, False), ("500", -2 * RUNNING_S - 1.0, True), ("404", None, True)],
)
def test_a_job_that_github_will_not_tell_of_is_given_up_if_the_app_is_gone_or_it_is_long_over_else_asked_about_in_an_hour(
    code: str, started_s: float | None, given_up: bool
) -> None:
    world = World()
    running = {"state": JobState.IN_PROGRESS, "started_at": MORNING + started_s} if started_s is not None else {}
    world.records.put(a_job(due=MORNING, **running))
    world.calls.fail("github.job", ServiceFailed("github:job", code))

    if given_up:
        inquiries(world).close_unheard("1")
    else:
        with pytest.raises(ServiceFailed):
            inquiries(world).close_unheard("1")

    assert (job(world).conclusion, job(world).due) == ((UNHEARD, 0.0) if given_up else ("", MORNING + ASKED_AGAIN_S))


def test_who_is_cut_off_before_an_answer_is_written_down_asks_again_in_an_hour_and_not_in_a_day() -> None:
    world = World()
    world.records.put(a_job(due=MORNING))
    world.github.jobs["1"] = an_event("in_progress", runner_name="another")
    world.calls.fail("tables.write", Unanswered("tables"), skip=1)

    with pytest.raises(Unanswered):
        inquiries(world).close_unheard("1")

    assert (job(world).state, job(world).due) == (JobState.QUEUED, MORNING + ASKED_AGAIN_S)


def machines_end_unclaimed(world: World, hours: float, pause_s: float) -> None:
    """For so long each machine that is there listens for five minutes, gets nothing and ends; then some time passes."""
    until = world.clock.at + hours * 3600.0
    while world.clock.at < until:
        session = next((one for one in world.sessions if not one.is_over), None)
        if session is not None:
            world.ticks(until_s=300.0, every_s=30.0)
            world.hear_the_end("interrupted", session=session, reason="unclaimed")
            world.compute.instances[session.instance_id] = "terminated"
        world.ticks(until_s=pause_s, every_s=30.0)


@pytest.mark.parametrize("conclusion", ["startup_failure", "failure", "cancelled"])
def test_a_job_that_stays_queued_though_its_run_is_over_gets_no_second_machine(conclusion: str) -> None:
    world = World()
    world.github.jobs = {"1": an_event(head_sha="0f")}
    world.github.ended = {"7": conclusion}
    world.told(an_event(head_sha="0f"))
    machines_end_unclaimed(world, hours=8.0, pause_s=300.0)

    assert world.compute.launched == 1
    assert (job(world, "1").state.value, job(world, "1").conclusion) == ("completed", conclusion)
    assert any(f"its run is over ({conclusion})" in told for told in world.github.notices)


def test_a_job_that_no_machine_is_given_is_slowed_to_hours_and_the_commit_says_so() -> None:
    """A job of a runner group that may not take our machines, say: GitHub calls it queued for ever."""
    world = World()
    world.github.jobs = {"1": an_event(head_sha="0f")}
    world.told(an_event(head_sha="0f"))

    machines_end_unclaimed(world, hours=48.0, pause_s=600.0)

    assert world.compute.launched < 25
    assert sum("no machine is given it" in told for told in world.github.notices) == 1


def test_a_job_that_came_after_the_machines_that_nobody_took_is_not_said_to_be_given_none() -> None:
    world = World()
    world.github.jobs = {"1": an_event(head_sha="0f")}
    world.told(an_event(head_sha="0f"))
    machines_end_unclaimed(world, hours=6.7, pause_s=600.0)
    assert the_label_set(world).backoff_at >= world.clock.at - 900.0, "it has just begun to wait anew"

    world.told(an_event(job_id="2", head_sha="1f", name="deploy", at=world.clock.at))
    world.ticks(until_s=700.0, every_s=30.0)

    assert any("`build`" in told and "no machine is given it" in told for told in world.github.notices)
    assert not any("`deploy`" in told for told in world.github.notices)
    assert the_label_set(world).backoff_until > world.clock.at, "it is still held"


@pytest.mark.parametrize(
    ("again_s", "least_s", "most_s"), [(None, ASKED_S, 100.0), (0.0, 0.0, 40.0), (90.0, 90.0, 130.0), (4000.0, DOUBTED_S, 340.0)]
)
def test_a_question_in_doubt_that_was_not_answered_is_asked_again_as_soon_as_githubs_limit_allows(
    again_s: float | None, least_s: float, most_s: float
) -> None:
    world = World()
    asked = asks_in_doubt(world, lambda: Throttled("github", "429", "", None if again_s is None else world.clock.at + again_s))

    gaps = [later - earlier for earlier, later in pairwise(asked)]
    shortest = sorted(gaps)[len(gaps) // 4]
    assert len(gaps) >= 8 and least_s <= shortest <= most_s, gaps


def test_a_question_in_doubt_whose_answer_is_no_news_is_asked_less_often_each_time() -> None:
    gaps = [later - earlier for earlier, later in pairwise(asks_in_doubt(World(), lambda: None))]

    assert len(gaps) >= 3 and max(gaps) > 3 * DOUBTED_S, gaps


def test_a_machine_that_was_launched_for_work_that_is_over_is_taken_back_when_github_answers_again() -> None:
    world = World()
    refused: list[float] = []

    def refuse(*_: object, **__: object) -> None:
        refused.append(world.clock.at)
        raise Throttled("github", "429", "", world.clock.at + 60.0)

    world.github.jobs, world.github.ended = {"1": an_event()}, {"7": "startup_failure"}
    world.told(an_event())
    world.calls.script("github.run", times=None, before=refuse)
    machines_end_unclaimed(world, hours=0.1, pause_s=60.0)
    while refused[-1] != world.clock.at or all(one.is_over for one in world.sessions):
        world.ticks(until_s=30.0, every_s=30.0)

    world.calls.unscript("github.run")
    world.ticks(until_s=210.0, every_s=30.0)

    assert job(world, "1").state is JobState.COMPLETED and all(one.is_over for one in world.sessions)


def asks_in_doubt(world: World, failure: Callable[[], Exception | None]) -> list[float]:
    """When GitHub was asked about a job that no machine is given, of which it says the same each time, or fails so."""
    world.github.jobs = {"1": an_event()}
    world.told(an_event())
    asked: list[float] = []

    def noted(*_: object, **__: object) -> None:
        asked.append(world.clock.at)
        if (error := failure()) is not None:
            raise error

    world.calls.script("github.jobs_of", times=None, before=noted)
    world.calls.script("github.run", times=None, before=noted)
    machines_end_unclaimed(world, hours=6.0, pause_s=60.0)
    return sorted(set(asked))
