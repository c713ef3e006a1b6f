"""Faults of ours, and of everything around us: the final word is still tried, and the machine goes in every case."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.phases import Phase
from agent.ports import OutputEnded, TranscriptReport
from tests.simulation.world import API_URL, HANGS, Script, VirtualWorld, config_text, job, refused, token_text

BEFORE_THE_CONFIGURATION = (Phase.WAKING, Phase.PREPARING)
AFTER_THE_RUNNER = (Phase.SETTLING, Phase.REPORTING, Phase.CLEANING, Phase.TERMINATING)
UNREACHABLE = refused("Unreachable")
LOST = TranscriptReport("lost", 0, 812, "PutLogEvents answered AccessDeniedException")


def break_in(world: VirtualWorld, phase: Phase) -> None:
    """An exception nobody planned, at the moment `phase` begins."""

    def plant() -> None:
        raise RuntimeError(f"planted in {phase}")

    world.journal.on_phase[phase] = plant


@pytest.mark.parametrize("phase", Phase)
def test_a18_after_an_unplanned_exception_in_any_phase_every_way_to_leave_is_taken(tmp_path: Path, phase: Phase) -> None:
    world = VirtualWorld(tmp_path)
    break_in(world, phase)

    ended = world.live()

    assert (len(world.machine.terminations), len(world.machine.power_offs)) == (1, 1)
    assert ended.exit_code == 70


@pytest.mark.parametrize("phase", Phase)
def test_after_an_unplanned_exception_in_any_phase_the_final_word_is_still_said_once(tmp_path: Path, phase: Phase) -> None:
    world = VirtualWorld(tmp_path)
    break_in(world, phase)

    word = world.live().word

    assert word.job_id == ("" if phase in BEFORE_THE_CONFIGURATION else "7001")
    assert word.status is (Status.SUCCESS if phase in AFTER_THE_RUNNER else Status.FAILURE)
    if phase not in AFTER_THE_RUNNER:
        assert (word.reason, word.exit_code) == ("internal", 1)
        assert f"planted in {phase}" in word.error


def test_an_exception_before_the_instance_was_asked_for_its_id_still_uses_the_one_in_the_settings(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    break_in(world, Phase.WAKING)

    assert world.live().word.instance_id == world.settings.instance_id


def test_a_runner_that_already_runs_when_the_agent_breaks_is_killed_before_the_word_is_said(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    break_in(world, Phase.RUNNING)

    ended = world.live()

    assert world.processes.runner is not None
    assert "SIGKILL" in [name for _, name in world.runner.signals]
    assert ended.word.status is Status.FAILURE


def test_with_logs_queue_and_ec2_all_hung_the_power_is_off_within_a_minute_of_the_childs_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOGS_BUCKET="logs")
    world.processes.plan = job(lasts_s=60.0)
    world.transcript.reports = Script(HANGS)
    world.objects.answers = Script(HANGS)
    (world.runner_dir / "_diag").mkdir()
    (world.runner_dir / "_diag" / "Runner_1.log").write_text("line\n", encoding="utf-8")
    world.queue.answers = Script(HANGS)
    world.machine.permission = Script(HANGS)
    world.machine.termination = Script(HANGS)

    ended = world.live()

    child_ended_s = 66.0
    ((off_s, command),) = world.machine.power_offs
    assert command == ("switch", "off")
    assert off_s - child_ended_s < 60.0
    assert (ended.exit_code, ended.sent) == (69, ())


def test_the_same_holds_when_the_output_is_held_open_and_the_upload_hangs_too(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=60.0, holds_output_open=True, leaves_behind=3)
    world.transcript.reports = Script(HANGS)
    world.queue.answers = Script(HANGS)
    world.machine.termination = Script(HANGS)

    world.live()

    assert world.machine.power_offs[0][0] - 66.0 < 60.0
    assert world.journal.told("runner.leftovers_killed") == [{"processes": 3}]
    assert len(world.journal.told("runner.output_held_open")) == 1


@pytest.mark.parametrize("code", ["Unreachable", "ServiceUnavailable", "AccessDenied"])
def test_with_everything_refused_the_power_is_off_within_a_minute_of_the_childs_end(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.transcript.reports = Script(refused(code))
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


def test_a_queue_that_is_down_for_a_moment_only_delays_the_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(UNREACHABLE, UNREACHABLE, None)

    ended = world.live()

    assert (ended.exit_code, ended.told) == (0, ["started", "busy", "success"])


def test_a_refusal_of_the_queue_that_no_waiting_mends_is_not_repeated(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(refused("AccessDenied"))

    world.live()

    assert world.queue.tries == 3  # started, busy, the final word


def test_a_notice_that_hangs_does_not_hold_back_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue.answers = Script(HANGS, None)

    ended = world.live()

    assert (ended.told, ended.exit_code) == (["success"], 0)
    assert world.journal.told("notice.dropped") == [{"kinds": "started,busy"}]
    assert ended.age_s < 80.0


def test_a_throttled_terminate_call_is_not_repeated_and_the_power_goes_off_at_once(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("RequestLimitExceeded", "ec2:TerminateInstances"))

    world.live()

    (asked_s,) = world.machine.terminations
    assert world.machine.power_offs[0][0] - asked_s < 1.0


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "InvalidInstanceID.NotFound", "OperationNotPermitted"])
def test_a_permanent_refusal_of_terminate_is_not_repeated_either(tmp_path: Path, code: str) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused(code))

    world.live()

    assert (len(world.machine.terminations), len(world.machine.power_offs)) == (1, 1)


def test_a_passing_fault_of_ec2_is_tried_again_until_it_is_accepted(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("ServiceUnavailable"), UNREACHABLE, None)

    world.live()

    assert (len(world.machine.terminations), world.machine.power_offs) == (3, [])


def test_a_machine_that_cannot_learn_its_id_is_switched_off(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, INSTANCE_ID="")
    world.machine.identity = Script(UNREACHABLE)

    ended = world.live()

    assert (world.machine.terminations, len(world.machine.power_offs)) == ([], 1)
    assert ended.exit_code == 78


def test_without_a_command_a_machine_that_is_certainly_ec2_switches_itself_off_its_own_way(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, POWER_OFF="")
    world.machine.switch_by_default = ("systemctl", "poweroff")
    world.machine.termination = Script(refused("UnauthorizedOperation"))

    world.live()

    assert [command for _, command in world.machine.power_offs] == [("systemctl", "poweroff")]


def test_without_a_command_no_other_machine_is_switched_off(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, POWER_OFF="")
    world.machine.termination = Script(refused("UnauthorizedOperation"))

    world.live()

    assert world.machine.power_offs == []
    assert len(world.journal.told("power_off.none")) == 1


@pytest.mark.parametrize("fault", [OSError("no such command"), HANGS], ids=["missing", "hung"])
def test_a_power_switch_that_fails_does_not_keep_the_agent(tmp_path: Path, fault: BaseException) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.termination = Script(refused("UnauthorizedOperation"))
    world.machine.switch = Script(fault)

    ended = world.live()

    assert ended.exit_code == 0
    assert ended.age_s < 120.0


def test_a11_logs_that_were_refused_all_along_are_told_in_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOG_GROUP="/runs-fleet")
    world.transcript.reports = Script(LOST)

    word = world.live().word

    assert (word.log_outcome, word.log_lines_shipped, word.log_lines_lost) == ("lost", 0, 812)
    assert any("AccessDeniedException" in complaint for complaint in word.degraded)
    assert word.status is Status.SUCCESS


def test_a_log_stream_that_cannot_be_opened_does_not_cost_the_job(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, LOG_GROUP="/runs-fleet")

    class ClosedTranscript(type(world.transcript)):  # type: ignore[misc]
        def open(self, job_id: str) -> None:
            raise refused("AccessDeniedException", "logs:CreateLogStream")

    world.transcript = ClosedTranscript(world.clock)

    assert world.live().word.status is Status.SUCCESS


@pytest.mark.parametrize("what", ["first look", "configuration", "release", "registration"])
def test_a_preparation_that_hangs_ends_within_its_bound_and_under_its_own_name(tmp_path: Path, what: str) -> None:
    world = VirtualWorld(tmp_path)
    match what:
        case "first look":
            world.parameters.answers = [(0.0, HANGS)]
        case "configuration":
            world.parameters.answers = [(0.0, refused("ParameterNotFound")), (1.0, HANGS)]
        case "release":
            world.parameters.answers = [(0.0, config_text(runner_version="2.400.0"))]
            world.web.answers = {f"{API_URL}/repos/actions/runner/releases/tags/v2.400.0": HANGS}
        case _:
            world.parameters.answers = [(0.0, token_text())]
            world.processes.config_sh = Script(HANGS)

    ended = world.live()

    assert ended.age_s < 900.0
    assert ended.word.reason not in ("", "internal")
    assert len(world.machine.terminations) == 1


def test_a_runner_that_cannot_be_started_is_a_failure_with_that_name(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.starting = Script(OSError("exec format error"))

    ended = world.live()

    assert (ended.word.status, ended.word.reason) == (Status.FAILURE, "runner_unstartable")
    assert "exec format error" in ended.word.error


def test_what_a_job_left_running_is_killed_also_after_a_green_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(leaves_behind=2)

    ended = world.live()

    assert ended.word.status is Status.SUCCESS
    assert world.journal.told("runner.leftovers_killed") == [{"processes": 2}]


def test_output_that_ends_after_the_runner_is_still_listened_to(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(lasts_s=60.0, holds_output_open=True)
    world.at(67.5, OutputEnded())

    world.live()

    assert world.journal.told("runner.output_held_open") == []
