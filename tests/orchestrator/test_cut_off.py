"""Turns that are cut short after each of their calls: killed there, the answer lost, the call refused."""

from __future__ import annotations

import pytest

from orchestrator.errors import Unanswered
from simulation.calls import Crash
from tests.orchestrator import plays_of_launches, plays_of_operators, plays_of_sessions, plays_of_upkeep

TABLES = (plays_of_launches.PLAYS, plays_of_operators.PLAYS, plays_of_sessions.PLAYS, plays_of_upkeep.PLAYS)
PLAYS = {name: play for table in TABLES for name, play in table.items()}


def test_no_two_plays_have_one_name() -> None:
    assert len(PLAYS) == sum(map(len, TABLES)) >= 29


@pytest.mark.parametrize("name", PLAYS)
def test_a_turn_that_nothing_cuts_short_is_right_and_taken_twice_it_changes_nothing(name: str) -> None:
    PLAYS[name].taken_once_and_twice()


@pytest.mark.parametrize("failure", [Crash, Unanswered])
@pytest.mark.parametrize("name", PLAYS)
def test_cut_short_after_any_call_the_world_is_right_in_the_end(name: str, failure: type[Exception]) -> None:
    assert PLAYS[name].cut_short_after_each_call(failure) >= 1


@pytest.mark.parametrize("name", PLAYS)
def test_with_any_call_refused_the_world_is_right_in_the_end(name: str) -> None:
    assert PLAYS[name].refused_at_each_call() >= 1
