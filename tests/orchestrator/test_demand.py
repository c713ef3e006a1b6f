"""How many sessions a label set lacks or has too many: numbers, never pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import demand
from orchestrator.fleet.demand import BUSY_S, EXPECTED_S, STALE_S, SURPLUS_S, WAITING_S, Assessment, assess
from orchestrator.jobs.model import JobState
from orchestrator.retry_policy import IDLE_EXITS
from orchestrator.store.kinds import OpenItem
from orchestrator.store.model import LabelSet, LabelSetView
from orchestrator.store.naming import machine_kind
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import SET, a_label_set, a_session

NOW = MORNING


def view(*items: OpenItem, label_set: LabelSet | None = None) -> LabelSetView:
    return LabelSetView(set_key=SET, label_set=label_set or a_label_set(), items=items)


def job(identity: str = "1", waited_s: float = 1.0, state: JobState = JobState.QUEUED) -> OpenItem:
    wants = state is JobState.QUEUED
    return OpenItem(kind="job", identity=identity, state=state.value, since=NOW - waited_s, wants_session=wants)


def session(identity: str = "s-1", state: SessionState = SessionState.READY, age_s: float = 10.0, **how: bool) -> OpenItem:
    return OpenItem(kind="session", identity=identity, state=state.value, since=NOW - age_s, **how)


def launch(*sessions: str) -> OpenItem:
    return OpenItem(kind="launch", identity="l-1", state="intended", since=NOW, sessions=sessions)


@pytest.mark.parametrize(
    ("items", "lacking"),
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
def test_what_lacks(items: list[OpenItem], lacking: int) -> None:
    assert assess(view(*items), NOW).lacking == lacking


def test_a_label_set_without_a_record_lacks_what_its_jobs_want() -> None:
    assert assess(LabelSetView(set_key=SET, items=(job(),)), NOW).lacking == 1


def test_a_surplus_is_only_noted_at_first() -> None:
    found = assess(view(session(age_s=600.0)), NOW)

    assert (found.surplus, found.surplus_since, found.look_at) == ((), NOW, NOW + SURPLUS_S)


def test_a_surplus_of_a_minute_is_taken_back_youngest_first_and_no_more_than_it_is() -> None:
    old = a_label_set(surplus_since=NOW - SURPLUS_S)
    items = [session(f"s-{age}", age_s=float(age)) for age in (100, 300, 200)]

    found = assess(view(job(), *items, label_set=old), NOW)

    assert found.surplus == ("s-100", "s-200")


def test_a_surplus_is_looked_at_again_when_its_minute_is_over() -> None:
    found = assess(view(session(age_s=600.0), label_set=a_label_set(surplus_since=NOW - 20.0)), NOW)

    assert (found.surplus, found.look_at) == ((), NOW + SURPLUS_S - 20.0)


@pytest.mark.parametrize("state", [SessionState.LAUNCHED, SessionState.CONFIGURED])
def test_the_machine_without_a_sign_of_life_is_taken_back_and_not_the_ready_one_beside_it(state: SessionState) -> None:
    old = a_label_set(surplus_since=NOW - SURPLUS_S)
    items = [session("ready", age_s=70.0), session("silent", state, age_s=700.0), session("booting", state, age_s=70.0)]

    assert assess(view(job(), job("2"), *items, label_set=old), NOW).surplus == ("silent",)
    assert assess(view(job(), *items, label_set=old), NOW).surplus == ("silent", "booting")


def test_a_machine_younger_than_the_minute_ec2_bills_is_kept() -> None:
    old = a_label_set(surplus_since=NOW - SURPLUS_S)

    found = assess(view(session("young", age_s=59.0), session("old", age_s=61.0), label_set=old), NOW)

    assert found.surplus == ("old",) and found.look_at == NOW + 1.0


def test_a_session_at_work_is_never_surplus() -> None:
    old = a_label_set(surplus_since=NOW - SURPLUS_S)

    found = assess(view(session(state=SessionState.BUSY, age_s=100.0), label_set=old), NOW)

    assert found.surplus == ()


def test_a_surplus_that_is_over_is_forgotten() -> None:
    found = assess(view(job(), session(), label_set=a_label_set(surplus_since=NOW - 500.0)), NOW)

    assert (found.surplus, found.surplus_since) == ((), None)


def test_who_says_to_work_and_is_not_confirmed_is_asked_about_whether_a_job_waits_or_not() -> None:
    silent = session(state=SessionState.BUSY, age_s=BUSY_S)

    assert assess(view(job(), silent), NOW).ask == ("s-1",)
    assert assess(view(silent), NOW).ask == ("s-1",)
    assert assess(view(session(state=SessionState.BUSY, age_s=BUSY_S - 1.0)), NOW).look_at == NOW + 1.0


def test_a_job_that_an_interruption_will_send_back_counts_until_its_time_is_over() -> None:
    expecting = demand.expecting(a_label_set(), NOW)

    assert assess(view(label_set=expecting), NOW).lacking == 1
    assert assess(view(label_set=expecting), NOW + EXPECTED_S).lacking == 0
    assert assess(view(session(), label_set=expecting), NOW).look_at == NOW + EXPECTED_S


def test_time_alone_may_change_a_level_and_then_it_is_looked_at_again() -> None:
    assert assess(view(job(), session(state=SessionState.BUSY, age_s=BUSY_S - 5.0)), NOW).look_at == NOW + 5.0
    assert assess(view(job(waited_s=STALE_S - 4.0), session(age_s=STALE_S)), NOW).look_at == NOW + 5.0
    assert assess(view(job(), session(state=SessionState.LAUNCHED)), NOW).look_at == NOW + WAITING_S
    assert assess(view(), NOW).look_at is None


def ends(label_set: LabelSet, number: int, *, worked: bool = False, image: str = "") -> LabelSet:
    for _ in range(number):
        label_set = demand.after_an_end(label_set, a_session(image=image), worked=worked, now=max(NOW, label_set.backoff_until))
    return label_set


def test_five_sessions_without_a_job_hold_the_next_launch_back_and_say_why() -> None:
    four, five = ends(a_label_set(), IDLE_EXITS - 1), ends(a_label_set(), IDLE_EXITS)

    assert assess(view(job(), label_set=four), NOW).lacking == 1
    held = assess(view(job(), label_set=five), NOW)
    assert (held.lacking, held.look_at) == (0, NOW + WAITING_S) and "5 machines in a row" in held.held
    assert assess(view(job(), label_set=five), NOW + 60.0).lacking == 1


def test_the_backoff_grows_from_one_minute_to_four_hours() -> None:
    moments = [ends(a_label_set(), IDLE_EXITS + n).backoff_until for n in range(11)]

    waits = [later - before for before, later in zip([NOW, *moments], moments, strict=False)]
    assert waits == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7680.0, 14400.0, 14400.0, 14400.0]


@pytest.mark.parametrize(("waited_s", "held_s"), [(5.0, 14_400.0), (-5.0, 1_800.0)])
def test_work_that_came_after_the_backoff_began_waits_half_an_hour_at_most(waited_s: float, held_s: float) -> None:
    held = a_label_set(backoff_until=NOW + 14_400.0, backoff_at=NOW, backoff_of="amd64 t:1", backoff_why="why")
    seen = view(job(waited_s=waited_s), label_set=held)

    assert assess(seen, NOW + held_s - 1.0).held == "why"
    assert assess(seen, NOW + held_s + 1.0).lacking == 1


def test_what_ends_while_the_next_launch_is_held_back_holds_it_back_no_longer() -> None:
    held = ends(a_label_set(), IDLE_EXITS)

    again = demand.after_an_end(held, a_session(), worked=False, now=NOW + 1.0)

    assert again == held


def test_a_session_that_was_made_for_no_job_proves_nothing_by_ending_without_one() -> None:
    spare = a_session(session_id="s-9", launched_for="s-9")

    assert demand.after_an_end(a_label_set(), spare, worked=False, now=NOW) == a_label_set()


def test_a_session_that_worked_closes_the_backoff() -> None:
    assert ends(ends(a_label_set(), 9), 1, worked=True).backoff_until == 0.0


def test_one_that_had_a_job_of_which_github_has_not_told_still_counts_for_two_minutes() -> None:
    label_set = demand.after_an_end(a_label_set(), a_session(busy_at=NOW - 30.0), worked=True, now=NOW)

    assert assess(view(job(), label_set=label_set), NOW + 89.0).lacking == 0
    assert assess(view(job(), label_set=label_set), NOW + 90.0).lacking == 1


def test_one_that_was_bound_does_not_count_after_its_end() -> None:
    label_set = demand.after_an_end(a_label_set(), a_session(busy_at=NOW - 30.0, bound_job="1"), worked=True, now=NOW)

    assert assess(view(job(), label_set=label_set), NOW).lacking == 1


def test_no_capacity_is_waited_out_longer_each_time() -> None:
    first = demand.after_a_refusal(a_label_set(), "l-1", "EC2 has no capacity", NOW)
    many = first
    for _ in range(10):
        many = demand.after_a_refusal(many, "l-1", "EC2 has no capacity", NOW)

    assert (first.backoff_until, many.backoff_until) == (NOW + 30.0, NOW + 600.0)
    assert assess(view(job(), label_set=first), NOW).held == "EC2 has no capacity"


def test_idle_ends_are_counted_for_each_kind_of_machine_and_image_and_a_success_forgets_all() -> None:
    label_set = a_label_set()
    for number in range(2 * (IDLE_EXITS - 1)):
        ended = a_session(spec=("spot", "on-demand")[number % 2], image="t:1")
        label_set = demand.after_an_end(label_set, ended, worked=False, now=NOW)
    held = demand.after_an_end(label_set, a_session(spec="spot", image="t:1"), worked=False, now=NOW)
    worked = demand.after_an_end(held, a_session(), worked=True, now=NOW)

    assert (label_set.backoff_until, held.backoff_of) == (0.0, machine_kind("spot", "t:1")) and held.backoff_until == NOW + 60.0
    assert (worked.idle_exits, worked.backoff_until, worked.backoff_of) == ({}, 0.0, "")


def test_a_machine_that_was_made_before_is_counted_off_by_the_one_whose_time_ends_first_and_is_not_over() -> None:
    assert demand.without_one((MORNING - 1.0, MORNING + 9.0, MORNING + 5.0), MORNING) == (MORNING + 9.0,)


def test_an_end_by_an_operator_or_of_work_that_was_told_of_says_nothing_about_the_next_launch() -> None:
    held = ends(a_label_set(), IDLE_EXITS)
    without_capacity = demand.after_a_refusal(ends(a_label_set(), 2), "l-1", "EC2 has no capacity", NOW)

    dismissed = demand.after_an_end(a_label_set(), a_session(reason="dismissed"), worked=False, now=NOW)
    taken, waits = demand.after_work(held), demand.after_work(without_capacity)

    assert dismissed == a_label_set()
    assert (taken.idle_exits, taken.backoff_until, taken.backoff_of) == ({}, 0.0, "")
    assert (waits.idle_exits, waits.backoff_until, waits.refusals) == ({}, NOW + 30.0, 1), "missing capacity is another matter"


def test_after_idle_exits_one_machine_is_on_trial_whatever_waits() -> None:
    doubted = ends(a_label_set(), IDLE_EXITS)
    later, jobs = doubted.backoff_until, [job(str(n)) for n in range(3)]

    first = assess(view(*jobs, label_set=doubted), later)
    second = assess(view(*jobs, launch("s-1"), label_set=doubted), later)

    assert (first.lacking, first.held, second.lacking, second.held) == (1, "", 0, demand.ON_TRIAL)


def test_work_that_lost_a_machine_is_to_get_one_that_is_not_taken_back() -> None:
    hit = OpenItem(kind="job", identity="9", state="queued", since=NOW, wants_session=True, non_interruptible=True)
    lasting = session("s-9", SessionState.LAUNCHED, non_interruptible=True)

    assert assess(view(job(), hit), NOW).non_interruptible == 1
    assert assess(view(job(), hit, lasting), NOW).non_interruptible == 0
    assert assess(view(job(), label_set=demand.expecting(a_label_set(), NOW)), NOW).non_interruptible == 1


@pytest.mark.parametrize(
    ("exits", "waited_s", "doubtful"), [(1, STALE_S + 1.0, True), (1, STALE_S, False), (0, STALE_S + 1.0, False)]
)
def test_work_beside_which_machines_came_to_nothing_is_asked_about_once_it_waited_for_long(
    exits: int, waited_s: float, doubtful: bool
) -> None:
    assert assess(view(job(waited_s=waited_s), label_set=ends(a_label_set(), exits)), NOW).doubtful is doubtful


def test_a_machine_made_before_counts_as_wanted_until_its_time_is_over_and_jobs_take_it() -> None:
    prepared = a_label_set(prepared=(NOW + 60.0, NOW + 60.0))

    lacking = [assess(view(*items, label_set=prepared), NOW).lacking for items in ((), (job(),), (job("1"), job("2"), job("3")))]

    assert lacking == [2, 2, 3]
    assert assess(view(label_set=prepared), NOW + 60.0).lacking == 0


items = st.lists(
    st.one_of(
        st.builds(job, st.sampled_from("123456789"), st.floats(0, 1000), st.sampled_from(JobState)),
        st.builds(session, st.sampled_from("abcdefghi"), st.sampled_from(SessionState), st.floats(0, 1000)),
        st.lists(st.sampled_from("abcdefghi"), unique=True).map(lambda names: launch(*names)),
    ),
    unique_by=lambda item: (item.kind, item.identity),
)


@given(items, st.none() | st.floats(NOW - 500, NOW))
def test_whatever_lies_in_a_view_it_never_lacks_and_has_too_many_at_once(found: list[OpenItem], since: float | None) -> None:
    decided: Assessment = assess(view(*found, label_set=a_label_set(surplus_since=since)), NOW)

    waiting = sum(item.kind == "job" and item.state == "queued" for item in found)
    assert 0 <= decided.lacking <= waiting and not (decided.lacking and decided.surplus)
    assert decided.supply + decided.lacking - len(decided.surplus) >= waiting
    idle = {item.identity for item in found if item.kind == "session" and item.state in demand.IDLE}
    assert set(decided.surplus) <= idle and len(set(decided.surplus)) == len(decided.surplus)
    assert decided.look_at is None or decided.look_at > NOW
