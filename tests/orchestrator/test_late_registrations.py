"""Registrations that are refused, take long or can never be used: whoever is late takes nothing from anybody."""

from __future__ import annotations

import contextlib

import pytest

from agent.contract.config import read_config
from agent.contract.secret import Secret
from orchestrator.errors import PACED, Conflict, ServiceFailed, Throttled
from orchestrator.jobs.github import Minted
from orchestrator.store.states import SessionState
from simulation.calls import Calls
from simulation.examples import a_blob, an_event
from simulation.services import MemoryConfigurations
from simulation.world import World


def closed(world: World, for_s: float, code: str = "403") -> list[float]:
    """GitHub registers nothing for so long, and says so. Returns when it was asked."""
    asked: list[float] = []
    until = world.clock.at + for_s

    def refused(*_: object) -> None:
        asked.append(world.clock.at)
        if world.clock.at < until:
            raise Throttled("github:generate-jitconfig", code, "too many calls", until)

    world.calls.script("github.mint", times=None, before=refused)
    return asked


@pytest.mark.parametrize(("closed_s", "asked", "after_s"), [(1.0, 2, 6.0), (90.0, 3, 91.0), (3_600.0, 11, 605.0)])
def test_a_registration_that_github_refuses_until_then_is_tried_then_and_once_a_lease_at_least(
    closed_s: float, asked: int, after_s: float
) -> None:
    world = World()
    tries = closed(world, closed_s)
    world.turns.on_job_event(an_event())
    with pytest.raises(Throttled):
        world.turns.on_wake(world.wakes.taken())

    for _ in range(int(after_s)):
        world.clock.at += 1.0
        world.turns.on_sweep()

    assert world.session.state is (SessionState.CONFIGURED if closed_s < 3_000.0 else SessionState.LAUNCHED)
    assert len(tries) == asked


def test_a_registration_that_only_waits_for_its_turn_is_no_trouble_that_anybody_would_ask_about() -> None:
    world = World()
    closed(world, 30.0, code=PACED)
    world.turns.on_job_event(an_event())
    with pytest.raises(Throttled):
        world.turns.on_wake(world.wakes.taken())

    assert (world.session.failures, world.session.due) == ((), world.clock.at + 30.0)


def full(world: World) -> MemoryConfigurations:
    """The same configurations, by way of somebody of whom SSM takes nothing now."""
    calls = Calls()
    configurations = MemoryConfigurations(calls)
    configurations.values, configurations.stacks = world.configurations.values, world.configurations.stacks
    calls.fail("configurations.put", Throttled("ssm:PutParameter", "ThrottlingException"), times=None)
    return configurations


@pytest.mark.parametrize("other_is_cut_off", [False, True])
@pytest.mark.parametrize("takes_s", [1.0, 20.0, 45.0, 65.0])
def test_who_waited_long_for_a_registration_lays_it_down_only_if_the_session_is_still_his(
    takes_s: float, other_is_cut_off: bool
) -> None:
    """What is laid down must be of the attempt that the record names, or the machine's word counts for nothing."""
    world = World()
    other = world.replica(configurations=full(world) if other_is_cut_off else world.configurations)

    def slow(*_: object) -> None:
        world.clock.at += takes_s
        other.on_sweep()  # meanwhile

    world.calls.script("github.mint", after=slow)
    world.turns.on_job_event(an_event())
    with contextlib.suppress(Conflict):
        world.turns.on_wake(world.wakes.taken())
    world.clock.at += 100.0
    world.replica().on_sweep()

    (session,) = world.sessions
    (laid,) = world.configurations.values.values()
    assert session.state is SessionState.CONFIGURED
    assert read_config(laid, session.instance_id).attempt == session.attempt
    assert [runner.name for runner in world.github.runners.values()] == [session.registration_name]


def test_who_wakes_too_late_takes_nothing_from_whoever_configured_the_session_meanwhile() -> None:
    world = World()

    def hangs(*_: object) -> None:
        world.clock.at += world.settings.lease_s + 1.0
        world.replica().on_sweep()  # another takes it up, to its end

    world.calls.script("configurations.put", before=hangs)
    with contextlib.suppress(Conflict):
        world.told(an_event())
    world.reconcile()

    config = read_config(world.configurations.values[world.session.instance_id])
    assert (config.attempt, world.session.attempt, world.session.state) == (2, 2, SessionState.CONFIGURED)
    world.hear("started", attempt=config.attempt)
    assert world.session.state is SessionState.READY


def test_a_session_that_can_never_be_configured_ends_at_once_also_at_its_second_attempt() -> None:
    world = World()

    def huge(minted: Minted | None) -> Minted | None:
        return Minted(minted.runner_id, Secret(a_blob() * 9)) if minted is not None else None

    world.calls.fail("github.mint", ServiceFailed("github:generate-jitconfig", "502"))
    world.calls.script("github.mint", times=None, changes=huge)
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.tick(after_s=61.0)

    first = world.sessions[0]
    assert (first.state, first.reason) == (SessionState.ENDED, "unconfigurable") and "502" in first.failures[0].what
