"""The record of a launch: where it counts as supply, as long as any of its sessions may still get a machine."""

from __future__ import annotations

import pytest

from orchestrator.store.kinds import OpenItem, changed, is_over, may_become
from orchestrator.store.launch import Launch, PlannedSession
from orchestrator.store.naming import OPEN_LAUNCHES, repository_key
from orchestrator.store.records import Records
from orchestrator.store.resources import Resources
from orchestrator.store.states import LaunchState
from orchestrator.store.tables import KEPT_S, SESSIONS
from simulation.clock import MORNING, VirtualTime
from simulation.examples import a_launch
from simulation.tables import MemoryTables


def planned(number: int, set_key: str, repository: str) -> PlannedSession:
    """One of a launch's sessions."""
    return PlannedSession(session_id=f"s-{number}", set_key=set_key, item_id=str(number), repository=repository)


SHARED = a_launch(
    sessions=(planned(0, "a", "octo/Widgets"), planned(1, "b", "octo/Widgets"), planned(2, "a", "octo/gears")),
    sets=("a", "b"), repositories=("octo/Widgets", "octo/gears"), created_at=MORNING,
)  # fmt: skip
"""For two label sets and two repositories."""
VIEWS = ("a", "b", "repository/octo/widgets", "repository/octo/gears", OPEN_LAUNCHES)


def sessions_by_view(launch: Launch) -> dict[str, tuple[str, ...] | None]:
    return {view: item and item.sessions for view, item in Launch.KIND.items(launch).items()}


def test_a_launch_counts_in_each_view_with_the_sessions_of_that_view() -> None:
    assert sessions_by_view(SHARED) == {
        "a": ("s-0", "s-2"), "b": ("s-1",), "repository/octo/widgets": ("s-0", "s-1"), "repository/octo/gears": ("s-2",),
        OPEN_LAUNCHES: ("s-0", "s-1", "s-2"),
    }  # fmt: skip


def test_what_decisions_need_of_a_launch_lies_in_every_view() -> None:
    each = Resources(1, 4.0, 0.2)

    items = Launch.KIND.items(changed(SHARED, non_interruptible=True, each=each, state=LaunchState.ASSIGNED))

    wanted = OpenItem(kind="launch", identity="l-1", state="assigned", since=MORNING, non_interruptible=True, each=each)
    assert [changed(item, sessions=()) for item in items.values() if item is not None] == [wanted] * len(VIEWS)


def test_a_view_whose_sessions_all_have_records_loses_its_item_and_the_others_keep_theirs() -> None:
    launch = changed(SHARED, sessions=SHARED.sessions[1:2])

    assert sessions_by_view(launch) == dict.fromkeys(VIEWS) | {
        "b": ("s-1",), "repository/octo/widgets": ("s-1",), OPEN_LAUNCHES: ("s-1",),
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"state": LaunchState.CLOSED}, {"sessions": ()}], ids=["closed", "nobody is left"])
def test_a_launch_that_gives_nobody_a_machine_any_more_counts_nowhere(changes: dict[str, object]) -> None:
    assert sessions_by_view(changed(SHARED, **changes)) == dict.fromkeys(VIEWS)


def test_every_write_of_a_launch_reaches_every_view() -> None:
    records = Records(MemoryTables(VirtualTime()))
    launch = records.put(SHARED)
    launch = records.put(changed(launch, state=LaunchState.ASSIGNED, sessions=SHARED.sessions[:2]))
    found = [[(item.state, item.sessions) for item in records.view(view).items] for view in VIEWS]

    records.put(changed(launch, state=LaunchState.CLOSED))

    assert found == [
        [("assigned", ("s-0",))], [("assigned", ("s-1",))], [("assigned", ("s-0", "s-1"))], [], [("assigned", ("s-0", "s-1"))],
    ]  # fmt: skip
    assert [records.view(view).items for view in VIEWS] == [()] * len(VIEWS)


def test_a_launch_is_open_and_due_until_it_is_closed_and_kept_a_while_then() -> None:
    tables = MemoryTables(VirtualTime())
    launch = Records(tables).put(changed(SHARED, due=5.0))
    before = tables.peek(SESSIONS, ("l-1", "launch")) or {}

    closed = Records(tables).put(changed(launch, state=LaunchState.CLOSED))

    after = tables.peek(SESSIONS, ("l-1", "launch")) or {}
    assert (is_over(launch), is_over(closed)) == (False, True)
    assert ("expires" in before, before["due"], after["expires"]) == (False, 5.0, int(MORNING + KEPT_S))
    assert not {"due", "shard"} & set(after) and "shard" in before


def test_a_launch_is_asked_for_answered_and_asked_for_again_or_closed() -> None:
    allowed = {(before, after) for before in LaunchState for after in LaunchState if may_become(a_launch(state=before), after)}

    assert allowed == {
        (LaunchState.INTENDED, LaunchState.ASSIGNED), (LaunchState.ASSIGNED, LaunchState.INTENDED),
        (LaunchState.ASSIGNED, LaunchState.CLOSED),
    }  # fmt: skip


def test_a_repository_counts_a_launch_however_its_name_is_written() -> None:
    launch = a_launch(sessions=(planned(0, "a", "OCTO/widgets"),), sets=("a",), repositories=("OCTO/widgets",))

    assert sessions_by_view(launch)[repository_key("octo/Widgets")] == ("s-0",)
