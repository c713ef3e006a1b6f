"""Decide when the machine itself endangers the job: the deadline, the disk, the memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CHECK_EVERY_S = 30.0
"""Seconds between two readings: often enough to warn, rare enough not to be felt. Source: the seed's safety monitor."""
DISK_LOW_BYTES = 500 * 1024 * 1024
"""Warned below this. Source: the seed."""
MEMORY_LOW_BYTES = 200 * 1024 * 1024
"""Warned below this. Source: the seed."""
DISK_CRITICAL_BYTES = 64 * 1024 * 1024
"""The job is stopped below this: the runner can no longer write what it must, and would fail without saying why."""


class Hazard(StrEnum):
    """What is short, and how badly."""

    DISK_LOW = "disk_low"
    DISK_CRITICAL = "disk_critical"
    MEMORY_LOW = "memory_low"


@dataclass(frozen=True)
class Reading:
    """What was measured; None where the machine would not say."""

    disk_free_bytes: int | None
    memory_available_bytes: int | None
    oom_kills: int | None = None
    """Processes that the kernel killed since the machine started because there was no memory left."""


@dataclass(frozen=True)
class Thresholds:
    """Below which a reading is a hazard, in bytes."""

    disk_low: int = DISK_LOW_BYTES
    disk_critical: int = DISK_CRITICAL_BYTES
    memory_low: int = MEMORY_LOW_BYTES


def hazards(reading: Reading, thresholds: Thresholds) -> tuple[Hazard, ...]:
    """The hazards in one reading, the worst first; an unknown value is no hazard."""
    found: list[Hazard] = []
    if reading.disk_free_bytes is not None and reading.disk_free_bytes < thresholds.disk_critical:
        found.append(Hazard.DISK_CRITICAL)
    elif reading.disk_free_bytes is not None and reading.disk_free_bytes < thresholds.disk_low:
        found.append(Hazard.DISK_LOW)
    if reading.memory_available_bytes is not None and reading.memory_available_bytes < thresholds.memory_low:
        found.append(Hazard.MEMORY_LOW)
    return tuple(found)


def runtime_limit_s(settings_minutes: float, configured_minutes: float | None) -> float:
    """Seconds the runner may live: the configuration's word for this job, else the machine's own limit."""
    return 60.0 * (settings_minutes if configured_minutes is None else configured_minutes)
