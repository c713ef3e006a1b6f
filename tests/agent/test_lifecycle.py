"""A life from its first look at the settings to the machine's end, and what it returns for each way to fail."""

from __future__ import annotations

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
