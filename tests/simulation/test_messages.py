"""What the orchestrator is told in a life, in which order, and that it comes before the machine goes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Busy, FinalWord, Interrupting, Started, Status
from agent.ports import NoticeCame
from tests.simulation.world import (
    BIRTHDAY,
    HANGS,
    INSTANCE,
    Script,
    VirtualClock,
    VirtualQueue,
    VirtualWorld,
    busy_for_ever,
    config_text,
    refused,
    release_archive,
    says,
    token_text,
    unbake,
)


class SlowAtFirst(VirtualQueue):
    """A queue whose first message takes that long to go and as long to be confirmed."""

    def __init__(self, clock: VirtualClock, *, first_s: float) -> None:
        super().__init__(clock)
        self._first_s = first_s

    def send(self, body: str) -> None:
        self.took_s = self._first_s if self.tries == 0 else 0.05
        super().send(body)


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


def test_the_last_lines_are_shipped_before_the_final_word_counts_them(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.transcript.took_s = 7.0

    ended = world.live()

    assert world.transcript.finished[0] < ended.words[0][0]
    assert ended.word.log_lines_shipped == 12


def test_every_message_echoes_session_attempt_trace_and_version_and_has_an_id_of_its_own(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame("spot", BIRTHDAY + timedelta(seconds=150)))]

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


def test_busy_is_told_when_the_job_is_taken_and_not_when_it_is_over(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    told_s = next(age_s for age_s, message in ended.sent if isinstance(message, Busy))
    assert 5.0 < told_s < 6.0


def test_busy_follows_as_soon_as_a_slow_notice_before_it_is_through(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue = SlowAtFirst(world.clock, first_s=8.0)

    ended = world.live()

    told_s = next(age_s for age_s, message in ended.sent if isinstance(message, Busy))
    assert 16.0 < told_s < 17.0


def test_a_notice_that_is_being_sent_when_the_runner_leaves_goes_out_before_the_final_word(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.queue = SlowAtFirst(world.clock, first_s=1.8)
    world.processes.plan = says(code=1)

    assert world.live().told == ["started", "failure"]


def test_busy_and_the_final_word_tell_which_job_was_really_run(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    busy = next(message for _, message in ended.sent if isinstance(message, Busy))
    for message in (busy, ended.word):
        assert (message.ran_run_id, message.ran_run_attempt, message.ran_job) == ("42", "1", "acme/widgets:build")


def test_a_life_whose_runner_never_took_a_job_says_nothing_of_being_busy(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = says("2026-01-31 12:00:00Z: Listening for Jobs", code=0)

    assert "busy" not in world.live().told


def test_started_tells_that_the_machine_may_end_itself(tmp_path: Path) -> None:
    ended = VirtualWorld(tmp_path).live()

    started = ended.sent[0][1]
    assert isinstance(started, Started)
    assert (started.self_termination, "to_exec" in started.phases_ms) == ("permitted", True)


def test_a_machine_that_may_not_end_itself_says_so_at_the_start_and_at_the_end(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.permission = Script("UnauthorizedOperation")

    ended = world.live()

    assert ended.sent[0][1].self_termination == "UnauthorizedOperation"  # type: ignore[union-attr]
    assert any("UnauthorizedOperation" in complaint for complaint in ended.word.degraded)


def test_a_spot_notice_is_told_while_the_runner_still_winds_down(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.machine.notices = [(30.0, NoticeCame("spot", BIRTHDAY + timedelta(seconds=150)))]
    world.processes.plan = busy_for_ever(winds_down_s=20.0)

    ended = world.live()

    (said_s, told) = next((age_s, message) for age_s, message in ended.sent if isinstance(message, Interrupting))
    assert (told.reason, told.ends_at) == ("spot_notice", BIRTHDAY + timedelta(seconds=150))
    assert said_s < 31.0
    assert ended.told == ["started", "busy", "interrupting", "interrupted"]


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


def test_rq2_the_token_path_registers_an_ephemeral_runner(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.parameters.answers = [(0.0, token_text())]

    world.live()

    (launch,) = world.processes.ran
    assert launch.command[0].endswith("/config.sh")
    assert {"--ephemeral", "--unattended", "--disableupdate"} <= set(launch.command)
    assert "AAAATOKENTOKEN" not in " ".join(launch.command)


def test_the_jit_config_reaches_the_runner_byte_for_byte_and_config_sh_is_not_run(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    (_, launch), blob = world.processes.launches[0], json.loads(config_text())["jit_config"]
    assert launch.environment["ACTIONS_RUNNER_INPUT_JITCONFIG"] == blob
    assert world.processes.ran == []


def test_rq4_the_first_boot_fetches_from_github_and_the_next_from_s3(tmp_path: Path) -> None:
    first = VirtualWorld(tmp_path / "first", CONFIG_BUCKET="config")
    second = VirtualWorld(tmp_path / "second", CONFIG_BUCKET="config")
    for world in (first, second):
        unbake(world.runner_dir)
        world.web.publish(release_archive())
    second.objects.stored = first.objects.stored

    outcomes = [world.live().word.cache_outcome for world in (first, second)]

    assert outcomes == ["uploaded", "hit"]
    assert any(url.endswith(".tar.gz") for url in first.web.asked)
    assert not any(url.endswith(".tar.gz") for url in second.web.asked)


def test_an_upload_that_hangs_is_abandoned_and_said_so(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_BUCKET="config")
    unbake(world.runner_dir)
    world.web.publish(release_archive())

    class NeverStoring(type(world.objects)):  # type: ignore[misc]
        def put_file_if_absent(self, key: str, path: Path, metadata: object) -> bool:
            raise HANGS

    world.objects = NeverStoring(world.clock)

    ended = world.live()

    assert (ended.word.cache_outcome, ended.word.status) == ("abandoned", Status.SUCCESS)
    assert ended.age_s < 90.0


def test_with_a_baked_runner_and_no_pin_github_is_never_asked(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    assert world.live().word.digest == "prebaked"
    assert world.web.asked == []


def test_rq9_the_agent_leaves_the_secret_for_the_orchestrator_to_delete(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    world.live()

    assert not hasattr(world.parameters, "delete")
    assert len(world.parameters.names) == 1


def test_what_registration_and_the_job_left_is_gone_when_the_machine_is(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    (world.runner_dir / ".credentials").write_text("secret", encoding="utf-8")
    (world.runner_dir / "_work" / "repo").mkdir(parents=True)

    world.live()

    assert sorted(path.name for path in world.runner_dir.iterdir()) == ["bin", "run.sh"]


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
