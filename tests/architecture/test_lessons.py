"""The table of what others paid for names tests: each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "lessons.md").read_text("utf-8"))))
THERE = {
    name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_page_names_is_there(name: str) -> None:
    assert name in THERE


LAST = {"R": 12, "F": 10, "P": 12, "T": 8, "H": 8, "S": 12, "G": 5}
"""Of each kind of failure that the study tells of."""


@pytest.mark.parametrize("what", [f"{letter}{number}" for letter, last in LAST.items() for number in range(1, last + 1)])
def test_each_failure_has_a_test_of_its_name_or_words_that_say_why_it_cannot_be(what: str) -> None:
    page = (ROOT / "docs" / "lessons.md").read_text("utf-8")
    (row,) = (line for line in page.splitlines() if what in re.split(r"[|, ]+", line.split("|")[1] if "|" in line else ""))
    here = row.split("|")[3]

    tests = re.findall(r"`(test_\w+)`", here)
    assert any(f"_{what.lower()}_" in name for name in tests) if tests else len(here.split()) > 5
