"""The wake queue (adapters/loops.py): wakes that follow one another come together, none is lost, and none comes twice."""

from __future__ import annotations

import queue
import threading

from orchestrator.adapters.loops import COALESCED_S, WakeQueue

PATIENCE_S = 600.0
"""Seconds after which something counts as never happening; nothing here takes longer when it works."""


def test_the_first_wake_of_a_quiet_time_is_not_kept_waiting() -> None:
    wake_queue = WakeQueue()
    wake_queue.wake("a")

    assert wake_queue.taken(COALESCED_S / 2) == ["a"]


def test_what_is_to_be_woken_later_is_handed_over_then_and_keeps_nobody_waiting() -> None:
    wake_queue = WakeQueue()
    wake_queue.wake("later", 0.2)
    wake_queue.wake("much later", 60.0)
    wake_queue.wake("now")

    assert wake_queue.taken(PATIENCE_S) == ["now"]
    assert wake_queue.taken(PATIENCE_S) == ["later"]
    assert wake_queue.taken(0.05) == []


def test_of_several_times_the_earliest_counts_and_it_is_handed_over_once() -> None:
    wake_queue = WakeQueue()
    for after_s in (60.0, 0.05, 30.0):
        wake_queue.wake("set", after_s)

    assert wake_queue.taken(PATIENCE_S) == ["set"]
    assert wake_queue.taken(COALESCED_S + 0.1) == []


def test_wakes_that_follow_one_another_come_in_a_few_handings_over_and_none_is_lost() -> None:
    wake_queue, names = WakeQueue(), [f"set-{number:02}" for number in range(40)]
    handed: list[list[str]] = []

    for name in names:
        wake_queue.wake(name)
        handed.append(wake_queue.taken(0.002))
    handed.append(wake_queue.taken(PATIENCE_S))

    assert [name for keys in handed for name in keys] == names
    assert len([keys for keys in handed if keys]) < 10, "some time for each would be one for each"


def test_one_that_is_woken_while_it_is_reconciled_is_handed_over_again() -> None:
    wake_queue = WakeQueue()
    wake_queue.wake("set")
    wake_queue.wake("set")
    first = wake_queue.taken(PATIENCE_S)
    wake_queue.wake("set")

    assert (first, wake_queue.taken(PATIENCE_S)) == (["set"], ["set"])


def test_whoever_waits_hears_of_a_wake_that_comes_meanwhile() -> None:
    wake_queue, handed = WakeQueue(), queue.SimpleQueue[list[str]]()
    threading.Thread(target=lambda: handed.put(wake_queue.taken(6 * PATIENCE_S)), daemon=True).start()
    wake_queue.wake("set")

    assert handed.get(timeout=PATIENCE_S) == ["set"]
