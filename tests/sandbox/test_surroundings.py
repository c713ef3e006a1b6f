"""What steps of a job find around them, as a real worker runs them: shells, contexts, files to hash, tolerated failures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.runner_driver import STAMP, RunnerDriver


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[RunnerDriver]:
    made = RunnerDriver(tmp_path)
    yield made
    made.close()


def result(driver: RunnerDriver, *steps: dict[str, Any], **keys: Any) -> str:
    """How a job of these steps ends."""
    driver.configured(job={"id": 1, "name": "build", "steps": list(steps), **keys}).start()
    return driver.out.until(f"{STAMP}: Job build completed with result: .*").rpartition(" ")[2]


@pytest.mark.parametrize(
    "step",
    [
        {"shell": "python", "run": "import os, sys\nsys.exit(0 if os.environ['GITHUB_ACTIONS'] == 'true' else 1)"},
        {"shell": "sh", "run": "test \"$(tr '\\0' ' ' < /proc/$$/cmdline | cut -d' ' -f1)\" = sh"},
        {"shell": "bash", "run": "! (false | true)"},
        {"run": "false | true"},
        {"shell": "cat {0}", "run": "exit 1"},
        {"shell": "${{ matrix.shell }}", "run": "pass"},
    ],
    ids=["python", "sh", "bash", "none", "custom", "expression"],
)
def test_a_step_is_run_by_its_shell(step: dict[str, Any], driver: RunnerDriver) -> None:
    assert result(driver, step, matrix={"shell": "python"}) == "Succeeded"


@pytest.mark.parametrize(
    "step",
    [{"shell": "python", "run": "raise SystemExit(1)"}, {"shell": "${{ 'zsh' }}", "run": "true"}],
    ids=["python", "unknown"],
)
def test_a_step_whose_shell_fails_or_is_not_there_fails(step: dict[str, Any], driver: RunnerDriver) -> None:
    assert result(driver, step) == "Failed"


@pytest.mark.parametrize(
    ("value", "ends"), [(True, "Succeeded"), ("${{ matrix.shaky }}", "Succeeded"), ("${{ !matrix.shaky }}", "Failed")]
)
def test_a_step_may_fail_where_its_word_or_expression_lets_it(value: Any, ends: str, driver: RunnerDriver) -> None:
    assert result(driver, {"run": "exit 1", "continue-on-error": value}, matrix={"shaky": True}) == ends


def test_the_time_limit_of_a_step_may_be_an_expression(driver: RunnerDriver) -> None:
    assert (
        result(driver.hasten(), {"run": "sleep 600", "timeout-minutes": "${{ matrix.limit }}"}, matrix={"limit": 0.001})
        == "Failed"
    )


def test_the_contexts_of_the_message_and_the_jobs_status_reach_the_steps(driver: RunnerDriver) -> None:
    told = "${{ vars.A }} ${{ inputs.b }} ${{ strategy.job-total }} ${{ needs.c.result }} ${{ job.status }}"
    message = {"vars": {"A": "1"}, "inputs": {"b": 2}, "strategy": {"job-total": 3}, "needs": {"c": {"result": "success"}}}

    assert result(driver, {"run": f'test "{told}" = "1 2 3 success success"'}, **message) == "Succeeded"


def test_the_status_of_a_job_tells_of_a_failed_step(driver: RunnerDriver, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    assert result(driver, {"run": "exit 1"}, {"if": "always()", "run": f"echo ${{{{ job.status }}}} > {seen}"}) == "Failed"
    assert seen.read_text("utf-8") == "failure\n"


def test_a_job_whose_output_has_no_value_fails(driver: RunnerDriver) -> None:
    assert result(driver, {"run": "true"}, outputs={"x": "${{ fromJSON(vars.NOTHING) }}"}) == "Failed"


def test_files_that_a_step_wrote_can_be_hashed_by_the_next(driver: RunnerDriver) -> None:
    wanted = hashlib.sha256(hashlib.sha256(b"one").digest()).hexdigest()

    steps = {"run": "printf one > a.lock"}, {"run": f"test ${{{{ hashFiles('**/*.lock') }}}} = {wanted}"}

    assert result(driver, *steps) == "Succeeded"
    assert re.fullmatch("[0-9a-f]{64}", wanted)
