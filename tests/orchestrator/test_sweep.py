"""What is due is attended to side by side: what hangs or cannot be listed keeps nothing else from its turn."""

from __future__ import annotations

import threading

import pytest

from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.compute.ec2.strategy import UNSEEN_S
from orchestrator.errors import ServiceFailed
from orchestrator.ports import Due, Write
from orchestrator.store.launch import Launch
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS
from simulation.examples import a_launch, an_event
from simulation.world import World

FOR_GOOD_S = 20.0
"""Nobody waits so long unless the sweep does one thing after the other."""


def cannot_list(world: World, table: str) -> None:
    """DynamoDB cannot list one table's deadlines from now on."""

    def refused(asked: str, *_: object) -> None:
        if asked == table:
            raise ServiceFailed("dynamodb:Query", "ProvisionedThroughputExceededException")

    world.calls.script("tables.due", times=None, before=refused)


def overdue(number: int) -> tuple[World, list[str]]:
    """So many sessions past their deadlines, of machines that run on; and their ids."""
    world = World()
    for at in range(number):
        world.told(an_event(job_id=str(at), run_id=str(at), labels=(f"runs-fleet={at}/cpu=2/arch=amd64",)))
    world.clock.at = max(session.deadline for session in world.sessions) + 1.0
    return world, [session.session_id for session in world.sessions]


def states(world: World, identities: list[str]) -> set[SessionState]:
    """The states of these sessions."""
    return {session.state for session in world.sessions if session.session_id in identities}


def test_a_termination_that_hangs_keeps_no_other_session_waiting() -> None:
    world, late = overdue(3)
    together, broke = threading.Barrier(3), []

    def hangs(_: str) -> None:  # until so many were asked for
        try:
            together.wait(FOR_GOOD_S)
        except threading.BrokenBarrierError:
            broke.append(True)

    world.calls.script("ec2.terminate", times=None, before=hangs)

    sweepers = ThreadWorkerPool(3)
    world.replica(sweepers=sweepers).on_sweep()
    sweepers.stop()

    assert not broke
    assert states(world, late) == {SessionState.ENDED}
    ended = [session.instance_id for session in world.sessions if session.session_id in late]
    assert [world.compute.instances[instance_id] for instance_id in ended] == ["terminated"] * 3


def test_jobs_that_cannot_be_listed_keep_no_session_from_its_end() -> None:
    world, late = overdue(2)

    cannot_list(world, "jobs")
    world.replica().on_sweep()

    assert states(world, late) == {SessionState.ENDED}


@pytest.mark.parametrize("sweepers", [1, 3])
def test_what_can_be_listed_is_attended_to_though_the_rest_cannot(sweepers: int) -> None:
    (world, late), pool = overdue(2), ThreadWorkerPool(sweepers)

    cannot_list(world, "sessions")
    world.replica(sweepers=pool).on_sweep()
    assert "sweep.item_failed" in world.journal.names
    assert SessionState.ENDED not in states(world, late), "they could not be listed"

    world.calls.unscript("tables.due")
    world.replica(sweepers=pool).on_sweep()
    pool.stop()
    assert states(world, late) == {SessionState.ENDED}


def test_a_row_of_a_newer_version_stops_nothing() -> None:
    world, late = overdue(1)
    world.tables.write([Write(JOBS, ("future", "forecast"), {"version": 1, "shard": "0", "due": 1.0}, 0)])

    world.replica().on_sweep()

    assert states(world, late) == {SessionState.ENDED}


def test_one_session_that_fails_does_not_keep_the_others_waiting() -> None:
    world = World()
    for job_id in ("1", "2"):
        world.told(an_event(job_id=job_id))
    first, second = world.sessions
    world.compute.broken = {first.instance_id}

    world.ticks(until_s=120.0)
    world.clock.at += 10 * 86_400.0
    world.ticks(until_s=30.0)

    assert world.compute.instances[first.instance_id] == "running"
    assert world.compute.instances[second.instance_id] == "terminated"


def test_a_launch_that_the_index_names_too_late_is_left_to_whoever_carries_it() -> None:
    world = World()
    world.records.put(a_launch(due=world.clock.at + 60.0, asked_at=world.clock.at))
    stale = Due(("l-1", Launch.KIND.row), world.clock.at - 1.0)
    world.calls.script("tables.due", times=None, changes=lambda found: iter([*found, stale]))

    before = world.records.launch("l-1")
    world.turns.on_sweep()

    assert world.records.launch("l-1") == before


def test_a_strategy_that_cannot_be_asked_says_nothing_of_its_machines_however_long_it_lasts() -> None:
    world = World()
    world.at_work()
    world.clock.at += UNSEEN_S + 60.0
    world.calls.script("ec2.describe", times=None, before=unavailable)

    world.ticks(until_s=300.0, every_s=30.0)

    assert (world.session.state, world.session.gone_at) == (SessionState.BUSY, None)


def unavailable(*_: object) -> None:
    raise ServiceFailed("ec2:DescribeInstances", "ServiceUnavailable")
