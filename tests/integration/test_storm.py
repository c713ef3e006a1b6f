"""Everything that may go wrong, at once, on a small fleet: every job ends green, and what must be true afterwards is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.chaos import STORM
from sandbox.screen import show

EIGHT_JOBS = """
name: small storm
on: push
jobs:
  drop:
    runs-on: runs-fleet=storm/cpu=2
    strategy:
      fail-fast: false
      matrix: {size: [small, large], number: [1, 2, 3, 4]}
    steps: [{run: "sleep ${{ matrix.size == 'large' && 6 || 1 }}"}]
"""


def test_with_every_fault_at_once_every_job_ends_green_and_what_must_be_true_afterwards_is_true(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "storm.yml"
    path.write_text(EIGHT_JOBS, "utf-8")

    code = show(path, faults=STORM, seed=7)

    told = capsys.readouterr().out
    assert code == 0, told
    assert "8 of 8 jobs green" in told and "wrong:" not in told
    assert "4 runs that nobody runs as usual" in told
