"""What `runs-fleet doctor` prints of findings."""

from __future__ import annotations

from orchestrator.commands.doctor import is_passed, lines, rows
from orchestrator.readiness import Fault, Finding, Standing

FINE = Finding(check="table-jobs", standing=Standing.FINE)
DENIED = Finding(check="ec2-images", standing=Standing.UNCHECKED, why="needs ec2:DescribeImages: denied")
UNKNOWN = Finding(check="github-app", standing=Standing.UNREACHED, why="no answer")
FAULT = Fault(
    setting="RUNS_FLEET_QUEUE_URL", found="no queue u", expected="a FIFO queue", remedy="aws sqs create-queue " + "x" * 200
)
FAILED = Finding(check="queue-jobs", standing=Standing.FAILED, faults=(FAULT,))


def test_each_fault_stands_with_its_setting_and_a_remedy_that_is_never_cut() -> None:
    told = list(lines([FINE, FAILED]))

    assert told[0].split() == ["table-jobs", "ok"]
    assert "    expected  a FIFO queue (RUNS_FLEET_QUEUE_URL)" in told
    assert f"    remedy    {FAULT.remedy}" in told
    assert told[-1] == "2 checks, 1 failed: `runs-fleet serve` would not be ready"


def test_what_could_not_be_checked_is_called_neither_ready_nor_broken() -> None:
    told = list(lines([FINE, DENIED]))

    assert "unchecked  needs ec2:DescribeImages: denied" in told[1]
    assert told[-1] == "2 checks, 1 could not be checked: ready" and is_passed([FINE, DENIED])


def test_what_is_not_known_now_is_not_passed() -> None:
    assert not is_passed([FINE, UNKNOWN])
    assert list(lines([UNKNOWN]))[-1] == "1 check, 1 not known now: `runs-fleet serve` would not be ready"


def test_programs_get_every_part_of_a_fault() -> None:
    (row,) = rows([FAILED])

    assert (row["check"], row["standing"]) == ("queue-jobs", "failed")
    assert row["faults"] == [{"setting": FAULT.setting, "found": FAULT.found, "expected": FAULT.expected, "remedy": FAULT.remedy}]


def test_one_cause_of_several_checks_is_told_once() -> None:
    again = Finding(check="queue-terminations", standing=Standing.FAILED, faults=(FAULT,))

    told = list(lines([FAILED, again]))

    assert sum("remedy" in line for line in told) == 1
    assert told[4].split() == ["queue-terminations", "FAILED", "as", "queue-jobs"]
