"""Whoever ends is waited for once, by one thread, and its code reaches whoever asked for it."""

from __future__ import annotations

from typing import Any

from tests.agent.apart import scenario


def of_reaper(name: str, before: str = "") -> dict[str, Any]:
    return scenario(name, before, module="tests.agent.reaper_scenarios")


def test_the_exit_code_is_learnt_also_when_our_parent_ignored_the_death_of_children() -> None:
    assert scenario("silent", "trap '' CHLD")["code"] == 3


def test_adopted_processes_that_end_do_not_stay_as_zombies() -> None:
    assert scenario("zombies") == {"children": []}


def test_each_child_has_its_own_code_whenever_it_is_asked_for_and_tells_it_once() -> None:
    assert of_reaper("codes") == {"codes": [0, -9, 5], "again": None}


def test_a_child_that_still_runs_has_no_code_yet_and_has_one_later() -> None:
    assert of_reaper("late") == {"first": None, "then": 6}


def test_whoever_wants_to_be_called_is_with_the_signal_as_a_negative_code() -> None:
    assert of_reaper("told") == {"heard": -15, "beside": 7, "kept": None}


def test_children_of_others_are_left_to_them_while_there_is_no_runner() -> None:
    assert of_reaper("strangers") == {"ours": 9, "foreign": 8}


def test_an_orphan_that_came_to_us_and_ended_is_remembered_with_its_moment() -> None:
    assert of_reaper("orphans") == {"code": 0, "adopted": True, "lately": False}


def test_a_reaper_without_any_child_left_waits_for_the_next_one_too() -> None:
    assert of_reaper("again") == {"ended": [1, 2]}


def test_what_cannot_be_started_leaves_the_reaper_as_it_was() -> None:
    assert of_reaper("unstartable") == {"then": 4}
