"""The runner's own diagnostic logs, kept: they are what explains a failed runner, and they die with the machine."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.contract.config import RunnerConfig
from agent.contract.names import diagnostics_key
from agent.errors import ServiceError
from agent.ports import Journal, Objects

FILE_LIMIT_BYTES, ALL_LIMIT_BYTES = 128 << 20, 256 << 20
"""Bytes of one file, and of all, that are kept; the runner rolls its logs at 8 MB, so only a fault or a job makes more."""
MOST_FILES = 100
"""A life has one of the listener and one for each job; a job can make as many as it likes."""
_NAME = re.compile(r"(?:Runner|Worker)_[A-Za-z0-9._-]{1,240}\.log|SelfUpdate-[A-Za-z0-9._-]{1,100}\.log[A-Za-z0-9._-]{0,50}")
"""Source: actions/runner, `HostTraceListener` and `_update.sh`."""


def ship(objects: Objects, directory: Path, config: RunnerConfig, instance_id: str, journal: Journal) -> str:
    """Store every diagnostic log as gzip; returns `uploaded`, `partial`, `failed` or `empty`, never raises ServiceError.

    The directory is the job's: what is no plain file of the runner's names is neither opened nor followed; what is more than a
    runner writes is left out and said.
    """
    try:
        folder = os.open(directory / "_diag", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return "empty"
    try:
        names = sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name) and _is_plain(folder, name))
        left, stored = ALL_LIMIT_BYTES, 0
        for name in names[:MOST_FILES]:
            key = diagnostics_key(config.logs_prefix, config.run_id, config.job_id, instance_id, name)
            lines = _Lines(folder, name, min(FILE_LIMIT_BYTES, left), journal)
            try:
                if objects.put_gzip_if_absent(key, iter(lines)):
                    stored += 1
                else:
                    journal.event("diagnostics.not_stored", file=name, error=f"{key} is there already, and is not overwritten")
            except (ServiceError, OSError) as error:
                journal.event("diagnostics.not_stored", file=name, error=str(error))
            left -= lines.read
        if names[MOST_FILES:]:
            journal.event("diagnostics.not_stored", files=len(names) - MOST_FILES, error="more files than a runner writes")
    finally:
        os.close(folder)
    if not names:
        return "empty"
    return "uploaded" if stored == len(names) else "partial" if stored else "failed"


def _is_plain(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


class _Lines:
    """The lines of a file, cleaned of secrets, up to a number of bytes; `read`: how many were."""

    def __init__(self, folder: int, name: str, most: int, journal: Journal) -> None:
        self._folder, self._name, self._most, self._journal = folder, name, most, journal
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        descriptor = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        with os.fdopen(descriptor, "rb") as lines:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{self._name} is not a plain file any more")
            while (left := self._most - self.read) > 0 and (line := lines.readline(min(left, 1 << 20))):
                self.read += len(line)
                yield self._journal.cleaned(line.decode("utf-8", "replace")).encode()
