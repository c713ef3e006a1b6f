"""What is remembered moves in one direction only."""

from __future__ import annotations

import itertools
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.jobs.model import Job, JobState, Notice, NoticeState, Rerun, RerunState
from orchestrator.store.kinds import OpenItem, Record, changed, may_become
from orchestrator.store.launch import Launch
from orchestrator.store.model import LabelSet, LabelSetView, Session, Stack, TokenBucket, arriving
from orchestrator.store.naming import repository_key
from orchestrator.store.records import Records
from orchestrator.store.resources import Resources
from orchestrator.store.states import LaunchState, SessionState
from orchestrator.store.tables import JOBS, KEPT_S, LABEL_SET_KEPT_S, SESSIONS
from simulation.clock import MORNING, VirtualTime
from simulation.examples import SET, a_job, a_label_set, a_session, an_event
from simulation.tables import MemoryTables
from simulation.world import World

ORDER = {"waiting": 0, "queued": 1, "in_progress": 2, "completed": 3}
STATES: dict[type[Record], type[StrEnum]] = {
    Job: JobState, Launch: LaunchState, Session: SessionState, Rerun: RerunState, Notice: NoticeState,
}  # fmt: skip
"""The states of every kind of record that has some; the last one is the end."""
EVERY = [(kind, state) for kind, states in STATES.items() for state in states]


def later_than(kind: type[Record], state: StrEnum) -> set[StrEnum]:
    found: set[StrEnum] = set()
    frontier: set[StrEnum] = {state}
    while frontier:
        frontier = {after for before in frontier for after in kind.KIND.transitions[before]} - found
        found |= frontier
    return found


def test_the_table_has_a_row_for_every_state() -> None:
    ours = [kind for kind in Record.__subclasses__() if kind.__module__.startswith("orchestrator.")]

    assert {kind: set(kind.KIND.transitions) for kind in ours if hasattr(kind, "state")} == {
        kind: set(states) for kind, states in STATES.items()
    }


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind, state in EVERY if kind not in (Launch, Notice, Rerun)])
def test_no_state_is_ever_come_back_to(kind: type[Record], state: StrEnum) -> None:
    assert state not in later_than(kind, state)


@pytest.mark.parametrize(("kind", "state"), [(kind, state) for kind, state in EVERY if state is not list(STATES[kind])[-1]])
def test_every_state_leads_to_the_end(kind: type[Record], state: StrEnum) -> None:
    assert list(STATES[kind])[-1] in later_than(kind, state)


@pytest.mark.parametrize("state", [s for s in SessionState if s not in (SessionState.ENDED, SessionState.CLOSED)])
def test_a_session_may_end_from_every_state(state: SessionState) -> None:
    assert may_become(a_session(state=state), SessionState.ENDED)


@pytest.mark.parametrize("state", [state for state in SessionState if state is not SessionState.ENDED])
def test_only_an_ended_session_is_closed(state: SessionState) -> None:
    assert not may_become(a_session(state=state), SessionState.CLOSED)


@pytest.mark.parametrize("state", [s for s in SessionState if s not in (SessionState.ENDED, SessionState.CLOSED)])
def test_a_session_goes_on_to_every_later_state_though_nobody_heard_of_those_between(state: SessionState) -> None:
    order = list(SessionState)

    allowed = [other for other in order if may_become(a_session(state=state), other)]

    assert allowed == order[order.index(state) + 1 : -1]


@pytest.mark.parametrize(("known", "told"), list(itertools.product(JobState, JobState)))
def test_only_a_later_state_is_news(known: JobState, told: JobState) -> None:
    assert may_become(a_job(state=known), told) is (ORDER[told] > ORDER[known])


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


REPOSITORY = repository_key("octo/widgets")


def items_of(session: Session) -> dict[str, OpenItem | None]:
    return dict(Session.KIND.items(session))


def test_an_open_session_leaves_what_decisions_need_with_its_label_set_and_its_repository() -> None:
    session = a_session(
        state=SessionState.BUSY, bound_job="9", interrupting_at=7.0, non_interruptible=True, resources=Resources(1, 2.0, 0.1),
        launched_at=1.0, ready_at=2.0, busy_at=3.0,
    )  # fmt: skip

    item = OpenItem(
        kind="session", identity="s-1", state="busy", since=3.0, bound=True, leaving=True, non_interruptible=True, run_id="7",
        each=Resources(1, 2.0, 0.1),
    )  # fmt: skip
    assert items_of(session) == {SET: item, REPOSITORY: item}


@pytest.mark.parametrize(
    ("state", "since"), [("launched", 1.0), ("configured", 1.0), ("ready", 2.0), ("busy", 3.0), ("ended", None), ("closed", None)]
)
def test_a_session_counts_since_it_is_in_its_state_until_it_is_over(state: str, since: float | None) -> None:
    session = a_session(state=SessionState(state), launched_at=1.0, ready_at=2.0, busy_at=3.0, ended_at=4.0)

    found = items_of(session).values()

    assert [item and item.since for item in found] == [since, since]
    assert session.is_over is (since is None)


def test_a_session_that_nobody_bound_and_nobody_takes_away_says_so() -> None:
    item = items_of(a_session())[SET]

    assert item == OpenItem(kind="session", identity="s-1", state="launched", run_id="7")


def test_the_items_of_a_repository_are_written_at_the_beginning_and_removed_in_the_end() -> None:
    records = Records(MemoryTables(VirtualTime()))
    session = records.put(a_session())
    session = records.put(changed(session, state=SessionState.READY))
    states = [item.state for key in (SET, REPOSITORY) for item in records.view(key).items]

    records.put(changed(session, state=SessionState.ENDED))

    assert (states, records.view(SET).items, records.view(REPOSITORY).items) == (["ready", "launched"], (), ())


def test_a_session_is_found_from_the_work_it_was_launched_for_as_long_as_anybody_may_ask() -> None:
    tables = MemoryTables(VirtualTime())
    records = Records(tables)
    session = records.put(a_session(expires_at=MORNING))
    records.save(
        a_session(session_id="s-2"),
        a_session(session_id="s-3", launched_for="other"),
        a_session(session_id="s-4", launched_for=""),
    )
    written = tables.peek(JOBS, ("1", "session#s-1"))

    records.put(changed(session, expires_at=9.0))

    assert written is not None and written["expires"] == int(MORNING + KEPT_S)
    assert tables.peek(JOBS, ("1", "session#s-1")) == written
    assert (records.sessions_for("1"), records.sessions_for("other"), records.sessions_for("")) == (["s-1", "s-2"], ["s-3"], [])


@pytest.mark.parametrize(("state", "due"), [(state, state is not SessionState.CLOSED) for state in SessionState])
def test_a_session_has_a_deadline_until_nothing_of_it_is_left(state: SessionState, due: bool) -> None:
    assert Session.KIND.has_deadline(a_session(state=state)) is due


def test_a_label_set_is_forgotten_long_after_its_last_launch_and_the_stack_never() -> None:
    tables = MemoryTables(VirtualTime())
    Records(tables).save(a_label_set(touched_at=MORNING), TokenBucket(key="k", at=MORNING), Stack(at=MORNING))

    kept = [
        tables.peek(SESSIONS, key) or {} for key in ((SET, LabelSet.KIND.row), ("k", TokenBucket.KIND.row), ("stack", "stack"))
    ]

    assert [item.get("expires", 0) - int(MORNING) for item in kept[:2]] == [LABEL_SET_KEPT_S + KEPT_S, KEPT_S]
    assert "expires" not in kept[2] and "shard" not in kept[2]


def test_who_is_still_to_arrive_are_the_planned_that_have_no_item_of_their_own() -> None:
    items = (
        OpenItem(kind="launch", identity="l-1", state="assigned", sessions=("s-1", "s-2")),
        OpenItem(kind="launch", identity="l-2", state="intended", sessions=("s-3",)),
        OpenItem(kind="session", identity="s-1", state="launched"),
        OpenItem(kind="job", identity="s-2", state="queued"),
    )

    assert arriving(LabelSetView(set_key=SET, items=items)) == {"s-2", "s-3"}
    assert arriving(LabelSetView(set_key=SET)) == set()
