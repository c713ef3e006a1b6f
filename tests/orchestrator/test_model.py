"""What is remembered moves in one direction only."""

from __future__ import annotations

import itertools
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model import changed, may_become
from orchestrator.naming import set_key
from orchestrator.states import TRANSITIONS, JobState, LaunchState, NoteState, RescueState, SessionState
from tests.orchestrator.memory import MORNING, World, a_job, a_session, an_event

ORDER = {"waiting": 0, "queued": 1, "in_progress": 2, "completed": 3}
ENDS = {
    JobState: JobState.COMPLETED,
    LaunchState: LaunchState.CLOSED,
    SessionState: SessionState.CLOSED,
    RescueState: RescueState.RESTING,
    NoteState: NoteState.DONE,
}
STATES = [state for kind in ENDS for state in kind]


def later_than(state: StrEnum) -> set[StrEnum]:
    found: set[StrEnum] = set()
    frontier: set[StrEnum] = {state}
    while frontier:
        frontier = {after for before in frontier for after in TRANSITIONS[type(before)][before]} - found
        found |= frontier
    return found


def test_the_table_has_a_row_for_every_state() -> None:
    assert {kind: set(table) for kind, table in TRANSITIONS.items()} == {kind: set(kind) for kind in ENDS}


@pytest.mark.parametrize("state", [state for state in STATES if not isinstance(state, LaunchState | RescueState)])
def test_no_state_is_ever_come_back_to(state: StrEnum) -> None:
    assert state not in later_than(state)


@pytest.mark.parametrize("state", [state for state in STATES if state is not ENDS[type(state)]])
def test_every_state_leads_to_the_end(state: StrEnum) -> None:
    assert ENDS[type(state)] in later_than(state)


@pytest.mark.parametrize("state", [s for s in SessionState if s not in (SessionState.ENDED, SessionState.CLOSED)])
def test_a_session_may_end_from_every_state(state: SessionState) -> None:
    assert may_become(a_session(state=state), SessionState.ENDED)


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.ENDED])
def test_only_an_ended_session_is_closed(state: SessionState) -> None:
    assert not may_become(a_session(state=state), SessionState.CLOSED)


@pytest.mark.parametrize(("known", "told"), list(itertools.product(JobState, JobState)))
def test_only_a_later_state_is_news(known: JobState, told: JobState) -> None:
    assert may_become(a_job(state=known), told) is (ORDER[told] > ORDER[known])


@given(st.lists(st.text(max_size=8), max_size=5), st.randoms())
def test_a_label_set_is_the_same_in_any_order_and_case(labels: list[str], chance: object) -> None:
    shuffled = sorted(labels, key=lambda _: chance.random())  # type: ignore[attr-defined]

    same = set_key("octo", "widgets", 1, tuple(labels))

    assert same == set_key("Octo", "WIDGETS", 1, tuple(label.casefold() for label in shuffled))
    assert same not in (set_key("octo", "widgets", 2, tuple(labels)), set_key("octo", "gadgets", 1, tuple(labels)))


deliveries = st.lists(st.sampled_from(list(ORDER)), min_size=1, max_size=8)


@given(deliveries)
@settings(max_examples=60)
def test_in_any_order_and_number_a_delivery_that_is_no_news_changes_nothing(actions: list[str]) -> None:
    world = World()
    furthest = -1

    for at, action in enumerate(actions):
        before = world.records.job("1")
        world.told(an_event(action, at=MORNING + at, conclusion="success", runner_name=f"runner-{at}"))

        after = world.records.job("1")
        assert after is not None and (after == before) is (ORDER[action] <= furthest)
        furthest = max(furthest, ORDER[action])
        assert ORDER[after.state] == furthest


@given(deliveries)
@settings(max_examples=60)
def test_in_any_order_and_number_nothing_is_launched_but_for_a_job_that_is_queued(actions: list[str]) -> None:
    world = World()
    wanted = 0

    furthest = -1
    for action in actions:
        world.told(an_event(action))
        wanted = max(wanted, int(action == "queued" and furthest < 1))
        furthest = max(furthest, ORDER[action])

    assert world.compute.launched == wanted


@pytest.mark.parametrize(
    "conclusion", ["success", "failure", "cancelled", "skipped", "timed_out", "action_required", "neutral", "stale"]
)
def test_a_job_that_completed_wants_nothing_whatever_its_conclusion(conclusion: str) -> None:
    world = World()

    world.told(an_event("completed", conclusion=conclusion))
    world.told(an_event("queued"))

    job = world.records.job("1")
    assert job is not None and (job.conclusion, world.compute.launched) == (conclusion, 0)


def test_a_job_that_waits_for_approval_wants_a_machine_when_it_has_it() -> None:
    world = World()
    world.told(an_event("waiting"))
    before = world.compute.launched

    world.told(an_event("queued"))
    world.told(an_event("queued"))

    assert (before, world.compute.launched) == (0, 1)


def test_a_change_leaves_the_record_it_was_made_of_alone() -> None:
    job = a_job()

    assert (changed(job, name="b").name, job.name) == ("b", "build")
