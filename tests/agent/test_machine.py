"""What the machine says about itself: its gauges, and whether it is Amazon's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.adapters.machine import PosixMeters, is_amazon_ec2, shared_places


def test_meters_of_a_path_that_is_not_there_yet_are_those_of_its_nearest_parent(tmp_path: Path) -> None:
    reading = PosixMeters().read([tmp_path / "not" / "yet"])

    (volume,) = reading.volumes
    assert volume.path == str(tmp_path / "not" / "yet")
    assert 0 < volume.free_bytes <= volume.size_bytes
    assert reading.memory_available_bytes and reading.oom_kills is not None


def test_each_volume_is_measured_once_wherever_it_is_met(tmp_path: Path) -> None:
    reading = PosixMeters().read([tmp_path, tmp_path / "_work", Path("/proc"), Path("/proc/self")])

    assert [volume.path for volume in reading.volumes] == [str(tmp_path), "/proc"]


def test_memory_and_tasks_are_those_that_the_jobs_own_unit_leaves_it(tmp_path: Path) -> None:
    for name, text in {
        "memory.max": "1000000", "memory.current": "900000", "memory.stat": "anon 1\ninactive_file 50000\n",
        "pids.max": "300", "pids.current": "250",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text, encoding="ascii")

    reading = PosixMeters(job_group=tmp_path).read([])

    assert (reading.memory_available_bytes, reading.tasks_left) == (150_000, 50)


def test_a_unit_without_limits_or_that_is_not_there_leaves_the_machines_own(tmp_path: Path) -> None:
    (tmp_path / "pids.max").write_text("max", encoding="ascii")
    (tmp_path / "pids.current").write_text("3", encoding="ascii")

    for group in (tmp_path, tmp_path / "absent"):
        reading = PosixMeters(job_group=group).read([])
        assert reading.tasks_left is None and (reading.memory_available_bytes or 0) > 1_000_000


def test_where_docker_keeps_its_images_is_watched_as_its_configuration_says(tmp_path: Path) -> None:
    root, daemon = tmp_path / "images", tmp_path / "daemon.json"
    root.mkdir()
    daemon.write_text(json.dumps({"data-root": str(root)}), encoding="utf-8")

    assert root in shared_places(None, daemon)
    for text in ("", "[]", '{"data-root": 7}', "{}"):
        daemon.write_text(text, encoding="utf-8")
        assert root not in shared_places(None, daemon)


@pytest.mark.parametrize(
    ("text", "kills"), [("pgfault 7\noom_kill 3\noom_kill_x 9\n", 3), ("pgfault 7\n", None), ("oom_kill ?", None)]
)
def test_the_kernels_count_of_kills_for_want_of_memory_is_read(tmp_path: Path, text: str, kills: int | None) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text(text)

    assert PosixMeters(vmstat).read([]).oom_kills == kills
    assert PosixMeters(tmp_path / "absent").read([]).oom_kills is None


@pytest.mark.parametrize(
    ("vendor", "hypervisor", "certain"),
    [
        ("Amazon EC2\n", "", True),
        ("", "ec2e1916-9099-7caf-fd21-012345abcdef\n", True),
        ("QEMU\n", "4c4c\n", False),
        ("Xen\n", "", False),
    ],
)
def test_a_machine_is_amazons_only_if_it_says_so_itself(tmp_path: Path, vendor: str, hypervisor: str, certain: bool) -> None:
    (tmp_path / "sys_vendor").write_text(vendor, encoding="utf-8")
    (tmp_path / "uuid").write_text(hypervisor, encoding="utf-8")

    assert is_amazon_ec2(tmp_path, tmp_path / "uuid") is certain
