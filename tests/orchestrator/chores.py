"""A second source of work and a kind of record of its own, made for tests: chores, each done by one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from agent.contract.messages import FinalWord
from orchestrator.components import Sourced
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Refreshed, Registered, RegistrationQuota
from orchestrator.store.kinds import Kind, OpenItem, Record, changed
from orchestrator.store.model import LabelSet, LabelSetView, Session
from orchestrator.store.naming import Scope, set_key
from orchestrator.store.records import Records
from orchestrator.store.tables import SESSIONS

SOURCE = "chores"
SCOPE = Scope("", "home", "kitchen")
LABELS = ("chore",)
KEY = set_key("home", "kitchen", 1, LABELS)
OVERDUE_S = 3600.0


class ChoreState(StrEnum):
    """Where a chore is."""

    WAITING = "waiting"
    DONE = "done"
    OVERDUE = "overdue"


def _items(chore: Chore) -> Mapping[str, OpenItem | None]:
    waits = OpenItem(
        kind="chore", identity=chore.name, state=chore.state.value, since=chore.since, source=SOURCE, wants_session=True
    )
    return {KEY: waits if chore.state is ChoreState.WAITING else None}


class Chore(Record, frozen=True, kw_only=True):
    """Something to be done."""

    KIND: ClassVar[Kind[Chore]] = Kind(
        table=SESSIONS, row="chore", key=lambda it: it.name, is_over=lambda it: it.state is ChoreState.DONE,
        kept_since=lambda it: it.since if it.state is ChoreState.DONE else None, items=_items, read_order=4,
        transitions={
            ChoreState.WAITING: frozenset({ChoreState.DONE, ChoreState.OVERDUE}),
            ChoreState.OVERDUE: frozenset({ChoreState.DONE}), ChoreState.DONE: frozenset(),
        },
    )  # fmt: skip
    name: str
    since: float
    due: float
    state: ChoreState = ChoreState.WAITING


@dataclass
class Chores:
    """WorkSource (`fleet/work.py`)."""

    records: Records
    sessions: Sessions
    name: str = SOURCE

    def add(self, name: str, now: float) -> None:
        """Something more is to be done."""
        self.records.put(Chore(name=name, since=now, due=now + OVERDUE_S))
        self.sessions.wake(KEY)

    def describe(self, view: LabelSetView) -> LabelSet | None:
        """One set for all chores."""
        mine = any(item.source == SOURCE for item in view.items)
        fresh = LabelSet(set_key=KEY, source=SOURCE, scope=SCOPE, repository="home/kitchen", labels=LABELS)
        return view.label_set or (fresh if mine else None)

    def refresh(self, set_key: str, silent: Sequence[Session], *, urgent: bool) -> Refreshed:
        """The records are all there is."""
        return Refreshed(answered=True, news=False)

    def quota(self, label_set: LabelSet) -> RegistrationQuota:
        """As many as are wanted."""
        return RegistrationQuota()

    def waits(self, item_ids: Sequence[str], why: str) -> None:
        """Nobody asks."""

    def waits_for_nothing(self, item_ids: Sequence[str], why: str) -> None:
        """Nobody asks."""

    def untaken(self, item_ids: Sequence[str], why: str) -> None:
        """Nobody asks."""

    def give_up(self, item_ids: Sequence[str], why: str) -> None:
        """Chores wait for ever."""

    def register(self, session: Session) -> Registered:
        """Nobody hands chores out: the configuration says it all."""
        return Registered(0, lambda fresh: f"do {fresh.launched_for} in {fresh.session_id}")

    def registration_of(self, session: Session) -> int:
        """There are none."""
        return 0

    def withdraw(self, session: Session) -> bool:
        """Whoever was told does it."""
        return False

    def is_working(self, session: Session) -> bool:
        """Nobody can be asked."""
        return False

    def is_unregistered(self, session: Session) -> bool:
        """There is nothing to remove."""
        return True

    def will_return(self, session: Session) -> bool:
        """What was not done still waits."""
        return True

    def cause_of(self, word: FinalWord) -> str:
        """Chores fit anywhere."""
        return ""

    def ended(self, session: Session) -> None:
        """Done, if its session says so."""
        chore = self.records.read(Chore, session.launched_for)
        if chore is not None and session.status == "success" and chore.state is not ChoreState.DONE:
            self.records.put(changed(chore, state=ChoreState.DONE))

    def end_corrected(self, session: Session) -> None:
        """As it ends."""

    @property
    def due(self) -> Mapping[str, Callable[[str], None]]:
        """Those that wait for too long."""
        return {Chore.KIND.row: self._overdue}

    @property
    def collectors(self) -> Mapping[str, Callable[[], None]]:
        """Nothing is left over."""
        return {}

    def _overdue(self, name: str) -> None:
        chore = self.records.read(Chore, name)
        if chore is not None and chore.state is ChoreState.WAITING:
            self.records.put(changed(chore, state=ChoreState.OVERDUE, due=chore.due + 10 * OVERDUE_S))


def chores(sourced: Sourced) -> list[Chores]:
    """The line that registers the source."""
    return [Chores(sourced.ports.records, sourced.sessions)]
