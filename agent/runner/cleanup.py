"""Remove what the job left, never outside the runner's directory.

A release we unpacked goes whole. One that was there before us keeps what its publisher made; what registration and the job
put into it goes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from agent.runner.unpack import holds_runner

LEFT_BY_RUNS = (
    "_work",
    "_diag",
    ".runner",
    ".runner_migrated",
    ".credentials",
    ".credentials_migrated",
    ".credentials_rsaparams",
    ".path",
    ".setup_info",
    "run-helper.sh",
    "update.finished",
)
"""What appears in a runner's directory only by registering or running. Source: actions/runner, files not in the release."""


class RefusedToClean(Exception):
    """The directory is not one we would ever have run a runner in."""


def clean(runner_dir: Path, work_dir: Path, homes: frozenset[Path]) -> list[str]:
    """Remove the runner (if it lies in `work_dir`) or its traces (if it was there before); returns what would not go.

    Links are removed, never followed. Raises: RefusedToClean for `/`, a home, a link, or a directory without a runner.
    """
    _refuse_dangerous(runner_dir, homes)
    if runner_dir.is_relative_to(work_dir) and runner_dir != work_dir:
        return _remove(runner_dir)
    failures: list[str] = []
    for name in LEFT_BY_RUNS:
        failures += _remove(runner_dir / name)
    return failures


def _refuse_dangerous(directory: Path, homes: frozenset[Path]) -> None:
    if directory.is_symlink():
        raise RefusedToClean(f"{directory} is a link")
    real = directory.resolve()
    if len(real.parts) < 3 or real in {home.resolve() for home in homes} or real == Path.home():
        raise RefusedToClean(f"{directory} is not a directory to remove things from")
    if not holds_runner(real):
        raise RefusedToClean(f"{directory} holds no runner (no run.sh and bin/): expected the runner's own directory")


def _remove(path: Path) -> list[str]:
    failures: list[str] = []

    def note(_function: object, failed: str, error: object) -> None:
        """Remember what could not be removed."""
        failures.append(f"{failed}: {error[1] if isinstance(error, tuple) else error}")

    try:
        if not path.is_symlink() and path.is_dir():
            path.chmod(0o700)  # a job may leave a directory that even its owner may not enter
            shutil.rmtree(path, onerror=note)
        else:
            path.unlink(missing_ok=True)
    except (OSError, RecursionError) as error:  # a job may nest directories deeper than shutil can follow
        failures.append(f"{path}: {error}")
    return failures
