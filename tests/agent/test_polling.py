"""How soon a machine looks again for its configuration: quick while nobody objects, slower when told to, and slow for a while."""

from __future__ import annotations

import pytest

from agent.calls.error_codes import Meaning
from agent.calls.polling import CALM_LOOKS, QUICK_S, SHARED_S, SLOW_S, SLOWEST_S, Pace


def after(pace: Pace, *meanings: Meaning) -> Pace:
    for meaning in meanings:
        pace = pace.after(meaning)
    return pace


def test_while_nobody_objects_it_looks_quickly() -> None:
    assert after(Pace(), *[Meaning.ABSENT] * 50).every_s == QUICK_S


def test_a_refusal_makes_it_slow_and_a_second_one_slower_up_to_an_end() -> None:
    paces = [after(Pace(), *[Meaning.THROTTLED] * number).every_s for number in (1, 2, 5)]

    assert paces == [SLOW_S, SLOWEST_S, SLOWEST_S]


def test_who_had_become_quicker_is_slowed_by_a_part_and_not_to_the_slowest() -> None:
    assert Pace(SHARED_S, calm=5).after(Meaning.THROTTLED).every_s == pytest.approx(7.84)


def test_after_a_refusal_it_is_no_quicker_than_two_hundred_may_be_together() -> None:
    pace = after(Pace(), Meaning.THROTTLED, *[Meaning.ABSENT] * (CALM_LOOKS - 1))

    assert pace.every_s == SHARED_S


def test_after_many_looks_that_were_answered_it_becomes_quick_again_step_by_step() -> None:
    calm = after(Pace(), Meaning.THROTTLED, *[Meaning.ABSENT] * (CALM_LOOKS + 1))

    assert QUICK_S < calm.every_s < SHARED_S
    assert after(calm, *[Meaning.ABSENT] * 50).every_s == QUICK_S


def test_a_refusal_starts_the_count_of_answered_looks_anew() -> None:
    again = after(Pace(), Meaning.THROTTLED, *[Meaning.ABSENT] * 10, Meaning.THROTTLED, *[Meaning.ABSENT] * (CALM_LOOKS - 1))

    assert again.every_s == SHARED_S


def test_where_nobody_answers_waits_double_up_to_an_end_and_the_pace_stays() -> None:
    paces = [after(Pace(), *[Meaning.UNAVAILABLE] * number) for number in (1, 2, 3, 9)]

    assert [pace.break_s for pace in paces] == [0.25, 0.5, 1.0, 5.0]
    assert {pace.every_s for pace in paces} == {QUICK_S}


@pytest.mark.parametrize(("pace", "least", "most"), [(Pace(), 0.44, 0.66), (Pace(7.0, calm=0), 4.2, 9.8)])
def test_waits_are_spread_more_where_many_were_refused_together(pace: Pace, least: float, most: float) -> None:
    assert [pace.wait_s(0.0), pace.wait_s(1.0)] == [pytest.approx(least), pytest.approx(most)]
