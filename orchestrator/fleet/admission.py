"""Which launches are admitted now: as many as the limits allow, repositories in turn; the others stand in the waitlist.

A launch is committed, with the exact request and on the label sets as they were read, before its strategy hears of it. So two
processes, a message that comes again and an index that lags make one launch: whoever commits second is told to read again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.compute.dispatch import Strategies
from orchestrator.errors import Conflict, OrchestratorError, ServiceFailed
from orchestrator.fleet import limits
from orchestrator.fleet.demand import HELD_S, Assessment
from orchestrator.fleet.headroom import Headrooms
from orchestrator.fleet.launching import Launching
from orchestrator.fleet.line import Line
from orchestrator.fleet.turn_taking import in_turn, shares
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Ids, Journal, Wakes
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import HistoryEntry, changed
from orchestrator.store.launch import Launch, PlannedSession
from orchestrator.store.model import LabelSet, Stack, TokenBucket, WaitlistEntry
from orchestrator.store.naming import repository_key
from orchestrator.store.records import Records
from orchestrator.store.request import MachineRequest

HOLD_REASONS = 20
"""Reasons remembered of a label set."""
UNSERVABLE_S = 120.0
"""Seconds until what asks for something that is not there is looked at again; a new piece of work, or a correction that wakes it,
is looked at at once."""
BEHIND_OTHERS = "those whose turn is before"
STARVED_S = 600.0
"""Seconds after which nobody is served before work that needs more vCPUs or money than are free: small work takes whatever is."""


@dataclass
class PendingLaunch:
    """One label set that lacks sessions. `label_set` is as last written."""

    label_set: LabelSet
    found: Assessment
    request: MachineRequest
    non_interruptible: bool = False
    asked: int = 0
    """How many have been asked for already."""
    put_off: bool = False
    """The rest must wait: others may still be served now."""

    @property
    def age(self) -> float:
        """Since when the oldest of its work waits for which nothing is asked for yet."""
        return min(self.left, default=math.inf)

    @property
    def left(self) -> list[float]:
        """Since when each piece of its work waits for which nothing is asked for yet; nobody's come last."""
        waiting = [item.since for item in self.found.waiting[self.found.supply + self.asked :]]
        number = self.found.lacking - self.asked
        return (waiting + [math.inf] * number)[:number]

    @property
    def is_open(self) -> bool:
        """Whether something is still to be asked for, now."""
        return self.asked < self.found.lacking and not self.put_off


@dataclass(kw_only=True)
class Admission:
    """Launches to be; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    launching: Launching
    headrooms: Headrooms
    clock: Clock
    ids: Ids
    journal: Journal
    wakes: Wakes
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        self.line = Line(records=self.records, clock=self.clock, wakes=self.wakes)

    def admit(self, wanted: dict[str, list[PendingLaunch]], failures: list[Exception]) -> list[Launch]:
        """Commit launches, as many as may be, repositories in turn; what was committed is returned whatever follows."""
        made: list[Launch] = []
        every = [(pending, spec) for spec, of_spec in wanted.items() for pending in of_spec]
        while everybody := in_turn(
            (one for one in every if one[0].is_open), lambda one: one[0].label_set.repository, lambda one: (*_age(one[0]), one[1])
        ):
            spec = everybody[0][1]
            of_spec = [pending for pending, its in everybody if its == spec]
            try:
                if why := self.strategies.obstacle(of_spec[0].request):
                    for pending in of_spec:
                        self._hold_unservable(pending, why)
                    continue
                launch = self._committed(spec, of_spec, [pending for pending, _ in everybody])
                made += [launch] if launch is not None else []
            except Conflict:
                for pending in wanted[spec]:
                    self._raced(pending)
            except OrchestratorError as error:
                failures.append(error)
                for pending in of_spec:
                    pending.put_off = True
        return made

    def waiting_longer(self, own: Sequence[str], wanted: dict[str, list[PendingLaunch]]) -> list[str]:
        """The label sets whose turn at the stack's limits is before that of any of these, and that shall not be overtaken.

        Raises: ServiceFailed.
        """
        every = [one for of_spec in wanted.values() for one in of_spec]
        before, behind = self.line.read(own, [self._entry(one) for one in every])
        for pending in [one for one in every if one.label_set.set_key in behind]:
            try:
                self._put_off(pending, BEHIND_OTHERS)
            except Conflict:
                self._raced(pending)
        return before

    def waitlisted(self, own: Sequence[str], before: Sequence[str]) -> list[str]:
        """Of these label sets, those in the waitlist, as far as this process has read. Raises: ServiceFailed."""
        return list(dict.fromkeys([*before, *self.line.among(own)]))

    def leave_waitlist(self, key: str, wanted: dict[str, list[PendingLaunch]]) -> None:
        """Take a label set off the waitlist, if it waits for nothing any more. Raises: ServiceFailed."""
        mine = [one for of_spec in wanted.values() for one in of_spec if one.label_set.set_key == key]
        if not any(one.put_off for one in mine):
            self.line.leave(key)

    def hold(self, label_set: LabelSet, found: Assessment, why: str) -> LabelSet:
        """Log why nothing is launched, and remember it for whoever asks: where it is another reason than the last, or old.

        Raises: Conflict.
        """
        now, last = self.clock.now(), label_set.hold_reasons[-1:]
        if last and _reason(last[0].what) == _reason(why) and now - last[0].at < HELD_S:
            return label_set
        self.journal.event("label_set.held", set_key=label_set.set_key, why=why, waiting=len(found.waiting), until=found.look_at)
        reasons = (*label_set.hold_reasons, HistoryEntry(at=now, what=why))[-HOLD_REASONS:]
        return self.records.put(changed(label_set, hold_reasons=reasons, touched_at=label_set.touched_at or now))

    def _hold_unservable(self, pending: PendingLaunch, why: str) -> None:
        """What a request asks for is not there, as far as we have it: whoever waits is told, once each."""
        pending.put_off = True
        label_set = pending.label_set
        self.records.waitlist.remove(label_set.set_key)
        self.journal.event("label_set.unservable", set_key=label_set.set_key, labels=label_set.labels, why=why)
        pending.label_set = self.hold(label_set, pending.found, why)
        self.sources.of(label_set).waits_for_nothing([item.identity for item in pending.found.waiting], why)
        self.records.wake(label_set.set_key, self.clock.now() + UNSERVABLE_S)

    def _raced(self, pending: PendingLaunch) -> None:
        """Somebody wrote what it rests on meanwhile: it is read again at once, and nobody else is kept waiting for it."""
        pending.put_off = True
        self.wakes.wake(pending.label_set.set_key)

    def _put_off(self, pending: PendingLaunch, why: str, whose: str = "", *, paused: bool = False) -> None:
        """Record why a label set must wait. `whose`: as in the waitlist; `paused`: until it is woken, however long."""
        pending.put_off = True
        last = pending.label_set.hold_reasons[-1:]
        if why != BEHIND_OTHERS or not last or self.clock.now() - last[0].at > HELD_S:  # else what it waits for is known
            pending.label_set = self.hold(pending.label_set, pending.found, why)
        self.line.put_off(self._entry(pending, whose), paused=paused)

    def _entry(self, pending: PendingLaunch, whose: str = "") -> WaitlistEntry:
        label_set, now = pending.label_set, self.clock.now()
        return WaitlistEntry(
            set_key=label_set.set_key, since=min(pending.age, now), jobs=len(pending.left), whose=whose, at=now,
            repository=label_set.repository,
        )  # fmt: skip

    def _fitting(self, of_spec: Sequence[PendingLaunch]) -> list[PendingLaunch]:
        """As many as one transaction can write: each with its label set, its item and its buckets; so its repository."""
        found: list[PendingLaunch] = []
        repositories: list[str] = []
        per_set, per_repository = (
            2 if its.launches_per_minute else 1 for its in (self.settings.per_label_set, self.settings.per_repository)
        )
        for pending in of_spec:
            more = list(dict.fromkeys([*repositories, pending.label_set.repository]))
            if (per_set + 1) * (len(found) + 1) + per_repository * len(more) > limits.ITEMS_AT_ONCE:
                break
            found.append(pending)
            repositories = more
        return found

    def _committed(self, spec: str, of_spec: Sequence[PendingLaunch], everybody: Sequence[PendingLaunch]) -> Launch | None:
        """One launch for as many of `of_spec` as go into one, as far as no older work of `everybody` needs the room.

        None: not now. Either something is launched, or somebody is put off. Raises: Conflict.
        """
        request = of_spec[0].request
        stack = self.headrooms.refreshed(self.clock.now())
        whole = self.headrooms.of_stack(stack, request)
        most = min(limits.AT_ONCE, whole.machines)
        owners = [pending.label_set.repository for pending in everybody]
        parts = shares([pending.left for pending in everybody], whole.machines, owners)
        of_pending = {id(pending): part for pending, part in zip(everybody, parts, strict=True)}
        sharing = self._fitting([pending for pending in of_spec if of_pending[id(pending)]])
        if stack.paused or not most or not sharing:
            self._put_off_all(stack, whole, of_spec, everybody)
            return None
        launch_id = f"l-{self.ids.fresh()}"
        sessions: list[PlannedSession] = []
        buckets: dict[str, TokenBucket] = {}
        for pending in sharing:
            number = min(of_pending[id(pending)], most - len(sessions))
            own = self.headrooms.of_label_set(pending.label_set, pending.request, stack, sessions, buckets)
            allowed = min(number, own.machines)
            if allowed < number:
                self._put_off(pending, own.why, own.whose)
            sessions += _planned(pending, allowed, launch_id, len(sessions))
            pending.asked += allowed
            for key in (repository_key(pending.label_set.repository), pending.label_set.set_key):
                if key in buckets:
                    buckets[key] = changed(buckets[key], tokens=buckets[key].tokens - allowed)
        served = [pending for pending in sharing if any(one.set_key == pending.label_set.set_key for one in sessions)]
        if not served:
            return None
        return self._saved(launch_id, spec, served, sessions, stack, list(buckets.values()))

    def _put_off_all(
        self, stack: Stack, whole: limits.Headroom, of_spec: Sequence[PendingLaunch], everybody: Sequence[PendingLaunch]
    ) -> None:
        """Nothing of this kind may be launched now; nobody younger takes what work that has waited for long needs."""
        now = self.clock.now()
        for pending in of_spec:
            self._put_off(pending, "paused" if stack.paused else whole.why, paused=stack.paused)
        alone = self.headrooms.of_stack(limits.emptied(stack), of_spec[0].request)
        if alone.machines and now - of_spec[0].age > STARVED_S:
            for pending in [one for one in everybody if one.is_open]:
                self._put_off(pending, "a job that needs more, and has waited for long")

    def _saved(
        self, launch_id: str, spec: str, served: Sequence[PendingLaunch], sessions: Sequence[PlannedSession], stack: Stack,
        buckets: Sequence[TokenBucket],
    ) -> Launch | None:  # fmt: skip
        """The launch, committed with all it rests on; None: its strategy can ask for nothing now. Raises: Conflict."""
        now, request = self.clock.now(), served[0].request
        strategy = self.strategies.of(request.compute)
        each = strategy.at_most(request)
        launch = self.launching.planned(
            Launch(
                launch_id=launch_id, spec=spec, machine=request, strategy=strategy.name, request="", sessions=tuple(sessions),
                sets=tuple(pending.label_set.set_key for pending in served),
                repositories=tuple(sorted({pending.label_set.repository for pending in served})),
                non_interruptible=any(pending.non_interruptible for pending in served), each=each,
                image=strategy.image(request), created_at=now, expires_at=now + limits.lifetime_s(self.settings),
            )
        )  # fmt: skip
        if launch is None:
            raise ServiceFailed(f"compute:{strategy.name}", "NoPlan", "what it could ask for a moment ago is not there now")
        label_sets = [changed(pending.label_set, touched_at=now, surplus_since=None) for pending in served]
        saved: Launch
        spent = limits.launched(stack, len(sessions), each, strategy.name)
        written = self.records.save(launch, spent, *label_sets, *buckets)
        saved, label_sets = written[0], list(written[2 : 2 + len(label_sets)])
        for pending, label_set in zip(served, label_sets, strict=True):
            pending.label_set = label_set
        self.journal.event("launch.intended", launch_id=launch_id, spec=spec, sessions=len(sessions), sets=len(served))
        return saved


def _age(pending: PendingLaunch) -> tuple[float, str]:
    return pending.age, pending.label_set.set_key


def _planned(pending: PendingLaunch, number: int, launch_id: str, first: int) -> list[PlannedSession]:
    """So many sessions, each for work that has none yet as far as numbers can say.

    One more than there is work is for itself.
    """
    unserved = pending.found.waiting[pending.found.supply + pending.asked :] or pending.found.waiting
    found = []
    for at in range(first, first + number):
        name = f"s-{launch_id[2:]}-{at}"
        item = unserved[(at - first) % len(unserved)] if unserved else None
        found.append(
            PlannedSession(
                session_id=name, set_key=pending.label_set.set_key, item_id=item.identity if item else name,
                run_id=item.run_id if item else "", repository=pending.label_set.repository,
            )
        )  # fmt: skip
    return found


def _reason(why: str) -> str:
    """The reason without the numbers in it, which change all the time."""
    return re.sub(r"[\d.]+", "#", why)
