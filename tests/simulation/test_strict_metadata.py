"""Strict mode: the metadata service is gone before the job is there, or there is no job."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.errors import ServiceError
from simulation.agent_inbox import Script
from simulation.agent_runner import job
from simulation.agent_world import VirtualWorld


def test_the_service_is_closed_before_the_runner_starts_and_the_word_says_what_that_costs(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, STRICT_METADATA="yes", MAX_RUNTIME="60", GRACE_SECONDS="30")
    world.processes.plan = job()

    word = world.live().word

    assert word.status is Status.SUCCESS
    assert world.machine.closed == [60 * 60 + 30 + 120]
    assert any(part.startswith("notices: the metadata service is switched off") for part in word.degraded)


def test_by_default_it_is_left_alone(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job()

    world.live()

    assert world.machine.closed == []


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "TooShort", "StillAnswers"])
def test_a_service_that_cannot_be_closed_means_no_job(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path, STRICT_METADATA="yes")
    world.machine.closing = Script(ServiceError("ec2", code))

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "metadata_exposed")
    assert code in ended.word.error
    assert world.processes.launches == []
    assert len(world.machine.terminations) == 1
