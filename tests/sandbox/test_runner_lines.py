"""What the stand-in runner says, line by line, and what a job of it does: blob, environment, hooks, orphans.

Source: the listener, the worker and the scripts of actions/runner 2.336.0.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.runner import release
from tests.sandbox.runner_driver import STAMP, RunnerDriver, alive, blob, gone, job

ZERO = "Runner listener exit with 0 return code, stop the service, no retry needed."
TERMINATED = "Runner listener exit with terminated error, stop the service, no retry needed."
BLOB = {
    ".runner": b'{"AgentId": "7", "AgentName": "one"}',
    ".credentials": b'{"scheme": "OAuth"}',
    ".credentials_rsaparams": b"{}",
}


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[RunnerDriver]:
    made = RunnerDriver(tmp_path)
    yield made
    made.close()


def test_a_normal_life_says_exactly_these_lines(driver: RunnerDriver) -> None:
    driver.configured(job=job("true")).start()

    expected = [
        "", "√ Connected to GitHub", "", f"Current runner version: '{release.VERSION}'", f"{STAMP}: Listening for Jobs",
        f"{STAMP}: Running job: build", f"{STAMP}: Job build completed with result: Succeeded", "√ Removed .credentials",
        "√ Removed .runner", ZERO, "Exiting runner...",
    ]  # fmt: skip
    said = driver.out.all()
    assert len(said) == len(expected)
    assert [line for line, wanted in zip(said, expected, strict=True) if line != wanted and not re.fullmatch(wanted, line)] == []
    assert driver.err.all() == []


@pytest.mark.parametrize(
    ("run", "result"), [("true", "Succeeded"), ("exit 3", "Failed"), ("false; true", "Failed"), ("kill -9 $$", "Failed")]
)
def test_the_completed_line_tells_the_jobs_result(driver: RunnerDriver, run: str, result: str) -> None:
    driver.configured(job=job(run)).start()

    assert re.fullmatch(f"{STAMP}: Job build completed with result: {result}", driver.out.until(".*completed with result.*"))
    assert driver.ended() == 0


@pytest.mark.parametrize(
    "name", ["build (ubuntu, 3.11)", "Running job: x", "a completed with result: Succeeded", "名前 √ ☃", "'; rm -rf / #"]
)
def test_a_jobs_name_is_printed_as_its_author_wrote_it(driver: RunnerDriver, name: str) -> None:
    driver.configured(job=job("exit 1", name=name)).start()

    driver.out.until(f"{STAMP}: Running job: {re.escape(name)}")
    driver.out.until(f"{STAMP}: Job {re.escape(name)} completed with result: Failed")


def test_what_a_step_prints_does_not_appear_in_the_runners_own_output(driver: RunnerDriver) -> None:
    driver.configured(job=job("echo 2026-01-01 10:00:00Z: Job build completed with result: Canceled")).start()

    assert not any("Canceled" in line for line in driver.out.all() + driver.err.all())


def test_a_lost_connection_is_told_once_on_stderr_and_its_return_on_stdout(driver: RunnerDriver) -> None:
    driver.configured(fault="reconnect", job=job("true")).start()

    driver.err.until(f"{STAMP}: Runner connect error: .*\\. Retrying until reconnected\\.")
    driver.out.until(f"{STAMP}: Runner reconnected\\.")


def test_a_job_lost_before_it_began_has_no_completed_line_and_exit_code_0(driver: RunnerDriver) -> None:
    driver.configured(fault="lost", job=job("true")).start()

    assert driver.ended() == 0
    said = driver.out.all()
    assert any("Running job: build" in line for line in said) and not any("completed" in line for line in said)
    assert said[-2:] == [ZERO, "Exiting runner..."]


@pytest.mark.parametrize("fault", ["never", "lost_assignment", "hang_after_acknowledge"])
def test_a_runner_that_gets_no_job_listens_until_it_is_stopped(driver: RunnerDriver, fault: str) -> None:
    driver.configured(fault=fault, job=job("true")).start()
    driver.out.until(f"{STAMP}: Listening for Jobs")

    os.kill(driver.pid("bin/Runner.Listener"), signal.SIGTERM)

    assert not any("Running job" in line for line in driver.out.all())


def test_a_normal_end_removes_the_registration(driver: RunnerDriver) -> None:
    driver.configured(job=job("exit 1")).start()

    assert driver.ended() == 0
    assert not any((driver.root / name).exists() for name in BLOB)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_jit_blob_is_written_out_file_by_file_over_what_was_there(driver: RunnerDriver, way: str) -> None:
    (driver.root / ".runner").write_text("old", encoding="utf-8")
    driver.scenario(fault="never", job=job("true"))

    if way == "argument":
        driver.start("--jitconfig", blob(BLOB))
    else:
        driver.start(ACTIONS_RUNNER_INPUT_JITCONFIG=blob(BLOB))

    driver.out.until(f"{STAMP}: Listening for Jobs")
    assert {name: (driver.root / name).read_bytes() for name in BLOB} == BLOB


@pytest.mark.parametrize("garbage", ["not base64!", "bm90IGpzb24=", "WzFd", "eyJhIjogMX0=", "eyIucnVubmVyIjogIiEifQ=="])
def test_a_blob_that_cannot_be_read_ends_with_a_message_and_exit_code_1(driver: RunnerDriver, garbage: str) -> None:
    driver.scenario(job=job("true")).start(ACTIONS_RUNNER_INPUT_JITCONFIG=garbage)

    assert (driver.ended(), driver.out.all()) == (0, [TERMINATED, "Exiting runner..."])
    assert len(driver.err.all()) == 1


def test_settings_with_a_byte_order_mark_are_read(driver: RunnerDriver) -> None:
    driver.configured(job=job("true"))
    (driver.root / ".runner").write_bytes(b'\xef\xbb\xbf{"agentName": "one"}')

    driver.start()

    driver.out.until(".*completed with result: Succeeded")


def test_a_job_inherits_the_listeners_environment_but_none_of_its_inputs(driver: RunnerDriver, tmp_path: Path) -> None:
    (driver.root / ".env").write_text("FROM=the file\nBOTH=the file\n", encoding="utf-8")
    driver.scenario(job=job(f"env > {tmp_path}/seen"))

    driver.start(ACTIONS_RUNNER_INPUT_JITCONFIG=blob(BLOB), BOTH="the process", OWN="the process")

    assert driver.ended() == 0
    seen = (tmp_path / "seen").read_text("utf-8").splitlines()
    assert {"FROM=the file", "BOTH=the file", "OWN=the process"} <= set(seen)
    assert not any(line.upper().startswith("ACTIONS_RUNNER_INPUT_") for line in seen)


def hook(tmp_path: Path, name: str, body: str) -> str:
    path = tmp_path / f"{name}.sh"
    path.write_text(f"echo {name} >> {tmp_path}/order\n{body}\n", encoding="utf-8")
    return str(path)


def order(tmp_path: Path) -> list[str]:
    return (tmp_path / "order").read_text("utf-8").split()


@pytest.mark.parametrize(("run", "result"), [("true", "Succeeded"), ("exit 1", "Failed")])
def test_the_hooks_run_first_and_last_also_when_the_job_fails(
    driver: RunnerDriver, tmp_path: Path, run: str, result: str
) -> None:
    hooks = {f"ACTIONS_RUNNER_HOOK_JOB_{name.upper()}": hook(tmp_path, name, "") for name in ("started", "completed")}

    driver.configured(job=job(f"echo step >> {tmp_path}/order; {run}")).start(**hooks)

    driver.out.until(f".*completed with result: {result}")
    assert order(tmp_path) == ["started", "step", "completed"]


@pytest.mark.parametrize("body", ["exit 4", "false\ntrue"])
def test_a_started_hook_that_fails_fails_the_job_and_skips_its_steps(driver: RunnerDriver, tmp_path: Path, body: str) -> None:
    path = hook(tmp_path, "started", body)

    driver.configured(job=job(f"echo step >> {tmp_path}/order")).start(ACTIONS_RUNNER_HOOK_JOB_STARTED=path)

    driver.out.until(".*completed with result: Failed")
    assert order(tmp_path) == ["started"]


@pytest.mark.parametrize("which", ["STARTED", "COMPLETED"])
def test_a_hook_that_is_missing_fails_the_job(driver: RunnerDriver, which: str) -> None:
    driver.configured(job=job("true")).start(**{f"ACTIONS_RUNNER_HOOK_JOB_{which}": "/nowhere/hook.sh"})

    driver.out.until(".*completed with result: Failed")


def test_a_hook_has_no_pipefail(driver: RunnerDriver, tmp_path: Path) -> None:
    path = hook(tmp_path, "started", "false | true")

    driver.configured(job=job("true")).start(ACTIONS_RUNNER_HOOK_JOB_STARTED=path)

    driver.out.until(".*completed with result: Succeeded")


def test_a_hook_knows_the_job_and_stands_in_the_workspace(driver: RunnerDriver, tmp_path: Path) -> None:
    path = hook(tmp_path, "started", f"env > {tmp_path}/seen; pwd > {tmp_path}/cwd")
    github = {"run_id": 12, "run_attempt": 3, "job": "build", "repository": "o/r"}

    driver.configured(job=job("true", github=github, repository="o/r")).start(ACTIONS_RUNNER_HOOK_JOB_STARTED=path)

    assert driver.ended() == 0
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text("utf-8").splitlines())
    names = {
        "GITHUB_WORKSPACE",
        "GITHUB_ENV",
        "GITHUB_PATH",
        "GITHUB_STEP_SUMMARY",
        "RUNNER_NAME",
        "RUNNER_OS",
        "RUNNER_ARCH",
        "RUNNER_TEMP",
    }
    assert (seen["GITHUB_RUN_ID"], seen["GITHUB_RUN_ATTEMPT"], seen["GITHUB_JOB"]) == ("12", "3", "build")
    assert (seen["CI"], seen["GITHUB_ACTIONS"], seen["RUNNER_TRACKING_ID"][:7]) == ("true", "true", "github_")
    assert (tmp_path / "cwd").read_text("utf-8").strip() == seen["GITHUB_WORKSPACE"] == f"{driver.root}/_work/r/r"
    assert names - set(seen) == set()


def test_orphans_that_carry_the_tracking_id_are_killed_and_others_are_not(driver: RunnerDriver, tmp_path: Path) -> None:
    quiet = "> /dev/null 2>&1 < /dev/null & echo $! >> pids"
    cleared_itself = "until tr '\\0' '\\n' < /proc/$!/environ | grep -qx RUNNER_TRACKING_ID=; do :; done"
    steps = f"cd {tmp_path}\nsetsid sleep 300 {quiet}\nRUNNER_TRACKING_ID= setsid sleep 300 {quiet}\n{cleared_itself}\n"

    driver.configured(job=job(steps)).start()

    assert driver.ended() == 0
    marked, cleared = (int(pid) for pid in (tmp_path / "pids").read_text("ascii").split())
    assert gone(marked)
    assert alive(cleared)


def test_a_step_whose_shell_has_ended_is_not_waited_for_by_a_closed_output(driver: RunnerDriver, tmp_path: Path) -> None:
    driver.configured(job=job("sleep 300 > /dev/null 2>&1 &", f"touch {tmp_path}/second")).start()

    driver.out.until(".*completed with result: Succeeded")
    assert (tmp_path / "second").exists()
