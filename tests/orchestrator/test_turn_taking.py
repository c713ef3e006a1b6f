"""Whose turn it is: repositories take turns, within each the oldest comes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet.turn_taking import in_turn, shares

wants = st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.floats(0, 100), max_size=6)), max_size=8)


def served(wanted: list[tuple[str, list[float]]], machines: int) -> tuple[int, ...]:
    return shares([waiting for _, waiting in wanted], machines, [owner for owner, _ in wanted])


def test_within_one_repository_age_alone_counts() -> None:
    wanted = [("a", [1.0, 4.0]), ("a", [2.0, 3.0]), ("a", [0.5])]

    assert [served(wanted, room) for room in (0, 1, 3, 4, 9)] == [(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 2, 1), (2, 2, 1)]


def test_three_hundred_jobs_that_came_first_keep_another_repositorys_one_waiting_for_one_machine_alone() -> None:
    crowd = [("crowd/crowd", [float(number)]) for number in range(300)]
    wanted = [*crowd, ("lone/lone", [1_000.0])]

    assert served(wanted, 1)[-1] == 0 and served(wanted, 2)[-1] == 1
    assert sum(served(wanted, 2)) == 2


@given(wants, st.integers(0, 20))
def test_all_that_there_is_is_given_and_nobody_gets_more_than_he_wants(
    wanted: list[tuple[str, list[float]]], machines: int
) -> None:
    given_out = served(wanted, machines)

    assert sum(given_out) == min(machines, sum(len(waiting) for _, waiting in wanted))
    assert all(number <= len(waiting) for number, (_, waiting) in zip(given_out, wanted, strict=True))


@given(wants, st.integers(0, 20))
def test_no_repository_gets_two_more_than_another_that_still_waits(wanted: list[tuple[str, list[float]]], machines: int) -> None:
    given_out = served(wanted, machines)
    got = {owner: sum(n for n, (its, _) in zip(given_out, wanted, strict=True) if its == owner) for owner in "abc"}
    left = {owner: sum(len(waiting) for its, waiting in wanted if its == owner) - got[owner] for owner in "abc"}

    assert all(got[other] <= got[owner] + 1 for owner in "abc" if left[owner] for other in "abc")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=12))
def test_the_order_has_everybody_once_and_each_repositorys_own_by_age(items: list[tuple[str, int]]) -> None:
    line = in_turn(items, lambda item: item[0], lambda item: item[1])

    assert sorted(line) == sorted(items)
    for owner in "abc":
        own = [age for its, age in line if its == owner]
        assert own == sorted(own)
