"""When the machine itself endangers the job."""

from __future__ import annotations

import pytest

from agent.safety import (
    CHECK_EVERY_S,
    DISK_CRITICAL_BYTES,
    DISK_LOW_BYTES,
    MEMORY_LOW_BYTES,
    Hazard,
    Reading,
    Thresholds,
    hazards,
    runtime_limit_s,
)

PLENTY = 1 << 40


@pytest.mark.parametrize(
    ("disk", "memory", "found"),
    [
        (PLENTY, PLENTY, ()),
        (DISK_LOW_BYTES, MEMORY_LOW_BYTES, ()),
        (DISK_LOW_BYTES - 1, PLENTY, (Hazard.DISK_LOW,)),
        (DISK_CRITICAL_BYTES, PLENTY, (Hazard.DISK_LOW,)),
        (DISK_CRITICAL_BYTES - 1, PLENTY, (Hazard.DISK_CRITICAL,)),
        (0, PLENTY, (Hazard.DISK_CRITICAL,)),
        (PLENTY, MEMORY_LOW_BYTES - 1, (Hazard.MEMORY_LOW,)),
        (0, 0, (Hazard.DISK_CRITICAL, Hazard.MEMORY_LOW)),
        (None, None, ()),
        (None, 0, (Hazard.MEMORY_LOW,)),
        (0, None, (Hazard.DISK_CRITICAL,)),
    ],
)
def test_a_reading_below_a_floor_is_a_hazard_and_an_unknown_one_is_none(
    disk: int | None, memory: int | None, found: tuple[Hazard, ...]
) -> None:
    assert hazards(Reading(disk, memory), Thresholds()) == found


def test_the_floors_are_the_ones_that_were_asked_for() -> None:
    assert (DISK_LOW_BYTES, MEMORY_LOW_BYTES, CHECK_EVERY_S) == (500 << 20, 200 << 20, 30.0)


def test_the_floors_can_be_set() -> None:
    thresholds = Thresholds(disk_low=10, disk_critical=5, memory_low=3)

    assert hazards(Reading(7, 2), thresholds) == (Hazard.DISK_LOW, Hazard.MEMORY_LOW)


@pytest.mark.parametrize(
    ("machine_minutes", "configured_minutes", "expected_s"),
    [(360.0, None, 21_600.0), (360.0, 5.0, 300.0), (360.0, 720.0, 43_200.0), (0.5, None, 30.0), (360.0, 0.25, 15.0)],
)
def test_the_configurations_word_for_this_job_goes_before_the_machines_own_limit(
    machine_minutes: float, configured_minutes: float | None, expected_s: float
) -> None:
    assert runtime_limit_s(machine_minutes, configured_minutes) == expected_s
