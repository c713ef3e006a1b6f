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


@pytest.mark.parametrize("letter", "RFTHSG")
def test_no_number_is_left_out(letter: str) -> None:
    page = (ROOT / "docs" / "lessons.md").read_text("utf-8")
    told = {int(number) for number in re.findall(rf"(?:^\| |, ){letter}(\d+)(?=[, ][^|]*\||,)", page, re.M)}

    assert told == set(range(1, max(told) + 1))
