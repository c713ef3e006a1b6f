"""How much computing something takes: sums that never depend on their order, and counts that never fall below zero."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.resources import NOTHING, Resources, total
from orchestrator.store.tables import plain

quarters = st.integers(-10_000, 10_000).map(lambda number: number / 4)
"""Numbers that add up exactly."""
amounts = st.builds(Resources, st.integers(-1000, 1000), quarters, quarters)


def test_each_part_is_added_taken_away_and_multiplied_by_itself() -> None:
    one, other = Resources(1, 2.0, 0.25), Resources(10, 20.0, 2.5)

    assert one + other == Resources(11, 22.0, 2.75)
    assert other - one == Resources(9, 18.0, 2.25)
    assert one * 3 == Resources(3, 6.0, 0.75)


@given(amounts, amounts)
def test_what_is_added_can_be_taken_away_again(one: Resources, other: Resources) -> None:
    assert one + other - other == one
    assert one - one == NOTHING == one * 0


@given(amounts, st.integers(0, 20))
def test_so_many_of_one_kind_are_their_sum(one: Resources, number: int) -> None:
    assert one * number == total([one] * number)


@given(st.lists(amounts, max_size=6))
def test_a_total_is_of_all_parts_in_any_order(parts: list[Resources]) -> None:
    found = total(parts)

    assert found == total(parts[::-1])
    assert found.machines == sum(part.machines for part in parts)
    assert (found.vcpus, found.usd_per_hour) == (sum(part.vcpus for part in parts), sum(part.usd_per_hour for part in parts))


def test_the_total_of_no_parts_is_nothing() -> None:
    assert total([]) == NOTHING == Resources(0, 0.0, 0.0)


@given(amounts)
def test_a_count_that_was_corrected_twice_is_zero_and_only_that_one(amount: Resources) -> None:
    found = amount.floored()

    pairs = [(amount.machines, found.machines), (amount.vcpus, found.vcpus), (amount.usd_per_hour, found.usd_per_hour)]
    assert all(after == (before if before > 0 else 0) for before, after in pairs)


def test_nothing_takes_no_room_in_a_table_and_what_does_lies_there_by_name() -> None:
    assert plain(NOTHING) == {}
    assert plain(Resources(1, 2.0, 0.25)) == {"machines": 1, "vcpus": 2.0, "usd_per_hour": 0.25}
