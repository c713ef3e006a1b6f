"""What starts the listener: its exit code is passed on, its restarts are bounded, and nothing of it is the job's to change."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.runner.wrapper import RESTARTS, listener, written


@pytest.fixture
def quick(tmp_path: Path) -> dict[str, str]:
    """An environment in which nobody sleeps."""
    sleep = tmp_path / "quick" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text("#!/bin/sh\nexit 0\n")
    sleep.chmod(0o755)
    return {"PATH": f"{sleep.parent}:/usr/bin:/bin"}


def run(tmp_path: Path, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = [str(written(tmp_path / "hooks")), "bash", "-c", script]
    return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1, 5, 7, 100, 101, 102, 105, 134])
def test_the_listeners_exit_code_is_passed_on_as_it_is(code: int, tmp_path: Path, quick: dict[str, str]) -> None:
    found = run(tmp_path, f"exit {code}", quick)

    assert (found.returncode, found.stdout) == (code, "")


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143)])
def test_a_listener_that_is_killed_is_told_as_killed(name: str, code: int, tmp_path: Path, quick: dict[str, str]) -> None:
    assert run(tmp_path, f"kill -{name} $$; sleep 600", quick).returncode == code


def test_an_error_that_may_pass_is_tried_again_and_not_for_ever(tmp_path: Path, quick: dict[str, str]) -> None:
    found = run(tmp_path, "echo turn; exit 2", quick)

    assert found.returncode == 2
    assert found.stdout == "turn\n" + "Restarting runner...\nturn\n" * RESTARTS


@pytest.mark.parametrize("code", [3, 4])
def test_an_update_is_waited_for(code: int, tmp_path: Path, quick: dict[str, str]) -> None:
    found = run(tmp_path, f"[ -e there ] && exit 100; touch there update.finished; exit {code}", quick)

    assert (found.returncode, found.stdout) == (100, "Restarting runner...\n")
    assert not (tmp_path / "update.finished").exists()


def test_a_signal_to_the_wrapper_neither_ends_it_nor_is_lost_on_the_listener(tmp_path: Path, quick: dict[str, str]) -> None:
    told = "trap 'exit 102' INT; kill -TERM $PPID; kill -INT $$; sleep 600"

    assert run(tmp_path, told, quick).returncode == 102


def test_docker_is_waited_for_where_the_operator_says_so(tmp_path: Path, quick: dict[str, str]) -> None:
    docker = Path(quick["PATH"].partition(":")[0], "docker")
    docker.write_text("#!/bin/sh\necho asked >> asked\n[ $(wc -l < asked) -ge 3 ]\n")
    docker.chmod(0o755)

    found = run(tmp_path, "exit 100", {**quick, "RUNNER_WAIT_FOR_DOCKER_IN_SECONDS": "5"})

    assert found.stdout == "Waiting for docker to be ready.\nDocker is ready.\n"
    assert (tmp_path / "asked").read_text() == "asked\n" * 3


def test_authorities_are_renewed_where_the_operator_says_so(tmp_path: Path, quick: dict[str, str]) -> None:
    for name in ("update-ca-certificates", "sudo"):
        program = Path(quick["PATH"].partition(":")[0], name)
        program.write_text(f"#!/bin/sh\necho {name} $@ >> asked\n")
        program.chmod(0o755)

    run(tmp_path, "exit 100", {**quick, "RUNNER_UPDATE_CA_CERTS": "1"})

    told = (tmp_path / "asked").read_text()
    assert told == ("update-ca-certificates\n" if os.getuid() == 0 else "sudo -n update-ca-certificates\n")


def test_what_was_written_before_is_replaced_and_never_written_into(tmp_path: Path) -> None:
    first = written(tmp_path)
    with first.open("rb") as held:
        before = os.fstat(held.fileno()).st_ino
        second = written(tmp_path)

    assert second.stat().st_ino != before and second.stat().st_mode & 0o777 == 0o755


def test_the_listener_is_the_releases_own(tmp_path: Path) -> None:
    assert listener(tmp_path) == (f"{tmp_path}/bin/Runner.Listener", "run")
