"""Launches of a strategy in whose call the configurations travel: registered before, and never sent again with others."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.contract.config import read_config
from agent.contract.secret import Secret
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import Payload, Started
from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.store.states import LaunchState, SessionState
from simulation.compute import MemoryService
from simulation.examples import an_event
from simulation.world import World
from tests.orchestrator.fleets import queue
from tests.orchestrator.toys import ToyStrategy


class SilentToys(ToyStrategy):
    """Toys whose first call is not answered, with or without an effect."""

    def __init__(self, box: MemoryService, *, effect: bool, unseen_s: float = 0.0) -> None:
        super().__init__(box, Payload.IN_CALL)
        self.traits = replace(self.traits, unseen_s=unseen_s)
        self.calls, self._effect = 0, effect

    def start_sessions(self, request: str, payloads: Mapping[str, str], *, sent_before: bool) -> Started:
        """Silence, then answers."""
        self.calls += 1
        if self.calls > 1:
            return super().start_sessions(request, payloads, sent_before=sent_before)
        if self._effect:
            super().start_sessions(request, payloads, sent_before=sent_before)
        raise Unanswered("memory:Start")


def world_of(toys: ToyStrategy) -> World:
    """A stack that offers nothing else."""
    world = World()
    world.turns = world.replica(strategies=Strategies([toys]))
    return world


def test_each_instance_gets_the_configuration_of_its_own_session_and_nothing_is_left_to_fetch() -> None:
    box = MemoryService()
    world = world_of(ToyStrategy(box, Payload.IN_CALL))

    queue(world, 3)
    world.reconcile()

    told = {identity: read_config(toy.payload) for identity, toy in box.instances.items()}
    assert {identity: one.session_id for identity, one in told.items()} == {s.instance_id: s.session_id for s in world.sessions}
    assert [s.state for s in world.sessions] == [SessionState.CONFIGURED] * 3 and world.configurations.values == {}
    assert {s.registration_id for s in world.sessions} == set(world.github.runners)


def test_what_an_unanswered_call_made_is_looked_for_and_not_registered_or_asked_for_again() -> None:
    box = MemoryService()
    toys = SilentToys(box, effect=True)
    world = world_of(toys)
    with pytest.raises(Unanswered):
        world.told(an_event())
    registered = set(world.github.runners)

    world.ticks(until_s=world.settings.lease_s + 10.0)

    assert (toys.calls, len(box.instances), world.session.state) == (1, 1, SessionState.CONFIGURED)
    assert {world.session.registration_id} == registered == set(world.github.runners)


def test_what_an_unanswered_call_did_not_make_is_asked_for_by_another_launch_with_other_registrations() -> None:
    box = MemoryService()
    toys = SilentToys(box, effect=False)
    world = world_of(toys)
    with pytest.raises(Unanswered):
        world.told(an_event())

    world.ticks(until_s=200.0)

    states = {launch.launch_id: launch.state for launch in world.records.launches()}
    assert (toys.calls, len(box.instances), set(states.values())) == (2, 1, {LaunchState.CLOSED})
    assert len(states) == 2 and world.session.launch_id == next(iter(box.instances.values())).launch


def test_a_service_that_shows_late_what_it_made_is_waited_for() -> None:
    world = world_of(SilentToys(MemoryService(), effect=False, unseen_s=300.0))
    with pytest.raises(Unanswered):
        world.told(an_event())

    world.ticks(until_s=200.0)
    (waiting,) = world.records.launches()
    world.ticks(until_s=300.0)

    assert waiting.state is LaunchState.INTENDED and waiting.failures[-1].what == "looked for, not asked again"
    assert world.session.state is SessionState.CONFIGURED


def test_nothing_is_started_for_which_there_is_no_registration() -> None:
    box = MemoryService()
    world = world_of(ToyStrategy(box, Payload.IN_CALL))
    world.calls.fail("github.mint", ServiceFailed("github:generate-jitconfig", "500"), skip=1)
    queue(world, 2)

    with pytest.raises(ServiceFailed, match="500"):
        world.reconcile()

    assert (box.instances, world.sessions) == ({}, [])
    world.ticks(until_s=70.0)
    assert len(box.instances) == len(world.sessions) == 2


def test_a_configuration_that_can_never_be_written_starts_nothing() -> None:
    box = MemoryService()
    world = world_of(ToyStrategy(box, Payload.IN_CALL))

    files = {".credentials": base64.b64encode(random.Random(7).randbytes(6_000)).decode()}
    huge = Secret(base64.b64encode(json.dumps(files).encode()).decode())
    world.calls.script("github.mint", times=None, changes=lambda minted: replace(minted, blob=huge))

    with pytest.raises(ServiceFailed, match="Unconfigurable"):
        world.told(an_event())

    assert box.instances == {}
