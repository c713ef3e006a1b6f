"""Outages, races and odd worlds that a sceptic found: none of them keeps a job waiting for ever, or buys machines for nothing."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from agent.contract.config import read_config
from agent.contract.secret import Secret
from orchestrator.errors import Conflict, ServiceFailed, Throttled
from orchestrator.services import Minted, Started
from orchestrator.states import JobState, LaunchState, SessionState
from tests.orchestrator.memory import MORNING, World, a_blob, an_event, some_settings
from tests.orchestrator.test_explain import explanation

DAY_S = 86_400.0


def unplugged(world: World) -> None:
    """The App is installed there no more: nothing of its repository can be asked."""

    def refused(*_: object, **__: object) -> Any:
        world.calls.note("github.refused")
        raise ServiceFailed("github:installation token", "404", "Not Found")

    for name in ("mint", "find", "remove", "job", "run", "jobs_of"):
        setattr(world.github, name, refused)


def test_jobs_of_an_app_that_was_taken_away_end_and_machines_are_not_bought_for_them_for_ever() -> None:
    world = World()
    world.launched()
    unplugged(world)

    world.ticks(until_s=DAY_S + 7200.0, every_s=600.0)
    bought, asked = world.compute.launched, world.calls.made.count("github.refused")
    world.ticks(until_s=4 * 3600.0, every_s=600.0)

    job = world.records.job("1")
    assert job is not None and (job.state, job.conclusion) == (JobState.COMPLETED, "unheard")
    assert world.compute.launched == bought, "nothing is bought for it any more"
    assert world.calls.made.count("github.refused") == asked, "and nobody is asked about it"


def test_a_job_that_github_will_not_tell_of_is_asked_about_once_an_hour_and_given_up_after_a_day_more() -> None:
    world = World()
    world.compute.full = {"*"}
    world.told(an_event())
    asked = []

    def suspended(*_: object) -> None:
        asked.append(world.clock.at)
        raise ServiceFailed("github:installation token", "403", "This installation has been suspended")

    world.github.job = suspended  # type: ignore[method-assign,assignment]
    world.ticks(until_s=DAY_S + 3 * 3600.0, every_s=600.0)
    after_a_day = len(asked)
    world.ticks(until_s=DAY_S, every_s=600.0)

    job = world.records.job("1")
    assert 1 <= after_a_day <= 4
    assert job is not None and job.conclusion == "unheard"


def test_one_broken_pool_does_not_keep_everything_from_being_asked_for_on_demand() -> None:
    world = World()
    start = world.compute.start_sessions

    def half_broken(request: str, *, sent_before: bool) -> Started:
        found = start(request, sent_before=sent_before)
        return found if found.bodies else replace(found, reasons=(*found.reasons, "InternalError: try another zone"))

    world.compute.start_sessions = half_broken  # type: ignore[method-assign]
    world.compute.full = {"spot"}
    world.told(an_event())

    assert world.session.market == "on-demand"


def test_who_wakes_too_late_takes_nothing_from_whoever_configured_the_session_meanwhile() -> None:
    world = World()
    put, mint, hung = world.configurations.put, world.github.mint, []

    def hangs(instance_id: str, value: str) -> bool:
        if not hung:
            hung.append(instance_id)
            world.clock.at += world.settings.lease_s + 1.0
            world.replica().on_sweep()  # another takes it up, to its end
        return put(instance_id, value)

    world.configurations.put = hangs  # type: ignore[method-assign]
    world.github.mint = mint  # type: ignore[method-assign]
    try:
        world.told(an_event())
    except Conflict:
        pass
    world.settle()

    config = read_config(world.configurations.values[world.session.instance_id])
    assert (config.attempt, world.session.attempt, world.session.state) == (2, 2, SessionState.CONFIGURED)
    world.hear("started", attempt=config.attempt)
    assert world.session.state is SessionState.READY


def test_a_label_for_which_there_is_no_template_is_said_on_the_commit_and_explained() -> None:
    world = World()
    site = world.compute.site()
    world.compute.site = lambda: replace(site, templates={"amd64": site.templates["amd64"]})  # type: ignore[method-assign]
    world.told(an_event(labels=("runs-fleet/arch=arm64",), head_sha="0f"))
    world.ticks(until_s=300.0)

    assert world.compute.launched == 0 and len(world.github.notes) == 1
    assert "there is no launch template for arm64" in world.github.notes[0]
    assert "there is no launch template for arm64" in explanation(world).waits_for


def test_a_launch_whose_types_are_gone_meanwhile_ends_and_another_serves() -> None:
    world = World()
    world.compute.full = {"*"}
    deal, kinds = world.turns.launching._dealt, world.turns.launching.catalogue.kinds

    def forgets(launch: Any, started: Any) -> Any:
        dealt = deal(launch, started)
        world.turns.launching.catalogue.kinds = ()
        return dealt

    world.turns.launching._dealt = forgets  # type: ignore[method-assign]
    world.told(an_event())
    (launch,) = world.records.launches()
    world.turns.launching._dealt = deal  # type: ignore[method-assign]
    world.turns.launching.catalogue.kinds, world.compute.full = kinds, set()
    world.ticks(until_s=120.0)

    assert launch.state is LaunchState.CLOSED and world.compute.launched == 1


@pytest.mark.parametrize("known", ["waiting", "unheard"])
def test_a_job_that_github_lets_run_is_found_though_we_thought_otherwise(known: str) -> None:
    world = World()
    if known == "waiting":
        world.told(an_event("waiting"))
    else:
        world.compute.full = {"*"}
        world.told(an_event())
        world.turns.intake.forget("1", overdue=False)
        world.compute.full = set()
    world.github.jobs = {"1": an_event()}
    world.ticks(until_s=700.0)

    world.turns.on_recovery()
    world.settle()

    job = world.records.job("1")
    assert job is not None and job.state is JobState.QUEUED and world.compute.launched == 1


def test_a_session_that_can_never_be_configured_ends_at_once_also_at_its_second_attempt() -> None:
    world = World()
    mint = world.github.mint

    def fails_once(*told: Any) -> Minted | None:
        world.github.mint = huge  # type: ignore[method-assign]
        raise ServiceFailed("github:generate-jitconfig", "502")

    def huge(*told: Any) -> Minted | None:
        found = mint(*told)
        return Minted(found.runner_id, Secret(a_blob() * 9)) if found is not None else None

    world.github.mint = fails_once  # type: ignore[method-assign]
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.tick(after_s=61.0)

    first = world.sessions[0]
    assert (first.state, first.reason) == (SessionState.ENDED, "unconfigurable") and "502" in first.troubles[0].what


def test_machines_that_an_operator_prepares_are_what_their_label_asks_for() -> None:
    world = World()

    world.turns.prepare("octo", "widgets", ("runs-fleet",), 3, 600.0)
    world.settle()

    assert {session.market for session in world.sessions} == {"spot"} and world.compute.launched == 3


def test_one_secret_that_cannot_be_deleted_keeps_no_other_where_it_is() -> None:
    world = World()
    for instance_id in ("i-a", "i-b", "i-c"):
        world.configurations.put(instance_id, "left over")
    delete = world.configurations.delete

    def refused(instance_id: str) -> None:
        if instance_id == "i-a":
            raise ServiceFailed("ssm:DeleteParameter", "AccessDeniedException")
        delete(instance_id)

    world.configurations.delete = refused  # type: ignore[method-assign]
    for _ in range(2):
        failed = world.turns.on_tick()
        world.clock.at += 601.0
    failed = world.turns.on_tick()

    assert set(world.configurations.values) == {"i-a"} and failed == 1


def test_what_was_committed_is_sent_though_the_next_commit_fails() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))
    for n in range(150):
        world.turns.on_job_event(an_event(job_id=str(n)))
    save, committed = world.turns.levels.records.save, []

    def throttled(*records: Any) -> Any:
        if type(records[0]).__name__ == "Launch" and records[0].version == 0:
            committed.append(records[0])
            if len(committed) == 2:
                raise Throttled("dynamodb:TransactWriteItems", "ThrottlingException")
        return save(*records)

    world.turns.levels.records.save = throttled  # type: ignore[method-assign]
    with pytest.raises(Throttled):
        world.turns.on_wake(world.wakes.taken())

    assert world.compute.launched == 100


def test_a_run_that_may_not_be_asked_about_now_keeps_nobody_from_asking_about_the_jobs() -> None:
    world = World()
    session = world.launched()
    world.hear("busy", session=session, ran_run_id="8")

    def throttled(*_: object) -> Any:
        raise Throttled("github:GET", "BudgetSpent")

    world.github.jobs_of = throttled  # type: ignore[method-assign]
    world.github.jobs["1"] = an_event("in_progress", runner_name=session.runner_name)
    world.ticks(until_s=130.0)

    assert world.session.bound_job == "1" and world.compute.launched == 1


def test_the_reason_for_waiting_is_told_for_as_long_as_it_holds() -> None:
    world = World()
    world.github.left = 0
    world.told(an_event(at=MORNING))
    said = []
    for _ in range(12):
        world.ticks(until_s=60.0)
        world.github.left, left = None, world.github.left
        said.append(explanation(world).waits_for)
        world.github.left = left

    assert {words.partition(";")[0] for words in said} == {"GitHub's limit of registrations"}


@pytest.mark.parametrize("late", [False, True])
def test_what_was_laid_down_for_another_registration_is_never_what_the_machine_gets(late: bool) -> None:
    world = World()
    world.configurations.replaces_late = late
    mint, blobs = world.github.mint, []

    def beside_another(*asked: Any) -> Any:
        minted = mint(*asked)
        if not blobs:
            world.configurations.values[world.session.instance_id] = "stale"
        blobs.append(minted)
        return minted

    world.github.mint = beside_another  # type: ignore[method-assign]
    world.turns.on_job_event(an_event())
    with contextlib.suppress(ServiceFailed):
        world.settle()
    world.ticks(until_s=70.0)

    config = read_config(world.configurations.values[world.session.instance_id])
    assert (config.attempt, world.session.state) == (world.session.attempt, SessionState.CONFIGURED)
