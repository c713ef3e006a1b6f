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
    Volume,
    hazards,
    runtime_limit_s,
)

PLENTY = 1 << 40


def volume(free: int, size: int = PLENTY, free_inodes: int | None = None, inodes: int | None = None) -> Volume:
    return Volume("/opt", free, size, free_inodes, inodes)


def found(reading: Reading, thresholds: Thresholds | None = None) -> tuple[Hazard, ...]:
    return tuple(one.hazard for one in hazards(reading, thresholds or Thresholds()))


@pytest.mark.parametrize(
    ("disk", "memory", "expected"),
    [
        (PLENTY, PLENTY, ()),
        (DISK_LOW_BYTES, MEMORY_LOW_BYTES, ()),
        (DISK_LOW_BYTES - 1, PLENTY, (Hazard.DISK_LOW,)),
        (DISK_CRITICAL_BYTES, PLENTY, (Hazard.DISK_LOW,)),
        (DISK_CRITICAL_BYTES - 1, PLENTY, (Hazard.DISK_CRITICAL,)),
        (0, PLENTY, (Hazard.DISK_CRITICAL,)),
        (PLENTY, MEMORY_LOW_BYTES - 1, (Hazard.MEMORY_LOW,)),
        (0, 0, (Hazard.DISK_CRITICAL, Hazard.MEMORY_LOW)),
        (0, None, (Hazard.DISK_CRITICAL,)),
    ],
)
def test_a_reading_below_a_floor_is_a_hazard_and_an_unknown_one_is_none(
    disk: int, memory: int | None, expected: tuple[Hazard, ...]
) -> None:
    assert found(Reading((volume(disk),), memory)) == expected


def test_a_machine_that_says_nothing_is_no_hazard() -> None:
    assert found(Reading((), None)) == ()


@pytest.mark.parametrize(
    ("free", "size", "expected"),
    [
        (48 << 20, 48 << 20, ()),
        (12 << 20, 48 << 20, ()),
        (11 << 20, 48 << 20, (Hazard.DISK_LOW,)),
        (4 << 20, 48 << 20, (Hazard.DISK_CRITICAL,)),
        (0, 48 << 20, (Hazard.DISK_CRITICAL,)),
    ],
)
def test_a_small_volume_is_measured_by_its_size(free: int, size: int, expected: tuple[Hazard, ...]) -> None:
    assert found(Reading((volume(free, size),), PLENTY)) == expected


@pytest.mark.parametrize(
    ("free_inodes", "inodes", "expected"),
    [
        (10_000, 1_000_000, ()),
        (9_999, 1_000_000, (Hazard.DISK_LOW,)),
        (999, 1_000_000, (Hazard.DISK_CRITICAL,)),
        (0, 1_000_000, (Hazard.DISK_CRITICAL,)),
        (900, 1_000, ()),
        (0, 0, ()),
        (None, None, ()),
    ],
)
def test_a_volume_without_room_for_files_is_as_full_as_one_without_bytes(
    free_inodes: int | None, inodes: int | None, expected: tuple[Hazard, ...]
) -> None:
    assert found(Reading((volume(PLENTY, PLENTY, free_inodes, inodes),), PLENTY)) == expected


def test_each_volume_is_judged_by_itself_and_named() -> None:
    full, roomy = Volume("/opt/actions-runner/_work", 0, PLENTY), Volume("/tmp", PLENTY, PLENTY)

    (hit,) = hazards(Reading((roomy, full), PLENTY), Thresholds())

    assert (hit.hazard, hit.fields["path"]) == (Hazard.DISK_CRITICAL, "/opt/actions-runner/_work")


@pytest.mark.parametrize(("left", "expected"), [(200, ()), (199, (Hazard.TASKS_LOW,)), (None, ())])
def test_a_job_that_can_hardly_start_a_process_is_warned_of(left: int | None, expected: tuple[Hazard, ...]) -> None:
    assert found(Reading((), PLENTY, None, left)) == expected


def test_the_floors_are_the_ones_that_were_asked_for() -> None:
    assert (DISK_LOW_BYTES, MEMORY_LOW_BYTES, CHECK_EVERY_S) == (500 << 20, 200 << 20, 30.0)


def test_the_floors_can_be_set() -> None:
    thresholds = Thresholds(disk_low=10, disk_critical=5, memory_low=3)

    assert found(Reading((volume(7),), 2), thresholds) == (Hazard.DISK_LOW, Hazard.MEMORY_LOW)


@pytest.mark.parametrize(
    ("machine_minutes", "configured_minutes", "expected_s"),
    [(360.0, None, 21_600.0), (360.0, 5.0, 300.0), (360.0, 720.0, 43_200.0), (0.5, None, 30.0), (360.0, 0.25, 15.0)],
)
def test_the_configurations_word_for_this_job_goes_before_the_machines_own_limit(
    machine_minutes: float, configured_minutes: float | None, expected_s: float
) -> None:
    assert runtime_limit_s(machine_minutes, configured_minutes) == expected_s
