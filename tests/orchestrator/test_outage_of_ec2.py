"""EC2 that gives half an answer or lacks what is asked for, and launches that were cut off beside it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.breakers import Breakers
from orchestrator.compute.ec2.catalogue import Catalogue, shipped_types
from orchestrator.compute.ec2.strategy import Ec2Options, Ec2Strategy
from orchestrator.retry_policy import OLD_LAUNCH_S
from orchestrator.store.states import LaunchState, SessionState
from simulation.calls import Crash
from simulation.examples import an_event
from simulation.world import World


def on_catalogue(world: World, catalogue: Catalogue) -> Ec2Strategy:
    """The strategy `ec2` of a world, with a catalogue that the test has in its hand."""
    options = Ec2Options(stack_id="tests", template="runs-fleet-runner", subnet_ids=world.settings.subnet_ids)
    breakers = Breakers(world.records, world.clock, world.journal)
    return Ec2Strategy(
        ec2=world.compute, options=options, catalogue=catalogue, breakers=breakers, clock=world.clock, journal=world.journal
    )


def dies(*_: object) -> None:
    """At this moment the process is gone."""
    raise Crash


def test_one_broken_pool_does_not_keep_everything_from_being_asked_for_on_demand() -> None:
    world = World()

    def half_broken(answer: dict[str, Any]) -> dict[str, Any]:
        broken = {"ErrorCode": "InternalError", "ErrorMessage": "try another zone"}
        return answer if answer["Instances"] else {**answer, "Errors": [*answer["Errors"], broken]}

    world.calls.script("ec2.create_fleet", times=None, changes=half_broken)
    world.compute.full = {"spot"}
    world.told(an_event())

    assert world.session.market == "on-demand"


def test_a_label_for_which_there_is_no_template_is_said_on_the_commit_and_explained() -> None:
    world = World()
    world.compute.architectures = ("amd64",)
    world.told(an_event(labels=("runs-fleet/arch=arm64",), head_sha="0f"))
    world.ticks(until_s=300.0)

    assert world.compute.launched == 0 and len(world.github.notices) == 1
    assert "there is no launch template for arm64" in world.github.notices[0]
    assert "there is no launch template for arm64" in world.explanation().waits_for


def test_a_launch_whose_types_are_gone_meanwhile_ends_and_another_serves() -> None:
    world, catalogue = World(), Catalogue(shipped_types())
    world.turns = world.replica(strategies=Strategies([on_catalogue(world, catalogue)]))
    world.compute.full, known = {"*"}, catalogue.types

    def forgets(*_: object) -> None:
        catalogue.types = ()

    world.calls.script("ec2.create_fleet", after=forgets)
    world.told(an_event())
    (launch,) = world.records.launches()
    catalogue.types, world.compute.full = known, set()
    world.ticks(until_s=120.0)

    assert launch.state is LaunchState.CLOSED and world.compute.launched == 1


def test_a_launch_that_lay_for_hours_is_not_sent_but_made_anew() -> None:
    """Its machines' tags would end them in the middle of their jobs."""
    world = World()
    world.calls.script("ec2.create_fleet", before=dies)
    with pytest.raises(Crash):
        world.told(an_event())
    world.wakes.taken()
    world.clock.at += 4 * 3600.0

    world.ticks(60.0)

    (old, new) = sorted(world.records.launches(), key=lambda launch: launch.created_at)
    assert (old.state, new.state, world.compute.launched) == (LaunchState.CLOSED, LaunchState.CLOSED, 1)
    assert world.session.launch_id == new.launch_id
    assert world.session.expires_at - world.clock.at > 6 * 3600.0


def test_what_a_launch_that_lay_for_long_had_made_is_used() -> None:
    world = World()
    world.calls.script("ec2.create_fleet", after=dies)
    with pytest.raises(Crash):
        world.told(an_event())
    world.wakes.taken()
    world.clock.at += OLD_LAUNCH_S + 1.0

    world.ticks(30.0)

    assert (world.compute.launched, world.session.state) == (1, SessionState.CONFIGURED)
