"""Decide when the machine itself endangers the job: the deadline, the volumes, the memory, the number of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

CHECK_EVERY_S = 30.0
"""Seconds between two readings: often enough to warn, rare enough not to be felt. Source: the seed's safety monitor."""
DISK_LOW_BYTES = 500 * 1024 * 1024
"""Warned below this, or below a quarter of a smaller volume. Source: the seed."""
DISK_CRITICAL_BYTES = 64 * 1024 * 1024
"""The job is stopped below this: the runner can no longer write what it must, and would fail without saying why.

Of a volume that is small by intent, below a tenth of it.
"""
INODES_LOW, INODES_CRITICAL = 10_000, 1_000
"""The same for inodes; of a volume with few, a twentieth and a hundredth of them. A program sees ENOSPC in both cases."""
MEMORY_LOW_BYTES = 200 * 1024 * 1024
"""Warned below this. Source: the seed."""
TASKS_LOW = 200
"""Warned when the job can start no more processes and threads than this: a build's shell then fails with "Cannot fork"."""


class Hazard(StrEnum):
    """What is short, and how badly."""

    DISK_LOW = "disk_low"
    DISK_CRITICAL = "disk_critical"
    MEMORY_LOW = "memory_low"
    TASKS_LOW = "tasks_low"


@dataclass(frozen=True)
class Volume:
    """One file system that the job writes to."""

    path: str
    """Where the job meets it."""
    free_bytes: int
    size_bytes: int
    free_inodes: int | None = None
    """None: the file system does not count them."""
    inodes: int | None = None


@dataclass(frozen=True)
class Reading:
    """What was measured; None where the machine would not say."""

    volumes: tuple[Volume, ...]
    memory_available_bytes: int | None
    """What the job can still have: of the machine, or of its own unit where that is less."""
    oom_kills: int | None = None
    """Processes that the kernel killed since the machine started because there was no memory left."""
    tasks_left: int | None = None
    """Processes and threads that the job's unit may still start; None: it has no limit of its own."""


@dataclass(frozen=True)
class Thresholds:
    """Below which a reading is a hazard, in bytes, files and tasks."""

    disk_low: int = DISK_LOW_BYTES
    disk_critical: int = DISK_CRITICAL_BYTES
    memory_low: int = MEMORY_LOW_BYTES
    inodes_low: int = INODES_LOW
    inodes_critical: int = INODES_CRITICAL
    tasks_low: int = TASKS_LOW


@dataclass(frozen=True)
class Found:
    """A hazard with what was measured, as the fields of its event."""

    hazard: Hazard
    fields: Mapping[str, object]


def hazards(reading: Reading, thresholds: Thresholds) -> tuple[Found, ...]:
    """The hazards in one reading, volumes first; an unknown value is no hazard."""
    found = [hit for volume in reading.volumes if (hit := _of_volume(volume, thresholds)) is not None]
    memory, tasks = reading.memory_available_bytes, reading.tasks_left
    if memory is not None and memory < thresholds.memory_low:
        found.append(Found(Hazard.MEMORY_LOW, {"memory_available": memory}))
    if tasks is not None and tasks < thresholds.tasks_low:
        found.append(Found(Hazard.TASKS_LOW, {"tasks_left": tasks}))
    return tuple(found)


def _of_volume(volume: Volume, thresholds: Thresholds) -> Found | None:
    free, size, files = volume.free_bytes, volume.size_bytes, volume.inodes or 0
    inodes = volume.free_inodes if files and volume.free_inodes is not None else None
    fields = {"path": volume.path, "disk_free": free, "inodes_free": inodes}
    if free < min(thresholds.disk_critical, size // 10) or (
        inodes is not None and inodes < min(thresholds.inodes_critical, files // 100)
    ):
        return Found(Hazard.DISK_CRITICAL, fields)
    if free < min(thresholds.disk_low, size // 4) or (inodes is not None and inodes < min(thresholds.inodes_low, files // 20)):
        return Found(Hazard.DISK_LOW, fields)
    return None


def runtime_limit_s(settings_minutes: float, configured_minutes: float | None) -> float:
    """Seconds the runner may live: the configuration's word for this job, else the machine's own limit."""
    return 60.0 * (settings_minutes if configured_minutes is None else configured_minutes)
