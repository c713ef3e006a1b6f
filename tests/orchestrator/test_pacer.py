"""Turns within a time: never too many, first come first served, and nobody waits longer than he likes."""

from __future__ import annotations

import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.pacer import Pacer
from tests.orchestrator.memory import ManualClock

WITHIN_S = 0.1
"""Instead of a minute."""


@settings(max_examples=8, deadline=None)
@given(most=st.integers(1, 6), number=st.integers(1, 14))
def test_no_more_begin_within_the_time_however_many_come_at_once(most: int, number: int) -> None:
    pacer, began_s = Pacer(most, WITHIN_S), []

    def one() -> None:
        with pacer.turn(60.0) as turn:
            assert turn.late_s == 0.0
            began_s.append(time.monotonic())

    threads = [threading.Thread(target=one) for _ in range(number)]
    first_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(began_s) == number
    for at, moment_s in enumerate(sorted(began_s)):
        assert moment_s >= first_s + WITHIN_S * (at // most), "those before it had all turns until then"


def taken(pacer: Pacer) -> float:
    with pacer.turn(0.0) as turn:
        return turn.late_s


def test_who_would_wait_too_long_is_told_so_and_takes_nobodys_turn() -> None:
    clock = ManualClock(0.0)
    pacer = Pacer(2, WITHIN_S, clock)
    assert [taken(pacer) for _ in range(2)] == [0.0, 0.0]

    late_s = [taken(pacer) for _ in range(50)]

    assert late_s == [WITHIN_S] * 50, "fifty that went away put nobody off"
    assert pacer.wait_s() == WITHIN_S
    clock.pause(WITHIN_S)
    assert (pacer.wait_s(), taken(pacer)) == (0.0, 0.0)


def test_a_turn_that_takes_long_counts_until_it_is_over() -> None:
    """Whoever counts may have counted it at its very end."""
    clock = ManualClock(0.0)
    pacer = Pacer(1, WITHIN_S, clock)

    with pacer.turn(0.0):
        clock.pause(3 * WITHIN_S)
    with pacer.turn(60.0) as turn:
        assert (turn.late_s, clock.monotonic_s()) == (0.0, 4 * WITHIN_S)


def test_a_turn_that_nobody_used_is_the_next_ones() -> None:
    clock = ManualClock(0.0)
    pacer = Pacer(2, 3600.0, clock)

    for _ in range(5):
        with pacer.turn(0.0) as turn:
            assert turn.late_s == 0.0
            turn.used = False

    assert [taken(pacer) for _ in range(3)] == [0.0, 0.0, 3600.0]
