"""What a delivery, or GitHub's answer, changes: its job, the session it names, and the label sets that counted either."""

from __future__ import annotations

import pytest

from orchestrator.errors import Unanswered
from orchestrator.jobs.intake import APPROVAL_S, QUEUED_S, RUNNING_S, UNHEARD, Intake
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.reruns import SOON_S
from orchestrator.retry_policy import NOTICE_S
from orchestrator.setting_values import Policy, Rule
from orchestrator.store.model import LabelSet, Session
from orchestrator.store.naming import Scope, set_key
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import SCOPE, SET, a_job, a_label_set, a_session, an_event, some_settings
from simulation.process import CollectedWakes
from simulation.world import World

RUNNER = "tests-s-aa"
OTHER = ("runs-fleet=7/arch=arm64",)
OTHER_SET = set_key("octo", "widgets", 1, OTHER)


def intake(world: World) -> Intake:
    """That of the world's turns."""
    return world.turns.intake


def job(world: World, job_id: str = "1") -> Job:
    """As it is written now."""
    found = world.records.job(job_id)
    assert found is not None
    return found


def label_set(world: World) -> LabelSet:
    """The example's, as it is written now."""
    found = world.records.label_set(SET)
    assert found is not None
    return found


def a_runner(world: World, **changes: object) -> Session:
    """A session of the example's label set, whose runner GitHub may name."""
    given: dict[str, object] = {"session_id": "s-aa", "registration_name": RUNNER, "expires_at": MORNING + 9000.0, **changes}
    return world.records.put(a_session(**given))


@pytest.mark.parametrize(
    ("action", "for_s"), [("waiting", APPROVAL_S), ("queued", QUEUED_S), ("in_progress", RUNNING_S), ("completed", 0.0)]
)
def test_a_job_is_due_when_github_must_have_ended_its_state(action: str, for_s: float) -> None:
    world = World()

    key = intake(world).apply(an_event(action, conclusion="success" if action == "completed" else ""))

    assert (key, world.wakes.waiting, job(world).state.value) == (SET, [SET], action)
    assert job(world).due == (MORNING + for_s if for_s else 0.0)


def test_the_first_that_is_told_of_a_repository_makes_it_one_of_those_that_are_looked_through() -> None:
    world = World()

    intake(world).apply(an_event("in_progress", repo="gadgets", installation_id="4"))

    assert world.records.repositories.since(MORNING) == [Scope("4", "octo", "gadgets")]


@pytest.mark.parametrize(("at", "completed_at"), [(MORNING - 30.0, MORNING - 30.0), (0.0, MORNING)])
def test_a_job_ended_when_github_says_so_or_else_when_it_was_told(at: float, completed_at: float) -> None:
    world = World()

    intake(world).apply(an_event("completed", conclusion="success", at=at, taken_at=MORNING - 60.0))

    assert (job(world).completed_at, job(world).started_at) == (completed_at, MORNING - 60.0)


def test_the_session_that_github_names_is_bound_and_watched() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    a_runner(world)

    intake(world).apply(an_event("in_progress", runner_name=RUNNER, name="x" * 400))

    session = world.session
    assert (session.bound_job, session.state, session.busy_at) == ("1", SessionState.BUSY, MORNING)
    assert (session.due, session.deadline, session.ran_job) == (MORNING + 60.0, MORNING + 9000.0, "x" * 300)


def test_a_session_that_is_over_learns_which_job_it_had_and_keeps_its_end() -> None:
    world = World()
    before = a_runner(world, state=SessionState.CLOSED, ended_at=MORNING, ran_job="from its agent")

    intake(world).apply(an_event("completed", runner_name=RUNNER, conclusion="success"))

    session = world.session
    assert (session.bound_job, session.state, session.ran_job) == ("1", SessionState.CLOSED, "from its agent")
    assert (session.due, session.deadline, session.busy_at) == (before.due, before.deadline, None)


@pytest.mark.parametrize(
    ("event", "runner"),
    [
        ({"repo": "gadgets"}, {}),
        ({}, {"bound_job": "9"}),
        ({"runner_name": "other-s-aa"}, {}),
        ({"runner_name": "somebody-elses"}, {}),
    ],
)
def test_a_runner_of_another_repository_or_stack_or_that_has_its_job_already_is_not_bound(
    event: dict[str, str], runner: dict[str, str]
) -> None:
    world = World()
    before = a_runner(world, **runner)

    intake(world).apply(an_event("in_progress", **{"runner_name": RUNNER, **event}))

    assert world.session == before and job(world).state is JobState.IN_PROGRESS


def test_a_repositorys_name_is_the_same_in_whatever_case_github_writes_it() -> None:
    world = World()
    a_runner(world)

    intake(world).apply(an_event("in_progress", owner="Octo", repo="Widgets", runner_name=RUNNER))

    assert world.session.bound_job == "1"


def test_the_label_set_that_is_a_session_short_because_a_job_of_another_took_it_is_woken_too() -> None:
    world = World()
    a_runner(world)

    assert intake(world).apply(an_event("in_progress", labels=OTHER, runner_name=RUNNER)) == OTHER_SET
    assert sorted(world.wakes.waiting) == sorted([SET, OTHER_SET])


def test_a_job_that_takes_a_machine_takes_it_from_those_prepared_and_shows_that_its_machines_get_work() -> None:
    world = World()
    a_runner(world)
    world.records.put(a_label_set(prepared=(MORNING + 60.0, MORNING + 30.0), idle_exits={"amd64 ": 2}))

    for _ in range(2):
        intake(world).apply(an_event("in_progress", runner_name=RUNNER))

    assert (label_set(world).prepared, label_set(world).idle_exits) == ((MORNING + 60.0,), {})


def test_a_session_that_ended_is_counted_as_at_work_until_its_job_is_told() -> None:
    world = World()
    a_runner(world, state=SessionState.ENDED, ended_at=MORNING)
    world.records.put(a_label_set(working={"s-aa": MORNING + 60.0, "s-bb": MORNING + 60.0}))

    intake(world).apply(an_event("completed", runner_name=RUNNER, conclusion="success"))

    assert label_set(world).working == {"s-bb": MORNING + 60.0}


@pytest.mark.parametrize(
    ("action", "attempt", "interrupting", "conclusion", "left"),
    [
        ("queued", 2, False, "", 1),
        ("in_progress", 2, False, "", 1),
        ("queued", 1, False, "", 2),
        ("completed", 1, True, "success", 1),
        ("completed", 1, True, "failure", 2),
        ("completed", 1, False, "success", 2),
        ("in_progress", 1, True, "", 2),
    ],
)
def test_one_job_less_is_expected_back_once_it_is_back_or_ended_before_its_machine_went(
    action: str, attempt: int, interrupting: bool, conclusion: str, left: int
) -> None:
    world = World()
    a_runner(world, interrupting_at=MORNING if interrupting else None)
    world.records.put(a_label_set(expected=(MORNING + 60.0, MORNING + 90.0)))

    runner = "" if action == "queued" else RUNNER
    intake(world).apply(an_event(action, run_attempt=attempt, runner_name=runner, conclusion=conclusion))

    assert len(label_set(world).expected) == left


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"state": JobState.COMPLETED, "conclusion": UNHEARD}, "queued"),
        ({"state": JobState.COMPLETED, "conclusion": UNHEARD}, "in_progress"),
        ({"state": JobState.QUEUED}, "waiting"),
    ],
)
@pytest.mark.parametrize("agrees", [True, False])
def test_what_a_delivery_alone_does_not_prove_counts_if_github_says_so_now(
    known: dict[str, str], told: str, agrees: bool
) -> None:
    world = World()
    before = world.records.put(a_job(**known))
    world.github.jobs["1"] = an_event(told if agrees else "completed", conclusion="" if agrees else "success")

    intake(world).apply(an_event(told))

    assert "github.job" in world.calls.made
    assert job(world).state.value == told if agrees else job(world) == before


def test_an_end_that_was_inferred_gives_way_to_the_one_that_is_told_without_a_question() -> None:
    world = World()
    world.records.put(a_job(state=JobState.COMPLETED, conclusion=UNHEARD))

    intake(world).apply(an_event("completed", conclusion="failure", at=MORNING - 5.0))

    assert (job(world).conclusion, job(world).completed_at) == ("failure", MORNING - 5.0)
    assert "github.job" not in world.calls.made


def test_the_runner_of_a_job_may_be_told_after_its_start_and_is_not_replaced() -> None:
    world = World()
    for name in ("", RUNNER, "another"):
        intake(world).apply(an_event("in_progress", runner_name=name))

    assert job(world).runner_name == RUNNER


def test_a_refusal_is_said_at_once_on_the_commit_and_in_the_log_and_what_is_not_refused_is_not() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=2),))))

    intake(world).apply(an_event(labels=("runs-fleet/cpu=64",), head_sha="c0ffee"))
    intake(world).apply(an_event(job_id="2", head_sha="c0ffee"))

    why = "cpu=64: at most 2 are allowed"
    assert world.github.notices == [f"`build` (runs-on: runs-fleet/cpu=64) gets no machine: {why}."]
    assert world.journal.of("job.refused") == [{"job_id": "1", "repository": "octo/widgets", "why": why}]
    assert [told["job_id"] for told in world.journal.of("job.updated")] == ["1", "2"]


def test_a_failure_on_a_machine_that_was_taken_away_is_to_be_run_again_and_any_end_of_its_run_has_it_looked_for_soon() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    a_runner(world, state=SessionState.ENDED, status="interrupted", reason="spot_notice", bound_job="1")
    intake(world).apply(an_event("completed", job_id="2", conclusion="success"))
    nothing_yet = world.records.rerun("octo/widgets/7")

    dues = []
    for told in ({"conclusion": "failure", "runner_name": RUNNER}, {"job_id": "3", "conclusion": "success"}):
        intake(world).apply(an_event("completed", **told))
        rerun = world.records.rerun("octo/widgets/7")
        dues.append(rerun and (rerun.wanted, rerun.due))

    assert (nothing_yet, dues) == (None, [({"build": 1}, MORNING + SOON_S), ({"build": 1}, MORNING + SOON_S)])


def test_a_refusal_is_written_with_its_notice_so_that_it_is_said_whoever_is_cut_off() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=2, forks=True, public=True),))))
    intake(world).records.repositories.heard_of(SCOPE, MORNING)  # else that is the first write
    world.calls.lose("tables.write")
    with pytest.raises(Unanswered):
        intake(world).apply(an_event(labels=("runs-fleet/cpu=64",), head_sha="c0ffee"))
    cut_off = list(world.github.notices)

    world.clock.at += NOTICE_S
    world.replica().on_sweep()

    assert cut_off == [] and "cpu=64: at most 2" in job(world).refused and len(world.github.notices) == 1


@pytest.mark.parametrize(
    ("known", "max_cpus", "wants", "refused"),
    [
        ({}, 2, True, ""),
        ({"state": JobState.IN_PROGRESS}, 8, False, ""),
        ({"refused": "cpu=4: at most 1 are allowed"}, 8, True, ""),
        ({"refused": "cpu=4: at most 1 are allowed"}, 2, False, "cpu=4: at most 2 are allowed"),
        ({"refused": "cpu=4: at most 1 are allowed"}, 1, False, "cpu=4: at most 1 are allowed"),
        ({"refused": "no machine", "given_up": True}, 8, False, "no machine"),
        ({"state": JobState.COMPLETED, "refused": "no machine"}, 8, False, "no machine"),
    ],
)
def test_a_job_that_was_refused_is_judged_again_by_the_policy_of_today(
    known: dict[str, object], max_cpus: int, wants: bool, refused: str
) -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=max_cpus),))))
    before = world.records.put(a_job(labels=("runs-fleet/cpu=4",), **known))

    assert intake(world).reconsidered(before) is wants
    assert job(world).refused == refused and (job(world) == before) is (before.refused == refused)
    assert ("job.reconsidered" in world.journal.names) is (before.refused != refused)


def test_a_job_that_is_allowed_after_all_asks_for_what_the_policy_of_today_lets_it() -> None:
    world = World(settings=some_settings(policy=Policy((Rule(max_cpus=8, max_ram_gib=64),))))
    before = world.records.put(a_job(labels=("runs-fleet/cpu=4+64",), refused="too large"))

    assert intake(world).reconsidered(before)
    assert (job(world).machine.cpu_min, job(world).machine.cpu_max, job(world).machine.ram_max_gib) == (4, 8, 64)


def test_a_label_set_is_woken_after_its_job_is_remembered_and_never_before() -> None:
    world, remembered = World(), list[bool]()

    class Looking(CollectedWakes):
        def wake(self, set_key: str, after_s: float = 0.0) -> None:
            remembered.append(world.records.job("1") is not None)

    world.replica(wakes=Looking()).on_job_event(an_event())

    assert remembered and all(remembered)
