"""What the orchestrator is told in a life, in which order, and that it comes before the machine goes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Busy, FinalWord, Started
from agent.ports import NoticeCame
from agent.supervision import NoticeKind
from simulation.agent_inbox import refused
from simulation.agent_services import INSTANCE
from simulation.agent_world import VirtualWorld, config_text, token_text
from simulation.clock import BIRTHDAY


def test_started_comes_before_busy_and_busy_before_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    ended = world.live()

    assert [type(message) for _, message in ended.sent] == [Started, Busy, FinalWord]
    assert ended.told == ["started", "busy", "success"]


def test_rq5_the_final_word_is_sent_strictly_before_termination_is_asked_for(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.took_s = 2.0

    ((said_s, _),) = world.live().words

    (asked_s,) = world.machine.terminations
    assert asked_s - said_s >= 2.0


def test_every_message_echoes_session_attempt_trace_and_version_and_has_an_id_of_its_own(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(seconds=150)))]

    messages = [message for _, message in world.live().sent]

    assert len(messages) == 4
    for message in messages:
        assert (message.instance_id, message.job_id) == (INSTANCE, "7001")
        assert (message.session_id, message.attempt, message.contract_version) == ("session-9", 2, 1)
        assert message.traceparent == json.loads(config_text())["traceparent"]
    assert len({message.message_id for message in messages} - {""}) == 4


def test_a2_the_job_id_is_the_configurations_job_id_and_not_the_run_id(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, config_text(job_id=7002, run_id=42))]

    assert {message.job_id for _, message in world.live().sent} == {"7002"}


def test_what_is_switched_off_is_named_in_the_final_word(tmp_path: Path) -> None:
    word = VirtualWorld(tmp_path).live().word

    assert any("RUNS_FLEET_LOG_GROUP" in complaint for complaint in word.degraded)
    assert any("RUNS_FLEET_CONFIG_BUCKET" in complaint for complaint in word.degraded)


def test_the_phases_are_measured_and_reported(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, token_text())]

    phases_ms = world.live().word.phases_ms

    assert {"configuration", "release", "registration", "to_exec", "running", "shipping"} <= phases_ms.keys()
    assert (phases_ms["registration"], phases_ms["running"], phases_ms["shipping"]) == (3_000, 66_000, 200)


def test_the_life_is_counted_from_the_runners_start(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("ParameterNotFound")), (100.0, config_text())]

    word = world.live().word

    assert (word.completed_at - word.started_at).total_seconds() == pytest.approx(word.duration_seconds, abs=1)
    assert word.duration_seconds == 66


def test_rq2_one_job_then_the_machine_is_asked_to_go_and_the_runner_is_never_started_again(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    assert (len(world.processes.launches), len(world.machine.terminations)) == (1, 1)
    assert world.machine.power_offs == []


def test_rq9_the_agent_leaves_the_secret_for_the_orchestrator_to_delete(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    assert not hasattr(world.parameters, "delete")
    assert len(world.parameters.names) == 1
