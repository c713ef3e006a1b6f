"""How it ended: scripted runners, in the real runner's own words, against the status the orchestrator acts on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.ports import NoticeCame, Signalled
from agent.supervision import NoticeKind
from simulation.agent_inbox import refused
from simulation.agent_runner import LISTENING, RUNNING, RunnerPlan, busy_for_ever, completed, job, says
from simulation.agent_world import VirtualWorld, config_text
from simulation.clock import BIRTHDAY

DELETED = (
    "Failed to create a session. The runner registration has been deleted from the server, please re-configure."
    " Runner registrations are automatically deleted for runners that have not connected to the service recently."
)
REMOVED = "The runner no longer exists on the server. Cleaning up local configuration."
CONFLICT = "Stop retry on SessionConflictException after retried for 240 seconds."
OLD = "An error occurred: Runner version v2.300.0 is deprecated and cannot receive messages."
SUCCEEDED = completed("Succeeded")
MEGABYTE = 1 << 20


def spot(*, dies_at_s: float) -> NoticeCame:
    """A spot notice for a machine that is taken at that age."""
    return NoticeCame(NoticeKind.SPOT, BIRTHDAY + timedelta(seconds=dies_at_s), "terminate")


@pytest.mark.parametrize(
    ("plan", "status", "reason"),
    [
        (job("Succeeded"), Status.SUCCESS, ""),
        (job("SucceededWithIssues"), Status.SUCCESS, ""),
        (job("Failed"), Status.FAILURE, "job_failed"),
        (job("Canceled"), Status.FAILURE, "job_canceled"),
        (job("Abandoned"), Status.FAILURE, "job_abandoned"),
        (says(LISTENING, RUNNING), Status.FAILURE, "job_lost"),
        (says(LISTENING, RUNNING, code=137), Status.FAILURE, "listener_killed"),
        (says(LISTENING, code=137), Status.FAILURE, "listener_killed"),
        (says(LISTENING, RUNNING, code=-9), Status.FAILURE, "listener_killed"),
        (says(DELETED, code=1), Status.FAILURE, "registration_deleted"),
        (says(OLD, code=7), Status.FAILURE, "version_refused"),
        (says(code=7), Status.FAILURE, "version_refused"),
        (says(CONFLICT, code=5), Status.FAILURE, "session_conflict"),
        (says(LISTENING), Status.INTERRUPTED, "unclaimed"),
        (says(LISTENING, REMOVED), Status.INTERRUPTED, "unclaimed"),
        (says(REMOVED), Status.INTERRUPTED, "unclaimed"),
        (RunnerPlan(lines=((1.0, LISTENING),)), Status.INTERRUPTED, "unclaimed"),
        (busy_for_ever(), Status.TIMEOUT, "max_runtime"),
        (says(LISTENING, code=1), Status.FAILURE, "runner_failed"),
        (says(), Status.FAILURE, "runner_failed"),
        (says("Must not run interactively with sudo", code=1), Status.FAILURE, "runner_failed"),
        (says(code=5), Status.FAILURE, "session_conflict"),
        (says(LISTENING, RUNNING, SUCCEEDED), Status.FAILURE, "job_unproven"),
        (says(LISTENING, RUNNING, SUCCEEDED, code=1), Status.FAILURE, "job_unproven"),
        (says(LISTENING, SUCCEEDED), Status.FAILURE, "job_unproven"),
        (says(LISTENING, RUNNING, SUCCEEDED, code=143), Status.FAILURE, "listener_killed"),
        (says(LISTENING, RUNNING, SUCCEEDED, code=100), Status.SUCCESS, ""),
        (says(LISTENING, RUNNING, completed("Failed"), code=100), Status.FAILURE, "job_failed"),
        (says(LISTENING, RUNNING, SUCCEEDED, code=102), Status.FAILURE, "job_failed"),
        (says(LISTENING, RUNNING, code=102), Status.FAILURE, "job_failed"),
    ],
)  # fmt: skip
def test_each_way_a_runner_can_end_has_its_status_and_its_reason(
    tmp_path: Path, plan: RunnerPlan, status: Status, reason: str
) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = plan

    word = world.live().word

    assert (word.status, word.reason) == (status, reason)
    assert (word.exit_code == 0) == (status is Status.SUCCESS)
    assert bool(word.error) == (status is not Status.SUCCESS)


@pytest.mark.parametrize("result", ["Succeeded", "Failed"])
def test_exit_code_is_about_the_job_and_runner_exit_code_is_the_raw_one(tmp_path: Path, result: str) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(result)

    word = world.live().word

    assert (word.exit_code, word.runner_exit_code, word.job_result) == (
        int(result == "Failed"),
        102 if result == "Failed" else 100,
        result,
    )


def test_rq7_the_ceiling_is_360_minutes_of_the_runners_life_by_default(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = busy_for_ever()

    world.live()

    started_s = world.processes.launches[0][0]
    assert world.runner.signals[0] == (pytest.approx(started_s + 21_600.0), "SIGINT")


def test_a3_max_runtime_is_wired_in_the_composed_agent_and_stops_the_runner_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="0.5")
    world.processes.plan = busy_for_ever()

    ended = world.live()

    assert [name for _, name in world.runner.signals].count("SIGINT") == 1
    assert (ended.word.status, ended.word.duration_seconds) == (Status.TIMEOUT, 32)


def test_a4_the_timeout_survives_the_runners_own_word_that_the_job_was_canceled(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="1")
    world.processes.plan = busy_for_ever(winds_down_s=10.0)

    ended = world.live()

    assert (ended.word.status, ended.word.reason, ended.word.job_result) == (Status.TIMEOUT, "max_runtime", "Canceled")
    assert ended.exit_code == 0


def test_a_timeout_ships_its_logs_like_any_other_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="1")
    world.processes.plan = busy_for_ever(winds_down_s=None)

    word = world.live().word

    assert (word.log_outcome, word.log_lines_shipped, len(world.log_stream.finished)) == ("shipped", 12, 1)


@pytest.mark.parametrize(("configured", "expected_s"), [(2, 120), (600, 36_000)])
def test_the_configuration_may_set_another_max_runtime_for_its_job(tmp_path: Path, configured: float, expected_s: int) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="30")
    world.parameters.answers = [(0.0, config_text(max_runtime_minutes=configured))]
    world.processes.plan = busy_for_ever()

    word = world.live().word

    assert (word.status, word.duration_seconds) == (Status.TIMEOUT, expected_s + 2)


def test_the_time_for_preparing_does_not_count_against_the_runner(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="1")
    world.parameters.answers = [(0.0, refused("ParameterNotFound")), (200.0, config_text())]
    world.processes.plan = job(lasts_s=50.0)

    assert world.live().word.status is Status.SUCCESS


def test_an_idle_runner_is_stopped_at_the_idle_limit(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, IDLE_TIMEOUT_SECONDS="100")
    world.processes.plan = RunnerPlan(lines=((1.0, LISTENING),))

    ended = world.live()

    assert (ended.word.status, ended.word.reason, ended.word.duration_seconds) == (Status.INTERRUPTED, "unclaimed", 102)
    assert ended.told == ["started", "interrupted"]


def test_a_job_that_is_assigned_while_the_idle_runner_is_being_stopped_is_told_apart(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, IDLE_TIMEOUT_SECONDS="100")
    world.processes.plan = RunnerPlan(lines=((1.0, LISTENING), (100.5, RUNNING)), exits=(130.0, 0), winds_down_s=None)

    word = world.live().word

    assert (word.status, word.reason) == (Status.INTERRUPTED, "raced")


def test_a_spot_notice_interrupts_the_job_and_leaves_it_the_usual_grace(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(100.0, spot(dies_at_s=220.0))]
    world.processes.plan = busy_for_ever(winds_down_s=None)

    ended = world.live()

    assert [(round(age_s), name) for age_s, name in world.runner.signals[:2]] == [(100, "SIGINT"), (190, "SIGTERM")]
    assert (ended.word.status, ended.word.reason) == (Status.INTERRUPTED, "spot_notice")
    assert ended.words[0][0] < 220.0


def test_a_spot_notice_with_less_time_shortens_the_grace_to_what_the_farewell_leaves(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(100.0, spot(dies_at_s=175.0))]
    world.processes.plan = busy_for_ever(winds_down_s=None)

    ended = world.live()

    assert [(round(age_s), name) for age_s, name in world.runner.signals[:2]] == [(100, "SIGINT"), (145, "SIGTERM")]
    assert ended.words[0][0] < 160.0


def test_a_spot_notice_after_a_signal_shortens_the_grace_that_is_running(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.at(100.0, Signalled("SIGTERM"))
    world.machine.notices = [(110.0, spot(dies_at_s=155.0))]
    world.processes.plan = busy_for_ever(winds_down_s=None)

    world.live()

    assert [(round(age_s), name) for age_s, name in world.runner.signals[:2]] == [(100, "SIGINT"), (125, "SIGTERM")]


def test_a_second_spot_notice_with_more_time_lengthens_nothing(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(100.0, spot(dies_at_s=145.0)), (105.0, spot(dies_at_s=900.0))]
    world.processes.plan = busy_for_ever(winds_down_s=None)

    world.live()

    assert [(round(age_s), name) for age_s, name in world.runner.signals[:2]] == [(100, "SIGINT"), (115, "SIGTERM")]


@pytest.mark.parametrize("stop", [Signalled("SIGTERM"), spot(dies_at_s=190.0)], ids=["signal", "spot-notice"])
@pytest.mark.parametrize(("result", "status"), [("Succeeded", Status.INTERRUPTED), ("Failed", Status.FAILURE)])
def test_a_red_line_before_the_stop_wins_and_a_green_one_is_passed_on(
    tmp_path: Path, result: str, status: Status, stop: Signalled | NoticeCame
) -> None:
    """A listener that is stopped returns 0 whatever its job's result: that it was green, nobody but GitHub can say then."""
    world = VirtualWorld(tmp_path)
    world.processes.plan = RunnerPlan(lines=((1.0, LISTENING), (5.0, RUNNING), (60.0, completed(result))), exits=(100.0, 0))
    world.at(70.0, stop)

    assert world.live().word.status is status


def test_a_completed_line_after_the_stop_does_not(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = RunnerPlan(
        lines=((1.0, LISTENING), (5.0, RUNNING), (72.0, SUCCEEDED)), exits=(80.0, 0), winds_down_s=None
    )
    world.at(70.0, Signalled("SIGTERM"))

    word = world.live().word

    assert (word.status, word.job_result) == (Status.INTERRUPTED, "Succeeded")


def test_a_runner_that_lingers_after_its_job_is_stopped_and_its_line_is_passed_on_unproven(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = RunnerPlan(lines=((1.0, LISTENING), (5.0, RUNNING), (60.0, SUCCEEDED)))

    ended = world.live()

    assert (ended.word.status, ended.word.reason, ended.word.job_result) == (Status.FAILURE, "lingered", "Succeeded")
    assert world.runner.signals[0] == (pytest.approx(120.0, abs=0.5), "SIGINT")


def test_a_runner_that_is_restarted_again_and_again_is_killed(tmp_path: Path) -> None:
    retry = "Runner listener exit with retryable error, re-launch runner in 5 seconds."
    world = VirtualWorld(tmp_path)
    world.processes.plan = RunnerPlan(
        lines=tuple((6.0 * at + after, line) for at in range(50) for after, line in ((1.0, retry), (6.0, "Restarting runner...")))
    )

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "restart_loop")
    assert ended.age_s < 40.0


def test_a_restart_after_the_job_was_taken_is_the_end_because_the_registration_is_spent(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = RunnerPlan(lines=((1.0, LISTENING), (5.0, RUNNING), (20.0, "Restarting runner...")))

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "restart_loop")
    assert ended.word.duration_seconds == 20


@pytest.mark.parametrize("forged", [SUCCEEDED, "Exiting with unknown error code: 100", "Restarting runner..."])
@pytest.mark.parametrize("code", [0, 1, 102, 137])
def test_no_line_that_a_job_writes_makes_a_red_job_green(code: int, forged: str, tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = says(LISTENING, RUNNING, *[forged] * 3, code=code)

    assert world.live().word.status is Status.FAILURE


def test_a_red_line_after_a_forged_one_counts_whatever_the_exit_code(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = says(LISTENING, RUNNING, SUCCEEDED, completed("Failed"), code=100)

    assert world.live().word.reason == "job_failed"
