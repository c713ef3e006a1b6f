"""Registrations that are left over: a few repositories are looked through at a time, and what is long offline is removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.errors import Unanswered
from orchestrator.fleet.garbage import SUSPECTED_S
from orchestrator.jobs.github import RegisteredRunner
from orchestrator.jobs.registrations import OFFLINE_S
from orchestrator.store.naming import Scope
from simulation.examples import an_event
from simulation.github import Registration
from simulation.world import World
from tests.orchestrator.garbage import STRANGER, cleaned, stranger


def many_repositories(world: World, number: int) -> list[str]:
    """Repositories of which something was heard, by name."""
    names = [f"repo{at:03}" for at in range(number)]
    for name in names:
        world.turns.on_job_event(an_event("completed", conclusion="success", job_id=name, repo=name))
    return names


def test_a_github_that_hangs_keeps_the_tick_for_one_repository_and_no_longer() -> None:
    world = World()
    many_repositories(world, 300)
    stranger(world)
    asked: list[str] = []

    def hangs(scope: Scope) -> None:
        asked.append(scope.repo)
        world.clock.at += 20.0
        raise Unanswered("github:list runners")

    world.calls.script("github.registered", times=None, answer=hangs)
    cleaned(world, 0.0, SUSPECTED_S, 60.0)

    assert len(asked) == len(set(asked)) == 3, "one in each tick, and each time the next"
    assert world.compute.instances[STRANGER] == "terminated"


def test_every_repositorys_registrations_are_looked_through_in_half_an_hour_some_at_a_time() -> None:
    world = World()
    names = many_repositories(world, 60)
    asked: list[str] = []

    def slow(scope: Scope) -> Iterator[RegisteredRunner]:
        asked.append(scope.repo)
        world.clock.at += 3.0
        return iter(())

    world.calls.script("github.registered", times=None, answer=slow)
    took = []
    for _ in range(12):
        began = world.clock.at
        world.turns.on_tick()
        took.append(world.clock.at - began)
        world.clock.at += 60.0

    assert asked == names, "each once, though the replica may be another one each time"
    assert max(took) < 30.0


def test_r8_a_registration_that_is_left_over_and_long_offline_is_removed() -> None:
    world = World()
    world.launched()
    world.github.runners[77] = Registration("tests-s-00000000000000ff-0", ("runs-fleet",))

    early = dict(cleaned(world, 0.0, OFFLINE_S - 60.0).github.runners)
    cleaned(world, OFFLINE_S / 2)

    assert 77 in early and 77 not in world.github.runners
    assert world.session.registration_id in world.github.runners


@pytest.mark.parametrize("how", ["online", "busy"])
def test_a_registration_that_is_in_use_is_kept_and_its_time_begins_anew(how: str) -> None:
    world = World()
    world.launched()
    left = world.github.runners[77] = Registration("tests-s-00000000000000ff-0", ("runs-fleet",))
    cleaned(world)
    setattr(left, how, True)
    cleaned(world, OFFLINE_S)
    setattr(left, how, False)

    cleaned(world, OFFLINE_S / 2)

    assert 77 in world.github.runners


@pytest.mark.parametrize("name", ["somebody-elses", "other-s-00000000000000ff-0", "tests-runner"])
def test_a_registration_of_somebody_else_is_never_touched(name: str) -> None:
    world = World()
    world.launched()
    world.github.runners[77] = Registration(name, ("runs-fleet",))

    cleaned(world, 0.0, OFFLINE_S, OFFLINE_S)

    assert 77 in world.github.runners
