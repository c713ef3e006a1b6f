"""Turns within a time: never too many, first come first served, and nobody waits longer than he likes."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.rate_limiter import RateLimiter
from simulation.clock import VirtualTime

WITHIN_S = 60.0
WAIT_S = 600.0
"""For the other threads, at most."""


class StoppedTime(VirtualTime):
    """Time that stands still: a pause is remembered, and over at once."""

    def pause(self, seconds: float) -> None:
        """It is as late as before."""
        self.pauses.append(seconds)


@settings(max_examples=8)
@given(most=st.integers(1, 6), number=st.integers(1, 14))
def test_no_more_begin_within_the_time_however_many_come_at_once(most: int, number: int) -> None:
    clock, all_began = StoppedTime(), threading.Barrier(number)
    limiter = RateLimiter(most, WITHIN_S, clock)

    def one(_: int) -> float:
        with limiter.turn(3600.0) as turn:
            all_began.wait(WAIT_S)
            return turn.late_s

    with ThreadPoolExecutor(number) as threads:
        late_s = list(threads.map(one, range(number)))

    assert late_s == [0.0] * number
    assert sorted(clock.pauses) == [WITHIN_S * (at // most) for at in range(number)]


def taken(limiter: RateLimiter) -> float:
    with limiter.turn(0.0) as turn:
        return turn.late_s


def test_who_would_wait_too_long_is_told_so_and_takes_nobodys_turn() -> None:
    clock = VirtualTime()
    limiter = RateLimiter(2, WITHIN_S, clock)
    assert [taken(limiter) for _ in range(2)] == [0.0, 0.0]

    late_s = [taken(limiter) for _ in range(50)]

    assert late_s == [WITHIN_S] * 50, "fifty that went away put nobody off"
    assert limiter.wait_s() == WITHIN_S
    clock.pause(WITHIN_S)
    assert (limiter.wait_s(), taken(limiter)) == (0.0, 0.0)


def test_a_turn_that_takes_long_counts_until_it_is_over() -> None:
    """Whoever counts may have counted it at its very end."""
    clock = VirtualTime()
    limiter = RateLimiter(1, WITHIN_S, clock)

    with limiter.turn(0.0):
        clock.pause(3 * WITHIN_S)
    with limiter.turn(60.0) as turn:
        assert (turn.late_s, clock.age_s) == (0.0, 4 * WITHIN_S)


def test_a_turn_that_nobody_used_is_the_next_ones() -> None:
    clock = VirtualTime()
    limiter = RateLimiter(2, 3600.0, clock)

    for _ in range(5):
        with limiter.turn(0.0) as turn:
            assert turn.late_s == 0.0
            turn.used = False

    assert [taken(limiter) for _ in range(3)] == [0.0, 0.0, 3600.0]


def test_a_turn_that_fails_is_used_all_the_same() -> None:
    limiter = RateLimiter(1, WITHIN_S, VirtualTime())

    with contextlib.suppress(OSError), limiter.turn(0.0):
        raise OSError("the call of this turn")

    assert taken(limiter) == WITHIN_S


def test_who_waits_has_its_turn_as_soon_as_there_is_one() -> None:
    clock = VirtualTime()
    limiter = RateLimiter(1, WITHIN_S, clock)
    assert taken(limiter) == 0.0
    clock.pause(20.0)

    with limiter.turn(WITHIN_S) as turn:
        assert (turn.late_s, clock.pauses[-1], clock.age_s) == (0.0, 40.0, WITHIN_S)


def test_less_than_one_turn_is_one() -> None:
    limiter = RateLimiter(0, WITHIN_S, VirtualTime())

    assert [taken(limiter), taken(limiter)] == [0.0, WITHIN_S]
