"""The hard deadline, run as the machine's timer runs it: what it counts, and when it switches off."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packer" / "machine" / "deadline"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
SYSTEMCTL = """#!/bin/bash
echo "$@" >> "$CALLS"
case "$*" in
    *UserspaceTimestampMonotonic*) awk '{ printf "%.0f", ($1 - 100) * 1000000 }' /proc/uptime ;;
    *ExecMainStartTimestampMonotonic*) echo "ExecMainStartTimestampMonotonic=$STARTED" ;;
esac
"""
"""Userspace is up for a hundred seconds."""


@dataclass
class Machine:
    """A state directory, and a systemctl that notes what it is told."""

    root: Path
    systemctl: str = SYSTEMCTL

    def check(self, *, started: str = "1", **settings: str) -> bool:
        """One turn of the timer; whether the machine is switched off."""
        tools = self.root / "bin"
        tools.mkdir(exist_ok=True)
        (tools / "systemctl").write_text(self.systemctl, "ascii")
        (tools / "systemctl").chmod(0o755)
        calls = self.root / "calls"
        calls.write_text("", "ascii")
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(calls), "STARTED": started,
            "RUNS_FLEET_STATE_DIR": str(self.root), **settings,
        }  # fmt: skip
        subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, timeout=600, check=False)
        return "start --no-block runs-fleet-power-off" in calls.read_text("ascii")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, "ascii")

    @property
    def lived(self) -> list[str]:
        return (self.root / "lived").read_text("ascii").split()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_within_its_minutes_stays_and_its_seconds_are_noted(machine: Machine) -> None:
    machine.write("limit-minutes", "5")

    assert not machine.check()
    lived, boot, up = machine.lived
    assert (lived, boot) == ("0", BOOT) and 95 <= int(up) <= 110


def test_a_machine_that_has_lived_its_minutes_goes(machine: Machine) -> None:
    machine.write("limit-minutes", "1")

    assert machine.check()


def test_what_it_lived_before_a_reboot_counts_and_a_minute_that_nobody_saw(machine: Machine) -> None:
    machine.write("lived", "500 another-boot 20000")
    machine.write("limit-minutes", str((20_560 + 200) // 60))

    assert not machine.check()
    assert machine.lived[:2] == ["20560", BOOT]
    machine.write("limit-minutes", str(20_560 // 60))
    assert machine.check()


def test_the_same_boot_is_counted_once(machine: Machine) -> None:
    machine.write("lived", f"500 {BOOT} 90")

    machine.check()

    assert machine.lived[0] == "500"


@pytest.mark.parametrize(("limit", "goes"), [("", False), ("soon", False), ("-1", False)])
def test_without_a_readable_limit_the_default_of_seven_hours_holds(machine: Machine, limit: str, goes: bool) -> None:
    machine.write("limit-minutes", limit)

    assert machine.check() is goes
    machine.write("lived", f"{420 * 60} another-boot 0")
    assert machine.check()


def test_a_machine_on_which_nobody_starts_an_agent_goes_after_its_time(machine: Machine) -> None:
    assert not machine.check(started="0", RUNS_FLEET_START_SECONDS="500")
    assert machine.check(started="0", RUNS_FLEET_START_SECONDS="50")
    assert not machine.check(started="7", RUNS_FLEET_START_SECONDS="50")


def test_a_systemd_that_does_not_answer_is_no_reason_to_end_a_job(machine: Machine) -> None:
    machine.systemctl = '#!/bin/bash\necho "$@" >> "$CALLS"; [ "$1" = start ]'
    machine.write("limit-minutes", "100000000")

    assert not machine.check(RUNS_FLEET_START_SECONDS="1")
