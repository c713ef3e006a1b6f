"""What is remembered moves in one direction only."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model import TRANSITIONS, JobState, SessionState, is_news, may_become
from tests.orchestrator.memory import World, a_job, a_session, an_event

ORDER = {"queued": 0, "in_progress": 1, "completed": 2}


def later_than(state: SessionState) -> set[SessionState]:
    found: set[SessionState] = set()
    frontier = {state}
    while frontier:
        frontier = {after for before in frontier for after in TRANSITIONS[before]} - found
        found |= frontier
    return found


@pytest.mark.parametrize("state", SessionState)
def test_no_state_is_ever_come_back_to(state: SessionState) -> None:
    assert state not in later_than(state)


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.CLOSED])
def test_every_state_leads_to_the_end(state: SessionState) -> None:
    assert SessionState.CLOSED in later_than(state)


@pytest.mark.parametrize("state", [s for s in SessionState if s not in (SessionState.ENDED, SessionState.CLOSED)])
def test_a_session_may_end_from_every_state(state: SessionState) -> None:
    assert may_become(a_session(state=state), SessionState.ENDED)


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.ENDED])
def test_only_an_ended_session_is_closed(state: SessionState) -> None:
    assert not may_become(a_session(state=state), SessionState.CLOSED)


@pytest.mark.parametrize(("known", "told"), list(itertools.product(JobState, JobState)))
def test_only_a_later_state_is_news(known: JobState, told: JobState) -> None:
    assert is_news(a_job(state=known), told) is (ORDER[told] > ORDER[known])


deliveries = st.lists(st.sampled_from(list(ORDER)), min_size=1, max_size=8)


@given(deliveries)
@settings(max_examples=60)
def test_in_any_order_and_number_a_delivery_that_is_no_news_changes_nothing(actions: list[str]) -> None:
    world = World()
    furthest = -1

    for at, action in enumerate(actions):
        before = world.records.job("1")
        world.turns.on_job_event(an_event(action, at=float(at), conclusion="success", runner_name=f"runner-{at}"))

        after = world.records.job("1")
        assert after is not None and (after == before) is (ORDER[action] <= furthest)
        furthest = max(furthest, ORDER[action])
        assert ORDER[after.state] == furthest


@given(deliveries)
@settings(max_examples=60)
def test_in_any_order_and_number_there_is_one_launch_if_queued_came_first_and_else_none(actions: list[str]) -> None:
    world = World()

    for action in actions:
        world.turns.on_job_event(an_event(action))

    assert world.compute.launched == (1 if actions[0] == "queued" else 0)
