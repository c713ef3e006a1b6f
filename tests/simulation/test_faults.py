"""Faults of ours, and of everything around us: the final word is still tried, and the machine goes in every case."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.messages import Status
from simulation.agent_inbox import Script, refused
from simulation.agent_world import VirtualWorld

UNREACHABLE = refused("Unreachable")


@pytest.mark.parametrize("code", ["Unreachable", "ServiceUnavailable", "AccessDenied"])
def test_with_everything_refused_the_power_is_off_within_a_minute_of_the_childs_end(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.log_stream.reports = Script(refused(code))
    world.queue.answers = Script(refused(code))
    world.machine.termination = Script(refused(code))

    ended = world.live()

    assert world.machine.power_offs[0][0] - 66.0 < 60.0
    assert ended.exit_code == 69


def test_a_dead_queue_means_exit_69_and_the_machine_goes_all_the_same(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(UNREACHABLE)

    ended = world.live()

    assert (ended.exit_code, ended.sent) == (69, ())
    assert len(world.machine.terminations) == 1
    assert len(world.journal.told("final_word.undelivered")) == 1


def test_a_log_stream_that_cannot_be_opened_does_not_cost_the_job(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOG_GROUP="/runs-fleet")

    class ClosedTranscript(type(world.log_stream)):  # type: ignore[misc]
        def open(self, job_id: str) -> None:
            raise refused("AccessDeniedException", "logs:CreateLogStream")

    world.log_stream = ClosedTranscript(world.clock)

    assert world.live().word.status is Status.SUCCESS
