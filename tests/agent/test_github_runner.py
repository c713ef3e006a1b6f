"""GitHub's runner as the work of a life: which release it is started from, and which job it says it ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.contract.messages import Status
from agent.ports import Signalled
from simulation.agent_inbox import refused
from simulation.agent_runner import busy_for_ever, job
from simulation.agent_services import VERSION, VirtualWeb
from simulation.agent_world import VirtualWorld, config_text, release_archive, token_text, unbake
from simulation.clock import AgentClock

NOT_THERE = refused("ParameterNotFound", "ssm:GetParameter")


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


def test_with_a_baked_runner_and_no_pin_github_is_never_asked(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)

    assert world.live().word.digest == "prebaked"
    assert world.web.asked == []


def test_a_configuration_that_wants_another_version_than_the_one_fetched_meanwhile_gets_it(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.web.publish(release_archive(), "2.337.0")
    world.parameters.answers = [(0.0, NOT_THERE), (10.0, config_text(runner_version="2.337.0"))]

    ended = world.live()

    assert world.processes.launches[0][1].directory == world.work_dir / "runner-2.337.0"
    assert (ended.word.digest, ended.word.status) == ("releases-api", Status.SUCCESS)


class DownAtFirst(VirtualWeb):
    """A GitHub that refuses whatever is asked of it in the first seconds."""

    def __init__(self, clock: AgentClock, *, up_after_s: float) -> None:
        super().__init__(clock)
        self._up_after_s = up_after_s

    def get_json(self, url: str) -> Any:
        if self.clock.age_s < self._up_after_s:
            self.asked.append(url)
            raise refused("403", f"GET {url}")
        return super().get_json(url)


def test_a_release_that_could_not_be_fetched_early_is_fetched_again_for_the_configuration(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, RUNNER_VERSION=VERSION)
    unbake(world.runner_dir)
    world.web = DownAtFirst(world.clock, up_after_s=10.0)
    world.web.publish(release_archive())
    world.parameters.answers = [(0.0, NOT_THERE), (20.0, config_text())]

    ended = world.live()

    assert (ended.word.status, ended.word.digest) == (Status.SUCCESS, "releases-api")


def test_a_release_that_cannot_be_had_is_tried_no_third_time(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, RUNNER_VERSION=VERSION)
    unbake(world.runner_dir)
    world.web = DownAtFirst(world.clock, up_after_s=1e9)
    world.parameters.answers = [(0.0, NOT_THERE), (20.0, config_text())]

    ended = world.live()

    assert (ended.word.reason, len(world.web.asked)) == ("download_failed", 2)


def test_a_release_that_was_fetched_early_serves_as_it_is(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, RUNNER_VERSION=VERSION)
    unbake(world.runner_dir)
    world.web.publish(release_archive())
    world.parameters.answers = [(0.0, NOT_THERE), (20.0, config_text(runner_version=VERSION))]

    assert world.live().word.status is Status.SUCCESS
    assert [url for url in world.web.asked if url.endswith(".tar.gz")] == list(world.web.files)


def test_without_a_pin_and_a_baked_release_nothing_is_fetched_before_the_configuration_is_there(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    unbake(world.runner_dir)
    world.web.publish(release_archive())
    world.parameters.answers = [(0.0, NOT_THERE)]
    world.at(30.0, Signalled("SIGTERM"))

    world.live()

    assert world.web.asked == []


@pytest.mark.parametrize(
    ("note", "run_id", "attempt", "ran_job"),
    [
        ("42\n1\nacme/widgets\nbuild\n", "42", "1", "acme/widgets:build"),
        ("42\n1\nacme/widgets\n\x1b[31mbuild\n", "42", "1", "acme/widgets:"),
        ("42\n", "42", "", ""),
        ("\n\n\nbuild", "", "", ":build"),
        ("42\n1\nacme/widgets\nbuild\nand\nmore", "42", "1", "acme/widgets:build"),
    ],
    ids=["whole", "unprintable", "cut off", "only a job", "more than asked for"],
)
def test_only_short_printable_lines_of_the_jobs_note_are_passed_on(
    tmp_path: Path, note: str, run_id: str, attempt: str, ran_job: str
) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(job_note=note)

    word = world.live().word

    assert (word.ran_run_id, word.ran_run_attempt, word.ran_job) == (run_id, attempt, ran_job)


def test_a_note_as_large_as_a_disk_is_read_no_further_than_a_page(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path)
    world.processes.plan = job(job_note="7" * 100_000)

    assert world.live().word.ran_run_id == "7" * 1024


def test_without_a_bucket_there_is_no_cache_and_the_word_says_which_source_was_used(tmp_path: Path) -> None:
    baked, fetched = VirtualWorld(tmp_path / "baked"), VirtualWorld(tmp_path / "fetched")
    unbake(fetched.runner_dir)
    fetched.web.publish(release_archive())

    assert [world.live().word.cache_outcome for world in (baked, fetched)] == ["unused", "disabled"]


def test_an_upload_runs_beside_the_job_and_not_before_it(tmp_path: Path) -> None:
    world = VirtualWorld(tmp_path, CONFIG_BUCKET="config", MAX_RUNTIME="1")
    unbake(world.runner_dir)
    world.web.publish(release_archive())
    world.processes.plan = busy_for_ever()

    word = world.live().word

    assert (word.cache_outcome, [key.rpartition("/")[2] for key in world.objects.stored]) == (
        "uploaded",
        [f"actions-runner-{VERSION}.tar.gz"],
    )
    assert not list(world.work_dir.rglob("*.tar.gz"))
