"""GitHub jobs as a source of work: how they describe a label set, what they are told, and what they say of a session."""

from __future__ import annotations

import pytest

from orchestrator.fleet.work import RegistrationQuota
from orchestrator.jobs.model import JobState, RerunState
from orchestrator.jobs.source import JobSource
from orchestrator.store.kinds import OpenItem
from orchestrator.store.model import LabelSetView
from orchestrator.store.naming import Scope
from orchestrator.store.request import MachineRequest
from simulation.clock import MORNING
from simulation.examples import SET, a_job, a_label_set, a_session, an_event, some_settings
from simulation.github import Registration
from simulation.world import World

LOST = {
    "session_id": "s-aa",
    "bound_job": "1",
    "status": "interrupted",
    "reason": "spot_notice",
    "registration_name": "tests-s-aa",
}
"""A session whose machine was taken away from under the example's job."""
FAILED = {"state": JobState.COMPLETED, "conclusion": "failure", "runner_name": "tests-s-aa", "completed_at": MORNING}
"""The example's job after that."""


def source(world: World) -> JobSource:
    """The one of the world's turns."""
    found = world.turns.sources.of(a_session())
    assert isinstance(found, JobSource)
    return found


def view_of(world: World) -> LabelSetView:
    """The example's label set as it is now."""
    return world.records.view(SET)


def test_a_label_set_is_described_by_the_job_that_waited_last() -> None:
    world, machine = World(settings=some_settings(runner_group_id=5)), MachineRequest(cpu_min=8)
    world.records.put(a_job(job_id="1", queued_at=MORNING + 1.0, installation_id="old"))
    world.records.put(a_job(job_id="2", queued_at=MORNING + 2.0, installation_id="new", machine=machine))
    world.records.put(a_job(job_id="3", queued_at=MORNING, installation_id="older"))

    told = source(world).describe(view_of(world))

    assert told is not None and (told.scope, told.machine) == (Scope("new", "octo", "widgets", 5), machine)
    assert (told.set_key, told.source, told.repository, told.labels) == (SET, "jobs", "octo/widgets", a_job().labels)


def test_a_label_set_that_is_known_keeps_what_is_remembered_of_it_and_gets_what_its_newest_job_says() -> None:
    world, machine = World(), MachineRequest(cpu_min=8)
    world.records.put(a_label_set(refusals=3, touched_at=MORNING))
    world.records.put(a_job(installation_id="new", machine=machine))

    told = source(world).describe(view_of(world))

    assert told is not None and (told.scope.installation_id, told.machine) == ("new", machine)
    assert (told.refusals, told.touched_at, told.version) == (3, MORNING, 1)


def test_a_job_that_names_no_installation_leaves_the_known_one() -> None:
    world = World()
    world.records.put(a_label_set())
    world.records.put(a_job(installation_id=""))

    told = source(world).describe(view_of(world))

    assert told is not None and told.scope == Scope("3", "octo", "widgets", 1)


@pytest.mark.parametrize("known", [True, False])
def test_jobs_that_want_no_machine_yet_describe_a_label_set_only_if_nothing_is_known_of_it(known: bool) -> None:
    world = World()
    label_set = world.records.put(a_label_set(machine=MachineRequest(cpu_min=8))) if known else None
    world.records.put(a_job(state=JobState.WAITING))

    told = source(world).describe(view_of(world))

    assert told == label_set if known else (told is not None and told.machine == MachineRequest())


def test_work_of_another_source_describes_nothing() -> None:
    world = World()
    world.records.put(a_job())
    items = (OpenItem(kind="job", identity="1", state="queued", source="tasks", wants_session=True),)

    assert source(world).describe(LabelSetView(set_key=SET, label_set=None, items=items)) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"refused": "too large"}, False),
        ({"state": JobState.IN_PROGRESS}, False),
        ({"state": JobState.WAITING}, False),
    ],
)
def test_who_waits_for_capacity_is_told_on_the_commit_once_and_nobody_else(changes: dict[str, object], told: bool) -> None:
    world = World()
    world.records.put(a_job(head_sha="c0ffee", **changes))

    for _ in range(2):
        source(world).waits(["1", "unknown"], "EC2 has no capacity")

    words = "`build` waits: EC2 has no capacity. It is tried again, every ten minutes at the latest."
    assert world.github.notices == ([words] if told else [])


def test_who_waits_for_what_is_not_there_is_told_so_beside_that_there_was_no_capacity() -> None:
    world = World()
    world.records.put(a_job(head_sha="c0ffee"))

    source(world).waits(["1"], "EC2 has no capacity")
    source(world).waits_for_nothing(["unknown", "1", "1"], "no launch template")

    assert world.github.notices[1:] == ["`build` waits: no launch template."]


def test_a_job_that_is_given_up_wants_no_machine_any_more_and_that_is_said() -> None:
    world = World()
    world.records.put(a_job(head_sha="c0ffee"))
    source(world).give_up(["1", "unknown"], "no capacity")
    source(world).give_up(["1"], "no capacity")

    job, why = world.records.job("1"), "there is no machine for it (no capacity), and its label says fallback=fail"
    assert job is not None and (job.given_up, job.refused, view_of(world).items) == (True, why, ())
    assert world.github.notices == [f"`build` is not run: {why}. Cancel the run, or run it again later."]
    assert world.journal.of("job.refused") == [{"job_id": "1", "repository": "octo/widgets", "why": why}]


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.IN_PROGRESS, JobState.COMPLETED])
def test_a_job_that_does_not_wait_for_a_machine_is_not_given_up(state: JobState) -> None:
    world = World()
    job = world.records.put(a_job(state=state, head_sha="c0ffee"))

    source(world).give_up(["1"], "no capacity")

    assert world.records.job("1") == job and world.github.notices == []


@pytest.mark.parametrize(
    ("bound_job", "state", "asked"),
    [("1", JobState.COMPLETED, False), ("1", JobState.IN_PROGRESS, True), ("", JobState.COMPLETED, True)],
)
def test_github_is_asked_for_a_registration_only_if_no_end_of_its_job_says_that_it_is_gone(
    bound_job: str, state: JobState, asked: bool
) -> None:
    world = World()
    world.records.put(a_job(state=state))
    world.github.runners[9] = Registration("tests-s-aa", (), busy=True)

    gone = source(world).is_unregistered(a_session(registration_name="tests-s-aa", bound_job=bound_job))

    assert gone is not asked and ("github.find" in world.calls.made) is asked


@pytest.mark.parametrize(
    ("job", "returns"),
    [(None, True), ({"state": JobState.IN_PROGRESS}, True), ({"state": JobState.COMPLETED, "conclusion": "success"}, False)],
)
def test_a_job_comes_back_after_a_reclaim_unless_it_is_over(job: dict[str, object] | None, returns: bool) -> None:
    world = World()
    if job is not None:
        world.records.put(a_job(**job))

    assert source(world).will_return(a_session(bound_job="1")) is returns
    assert source(world).will_return(a_session())


def test_a_job_that_was_run_again_once_does_not_come_back_a_second_time() -> None:
    world = World()
    world.records.put(a_job(**FAILED))
    source(world).ended(a_session(**LOST))
    rerun = world.records.rerun("octo/widgets/7")
    assert rerun is not None and rerun.wanted == {"build": 1}
    world.clock.at, world.github.jobs["1"] = rerun.due, an_event("completed", conclusion="failure")
    source(world).due["rerun"]("octo/widgets/7")

    world.records.put(a_job(job_id="1+", run_attempt=2, state=JobState.IN_PROGRESS))
    assert world.github.reruns == [("7", "")] and not source(world).will_return(a_session(bound_job="1+"))


def test_a_session_that_had_no_job_leaves_nothing_to_do_at_its_end() -> None:
    world = World()
    world.records.put(a_job(**FAILED))

    source(world).ended(a_session(**{**LOST, "bound_job": ""}))
    source(world).end_corrected(a_session(**{**LOST, "bound_job": ""}))

    assert list(world.records.reruns()) == []


def test_a_job_whose_machine_was_too_small_is_told_at_the_sessions_end() -> None:
    world = World()
    world.records.put(a_job(**FAILED, head_sha="c0ffee"))

    source(world).ended(a_session(**{**LOST, "status": "failure", "reason": "disk_full", "cause": "the disk was full"}))

    assert world.github.notices == ["`build` failed, and the disk was full."]


def test_an_end_that_is_corrected_takes_back_that_its_job_is_run_again() -> None:
    world = World()
    world.records.put(a_job(**FAILED))
    source(world).ended(a_session(**LOST))

    source(world).end_corrected(a_session(**{**LOST, "status": "failure", "reason": "job_failed"}))

    rerun = world.records.rerun("octo/widgets/7")
    assert rerun is not None and (rerun.wanted, rerun.state) == ({}, RerunState.RESTING)


def test_the_quota_of_a_label_set_is_githubs_word_for_its_scope() -> None:
    world = World()
    world.github.quotas = lambda scope: RegistrationQuota(4 if scope == a_label_set().scope else 0)

    assert source(world).quota(a_label_set()) == RegistrationQuota(4)


@pytest.mark.parametrize(("name", "number"), [("tests-s-aa", 9), ("tests-s-bb", 0)])
def test_a_sessions_registration_is_found_by_its_name_and_none_is_nought(name: str, number: int) -> None:
    world = World()
    world.github.runners[9] = Registration("tests-s-aa", ())

    assert source(world).registration_of(a_session(registration_name=name)) == number


def test_everything_of_jobs_that_is_due_is_attended_to_by_the_sweep() -> None:
    world = World()
    world.forgotten()
    world.records.put(a_job(job_id="2", due=MORNING))
    world.records.put(a_job(**FAILED))
    source(world).ended(a_session(**LOST))
    world.github.gone.add("7")
    world.clock.at += 60.0

    world.turns.on_sweep()

    job, rerun = world.records.job("2"), world.records.rerun("octo/widgets/7")
    assert job is not None and rerun is not None and (job.state, rerun.state) == (JobState.COMPLETED, RerunState.RESTING)
