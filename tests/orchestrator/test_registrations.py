"""The collector of registrations: which are removed and when, and which repositories a tick looks through."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import OrchestratorError, ServiceFailed, Unanswered
from orchestrator.jobs.registrations import A_TICKS_S, LATELY_S, OFFLINE_S, RegistrationCollector
from orchestrator.jobs.source import JobSource
from orchestrator.store.naming import Scope
from orchestrator.store.states import SessionState
from orchestrator.turns import Turns
from simulation.clock import MORNING
from simulation.examples import a_session
from simulation.github import Registration
from simulation.world import World

LEFT_OVER = "tests-s-00000000000000ff"


def collector(turns: Turns) -> RegistrationCollector:
    """The one of these turns."""
    source = turns.sources.of(a_session())
    assert isinstance(source, JobSource)
    return source.collector


def a_world(*repositories: str) -> World:
    """In which these were heard of."""
    world = World()
    for name in repositories or ("widgets",):
        world.records.repositories.heard_of(Scope("3", "octo", name), MORNING)
    return world


def looked_at(world: World, **step: Any) -> list[str]:
    """The repositories whose runners are listed from now on."""
    asked: list[str] = []
    world.calls.script("github.registered", times=None, before=lambda scope: asked.append(scope.repo), **step)
    return asked


def collected(world: World, *after_s: float) -> set[int]:
    """The runners that are still registered after a round at each of these times, each after the one before."""
    for seconds in after_s:
        world.clock.at += seconds
        collector(world.turns).collect()
    return set(world.github.runners)


@pytest.mark.parametrize(("seconds", "left"), [(OFFLINE_S - 1.0, {77}), (OFFLINE_S, set())])
def test_a_registration_of_no_session_is_removed_once_it_was_seen_offline_for_an_hour(seconds: float, left: set[int]) -> None:
    world = a_world()
    world.github.runners[77] = Registration(LEFT_OVER, ("runs-fleet",))

    assert collected(world, 0.0, seconds) == left
    assert [told["runner"] for told in world.journal.of("registration.collected")] == ([] if left else [LEFT_OVER])


@pytest.mark.parametrize("how", ["online", "busy"])
def test_a_registration_that_is_in_use_between_two_looks_is_suspected_anew(how: str) -> None:
    world = a_world()
    runner = world.github.runners[77] = Registration(LEFT_OVER, ())
    collected(world, 0.0)
    setattr(runner, how, True)
    collected(world, OFFLINE_S / 2)
    setattr(runner, how, False)

    assert collected(world, OFFLINE_S / 2) == {77}
    assert collected(world, OFFLINE_S) == set()


@pytest.mark.parametrize("state", SessionState)
def test_a_registration_goes_only_if_its_session_is_over(state: SessionState) -> None:
    world = a_world()
    world.records.put(a_session(session_id="s-00000000000000ff", state=state))
    world.github.runners[77] = Registration(LEFT_OVER, ("runs-fleet",))

    over = state in (SessionState.ENDED, SessionState.CLOSED)
    assert collected(world, 0.0, OFFLINE_S) == (set() if over else {77})


@pytest.mark.parametrize("runner", [Registration("mine", ()), Registration("other-s-00000000000000ff", ())])
def test_a_registration_that_is_not_this_stacks_is_never_touched(runner: Registration) -> None:
    world = a_world()
    world.github.runners[77] = runner

    assert collected(world, 0.0, OFFLINE_S, OFFLINE_S) == {77}


def test_a_registration_that_takes_a_job_at_the_last_moment_is_kept_and_not_said_to_be_gone() -> None:
    world = a_world()
    world.github.runners[77] = Registration(LEFT_OVER, ())
    world.calls.script("github.remove", answer=lambda *_: False)

    assert collected(world, 0.0, OFFLINE_S) == {77}
    assert "registration.collected" not in world.journal.names


def test_one_registration_that_cannot_be_removed_keeps_no_other_and_the_failure_is_told() -> None:
    world = a_world()
    world.github.runners = {77: Registration(LEFT_OVER, ()), 78: Registration(f"{LEFT_OVER}e", ())}
    world.calls.fail("github.remove", ServiceFailed("github:remove", "500"))
    collected(world, 0.0)

    with pytest.raises(ServiceFailed, match="500"):
        collected(world, OFFLINE_S)

    assert set(world.github.runners) == {77}


def test_a_repository_that_cannot_be_listed_keeps_no_other_from_its_turn() -> None:
    world = a_world("aaa", "bbb", "ccc")
    asked = looked_at(world)
    world.calls.fail("github.registered", ServiceFailed("github:list runners", "404"))

    with pytest.raises(ServiceFailed, match="404"):
        collector(world.turns).collect()

    assert asked == ["bbb", "ccc"]


def test_after_a_repository_that_is_not_answered_the_next_tick_goes_on_behind_it_whichever_process_has_it() -> None:
    world = a_world("aaa", "bbb", "ccc")
    asked = looked_at(world)
    world.calls.fail("github.registered", Unanswered("github:list runners"))
    with pytest.raises(OrchestratorError):
        collector(world.turns).collect()
    first = list(asked)

    collector(world.replica()).collect()

    assert (first, asked) == ([], ["bbb", "ccc"])


def test_a_tick_looks_through_no_more_than_fit_into_it_and_the_next_one_through_the_rest() -> None:
    world, took = a_world(*(f"r{number}" for number in range(5))), []
    asked = looked_at(world, after=lambda _: world.clock.pause(A_TICKS_S / 2 + 1.0))

    for turns in (world.turns, world.replica(), world.turns):
        collector(turns).collect()
        took.append(len(asked))

    assert took == [2, 4, 5] and asked == sorted(set(asked))


def test_all_are_looked_through_once_in_half_an_hour_whoever_asks() -> None:
    world = a_world("aaa", "bbb")
    asked = looked_at(world)

    for turns, after_s in ((world.turns, 0.0), (world.replica(), OFFLINE_S / 2 - 1.0), (world.turns, 1.0)):
        world.clock.at += after_s
        collector(turns).collect()

    assert asked == ["aaa", "bbb"] * 2


def test_a_repository_of_which_nothing_was_heard_for_a_week_is_not_looked_through() -> None:
    world = World()
    for name, age_s in (("lately", LATELY_S - 1.0), ("long-ago", LATELY_S + 1.0)):
        world.records.repositories.heard_of(Scope("3", "octo", name), MORNING - age_s)
    asked = looked_at(world)

    collector(world.turns).collect()

    assert asked == ["lately"]
