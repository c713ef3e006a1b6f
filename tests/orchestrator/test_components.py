"""How the turns are put together: from the ports that are handed in, each process by itself."""

from __future__ import annotations

import pytest

from orchestrator.compute.notices import InstanceNotice, NoticeKind
from orchestrator.jobs.source import JobSource
from orchestrator.ports import Received
from simulation.clock import MORNING
from simulation.examples import an_event
from simulation.services import MemoryQueue
from simulation.world import World


def test_jobs_are_a_source_from_the_start() -> None:
    world = World()

    assert [type(source) for source in world.turns.sources] == [JobSource]


def test_two_processes_share_the_records_and_nothing_else() -> None:
    world = World()
    other = world.replica()
    world.told(an_event())

    assert other.sources is not world.turns.sources and other.sessions is not world.turns.sessions
    assert other.records is not world.turns.records
    assert [session.launched_for for session in other.records.sessions()] == ["1"]


@pytest.mark.parametrize("listens", [True, False])
def test_the_depth_of_the_events_queue_is_told_where_there_is_one(listens: bool) -> None:
    world = World()
    world.turns = world.replica(events_queue=MemoryQueue() if listens else None)

    world.turns.on_tick()

    assert ("events" in {told.get("queue") for told in world.journal.of("queue.depth")}) is listens


def test_events_are_read_by_whoever_is_handed_in() -> None:
    world = World()
    session = world.at_work()
    notice = InstanceNotice(session.instance_id, NoticeKind.INTERRUPTION, MORNING, "as said")
    world.turns = world.replica(read_notice=lambda body, now: notice if body == "ours" else None)

    world.turns.on_instance_event(Received("theirs", "receipt"))
    before = world.session.interrupting_at
    world.turns.on_instance_event(Received("ours", "receipt"))

    assert (before, world.session.interrupting_at) == (None, MORNING)
