"""The tables of failures and of requirements name tests and files: each of them is there."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS, SEEDS = ((ROOT / "docs" / name).read_text("utf-8") for name in ("lessons.md", "seeds.md"))
TESTS = {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
}
FILES = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
NAMED = sorted(set(re.findall(r"`((?:tests/\w+/)?test_[\w*]+(?:\.py)?)`", LESSONS + SEEDS)))
PATHS = sorted(set(re.findall(r"`((?:agent|orchestrator|sandbox|simulation|tests|userdata|packer)/[\w./-]*)`", LESSONS + SEEDS)))
LAST = {"R": 12, "F": 10, "P": 12, "T": 8, "H": 8, "S": 12, "G": 5}
"""How many failures of each kind the study tells of."""


def rows_of(failure: str) -> list[str]:
    """The rows of the table whose first column names this failure."""
    return [line for line in LESSONS.splitlines() if line.startswith("|") and failure in re.split(r"[, ]+", line.split("|")[1])]


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_pages_name_is_there(name: str) -> None:
    last = name.rpartition("/")[2]

    assert last in FILES if last.endswith(".py") else any(fnmatch(known, last) for known in TESTS)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_the_pages_name_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("failure", [f"{letter}{number}" for letter, last in LAST.items() for number in range(1, last + 1)])
def test_each_failure_has_one_row_that_names_a_test_of_its_id_or_gives_a_sentence_instead(failure: str) -> None:
    (row,) = rows_of(failure)
    here = row.split("|")[3]

    tests = re.findall(r"`(test_\w+)`", here)
    assert any(f"_{failure.lower()}_" in name for name in tests) if tests else len(here.split()) > 5


def test_the_pages_name_enough_to_be_worth_reading() -> None:
    assert len(NAMED) > 60 and len(PATHS) > 5
