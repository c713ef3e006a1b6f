"""The runner's own diagnostic logs, kept: they are what explains a failed runner, and they die with the machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.contract.config import RunnerConfig
from agent.contract.names import diagnostics_key
from agent.errors import ServiceError
from agent.ports import Journal, Objects

FILE_LIMIT_BYTES = 128 << 20
"""Bytes of one file that are kept; the runner rolls its logs at 8 MB, so only a fault makes more."""
PATTERNS = ("Runner_*.log", "Worker_*.log", "SelfUpdate-*.log*")


def ship(objects: Objects, directory: Path, config: RunnerConfig, instance_id: str, journal: Journal) -> str:
    """Store every diagnostic log as gzip; returns `uploaded`, `partial`, `failed` or `empty`, never raises ServiceError."""
    if (directory / "_diag").is_symlink():
        return "empty"
    files = sorted(path for pattern in PATTERNS for path in (directory / "_diag").glob(pattern) if _is_plain(path))
    stored = 0
    for path in files:
        key = diagnostics_key(config.logs_prefix, config.run_id, config.job_id, instance_id, path.name)
        try:
            if objects.put_gzip_if_absent(key, _cleaned_lines(path, journal)):
                stored += 1
            else:
                journal.event("diagnostics.not_stored", file=path.name, error=f"{key} is there already, and is not overwritten")
        except (ServiceError, OSError) as error:
            journal.event("diagnostics.not_stored", file=path.name, error=str(error))
    if not files:
        return "empty"
    return "uploaded" if stored == len(files) else "partial" if stored else "failed"


def _is_plain(path: Path) -> bool:
    """A job owns this directory: a link or a pipe in it must not be read."""
    return path.is_file() and not path.is_symlink()


def _cleaned_lines(path: Path, journal: Journal) -> Iterator[bytes]:
    left = FILE_LIMIT_BYTES
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as lines:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a plain file any more")
        while left > 0 and (line := lines.readline(min(left, 1 << 20))):
            left -= len(line)
            yield journal.cleaned(line.decode("utf-8", "replace")).encode()
