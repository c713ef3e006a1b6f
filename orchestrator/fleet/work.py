"""The port between the fleet and its sources of work: what is wanted, what a session gets, what became of it.

The fleet knows label sets, launches and sessions. A source knows where the work comes from (jobs today, tasks later). A
new source is one package with a class that keeps this promise, and one line: `more_sources` of `orchestrator/components.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.contract.messages import FinalWord
from orchestrator.errors import ServiceFailed
from orchestrator.store.model import LabelSet, LabelSetView, Session


@dataclass(frozen=True)
class RegistrationQuota:
    """How many more sessions may be registered now; `left` None: nobody knows. `why`: what keeps it from being more."""

    left: int | None = None
    why: str = "the limit of registrations"
    on_trial: bool = False
    """Registering was refused there lately: one machine shows whether it is allowed now."""


@dataclass(frozen=True)
class Registered:
    """A session's registration. `configuration` is the text its agent reads; it holds a secret and must not be logged."""

    registration_id: int
    configuration: Callable[[Session], str]
    """The text for a session as it is written now (its attempt is part of it). Raises: Unlaunchable."""


@dataclass(frozen=True)
class Refreshed:
    """What asking the origin of the work brought: whether it answered everything, and whether anything was news.

    `again_at`: when it may be asked again for what it did not answer (epoch seconds), if it said so.
    """

    answered: bool
    news: bool
    again_at: float | None = None


class WorkSource(Protocol):
    """One source of work. Every method raises ServiceFailed where a service it needs is silent, unless its text says more."""

    @property
    def name(self) -> str:
        """The source's name in records."""

    # What is wanted

    def describe(self, view: LabelSetView) -> LabelSet | None:
        """The label set of a view as its newest work tells it (not yet written); None: no work of ours is there."""

    def refresh(self, set_key: str, silent: Sequence[Session], *, urgent: bool) -> Refreshed:
        """Ask the origin what it has not told: about sessions that say they work, and about work that waits.

        `urgent`: also where little is left of the origin's limits. Never raises: what cannot be asked is not answered.
        """

    def quota(self, label_set: LabelSet) -> RegistrationQuota:
        """How many sessions of a label set may be registered now."""

    def waits(self, item_ids: Sequence[str], why: str) -> None:
        """Tell whoever waits for this work why it waits, once each; it goes on being tried."""

    def waits_for_nothing(self, item_ids: Sequence[str], why: str) -> None:
        """Tell whoever waits for this work that no machine will do for it as things stand, once each."""

    def untaken(self, item_ids: Sequence[str], why: str) -> None:
        """Tell whoever waits for this work that machines were there for it and none was given it, once each."""

    def give_up(self, item_ids: Sequence[str], why: str) -> None:
        """End this work: it asked to fail rather than to wait, and there is no capacity."""

    # One session

    def register(self, session: Session) -> Registered:
        """Register a session with whoever hands the work out; an earlier registration of the same name is replaced.

        Raises: Unlaunchable: it is refused, and would be again; whoever waits was told.
        """

    def registration_of(self, session: Session) -> int:
        """The id of a session's registration; 0: there is none."""

    def withdraw(self, session: Session) -> bool:
        """Take an idle session's registration back; False: it has work, or had it. After True nobody can give it work."""

    def is_working(self, session: Session) -> bool:
        """Whether the origin says that a session works, for one of which nothing was heard for long."""

    def is_unregistered(self, session: Session) -> bool:
        """Whether nothing of a session's registration is left; removes what is."""

    # What happened to it

    def will_return(self, session: Session) -> bool:
        """Whether the work of a session would come back to us if its machine were taken away now."""

    def cause_of(self, word: FinalWord) -> str:
        """Why the machine was too small for its work, for whoever asked for it; empty: it was not. Makes no call."""

    def ended(self, session: Session) -> None:
        """A session ended, or more became known of its end. Safe to repeat."""

    def end_corrected(self, session: Session) -> None:
        """A session whose end was only inferred has reported itself that it was not interrupted."""

    # What has to be looked at

    @property
    def due(self) -> Mapping[str, Callable[[str], None]]:
        """Row of a record to what is done about one of these ids that is due."""

    @property
    def collectors(self) -> Mapping[str, Callable[[], None]]:
        """Name of a garbage collector to what it does, every minute by one process of the stack."""


class Sources:
    """The sources of a stack, by name; filled while the stack is put together."""

    def __init__(self) -> None:
        self._sources: dict[str, WorkSource] = {}

    def add(self, source: WorkSource) -> None:
        """Register one source more."""
        self._sources[source.name] = source

    def __iter__(self) -> Iterator[WorkSource]:
        return iter(self._sources.values())

    def of(self, record: LabelSet | Session) -> WorkSource:
        """The source of a record's work. Raises: ServiceFailed: the stack had it once and does not have it any more."""
        if record.source not in self._sources:
            known = ", ".join(self._sources)
            raise ServiceFailed("fleet:source", "UnknownSource", f"{record.source!r}: expected one of {known}")
        return self._sources[record.source]

    def of_view(self, view: LabelSetView) -> WorkSource | None:
        """The source of a view's label set, or of its work where nobody wrote the label set yet; None: nothing is there."""
        if view.label_set is not None:
            return self.of(view.label_set)
        named = [item.source for item in view.items if item.source in self._sources]
        return self._sources[named[0]] if named else None
