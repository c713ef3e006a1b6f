"""The floors hold, and a room that breaks them is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "orchestrator", "sandbox")


def linted(directory: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` on the packages that lie in `directory`."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(directory), "COLUMNS": "200"}
    words = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is linted."""
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / ".importlinter", tmp_path)
    return tmp_path


def plant(room: Path, line: str) -> None:
    """One more import at the top of a room, or a new room."""
    text = room.read_text("utf-8") if room.exists() else "from __future__ import annotations\n"
    first = "from __future__ import annotations\n"
    room.write_text(text.replace(first, f"{first}{line}\n", 1), encoding="utf-8")


def test_every_import_goes_downwards(tree: Path) -> None:
    told = linted(tree)

    assert told.returncode == 0, told.stdout + told.stderr
    assert " 0 broken" in told.stdout


@pytest.mark.parametrize(
    ("room", "line", "broken"),
    [
        ("agent/lifecycle.py", "import time", "Waiting, threads, clocks and chance only in adapters"),
        ("agent/utils.py", "", "The agent's rooms import downwards only"),
        ("agent/verdict.py", "import os", "Deciding rooms touch nothing"),
        ("agent/errors.py", "import sandbox.imds", "The agent knows neither orchestrator nor sandbox"),
        ("orchestrator/turns.py", "import sandbox.workflow", "The orchestrator does not know the sandbox"),
        ("orchestrator/model.py", "import agent.lifecycle", "The orchestrator knows only the agent's contract"),
        ("orchestrator/planning.py", "import random", "The orchestrator's deciding rooms touch nothing"),
        ("sandbox/helpers.py", "", "The sandbox's rooms import downwards only"),
    ],
)
def test_a_room_that_breaks_the_floors_is_named(room: str, line: str, broken: str, tree: Path) -> None:
    plant(tree / room, line)

    told = linted(tree)

    assert told.returncode != 0
    assert f"{broken} BROKEN" in told.stdout
