"""A signal in any phase of the life: one word, then the machine goes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.executor import EXPLAINED_S
from agent.phases import Phase
from agent.ports import NoticeCame, Signalled
from agent.supervision import NoticeKind
from simulation.agent_inbox import refused
from simulation.agent_runner import LISTENING, RUNNING, RunnerPlan, busy_for_ever, completed, job, says
from simulation.agent_services import INSTANCE
from simulation.agent_world import VirtualWorld, config_text, token_text
from simulation.clock import BIRTHDAY

AFTER_THE_RUNNER = (Phase.SETTLING, Phase.REPORTING, Phase.CLEANING, Phase.TERMINATING)


@pytest.mark.parametrize("again_after_s", [None, 0.0, 1.0], ids=["once", "twice-at-once", "twice"])
@pytest.mark.parametrize("phase", Phase)
def test_a_sigterm_in_any_phase_leads_to_one_final_word_and_then_to_termination(
    tmp_path: Path, phase: Phase, again_after_s: float | None
) -> None:
    world = VirtualWorld(tmp_path)
    world.sigterm_in(phase, again_after_s=again_after_s)

    ended = world.live()

    ((said_s, word),) = ended.words
    assert word.status is (Status.SUCCESS if phase in AFTER_THE_RUNNER else Status.INTERRUPTED)
    assert (word.instance_id, word.job_id) == (INSTANCE, "7001")
    assert (len(world.machine.terminations), world.machine.power_offs, ended.exit_code) == (1, [], 0)
    assert said_s < world.machine.terminations[0]


@pytest.mark.parametrize("phase", [Phase.WAKING, Phase.PREPARING, Phase.REGISTERING])
def test_a_sigterm_before_the_runner_exists_starts_none(tmp_path: Path, phase: Phase) -> None:
    world = VirtualWorld(tmp_path)
    world.sigterm_in(phase)

    ended = world.live()

    assert world.processes.launches == []
    assert (ended.word.reason, ended.told) == ("signal", ["interrupted"])


def test_a_sigterm_while_the_configuration_is_awaited_is_not_made_to_wait_for_it(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("ParameterNotFound"))]
    world.at(42.0, Signalled("SIGTERM"))

    ended = world.live()

    assert (ended.word.status, ended.word.job_id) == (Status.INTERRUPTED, "")
    assert ended.age_s < 45.0


@pytest.mark.parametrize(
    "event", [Signalled("SIGTERM"), NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(seconds=125))], ids=["signal", "spot-notice"]
)
def test_whoever_asks_for_the_end_while_config_sh_runs_does_not_wait_for_it(
    tmp_path: Path, event: Signalled | NoticeCame
) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, token_text())]
    world.processes.config_took_s = 60.0
    world.at(5.0, event)

    ended = world.live()

    assert ended.word.status is Status.INTERRUPTED
    assert ended.age_s < 35.0


def test_rq8_a_sigterm_is_forwarded_as_one_sigint_and_the_runner_has_ninety_seconds(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = busy_for_ever(winds_down_s=None)
    world.at(100.0, Signalled("SIGTERM"))

    ended = world.live()

    assert [(round(age_s, 3), name) for age_s, name in world.runner.signals[:3]] == [
        (100.0, "SIGINT"),
        (190.0, "SIGTERM"),
        (195.0, "SIGKILL"),
    ]
    assert (ended.word.status, ended.word.runner_exit_code) == (Status.INTERRUPTED, -9)


def test_a_second_sigterm_shortens_the_grace_to_five_seconds(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = busy_for_ever(winds_down_s=None)
    world.at(100.0, Signalled("SIGTERM"))
    world.at(110.0, Signalled("SIGTERM"))

    world.live()

    assert [(round(age_s, 3), name) for age_s, name in world.runner.signals[:2]] == [(100.0, "SIGINT"), (115.0, "SIGTERM")]


def test_a_runner_that_winds_down_in_its_grace_is_not_signalled_again(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = busy_for_ever(winds_down_s=12.0)
    world.at(100.0, Signalled("SIGTERM"))

    ended = world.live()

    assert [name for _, name in world.runner.signals] == ["SIGINT", "SIGKILL"]  # the last one sweeps what is left
    assert (ended.word.job_result, ended.word.duration_seconds) == ("Canceled", 112)


def test_a_runner_that_heeds_sigterm_is_spared_the_kill(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, GRACE_SECONDS="20")
    world.processes.plan = busy_for_ever(winds_down_s=None, heeds_sigterm=True)
    world.at(100.0, Signalled("SIGTERM"))

    ended = world.live()

    assert ended.word.runner_exit_code == 0
    assert ended.word.duration_seconds == pytest.approx(121, abs=1)


def test_no_grace_means_the_next_rung_at_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, GRACE_SECONDS="0")
    world.processes.plan = busy_for_ever(winds_down_s=None)
    world.at(100.0, Signalled("SIGTERM"))

    world.live()

    assert [(round(age_s, 3), name) for age_s, name in world.runner.signals[:2]] == [(100.0, "SIGINT"), (100.0, "SIGTERM")]


@pytest.mark.parametrize("runner_leaves_after_s", [64.0, 65.9])
def test_a_sigterm_after_the_job_completed_does_not_change_its_result(tmp_path: Path, runner_leaves_after_s: float) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job("Failed", lasts_s=55.0)
    world.at(runner_leaves_after_s - 3.5, Signalled("SIGTERM"))

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "job_failed")


def test_a_configuration_read_before_the_signal_names_the_job_in_the_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, config_text(job_id=81, session_id="s-81"))]
    world.sigterm_in(Phase.PREPARING)

    ended = world.live()

    assert (ended.word.job_id, ended.word.session_id, ended.word.attempt) == ("81", "s-81", 2)


def test_a_job_that_completes_while_the_signal_is_on_its_way_is_interrupted_and_its_result_is_passed_on(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=60.0)
    world.at(65.1, Signalled("SIGTERM"))

    word = world.live().word

    assert (word.status, word.job_result) == (Status.INTERRUPTED, "Succeeded")


def told_after_its_runner_went(tmp_path: Path, plan: RunnerPlan, late_s: float) -> tuple[Status, str, float]:
    """A SIGTERM so long after the runner's end: how the agent judges, and how long it took to."""
    at_first = VirtualWorld(tmp_path / "first")
    at_first.processes.plan = plan
    at_first.live()
    assert plan.exits is not None
    gone_at_s = at_first.processes.launches[0][0] + plan.exits[0]
    world = VirtualWorld(tmp_path / "second")
    world.processes.plan = plan
    world.at(gone_at_s + late_s, Signalled("SIGTERM"))

    word = world.live().word

    judged_at_s = next(at for at, name, _ in world.journal.events if name == "work.ended")
    return word.status, word.reason, judged_at_s - gone_at_s


MACHINE_OFF = says(LISTENING, RUNNING, code=143)
"""Whoever switches the machine off signals all of its processes at once."""


@pytest.mark.parametrize("late_s", [0.0, 0.01, 0.9 * EXPLAINED_S])
@pytest.mark.parametrize("plan", [MACHINE_OFF, says(LISTENING, RUNNING, code=137), says(LISTENING, RUNNING)])
def test_a_runner_that_went_with_the_machine_was_interrupted_though_its_end_is_heard_before_our_own_signal(
    tmp_path: Path, plan: RunnerPlan, late_s: float
) -> None:
    status, reason, _ = told_after_its_runner_went(tmp_path, plan, late_s)

    assert (status, reason) == (Status.INTERRUPTED, "signal")


def test_a_signal_that_comes_long_after_a_runner_went_does_not_explain_it(tmp_path: Path) -> None:
    assert told_after_its_runner_went(tmp_path, MACHINE_OFF, 2.0 * EXPLAINED_S)[:2] == (Status.FAILURE, "listener_killed")


@pytest.mark.parametrize(("result", "code"), [("Succeeded", 100), ("Failed", 102), ("Failed", 143)])
def test_a_job_that_said_how_it_ended_is_waited_for_no_longer_and_explained_by_no_signal(
    tmp_path: Path, result: str, code: int
) -> None:
    plan = says(LISTENING, RUNNING, completed(result), code=code)

    status, _, waited_s = told_after_its_runner_went(tmp_path, plan, 0.5 * EXPLAINED_S)

    assert status is (Status.SUCCESS if result == "Succeeded" else Status.FAILURE)
    assert waited_s < 0.5 * EXPLAINED_S
