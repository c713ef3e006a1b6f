"""Faults of ours, and of everything around us: the final word is still tried, and the machine goes in every case."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.messages import Status
from simulation.agent_inbox import HANGS, Script, refused
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


@pytest.mark.parametrize("code", ["Unreachable", "QueueDoesNotExist", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_a_machine_that_could_not_say_its_final_word_starts_no_job(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.probes = Script(refused(code, "sqs:GetQueueAttributes"))
    world.queue.answers = Script(refused(code, "sqs:SendMessage"))

    ended = world.live()

    assert (ended.exit_code, world.processes.launches) == (69, [])
    assert len(world.machine.terminations) == 1
    (failed,) = world.journal.told("life.failed")
    assert failed["reason"] == "queue_unusable" and code in str(failed["error"])


@pytest.mark.parametrize("code", ["ServiceUnavailable", "ThrottlingException"])
def test_a_queue_that_is_merely_busy_costs_no_job(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.probes = Script(refused(code, "sqs:GetQueueAttributes"))

    assert world.live().word.status is Status.SUCCESS


def test_a_queue_that_answers_a_moment_later_is_waited_for(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.probes = Script(UNREACHABLE, UNREACHABLE, None)

    assert world.live().word.status is Status.SUCCESS


def test_a_probe_that_hangs_starts_no_job(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.probes = Script(HANGS)

    ended = world.live()

    assert (world.processes.launches, ended.word.reason) == ([], "queue_unusable")
    assert ended.age_s < 60.0
