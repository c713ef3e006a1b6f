"""The record of a launch: what was asked of a strategy, for which sessions, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from orchestrator.errors import FailureKind
from orchestrator.store.kinds import HistoryEntry, Kind, OpenItem, Record
from orchestrator.store.naming import OPEN_LAUNCHES, repository_key
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import NOTHING, Resources
from orchestrator.store.states import LAUNCH_TRANSITIONS, LaunchState
from orchestrator.store.tables import SESSIONS


class PlannedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that a launch is to give a machine."""

    session_id: str
    set_key: str
    item_id: str
    """The work whose waiting made us launch; the session may do other work."""
    run_id: str = ""
    """What that work belongs to, in the words of its source."""
    repository: str = ""
    """`owner/repo`."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a launch's fallback that was asked for and answered."""

    at: float
    """Epoch seconds."""
    step: int
    market: str
    wanted: int
    got: int
    reasons: tuple[str, ...] = ()
    """The strategy's own reasons for what it did not give, `code: message` each."""
    failure: FailureKind | None = None
    """What follows from these reasons; None: nothing is missing."""
    why: str = ""
    """The same in words for people."""


def _launch_items(launch: Launch) -> Mapping[str, OpenItem | None]:
    of_view = {key: tuple(one.session_id for one in launch.sessions if one.set_key == key) for key in launch.sets}
    of_view |= {
        repository_key(name): tuple(one.session_id for one in launch.sessions if one.repository == name)
        for name in launch.repositories
    }
    of_view[OPEN_LAUNCHES] = tuple(one.session_id for one in launch.sessions)
    return {
        key: OpenItem(
            kind="launch", identity=launch.launch_id, state=launch.state.value, since=launch.created_at,
            non_interruptible=launch.non_interruptible, each=launch.each, sessions=sessions,
        ) if sessions and launch.state is not LaunchState.CLOSED else None
        for key, sessions in of_view.items()
    }  # fmt: skip


class Launch(Record, frozen=True, kw_only=True):
    """One wish of a strategy, for sessions of one or more label sets that need the same kind of machine."""

    KIND: ClassVar[Kind[Launch]] = Kind(
        table=SESSIONS, row="launch", key=lambda it: it.launch_id, is_over=lambda it: it.state is LaunchState.CLOSED,
        kept_since=lambda it: it.created_at if it.state is LaunchState.CLOSED else None, items=_launch_items, read_order=1,
        transitions=LAUNCH_TRANSITIONS,
    )  # fmt: skip
    launch_id: str
    spec: str
    """Short name of the kind of machine (`MachineRequest.spec`), for tags and tables."""
    machine: MachineRequest = MachineRequest()
    strategy: str = ""
    """The name of the strategy that is asked."""
    request: str
    """The exact request in the strategy's own words, committed before the call; a replay sends the same bytes."""
    sessions: tuple[PlannedSession, ...]
    """Those that have no record of their own yet."""
    sets: tuple[str, ...]
    """The label sets it was made for."""
    repositories: tuple[str, ...] = ()
    """And the repositories, `owner/repo`."""
    step: int = 0
    """The step of the strategy's fallback; each has a token of its own."""
    market: str = ""
    """What that step asks for, in the strategy's words."""
    interruptible: bool = False
    """Whether what that step asks for may be taken back."""
    asked_at: float = 0.0
    """When that step was committed."""
    lost: bool = False
    """An answer to that step was lost: what it made is asked for again before anything else is."""
    state: LaunchState = LaunchState.INTENDED
    instances: dict[str, str] = {}
    """Session id to machine id, as assigned in this step."""
    non_interruptible: bool = False
    """Only machines that are not taken back: for work that lost a machine, or is about to."""
    each: Resources = NOTHING
    """Of one of its machines, at most."""
    placements: dict[str, str] = {}
    """Machine id to where it was placed, in the strategy's words, where the strategy said."""
    found: dict[str, Resources] = {}
    """Machine id to what it really is, where the strategy said."""
    registrations: dict[str, int] = {}
    """Session id to the id of its registration, where the payload travelled in the call."""
    attempts: tuple[Attempt, ...] = ()
    """What came of each step that was answered."""
    failures: tuple[HistoryEntry, ...] = ()
    """What the strategy answered instead, lately."""
    image: str = ""
    """What its machines boot from, in the strategy's words."""
    created_at: float = 0.0
    expires_at: float = 0.0
    """When its machines are terminated, whatever they do."""
    due: float = 0.0
