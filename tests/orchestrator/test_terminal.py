"""How commands show tables, times and numbers."""

from __future__ import annotations

import pytest

from orchestrator.commands.terminal import counted, lasting, moment, table

ROWS = [{"session": "s-00000000000000ff-0", "state": "ready", "job": ""}, {"session": "s-1", "state": "busy", "job": "123456"}]


def test_a_table_has_aligned_columns_under_their_names_and_no_borders() -> None:
    assert table(ROWS, None) == [
        "SESSION               STATE  JOB",
        "s-00000000000000ff-0  ready",
        "s-1                   busy   123456",
    ]


@pytest.mark.parametrize("width", [36, 80, None])
def test_what_fits_is_a_table(width: int | None) -> None:
    assert len(table(ROWS, width)) == 3


def test_what_is_wider_than_the_terminal_is_a_block_for_each_row_in_which_nothing_is_cut() -> None:
    assert table(ROWS, 34) == [
        "SESSION  s-00000000000000ff-0",
        "STATE    ready",
        "",
        "SESSION  s-1",
        "STATE    busy",
        "JOB      123456",
    ]


def test_nothing_is_no_table() -> None:
    assert table([], 80) == []


@pytest.mark.attack
@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[31mb", r"a\x1b[31mb"), ("two\nlines", r"two\x0alines"), ("tab\there", r"tab\x09here")]
)
def test_what_others_chose_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert table([{"name": text}], None) == ["NAME", shown]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "0s"), (59.0, "59s"), (60.0, "1m"), (200.0, "3m 20s"), (7_500.0, "2h 5m"), (7_200.0, "2h"), (356_400.0, "4d 3h"),
        (-5.0, "0s"), (None, ""),
    ],
)  # fmt: skip
def test_times_are_written_in_the_two_units_that_matter(seconds: float | None, words: str) -> None:
    assert lasting(seconds) == words


def test_moments_are_iso_8601() -> None:
    assert (moment(1_769_860_800.4), moment(None)) == ("2026-01-31T12:00:00Z", "")


def test_one_machine_is_one_machine() -> None:
    assert [counted(number, "machine") for number in (0, 1, 2)] == ["0 machines", "1 machine", "2 machines"]
