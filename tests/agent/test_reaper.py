"""Whoever ends is waited for once, by one thread, and its code reaches whoever asked for it."""

from __future__ import annotations


def test_the_exit_code_is_learnt_also_when_our_parent_ignored_the_death_of_children() -> None:
    assert scenario("silent", "trap '' CHLD")["code"] == 3


def test_adopted_processes_that_end_do_not_stay_as_zombies() -> None:
    assert scenario("zombies") == {"children": []}
