"""A life from its first look at the settings to the machine's end, and what it returns for each way to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.messages import Status
from agent.errors import Exit
from agent.phases import Phase
from agent.ports import Signalled
from simulation.agent_inbox import HANGS, Script, refused
from simulation.agent_runner import job
from simulation.agent_services import API_URL
from simulation.agent_world import VirtualWorld, config_text, token_text

UNREACHABLE = refused("Unreachable")
NOT_THERE = refused("ParameterNotFound")


BEFORE_THE_CONFIGURATION = (Phase.WAKING, Phase.PREPARING)


AFTER_THE_RUNNER = (Phase.SETTLING, Phase.REPORTING, Phase.CLEANING, Phase.TERMINATING)


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


def test_a_machine_that_cannot_learn_its_id_is_switched_off(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, INSTANCE_ID="")
    world.machine.identity = Script(UNREACHABLE)

    ended = world.live()

    assert (world.machine.terminations, len(world.machine.power_offs)) == ([], 1)
    assert ended.exit_code == 78


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


@pytest.mark.parametrize("problem", ["no-queue", "bad-number"])
def test_unusable_settings_end_with_78_and_the_machine_goes_because_its_id_is_known(tmp_path: Path, problem: str) -> None:
    changed = {"no-queue": {"TERMINATION_QUEUE_URL": ""}, "bad-number": {"MAX_RUNTIME": "soon"}}[problem]
    world = VirtualWorld(tmp_path, **changed)

    ended = world.live()

    assert (ended.exit_code, len(world.machine.terminations)) == (78, 1)
    assert (ended.word.status, ended.word.reason, ended.word.job_id) == (Status.FAILURE, "settings", "")
    assert (world.processes.launches, world.parameters.names) == ([], [])


def test_every_wrong_setting_stands_in_the_one_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, MAX_RUNTIME="soon", RUNNER_DIR="opt", S3_CACHE_ENDPOINT="cache", INSTANCE_ID="")
    world.machine.identity = Script(refused("Unreachable"))

    error = world.live().word.error

    for name in ("MAX_RUNTIME", "RUNNER_DIR", "S3_CACHE_ENDPOINT", "INSTANCE_ID"):
        assert f"RUNS_FLEET_{name}" in error


def test_a_metadata_service_that_hangs_is_a_complaint_about_the_setting_too(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, INSTANCE_ID="", MAX_RUNTIME="soon")
    world.machine.identity = Script(HANGS)

    ended = world.live()

    assert ended.exit_code == 78
    assert "RUNS_FLEET_INSTANCE_ID" in ended.word.error
    assert "RUNS_FLEET_MAX_RUNTIME" in ended.word.error
    assert len(world.machine.power_offs) == 1


def test_a_metadata_service_that_does_not_answer_is_not_asked_where_the_setting_is_there(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.identity = Script(refused("Unreachable"))

    assert world.live().exit_code == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (config_text(), Exit.LIVED),
        ("{", Exit.MALFORMED),
        (refused("AccessDenied"), Exit.DENIED),
        (refused("ParameterNotFound"), 75),
    ],
    ids=["lived", "malformed", "denied", "never came"],
)
def test_the_exit_code_names_whose_fault_it_was_and_the_machine_goes_each_time(
    tmp_path: Path, text: str | BaseException, code: int
) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, text)]

    assert world.live().exit_code == code
    assert (len(world.machine.terminations), world.machine.power_offs) == (1, [])


def test_a_life_that_was_told_to_stop_early_is_no_failure_of_ours(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("ParameterNotFound"))]
    world.at(10.0, Signalled("SIGTERM"))

    ended = world.live()

    assert (ended.exit_code, ended.word.status, ended.word.error) == (
        Exit.LIVED,
        Status.INTERRUPTED,
        "the agent was told to stop by a signal, before the runner was started",
    )
    assert world.journal.told("life.failed") == []


def test_the_start_is_counted_from_the_process_s_birth_and_the_run_from_the_runner_s(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, refused("ParameterNotFound")), (20.0, config_text())]
    world.processes.plan = job(lasts_s=60.0)

    phases_ms = world.live().word.phases_ms

    assert phases_ms["to_exec"] == round(1000 * world.processes.launches[0][0])
    assert phases_ms["running"] == 66_000


def test_the_last_will_is_there_before_the_runner_starts_and_said_when_the_word_is_out(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, STATE_DIR=str(tmp_path))
    found: list[str] = []
    world.journal.on_phase[Phase.REGISTERING] = lambda: found.extend(sorted(path.name for path in tmp_path.glob("l*-*")))
    world.parameters.answers = [(0.0, config_text(max_runtime_minutes=30))]

    world.live()

    assert found == ["last-will-died", "last-will-rebooted", "limit-minutes"]
    assert (tmp_path / "final-word-sent").exists()


def test_a_last_will_that_cannot_be_left_is_told_and_costs_no_job(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, STATE_DIR=str(tmp_path / "absent"))

    word = world.live().word

    assert word.status is Status.SUCCESS
    assert any(part.startswith("last will: ") and "absent" in part for part in word.degraded)
