"""Launches whose answer was lost, or came late, or to which EC2 said nothing for long; also while the stack is paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import Compute, Started
from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from orchestrator.retry_policy import OLD_LAUNCH_S, SENT_S
from orchestrator.store.states import LaunchState, SessionState
from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.fleets import settles, the_label_set, with_late_ec2


class Asked:
    """A strategy that remembers what it was sent, and whether that was said to have been sent before."""

    def __init__(self, strategy: Compute) -> None:
        self._strategy = strategy
        self.sent: list[tuple[str, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """As the strategy does."""
        self.sent.append((request, sent_before))
        return self._strategy.start_sessions(request, payloads, sent_before=sent_before)


def test_a_lost_answer_is_recovered_by_the_same_words() -> None:
    world = World()
    asked = Asked(world.turns.strategies.of("ec2"))
    world.turns = world.replica(strategies=Strategies([cast("Compute", asked)]))
    world.compute.loses = 1
    with pytest.raises(Unanswered):
        world.told(an_event())

    world.ticks(until_s=world.settings.lease_s + 10)

    assert [again for _, again in asked.sent] == [False, True] and len({request for request, _ in asked.sent}) == 1
    assert (world.compute.launched, world.session.state) == (1, SessionState.CONFIGURED)


def test_an_outage_of_ec2_is_waited_out_for_ten_minutes_and_then_another_launch_is_made() -> None:
    world = World()
    world.compute.answers = [ServiceFailed("ec2:CreateFleet", "InternalError")] * 1000
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.ticks(until_s=500.0)
    waiting = next(world.records.launches()).state
    world.ticks(until_s=200.0)
    world.compute.answers.clear()
    world.ticks(until_s=200.0)

    assert (waiting, world.compute.launched) == (LaunchState.INTENDED, 1)


@pytest.mark.parametrize("waits_s", [20.0, 400.0])
def test_while_the_stack_is_paused_a_launch_that_was_not_answered_is_not_sent_again(waits_s: float) -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)

    world.turns.pause(paused=True)
    world.ticks(until_s=waits_s)
    sent = world.compute.sent
    world.turns.pause(paused=False)
    world.ticks(until_s=130.0)

    assert (sent, world.compute.launched) == (1, 1)


def test_while_the_stack_is_paused_no_other_row_is_asked_for() -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded"), "InsufficientInstanceCapacity: none"]
    world.turns.on_job_event(an_event())
    settles(world)

    world.calls.script("ec2.create_fleet", after=lambda request: world.turns.pause(paused=True))
    world.ticks(until_s=130.0)

    assert world.compute.sent == 2
    assert the_label_set(world).refusals == 0


def test_machines_that_a_lost_answer_made_are_found_while_the_stack_is_paused() -> None:
    world = World()
    world.compute.loses = 1
    world.turns.on_job_event(an_event())
    settles(world)

    world.turns.pause(paused=True)
    world.ticks(until_s=70.0)

    assert [one.state for one in world.sessions] == [SessionState.CONFIGURED]


def test_a_lost_answer_is_asked_for_again_once_more_however_late_it_was_lost() -> None:
    world = World()
    ec2 = with_late_ec2(world)
    ec2.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)
    world.clock.at += SENT_S + 1.0
    ec2.loses, ec2.shows = 1, 0

    world.tick()
    world.ticks(until_s=130.0)

    assert (world.compute.launched, len(world.sessions)) == (1, 1), "EC2 shows late what it made"


def test_while_paused_a_part_of_what_a_lost_answer_made_is_not_taken_for_all() -> None:
    world = World()
    ec2 = with_late_ec2(world)
    ec2.loses, ec2.shows = 1, 1
    for number in range(3):
        world.turns.on_job_event(an_event(job_id=str(number)))
    settles(world)

    world.turns.pause(paused=True)
    world.ticks(until_s=70.0)
    early, ec2.shows = len(world.sessions), None
    world.ticks(until_s=70.0)

    assert (early, len(world.sessions)) == (0, 3)


def test_a_launch_that_lay_too_long_is_asked_for_no_more_and_another_is_made_though_nobody_refused() -> None:
    world = World()
    world.compute.answers = [Throttled("ec2:CreateFleet", "RequestLimitExceeded")]
    world.turns.on_job_event(an_event())
    settles(world)
    (old,) = world.records.launches()
    world.clock.at += OLD_LAUNCH_S + 1.0

    world.ticks(until_s=60.0)

    (request,) = world.compute.requests
    assert (world.compute.sent, world.compute.launched, the_label_set(world).refusals) == (2, 1, 0)
    assert not request["ClientToken"].startswith(old.launch_id)


def test_a_launch_whose_answers_are_lost_for_ten_minutes_is_given_up() -> None:
    world = World()
    world.calls.fail("ec2.create_fleet", Unanswered("ec2:CreateFleet"), times=None)
    world.turns.on_job_event(an_event())
    settles(world)
    (first,) = world.records.launches()

    states = []
    for _ in range(2):
        world.ticks(until_s=SENT_S - 100.0, every_s=10.0)
        launch = world.records.launch(first.launch_id)
        states.append(launch.state if launch is not None else None)

    assert states == [LaunchState.INTENDED, LaunchState.CLOSED]
