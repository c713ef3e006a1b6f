"""DynamoDB that throttles one commit, or cannot read one partition: whatever does not need it goes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.errors import ServiceFailed, Throttled
from orchestrator.ports import Key, Write
from orchestrator.store.launch import Launch
from orchestrator.store.waitlist import PARTITION
from simulation.examples import an_event, some_settings
from simulation.world import World


def test_what_was_committed_is_sent_though_the_next_commit_fails() -> None:
    world = World(settings=some_settings(launches_per_minute=1000.0))
    for n in range(150):
        world.turns.on_job_event(an_event(job_id=str(n)))
    committed: list[Key] = []

    def throttled(writes: Sequence[Write]) -> None:
        committed.extend(one.key for one in writes if one.key[1] == Launch.KIND.row and one.read == 0)
        if len(committed) == 2:
            raise Throttled("dynamodb:TransactWriteItems", "ThrottlingException")

    world.calls.script("tables.write", times=None, before=throttled)
    with pytest.raises(Throttled):
        world.turns.on_wake(world.wakes.taken())

    assert world.compute.launched == 100


def test_a_line_that_cannot_be_read_keeps_nobody_from_his_machine() -> None:
    world = World()

    def unreadable(_: str, partition: str) -> None:
        if partition == PARTITION:
            raise ServiceFailed("dynamodb:Query", "InternalServerError", "now")

    world.turns.on_job_event(an_event())
    world.calls.script("tables.rows", times=None, before=unreadable)
    with pytest.raises(ServiceFailed):
        world.turns.on_wake(world.wakes.taken())

    assert world.compute.launched == 1
