"""What operators do by hand: machines before anybody asks, sessions ended, the stack drained, paused and resumed."""

from __future__ import annotations

import pytest

from orchestrator.errors import NotServed
from orchestrator.store.states import SessionState
from simulation.examples import SET, an_event, some_settings
from simulation.world import World


def test_machines_can_be_made_before_jobs_ask_and_go_if_nobody_takes_them() -> None:
    world = World()

    world.turns.prepare("octo", "widgets", ("runs-fleet=7/arch=amd64",), 3, 600.0)
    world.reconcile()
    made = world.compute.launched
    world.ticks(until_s=800.0)

    assert made == 3 and set(world.compute.instances.values()) == {"terminated"}


def test_a_job_takes_a_machine_that_was_made_before() -> None:
    world = World()
    key = world.turns.prepare("octo", "widgets", ("runs-fleet=7/arch=amd64",), 1, 600.0)
    world.reconcile()

    world.clock.at += 601.0
    world.told(an_event())

    assert (key, world.compute.launched) == (SET, 1)


def test_a_session_can_be_ended_by_hand() -> None:
    world = World()
    session = world.at_work()

    ended = world.turns.dismiss(session.session_id)

    assert ended is not None and (ended.status, ended.reason) == ("interrupted", "dismissed")
    assert world.compute.instances[session.instance_id] == "terminated"
    assert world.turns.dismiss(session.session_id) is None and world.turns.dismiss("s-unknown") is None


def test_draining_takes_idle_machines_back_and_leaves_those_at_work() -> None:
    world = World(settings=some_settings(watch_s=60.0))
    world.told(an_event(job_id="1"))
    busy = world.session
    world.told(an_event("in_progress", job_id="1", runner_name=busy.registration_name))
    world.told(an_event(job_id="2"))
    world.turns.pause(paused=True)

    failed = world.turns.drain()
    world.reconcile()

    assert (failed, [one.session_id for one in world.records.open_sessions()]) == ({}, [busy.session_id])
    assert world.compute.launched == 2
    assert {s.state for s in world.sessions if s.session_id != busy.session_id} == {SessionState.ENDED}


def test_draining_one_machine_that_cannot_be_ended_keeps_no_other_alive() -> None:
    world = World()
    for number in ("1", "2", "3"):
        world.told(an_event(job_id=number))
    stuck = world.sessions[0]
    world.compute.broken = {stuck.instance_id}

    failed = world.turns.drain()

    assert list(failed) == [stuck.session_id] and "RequestLimitExceeded" in failed[stuck.session_id]
    assert sorted(world.compute.instances.values()) == ["running", "terminated", "terminated"]


@pytest.mark.parametrize(
    ("label", "why"),
    [("nonsense", "no label is ours"), ("runs-fleet/cpu=96", "at most 32"), ("runs-fleet/cpu=many", "expected whole numbers")],
)
def test_no_machine_is_made_before_that_no_job_could_have(label: str, why: str) -> None:
    world = World()

    with pytest.raises(NotServed, match=why):
        world.turns.prepare("octo", "widgets", (label,), 1, 600.0)
    world.reconcile()

    assert world.compute.launched == 0


def test_what_waited_while_the_stack_was_paused_is_launched_when_it_is_resumed() -> None:
    world = World()
    world.turns.pause(paused=True)
    world.told(an_event())
    before = world.compute.launched

    world.turns.pause(paused=False)
    world.reconcile()

    assert (before, world.compute.launched) == (0, 1)
