"""How machines are asked for: as many as may be, longest waiting first, and who must wait stands in line.

A wish is committed, with the exact request and on the ledgers as they were read, before EC2 hears of it. So two replicas, a
message that comes again and an index that lags make one launch: whoever commits second is told to read again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator import caps, planning
from orchestrator.cards import Board
from orchestrator.demand import HELD_S, Level
from orchestrator.errors import Conflict, OrchestratorError, ServiceFailed
from orchestrator.labels import Ask
from orchestrator.launching import Launching
from orchestrator.model import Launch, Ledger, Pace, Place, Planned, Stack, Told, changed
from orchestrator.naming import OPEN_LAUNCHES, repository_key
from orchestrator.ports import Clock, Ids, Journal
from orchestrator.records import Records
from orchestrator.services import Body
from orchestrator.sessions import Sessions, scope_of
from orchestrator.settings import Caps, ServerSettings

COUNTED_S = 10.0
"""How long a count of all machines is believed."""
HOLDS = 20
"""Reasons remembered."""
PACED_S = 2.0
"""How long what the pace does not allow now waits before it is asked again."""
TOGETHER = 100
"""Of those that wait, so many are looked at again so soon; the others in turn."""
TRIAL_S = 600.0
"""How long a machine may take to show whether GitHub lets it in."""
IN_LINE = 20
"""Label sets that waited before, and are looked at with one that wants machines now."""
STARVED_S = 600.0
"""After so long nobody is served before a job that needs more vCPUs or money than are free: else small ones take whatever is."""


@dataclass
class Want:
    """One label set that lacks sessions. `ledger` is as last written."""

    ledger: Ledger
    found: Level
    ask: Ask
    firm: bool = False
    asked: int = 0
    """How many have been asked for already."""
    put_off: bool = False
    """The rest must wait: others may still be served now."""

    @property
    def age(self) -> float:
        """Since when the oldest of its jobs waits for which nothing is asked for yet."""
        return min(self.left, default=math.inf)

    @property
    def left(self) -> list[float]:
        """Since when each job waits for which nothing is asked for yet; nobody's come last."""
        jobs = [card.since for card in self.found.waiting[self.found.supply + self.asked :]]
        number = self.found.lacking - self.asked
        return (jobs + [math.inf] * number)[:number]

    @property
    def is_open(self) -> bool:
        """Whether something is still to be asked for, now."""
        return self.asked < self.found.lacking and not self.put_off


@dataclass
class Orders:
    """Launches to be; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    launching: Launching
    sessions: Sessions
    clock: Clock
    ids: Ids
    journal: Journal
    _line: dict[str, Place] = field(default_factory=dict)
    """Who stands in it, as read or written last."""
    _listed: tuple[float, Board, tuple[Body, ...]] | None = None
    """When EC2 was asked last what there is, the launches that were open just before, and its answer."""
    _listing_at: float = 0.0

    def placed(self, wanted: dict[str, list[Want]], troubles: list[Exception]) -> list[Launch]:
        """Commit the wishes, as many as may be, longest waiting first; what was committed is returned whatever follows."""
        made: list[Launch] = []
        every = [(want, spec) for spec, wants in wanted.items() for want in wants]
        while everybody := sorted((one for one in every if one[0].is_open), key=lambda one: (*_age(one[0]), one[1])):
            spec = everybody[0][1]
            wants = [want for want, kind in everybody if kind == spec]
            try:
                ask = wants[0].ask
                if why := "; ".join(ask.complaints) or self._unservable(ask):
                    for want in wants:
                        self._said_unservable(want, why)
                    continue
                launch = self._committed(spec, wants, [want for want, _ in everybody])
                made += [launch] if launch is not None else []
            except Conflict:
                for want in wanted[spec]:
                    self._raced(want)
            except OrchestratorError as error:
                troubles.append(error)
                for want in wants:
                    want.put_off = True
        return made

    def before(self, own: Sequence[str], wanted: dict[str, list[Want]]) -> list[str]:
        """The label sets that have waited for the stack's limits longer than any of these, and shall not be overtaken."""
        youngest = max((want.age for wants in wanted.values() for want in wants), default=0.0)
        self._line = {place.set_key: place for place in self.records.line(self.clock.now())}
        line = [place for key, place in self._line.items() if not place.whose and place.since < youngest and key not in own]
        if len(line) > IN_LINE:
            for want in [want for wants in wanted.values() for want in wants if want.age > line[IN_LINE].since]:
                try:
                    self._put_off(want, "those that have waited longer", self.clock.now() + PACED_S)
                except Conflict:
                    self._raced(want)
        return [place.set_key for place in line[:IN_LINE]]

    def looked_at(self, own: Sequence[str], before: Sequence[str]) -> set[str]:
        """Of these, those that stand in line, as far as this process has read."""
        return {*before, *(set(own) & set(self._line))}

    def step_out(self, key: str, wanted: dict[str, list[Want]]) -> None:
        """Out of the line, if nothing is to be waited for any more. Raises: ServiceFailed."""
        if not any(want.put_off for wants in wanted.values() for want in wants if want.ledger.set_key == key):
            self.records.let_go(key)
            self._line.pop(key, None)

    def held(self, ledger: Ledger, found: Level, why: str) -> Ledger:
        """Said; and remembered for whoever asks, if it is another reason than the last. Raises: Conflict."""
        self.journal.event("level.held", set_key=ledger.set_key, why=why, waiting=len(found.waiting), until=found.look_at)
        if ledger.holds and _reason(ledger.holds[-1].what) == _reason(why) and self.clock.now() - ledger.holds[-1].at < HELD_S:
            return ledger
        holds = (*ledger.holds, Told(at=self.clock.now(), what=why))[-HOLDS:]
        return self.records.put(changed(ledger, holds=holds, touched_at=ledger.touched_at or self.clock.now()))

    def each_of(self, ask: Ask) -> caps.Each:
        """One of its machines, at most."""
        return caps.each_of(planning.serving(self.settings, self.launching.catalogue, ask))

    def _said_unservable(self, want: Want, why: str) -> None:
        """What a label asks for is not there, as far as we have it: whoever waits is told, once each."""
        want.put_off = True
        self.records.let_go(want.ledger.set_key)
        self.journal.event("level.unservable", set_key=want.ledger.set_key, labels=want.ledger.labels, why=why)
        want.ledger = self.held(want.ledger, want.found, why)
        for job in filter(None, (self.records.job(card.identity) for card in want.found.waiting)):
            self.launching.notes.say(job, "This job waits for what is not there", f"waits: {why}.")

    def _unservable(self, ask: Ask) -> str:
        if ask.architecture not in self.launching.compute.site().templates:
            return f"there is no launch template for {ask.architecture}"
        return planning.unservable(self.settings, self.launching.catalogue, ask)

    def _counted(self, stack: Stack, now: float) -> Stack:
        """With what there is by EC2's own word, if the last count is old; who loses the race to write it need not ask again."""
        if now - stack.counted_at < COUNTED_S:
            return stack
        if now - self._listing_at >= COUNTED_S:
            self._listing_at = now  # who comes while EC2 lists need not list as well
            self._list(now)
        if self._listed is None or not max(stack.counted_at, now - caps.SEEN_S) < self._listed[0]:
            return stack  # with all that was launched since it was counted, and nothing that ended: too many rather than too few
        at, open_launches, bodies = self._listed
        kinds = {kind.name: kind for kind in self.launching.catalogue}
        return caps.counted(stack, bodies, open_launches, kinds, at)

    def _list(self, now: float) -> None:
        """What there is. Where EC2 does not say, the last count is gone on with."""
        open_launches = self.records.board(OPEN_LAUNCHES)  # first: one that is answered meanwhile counts twice, not never
        try:
            self._listed = (now, open_launches, tuple(self.launching.compute.list_sessions()))
        except ServiceFailed as error:
            self.journal.event("stack.uncounted", error=str(error))

    def _raced(self, want: Want) -> None:
        """Somebody wrote what it rests on meanwhile: it is read again at once, and nobody else is kept waiting for it."""
        want.put_off = True
        self.sessions.wakes.wake(want.ledger.set_key)

    def _put_off(self, want: Want, why: str, until: float | None, whose: str = "") -> None:
        """Not now; looked at again then (None: when somebody wakes it). `whose`: as in its place."""
        want.put_off = True
        want.ledger = self.held(want.ledger, want.found, why)
        key, now = want.ledger.set_key, self.clock.now()
        place = Place(set_key=key, since=min(want.age, now), jobs=len(want.left), whose=whose, at=now)
        known = self._line.get(key)
        if known is None or changed(known, at=now) != place or now - known.at > HELD_S:
            self.records.lined_up(place)
            self._line[key] = place
        if until is not None:
            self.records.wake(want.ledger.set_key, until)
            self.sessions.wakes.wake(want.ledger.set_key, until - now)

    def _on_trial(self, repository: str) -> int:
        """Machines of that repository that are still to show whether GitHub lets them in."""
        cards = [card for card in self.records.board(repository_key(repository)).cards if self.clock.now() - card.since < TRIAL_S]
        return sum(1 if card.kind == "session" else len(card.sessions) for card in cards)

    def _room(self, want: Want, stack: Stack, planned: Sequence[Planned], paces: dict[str, Pace]) -> caps.Room:
        """For how many more machines of its repository and label set; `paces` gets those that a launch must write.

        Those launched lately may still have to get their registration.
        """
        allowed = self.sessions.github.registrations(scope_of(want.ledger))
        name, settings = repository_of(want.ledger), self.settings
        taken = sum(one.repository == name for one in planned)
        spoken_for = taken + self._on_trial(name) if allowed.on_trial else len(planned) + caps.lately(stack)
        rooms = [replace(caps.registrations(allowed, spoken_for), whose=name)]
        if settings.per_repository != Caps():
            mine = caps.room_of(self.records.board(repository_key(name)), settings.per_repository, self.each_of(want.ask), name)
            rooms.append(replace(mine, machines=max(0, mine.machines - taken)))
        places = {
            repository_key(name): (settings.per_repository, name),
            want.ledger.set_key: (settings.per_label_set, caps.OF_SET),
        }
        for key, (limits, whose) in places.items():
            if limits.launches_per_minute:
                if key not in paces:
                    paces[key] = caps.paced(self.records.pace(key), limits, stack.at)
                rooms.append(caps.room_in_pace(paces[key], whose))
        return min(rooms, key=lambda one: one.machines)

    def _fitting(self, wants: Sequence[Want]) -> list[Want]:
        """As many as one transaction can write: each with its ledger, its card and its paces; so its repository."""
        found: list[Want] = []
        repositories: set[str] = set()
        a_set, a_repository = (
            2 if limits.launches_per_minute else 1 for limits in (self.settings.per_label_set, self.settings.per_repository)
        )
        for want in wants:
            more = repositories | {repository_of(want.ledger)}
            if (a_set + 1) * (len(found) + 1) + a_repository * len(more) > planning.ITEMS_AT_ONCE:
                break
            found.append(want)
            repositories = more
        return found

    def _committed(self, spec: str, wants: Sequence[Want], everybody: Sequence[Want]) -> Launch | None:
        """One launch for as many of `wants` as go into one, as far as no older job of `everybody` needs the room; None: not now.

        Either something is launched, or somebody is put off. Raises: Conflict.
        """
        now, launch_id = self.clock.now(), f"l-{self.ids.fresh()}"
        stack = self._counted(caps.after_a_pause(self.records.stack(), self.settings, now), now)
        each = self.each_of(wants[0].ask)
        whole = caps.room(stack, self.settings, each)
        room = min(planning.AT_ONCE, whole.machines)
        shares = dict(zip(map(id, everybody), caps.shares([want.left for want in everybody], whole.machines), strict=True))
        sharing = self._fitting([want for want in wants if shares[id(want)]])
        if stack.paused or not room or not sharing:
            for at, want in enumerate(wants):
                until = None if stack.paused else now + PACED_S * (1 + at // TOGETHER)
                self._put_off(want, "paused" if stack.paused else whole.why, until)
            if caps.room(caps.emptied(stack), self.settings, each).machines and now - wants[0].age > STARVED_S:
                for want in [one for one in everybody if one.is_open]:
                    self._put_off(want, "a job that needs more, and has waited for long", now + PACED_S)
            return None
        sessions: list[Planned] = []
        paces: dict[str, Pace] = {}
        for want in sharing:
            number = min(shares[id(want)], room - len(sessions))
            own = self._room(want, stack, sessions, paces)
            allowed = min(number, own.machines)
            if allowed < number:
                self._put_off(want, own.why, now + PACED_S, own.whose)
            sessions += _planned(want, allowed, launch_id, len(sessions))
            want.asked += allowed
            for key in {repository_key(repository_of(want.ledger)), want.ledger.set_key} & set(paces):
                paces[key] = changed(paces[key], tokens=paces[key].tokens - allowed)
        sharing = [want for want in sharing if any(one.set_key == want.ledger.set_key for one in sessions)]
        if not sharing:
            return None
        first = sharing[0]
        launch = Launch(
            launch_id=launch_id, spec=spec, request="", sessions=tuple(sessions),
            sets=tuple(want.ledger.set_key for want in sharing),
            repositories=tuple(sorted({repository_of(want.ledger) for want in sharing})), firm=any(want.firm for want in sharing),
            cpus=each.cpus, usd=each.usd,
            image=":".join(self.launching.compute.site().templates[first.ask.architecture]), created_at=now,
            expires_at=now + planning.lifetime_s(self.settings),
        )  # fmt: skip
        launch = self.launching.requested(launch, first.ask)
        ledgers = [changed(want.ledger, touched_at=now, surplus_since=None) for want in sharing]
        saved: Launch
        told = self.records.save(launch, caps.launched(stack, len(sessions), each), *ledgers, *paces.values())
        saved, ledgers = told[0], list(told[2 : 2 + len(ledgers)])
        for want, ledger in zip(sharing, ledgers, strict=True):
            want.ledger = ledger
        self.journal.event("launch.intended", launch_id=launch_id, spec=spec, sessions=len(sessions), sets=len(sharing))
        return saved


def _age(want: Want) -> tuple[float, str]:
    return want.age, want.ledger.set_key


def _planned(want: Want, number: int, launch_id: str, first: int) -> list[Planned]:
    """So many sessions, each for a job that has none yet as far as numbers can say.

    One more than there are jobs is for itself.
    """
    unserved = want.found.waiting[want.found.supply + want.asked :] or want.found.waiting
    found, repository = [], repository_of(want.ledger)
    for at in range(first, first + number):
        name = f"s-{launch_id[2:]}-{at}"
        card = unserved[(at - first) % len(unserved)] if unserved else None
        job_id, run_id = (card.identity, card.run_id) if card else (name, "")
        found.append(Planned(session_id=name, set_key=want.ledger.set_key, job_id=job_id, run_id=run_id, repository=repository))
    return found


def _reason(why: str) -> str:
    """Without the numbers in it, which change all the time."""
    return re.sub(r"[\d.]+", "#", why)


def repository_of(ledger: Ledger) -> str:
    """`owner/repo`."""
    return f"{ledger.owner}/{ledger.repo}"
