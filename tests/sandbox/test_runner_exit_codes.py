"""What each exit code of the listener becomes: the helper's line, and the exit code of run.sh.

Source of every row: run-helper.sh.template and run.sh of actions/runner 2.336.0, measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.standin import Standin, job

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
def standin(tmp_path: Path) -> Iterator[Standin]:
    made = Standin(tmp_path)
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
    standin: Standin, mode: dict[str, str], code: int, said: str, returned: int, switch: str | None
) -> None:
    standin.configured(listener_exit=code)

    standin.start(**mode, **({VERSION_SWITCH: switch} if switch else {}))

    assert (standin.ended(), standin.out.all()) == (returned, [said, "Exiting runner..."])


@BOTH_MODES
@pytest.mark.parametrize(("code", "said"), [(2, RETRYABLE), (3, UPDATING), (4, UPDATING)])
def test_a_listener_that_wants_to_be_started_again_is_started_again_for_ever(
    standin: Standin, mode: dict[str, str], code: int, said: str
) -> None:
    standin.configured(listener_exit=code)

    standin.start(STANDIN_UPDATE_SECONDS="0", **mode)

    for _ in range(3):
        assert standin.out.until("Runner listener exit.*") == said
        standin.out.until(r"Restarting runner\.\.\.")


def test_an_update_that_finished_is_told_and_the_new_listener_takes_the_job(standin: Standin) -> None:
    standin.configured(fault="update", job=job("true"))

    standin.start()

    standin.out.until("Runner update in progress, do not shutdown runner.")
    standin.out.until(UPDATING)
    standin.out.until(r"Update finished successfully\.")
    standin.out.until(r"Restarting runner\.\.\.")
    standin.out.until(".*: Running job: build")
    assert standin.ended() == 0


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
    standin: Standin, fault: str, said: str, complaint: str, returned: int
) -> None:
    standin.configured(fault=fault, job=job("true"))

    standin.start(**{VERSION_SWITCH: "1"})

    standin.err.until(complaint)
    assert standin.ended() == returned
    assert standin.out.all()[-2:] == [said, "Exiting runner..."]


def test_a_refused_version_looks_like_any_terminated_error_without_the_switch(standin: Standin) -> None:
    standin.configured(fault="version_too_old")

    standin.start()

    assert (standin.ended(), standin.out.all()) == (0, [TERMINATED, "Exiting runner..."])


def test_ten_failed_polls_make_the_runner_start_again(standin: Standin) -> None:
    standin.configured(fault="retryable")

    standin.start()

    standin.out.until(RETRYABLE)
    standin.out.until(r"Restarting runner\.\.\.")


def test_a_runner_that_was_never_configured_says_so_and_returns_0(standin: Standin) -> None:
    standin.start()

    standin.err.until(r"An error occurred: Not configured\. Run config\.\(sh/cmd\) to configure the runner\.")
    assert (standin.ended(), standin.out.all()) == (0, [TERMINATED, "Exiting runner..."])


@pytest.mark.parametrize(("run", "code"), [("true", 100), ("exit 3", 102)])
def test_the_jobs_result_is_the_listeners_exit_code_only_where_it_was_asked_for(standin: Standin, run: str, code: int) -> None:
    standin.configured(job=job(run))

    standin.start(**{JOB_SWITCH: "1"})

    assert standin.ended() == 0
    assert standin.out.all()[-2:] == [unknown(code), "Exiting runner..."]


@pytest.mark.parametrize("run", ["true", "exit 3"])
def test_the_exit_code_does_not_reveal_the_jobs_result(standin: Standin, run: str) -> None:
    standin.configured(job=job(run))

    standin.start()

    assert standin.ended() == 0
    assert standin.out.all()[-2:] == [ZERO, "Exiting runner..."]


@as_root
@pytest.mark.parametrize(("mode", "returned"), [({}, 0), ({"RUNNER_MANUALLY_TRAP_SIG": "1"}, 1)], ids=["plain", "trap"])
def test_root_is_refused_unless_it_was_allowed(standin: Standin, mode: dict[str, str], returned: int) -> None:
    standin.configured(job=job("true"))

    standin.start(own=False, **mode)

    assert (standin.ended(), standin.out.all()) == (
        returned,
        ["Must not run interactively with sudo", "Exiting runner..."],
    )


@as_root
def test_config_sh_refuses_root_likewise(standin: Standin) -> None:
    standin.start(program="config.sh", own=False)

    assert (standin.ended(), standin.out.all()) == (1, ["Must not run with sudo"])


def test_config_sh_refuses_a_runner_that_is_already_configured(standin: Standin) -> None:
    standin.configured()

    standin.start("--unattended", "--url", "http://127.0.0.1:9/o/r", program="config.sh")

    assert standin.ended() == 1
    standin.err.until("Cannot configure the runner because it is already configured. .*")


def test_the_version_is_one_line_from_the_listener_and_two_more_through_run_sh(standin: Standin) -> None:
    standin.start("--version", program="bin/Runner.Listener")
    assert (standin.ended(), standin.out.all()) == (0, ["2.999.0"])

    standin.start("--version")
    assert (standin.ended(), standin.out.all()) == (0, ["2.999.0", ZERO, "Exiting runner..."])


def test_warming_up_needs_no_configuration(standin: Standin) -> None:
    standin.start("warmup", program="bin/Runner.Listener")

    assert (standin.ended(), standin.out.all()) == (0, [])
