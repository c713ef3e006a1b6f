"""What each exit code of the listener becomes: the helper's line, and the exit code of run.sh.

Source of every row: run-helper.sh.template and run.sh of actions/runner 2.336.0, measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.runner_driver import RunnerDriver, job

ZERO = "Runner listener exit with 0 return code, stop the service, no retry needed."
TERMINATED = "Runner listener exit with terminated error, stop the service, no retry needed."
RETRYABLE = "Runner listener exit with retryable error, re-launch runner in 5 seconds."
UPDATING = "Runner listener exit because of updating, re-launch runner after successful update"
CONFLICT = "Runner listener exit with Session Conflict error, stop the service, no retry needed."
DEPRECATED = "Runner listener exit with deprecated version exit code: 7."
VERSION_SWITCH = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
JOB_SWITCH = "ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED"
BOTH_MODES = pytest.mark.parametrize("mode", [{}, {"RUNNER_MANUALLY_TRAP_SIG": "1"}], ids=["plain", "trap"])
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root is refused")


def unknown(code: int) -> str:
    return f"Exiting with unknown error code: {code}"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[RunnerDriver]:
    made = RunnerDriver(tmp_path)
    yield made
    made.close()


@BOTH_MODES
@pytest.mark.parametrize(
    ("code", "said", "returned", "switch"),
    [
        (0, ZERO, 0, None),
        (1, TERMINATED, 0, None),
        (5, CONFLICT, 0, None),
        (6, unknown(6), 0, None),
        (7, DEPRECATED, 7, "1"),
        (7, unknown(7), 0, "true"),
        (7, unknown(7), 0, None),
        (102, unknown(102), 0, None),
        (134, unknown(134), 0, None),
        (143, unknown(143), 0, None),
    ],
)
def test_the_helper_names_the_listeners_exit_code_and_run_sh_returns(
    driver: RunnerDriver, mode: dict[str, str], code: int, said: str, returned: int, switch: str | None
) -> None:
    driver.configured(listener_exit=code)

    driver.start(**mode, **({VERSION_SWITCH: switch} if switch else {}))

    assert (driver.ended(), driver.out.all()) == (returned, [said, "Exiting runner..."])


@BOTH_MODES
@pytest.mark.parametrize(("code", "said"), [(2, RETRYABLE), (3, UPDATING), (4, UPDATING)])
def test_a_listener_that_wants_to_be_started_again_is_started_again_for_ever(
    driver: RunnerDriver, mode: dict[str, str], code: int, said: str
) -> None:
    driver.configured(listener_exit=code)

    driver.start(STANDIN_UPDATE_SECONDS="0", **mode)

    for _ in range(3):
        assert driver.out.until("Runner listener exit.*") == said
        driver.out.until(r"Restarting runner\.\.\.")


def test_an_update_that_finished_is_told_and_the_new_listener_takes_the_job(driver: RunnerDriver) -> None:
    driver.configured(fault="update", job=job("true"))

    driver.start()

    driver.out.until("Runner update in progress, do not shutdown runner.")
    driver.out.until(UPDATING)
    driver.out.until(r"Update finished successfully\.")
    driver.out.until(r"Restarting runner\.\.\.")
    driver.out.until(".*: Running job: build")
    assert driver.ended() == 0


@pytest.mark.parametrize(
    ("fault", "said", "complaint", "returned"),
    [
        ("version_too_old", DEPRECATED, "An error occurred: Runner version .* is deprecated.*", 7),
        ("deleted", TERMINATED, "Failed to create a session. The runner registration has been deleted from the server, .*", 0),
        ("session_conflict", CONFLICT, "Stop retry on SessionConflictException after retried for 240 seconds.", 0),
        ("removed", ZERO, "The runner no longer exists on the server. .*", 0),
    ],
)
def test_each_refusal_has_its_own_words_on_stderr_and_its_own_exit_code(
    driver: RunnerDriver, fault: str, said: str, complaint: str, returned: int
) -> None:
    driver.configured(fault=fault, job=job("true"))

    driver.start(**{VERSION_SWITCH: "1"})

    driver.err.until(complaint)
    assert driver.ended() == returned
    assert driver.out.all()[-2:] == [said, "Exiting runner..."]


def test_a_refused_version_looks_like_any_terminated_error_without_the_switch(driver: RunnerDriver) -> None:
    driver.configured(fault="version_too_old")

    driver.start()

    assert (driver.ended(), driver.out.all()) == (0, [TERMINATED, "Exiting runner..."])


def test_ten_failed_polls_make_the_runner_start_again(driver: RunnerDriver) -> None:
    driver.configured(fault="retryable")

    driver.start()

    driver.out.until(RETRYABLE)
    driver.out.until(r"Restarting runner\.\.\.")


def test_a_runner_that_was_never_configured_says_so_and_returns_0(driver: RunnerDriver) -> None:
    driver.start()

    driver.err.until(r"An error occurred: Not configured\. Run config\.\(sh/cmd\) to configure the runner\.")
    assert (driver.ended(), driver.out.all()) == (0, [TERMINATED, "Exiting runner..."])


@pytest.mark.parametrize(("run", "code"), [("true", 100), ("exit 3", 102)])
def test_the_jobs_result_is_the_listeners_exit_code_only_where_it_was_asked_for(
    driver: RunnerDriver, run: str, code: int
) -> None:
    driver.configured(job=job(run))

    driver.start(**{JOB_SWITCH: "1"})

    assert driver.ended() == 0
    assert driver.out.all()[-2:] == [unknown(code), "Exiting runner..."]


@pytest.mark.parametrize("run", ["true", "exit 3"])
def test_the_exit_code_does_not_reveal_the_jobs_result(driver: RunnerDriver, run: str) -> None:
    driver.configured(job=job(run))

    driver.start()

    assert driver.ended() == 0
    assert driver.out.all()[-2:] == [ZERO, "Exiting runner..."]


@as_root
@pytest.mark.parametrize(("mode", "returned"), [({}, 0), ({"RUNNER_MANUALLY_TRAP_SIG": "1"}, 1)], ids=["plain", "trap"])
def test_root_is_refused_unless_it_was_allowed(driver: RunnerDriver, mode: dict[str, str], returned: int) -> None:
    driver.configured(job=job("true"))

    driver.start(own=False, **mode)

    assert (driver.ended(), driver.out.all()) == (
        returned,
        ["Must not run interactively with sudo", "Exiting runner..."],
    )


@as_root
def test_config_sh_refuses_root_likewise(driver: RunnerDriver) -> None:
    driver.start(program="config.sh", own=False)

    assert (driver.ended(), driver.out.all()) == (1, ["Must not run with sudo"])


def test_config_sh_refuses_a_runner_that_is_already_configured(driver: RunnerDriver) -> None:
    driver.configured()

    driver.start("--unattended", "--url", "http://127.0.0.1:9/o/r", program="config.sh")

    assert driver.ended() == 1
    driver.err.until("Cannot configure the runner because it is already configured. .*")


def test_the_version_is_one_line_from_the_listener_and_two_more_through_run_sh(driver: RunnerDriver) -> None:
    driver.start("--version", program="bin/Runner.Listener")
    assert (driver.ended(), driver.out.all()) == (0, ["2.999.0"])

    driver.start("--version")
    assert (driver.ended(), driver.out.all()) == (0, ["2.999.0", ZERO, "Exiting runner..."])


def test_warming_up_needs_no_configuration(driver: RunnerDriver) -> None:
    driver.start("warmup", program="bin/Runner.Listener")

    assert (driver.ended(), driver.out.all()) == (0, [])
