"""What the machine says about itself: its gauges, and whether it is Amazon's."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.machine import PosixMeters, is_amazon_ec2


def test_meters_of_a_path_that_is_not_there_yet_are_those_of_its_nearest_parent(tmp_path: Path) -> None:
    reading = PosixMeters().read(tmp_path / "not" / "yet")

    assert reading.disk_free_bytes and reading.memory_available_bytes and reading.oom_kills is not None


@pytest.mark.parametrize(
    ("text", "kills"), [("pgfault 7\noom_kill 3\noom_kill_x 9\n", 3), ("pgfault 7\n", None), ("oom_kill ?", None)]
)
def test_the_kernels_count_of_kills_for_want_of_memory_is_read(tmp_path: Path, text: str, kills: int | None) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text(text)

    assert PosixMeters(vmstat).read(tmp_path).oom_kills == kills
    assert PosixMeters(tmp_path / "absent").read(tmp_path).oom_kills is None


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
