"""GitHub's runner as the work of a life: which release it is started from, and which job it says it ran."""

from __future__ import annotations


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
