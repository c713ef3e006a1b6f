"""How many sessions a label set lacks or has too many: numbers, never pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import caps, demand
from orchestrator.cards import Board, Card
from orchestrator.demand import BUSY_S, EXPECTED_S, STALE_S, SURPLUS_S, WAITING_S, Level, level
from orchestrator.model import Ledger, Stack, changed
from orchestrator.naming import kind_of
from orchestrator.patience import BARREN
from orchestrator.states import JobState, SessionState
from tests.orchestrator.memory import MORNING, SET, a_ledger, a_session, some_settings

NOW = MORNING


def board(*cards: Card, ledger: Ledger | None = None) -> Board:
    return Board(set_key=SET, ledger=ledger or a_ledger(), cards=cards)


def job(identity: str = "1", waited_s: float = 1.0, state: JobState = JobState.QUEUED) -> Card:
    return Card(kind="job", identity=identity, state=state.value, since=NOW - waited_s)


def session(identity: str = "s-1", state: SessionState = SessionState.READY, age_s: float = 10.0, **how: bool) -> Card:
    return Card(kind="session", identity=identity, state=state.value, since=NOW - age_s, **how)


def launch(*sessions: str) -> Card:
    return Card(kind="launch", identity="l-1", state="intended", since=NOW, sessions=sessions)


@pytest.mark.parametrize(
    ("cards", "lacking"),
    [
        ([], 0),
        ([job()], 1),
        ([job("1"), job("2"), job("3")], 3),
        ([job(state=JobState.WAITING)], 0),
        ([job("1"), job("2"), session()], 1),
        ([job(), launch("s-1")], 0),
        ([job("1"), job("2"), launch("s-1"), session("s-1", SessionState.LAUNCHED)], 1),
        ([job(), session(state=SessionState.LAUNCHED)], 0),
        ([job(), session(state=SessionState.CONFIGURED)], 0),
        ([job(), session(state=SessionState.BUSY, age_s=BUSY_S - 1)], 0),
        ([job(), session(state=SessionState.BUSY, age_s=BUSY_S)], 1),
        ([job(), session(state=SessionState.BUSY, bound=True)], 1),
        ([job(), session(leaving=True)], 1),
        ([job(waited_s=STALE_S + 1), session(age_s=STALE_S + 1)], 1),
        ([job(waited_s=STALE_S + 1), session(age_s=STALE_S - 1)], 0),
        ([job(waited_s=STALE_S - 1), session(age_s=STALE_S + 1)], 0),
        ([job(waited_s=STALE_S + 1), session(state=SessionState.CONFIGURED, age_s=STALE_S + 1)], 0),
    ],
)
def test_what_lacks(cards: list[Card], lacking: int) -> None:
    assert level(board(*cards), NOW).lacking == lacking


def test_a_label_set_without_a_ledger_lacks_what_its_jobs_want() -> None:
    assert level(Board(set_key=SET, cards=(job(),)), NOW).lacking == 1


def test_a_surplus_is_only_noted_at_first() -> None:
    found = level(board(session(age_s=600.0)), NOW)

    assert (found.surplus, found.surplus_since, found.look_at) == ((), NOW, NOW + SURPLUS_S)


def test_a_surplus_of_a_minute_is_taken_back_youngest_first_and_no_more_than_it_is() -> None:
    old = a_ledger(surplus_since=NOW - SURPLUS_S)
    cards = [session(f"s-{age}", age_s=float(age)) for age in (100, 300, 200)]

    found = level(board(job(), *cards, ledger=old), NOW)

    assert found.surplus == ("s-100", "s-200")


def test_a_machine_younger_than_the_minute_ec2_bills_is_kept() -> None:
    old = a_ledger(surplus_since=NOW - SURPLUS_S)

    found = level(board(session("young", age_s=59.0), session("old", age_s=61.0), ledger=old), NOW)

    assert found.surplus == ("old",) and found.look_at == NOW + 1.0


def test_a_session_at_work_is_never_surplus() -> None:
    old = a_ledger(surplus_since=NOW - SURPLUS_S)

    found = level(board(session(state=SessionState.BUSY, age_s=100.0), ledger=old), NOW)

    assert found.surplus == ()


def test_a_surplus_that_is_over_is_forgotten() -> None:
    found = level(board(job(), session(), ledger=a_ledger(surplus_since=NOW - 500.0)), NOW)

    assert (found.surplus, found.surplus_since) == ((), None)


def test_who_says_to_work_and_is_not_confirmed_is_asked_about_whether_a_job_waits_or_not() -> None:
    silent = session(state=SessionState.BUSY, age_s=BUSY_S)

    assert level(board(job(), silent), NOW).ask == ("s-1",)
    assert level(board(silent), NOW).ask == ("s-1",)
    assert level(board(session(state=SessionState.BUSY, age_s=BUSY_S - 1.0)), NOW).look_at == NOW + 1.0


def test_a_job_that_an_interruption_will_send_back_counts_until_its_time_is_over() -> None:
    expecting = demand.expecting(a_ledger(), NOW)

    assert level(board(ledger=expecting), NOW).lacking == 1
    assert level(board(ledger=expecting), NOW + EXPECTED_S).lacking == 0
    assert level(board(session(), ledger=expecting), NOW).look_at == NOW + EXPECTED_S


def test_time_alone_may_change_a_level_and_then_it_is_looked_at_again() -> None:
    assert level(board(job(), session(state=SessionState.BUSY, age_s=BUSY_S - 5.0)), NOW).look_at == NOW + 5.0
    assert level(board(job(waited_s=STALE_S - 4.0), session(age_s=STALE_S)), NOW).look_at == NOW + 5.0
    assert level(board(job(), session(state=SessionState.LAUNCHED)), NOW).look_at == NOW + WAITING_S
    assert level(board(), NOW).look_at is None


def ends(ledger: Ledger, number: int, *, worked: bool = False, image: str = "") -> Ledger:
    for _ in range(number):
        ledger = demand.after_an_end(ledger, a_session(image=image), worked=worked, now=max(NOW, ledger.backoff_until))
    return ledger


def test_five_sessions_without_a_job_hold_the_next_launch_back_and_say_why() -> None:
    four, five = ends(a_ledger(), BARREN - 1), ends(a_ledger(), BARREN)

    assert level(board(job(), ledger=four), NOW).lacking == 1
    held = level(board(job(), ledger=five), NOW)
    assert (held.lacking, held.look_at) == (0, NOW + WAITING_S) and "5 machines in a row" in held.held
    assert level(board(job(), ledger=five), NOW + 60.0).lacking == 1


def test_the_backoff_grows_from_one_minute_to_thirty() -> None:
    moments = [ends(a_ledger(), BARREN + n).backoff_until for n in range(8)]

    waits = [later - before for before, later in zip([NOW, *moments], moments, strict=False)]
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1800.0, 1800.0, 1800.0]


def test_what_ends_while_the_next_launch_is_held_back_holds_it_back_no_longer() -> None:
    held = ends(a_ledger(), BARREN)

    again = demand.after_an_end(held, a_session(), worked=False, now=NOW + 1.0)

    assert again == held


def test_a_session_that_was_made_for_no_job_proves_nothing_by_ending_without_one() -> None:
    spare = a_session(session_id="s-9", launched_for="s-9")

    assert demand.after_an_end(a_ledger(), spare, worked=False, now=NOW) == a_ledger()


def test_a_session_that_worked_closes_the_backoff() -> None:
    assert ends(ends(a_ledger(), 9), 1, worked=True).backoff_until == 0.0


def test_one_that_had_a_job_of_which_github_has_not_told_still_counts_for_two_minutes() -> None:
    ledger = demand.after_an_end(a_ledger(), a_session(busy_at=NOW - 30.0), worked=True, now=NOW)

    assert level(board(job(), ledger=ledger), NOW + 89.0).lacking == 0
    assert level(board(job(), ledger=ledger), NOW + 90.0).lacking == 1


def test_one_that_was_bound_does_not_count_after_its_end() -> None:
    ledger = demand.after_an_end(a_ledger(), a_session(busy_at=NOW - 30.0, bound_job="1"), worked=True, now=NOW)

    assert level(board(job(), ledger=ledger), NOW).lacking == 1


def test_no_capacity_is_waited_out_longer_each_time() -> None:
    first = demand.after_a_refusal(a_ledger(), "l-1", "EC2 has no capacity", NOW)
    many = first
    for _ in range(10):
        many = demand.after_a_refusal(many, "l-1", "EC2 has no capacity", NOW)

    assert (first.backoff_until, many.backoff_until) == (NOW + 30.0, NOW + 600.0)
    assert level(board(job(), ledger=first), NOW).held == "EC2 has no capacity"


def test_the_pace_is_a_bucket_that_fills_in_a_minute() -> None:
    settings = some_settings(launches_per_minute=60.0)
    full = caps.after_a_pause(Stack(), settings, NOW)
    emptied = changed(full, tokens=0.0, ec2=0.0)

    assert (full.tokens, full.ec2) == (60.0, 1000.0)
    assert caps.after_a_pause(emptied, settings, NOW + 10.0).tokens == 10.0
    assert caps.after_a_pause(emptied, settings, NOW + 600.0).tokens == 60.0
    assert caps.after_a_pause(emptied, settings, NOW + 10.0).ec2 == 20.0


def test_idle_ends_are_counted_for_each_kind_of_machine_and_image_and_a_success_forgets_all() -> None:
    ledger = a_ledger()
    for number in range(2 * (BARREN - 1)):
        ended = a_session(spec=("spot", "on-demand")[number % 2], image="t:1")
        ledger = demand.after_an_end(ledger, ended, worked=False, now=NOW)
    held = demand.after_an_end(ledger, a_session(spec="spot", image="t:1"), worked=False, now=NOW)
    worked = demand.after_an_end(held, a_session(), worked=True, now=NOW)

    assert (ledger.backoff_until, held.backoff_of) == (0.0, kind_of("spot", "t:1")) and held.backoff_until == NOW + 60.0
    assert (worked.barren, worked.backoff_until, worked.backoff_of) == ({}, 0.0, "")


cards = st.lists(
    st.one_of(
        st.builds(job, st.sampled_from("123456789"), st.floats(0, 1000), st.sampled_from(JobState)),
        st.builds(session, st.sampled_from("abcdefghi"), st.sampled_from(SessionState), st.floats(0, 1000)),
        st.lists(st.sampled_from("abcdefghi"), unique=True).map(lambda names: launch(*names)),
    ),
    unique_by=lambda card: (card.kind, card.identity),
)


@given(cards, st.none() | st.floats(NOW - 500, NOW))
def test_whatever_lies_on_a_board_it_never_lacks_and_has_too_many_at_once(found: list[Card], since: float | None) -> None:
    decided: Level = level(board(*found, ledger=a_ledger(surplus_since=since)), NOW)

    waiting = sum(card.kind == "job" and card.state == "queued" for card in found)
    assert 0 <= decided.lacking <= waiting and not (decided.lacking and decided.surplus)
    assert decided.supply + decided.lacking - len(decided.surplus) >= waiting
    idle = {card.identity for card in found if card.kind == "session" and card.state in demand.IDLE}
    assert set(decided.surplus) <= idle and len(set(decided.surplus)) == len(decided.surplus)
    assert decided.look_at is None or decided.look_at > NOW
