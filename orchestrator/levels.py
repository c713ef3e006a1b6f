"""How a level is corrected: what lacks becomes a committed wish, what is too much is taken back.

A wish is committed, with the exact request and on the ledgers as they were read, before EC2 hears of it. So two replicas, a
message that comes again and an index that lags make one launch: whoever commits second is told to read again.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator import caps, planning
from orchestrator.demand import HELD_S, Level, level, without_backoff
from orchestrator.errors import Conflict, OrchestratorError, ServiceFailed
from orchestrator.intake import Intake
from orchestrator.labels import Ask
from orchestrator.launching import Launching, report
from orchestrator.model import (
    OPEN_LAUNCHES,
    Board,
    Launch,
    Ledger,
    Pace,
    Place,
    Planned,
    Stack,
    Told,
    changed,
    kind_of,
    repository_key,
)
from orchestrator.ports import Body, Clock, Crew, Ids, Journal
from orchestrator.records import Records
from orchestrator.sessions import Sessions, scope_of
from orchestrator.settings import Caps, ServerSettings

ASKED_S, DOUBTED_S, ASKED_JOBS = 60.0, 300.0, 5
"""How often GitHub is asked about a label set's jobs, and about how many: if a runner works on something it has not told of, and
if nobody took the machines that were there for them.
"""
ASKED_KNOWN = 10_000
"""Label sets of which a process remembers when it asked."""
IN_LINE = 20
"""Label sets that waited before, and are looked at with one that wants machines now."""
COUNTED_S = 10.0
"""How long a count of all machines is believed."""
HOLDS = 20
"""Reasons remembered."""
PACED_S = 2.0
"""How long what the pace does not allow now waits before it is asked again."""


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
        """Since when its oldest job waits."""
        return self.found.waiting[0].since if self.found.waiting else math.inf

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
class Levels:
    """Levels; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    launching: Launching
    sessions: Sessions
    intake: Intake
    clock: Clock
    ids: Ids
    journal: Journal
    crew: Crew
    _asked: dict[str, float] = field(default_factory=dict)
    _lined_up: dict[str, Place] = field(default_factory=dict)
    """As this process wrote them last."""
    _listed: tuple[float, Board, tuple[Body, ...]] | None = None
    """When EC2 was asked last what there is, the launches that were open just before, and its answer."""
    _listing_at: float = 0.0

    def settle(self, set_keys: Iterable[str]) -> None:
        """Correct the level of each label set; sets that need the same kind of machine share a launch.

        Raises: OrchestratorError.
        """
        wanted: dict[str, list[Want]] = defaultdict(list)
        own = sorted(set(set_keys))
        troubles = self.crew.each([partial(self._weighed, key, wanted) for key in own])
        before = self._before(own, wanted) if wanted else []
        troubles += self.crew.each([partial(self._weighed, key, wanted) for key in before])
        launches = self._intended({spec: sorted(wants, key=_age) for spec, wants in wanted.items()}, troubles)
        troubles += self.crew.each([partial(self._step_out, key, wanted) for key in {*before, *self._lined_up} & {*before, *own}])
        troubles += self.crew.each([partial(self.launching.carry, launch) for launch in launches])
        report(self.journal, troubles)

    def _before(self, own: Sequence[str], wanted: dict[str, list[Want]]) -> list[str]:
        """The label sets that have waited for the stack's limits longer than any of these, and shall not be overtaken."""
        youngest = max((want.age for wants in wanted.values() for want in wants), default=0.0)
        line = [place for place in self.records.line() if not place.whose and place.since < youngest]
        return [place.set_key for place in line if place.set_key not in own][:IN_LINE]

    def _step_out(self, key: str, wanted: dict[str, list[Want]]) -> None:
        """Out of the line, if nothing is to be waited for any more. Raises: ServiceFailed."""
        if not any(want.put_off for wants in wanted.values() for want in wants if want.ledger.set_key == key):
            self.records.let_go(key)
            self._lined_up.pop(key, None)

    def _weighed(self, key: str, wanted: dict[str, list[Want]]) -> None:
        """Beside others; who loses a race is looked at again. Raises: ServiceFailed."""
        try:
            self._weigh(key, wanted)
        except Conflict:
            self.sessions.wake(key)

    def _weigh(self, key: str, wanted: dict[str, list[Want]]) -> None:
        board, now = self.records.board(key), self.clock.now()
        found = level(board, now)
        if (found.ask or found.doubtful) and now - self._asked.get(key, 0.0) >= (ASKED_S if found.ask else DOUBTED_S):
            if len(self._asked) >= ASKED_KNOWN:
                self._asked.clear()
            self._asked[key] = now
            self._ask(key, found)
            board = self.records.board(key)
            found = level(board, now)
        ledger = board.ledger or self._fresh(board)
        if ledger is None:
            self.records.rest(board, None)
            return
        if found.held and self._has_a_new_image(ledger):
            ledger = self.records.put(without_backoff(ledger))
            found = level(changed(board, ledger=ledger), now)
        if found.surplus_since != ledger.surplus_since and board.ledger is not None:
            ledger = self.records.put(changed(ledger, surplus_since=found.surplus_since))
        look_at = found.look_at
        if found.lacking:
            look_at = now + self.settings.lease_s
            self._wanted(ledger, found, board, wanted)
        elif found.held:
            self._held(ledger, found, found.held)
        report(self.journal, self.crew.each([partial(self.sessions.release, session_id) for session_id in found.surplus]))
        self.records.rest(board, look_at)

    def _ask(self, key: str, found: Level) -> None:
        """GitHub is asked what it has not told: of the runs that silent sessions say they work for, and of jobs that wait."""
        for session in filter(None, map(self.records.session, found.ask)):
            if session.ran_run and not session.bound_job:
                self._asking(key, partial(self.intake.ask_run, scope_of(session), session.ran_run, session.runner_name))
        self._asking(key, partial(self.intake.ask, key, max(ASKED_JOBS, len(found.ask))))

    def _asking(self, key: str, ask: Callable[[], None]) -> None:
        """That it cannot be asked now keeps nobody from his machine."""
        try:
            ask()
        except ServiceFailed as error:
            self.journal.event("level.unasked", set_key=key, error=str(error))

    def _has_a_new_image(self, ledger: Ledger) -> bool:
        """Whether a launch would now be of another kind, or use another template version, than those that did no work."""
        ask = self.settings.ask_of(ledger.owner, ledger.repo, ledger.labels)
        template = self.launching.compute.site().templates.get(ask.architecture)
        if not ledger.backoff_of or template is None:
            return False
        specs = {planning.spec_name(one, one.architecture, self.settings) for one in (ask, planning.firm(ask))}
        return ledger.backoff_of not in {kind_of(spec, ":".join(template)) for spec in specs}

    def _wanted(self, ledger: Ledger, found: Level, board: Board, wanted: dict[str, list[Want]]) -> None:
        """Beside others that need the same machine; no more than its label set may have."""
        ask = self.settings.ask_of(ledger.owner, ledger.repo, ledger.labels)
        most = caps.room_of(board, self.settings.per_label_set, self._each(ask), caps.OF_SET)
        if most.machines < found.lacking:
            ledger = self._held(ledger, found, most.why)
            found = replace(found, lacking=most.machines)
        if found.lacking:
            ledger = self._installed(ledger, found)
            apart = planning.may_be_firm(ask) and ask.spot and self.settings.spot  # else all of them are on demand anyway
            firm = min(found.firm, found.lacking) if apart else 0
            for number, one in ((firm, planning.firm(ask)), (found.lacking - firm, ask)):
                if number:
                    want = Want(ledger, replace(found, lacking=number), one, firm=one is not ask)
                    wanted[planning.spec_name(one, one.architecture, self.settings)].append(want)

    def _installed(self, ledger: Ledger, found: Level) -> Ledger:
        """With the App's installation as the newest job tells it: an App that is installed again has another."""
        job = self.records.job(found.waiting[-1].identity) if found.waiting else None
        if job is None or not job.installation_id or job.installation_id == ledger.installation_id:
            return ledger
        return changed(ledger, installation_id=job.installation_id)

    def _held(self, ledger: Ledger, found: Level, why: str) -> Ledger:
        """Said; and remembered for whoever asks, if it is another reason than the last. Raises: Conflict."""
        self.journal.event("level.held", set_key=ledger.set_key, why=why, waiting=len(found.waiting), until=found.look_at)
        if ledger.holds and _reason(ledger.holds[-1].what) == _reason(why) and self.clock.now() - ledger.holds[-1].at < HELD_S:
            return ledger
        holds = (*ledger.holds, Told(at=self.clock.now(), what=why))[-HOLDS:]
        return self.records.put(changed(ledger, holds=holds, touched_at=ledger.touched_at or self.clock.now()))

    def _fresh(self, board: Board) -> Ledger | None:
        """A ledger for a label set that has none, from one of its jobs."""
        for card in board.cards:
            job = self.records.job(card.identity) if card.kind == "job" else None
            if job is not None:
                return Ledger(
                    set_key=board.set_key, owner=job.owner, repo=job.repo, installation_id=job.installation_id, labels=job.labels,
                )  # fmt: skip
        return None

    def _intended(self, wanted: dict[str, list[Want]], troubles: list[Exception]) -> list[Launch]:
        """Commit the wishes, as many as may be, longest waiting first; what was committed is returned whatever follows."""
        made: list[Launch] = []
        while waiting := [(wants, spec) for spec, wants in wanted.items() if any(want.is_open for want in wants)]:
            wants, spec = min(waiting, key=lambda one: (min(map(_age, filter(_is_open, one[0]))), one[1]))
            try:
                ask = wants[0].ask
                if why := "; ".join(ask.complaints) or self._unservable(ask):
                    for want in filter(_is_open, wants):
                        self._said_unservable(want, why)
                    continue
                launch = self._committed(spec, wants, [want for others in wanted.values() for want in others if want.is_open])
                made += [launch] if launch is not None else []
            except Conflict:
                for want in wants:
                    want.put_off = True
                    self.sessions.wakes.wake(want.ledger.set_key)
            except OrchestratorError as error:
                troubles.append(error)
                for want in wants:
                    want.put_off = True
        return made

    def _said_unservable(self, want: Want, why: str) -> None:
        """What a label asks for is not there, as far as we have it: whoever waits is told, once each."""
        want.put_off = True
        self.journal.event("level.unservable", set_key=want.ledger.set_key, labels=want.ledger.labels, why=why)
        want.ledger = self._held(want.ledger, want.found, why)
        for job in filter(None, (self.records.job(card.identity) for card in want.found.waiting)):
            self.launching.notes.say(job, "This job waits for what is not there", f"waits: {why}.")

    def _counted(self, stack: Stack, now: float) -> Stack:
        """With what there is by EC2's own word, if the last count is old; who loses the race to write it need not ask again."""
        if now - stack.counted_at < COUNTED_S:
            return stack
        if self._listed is None or now - self._listing_at >= COUNTED_S:
            self._listing_at = now  # who comes while EC2 lists goes on with the last list, and with what was launched since
            open_launches = self.records.board(OPEN_LAUNCHES)  # first: one that is answered meanwhile counts twice, not never
            self._listed = (now, open_launches, tuple(self.launching.compute.list_sessions()))
        at, open_launches, bodies = self._listed
        kinds = {kind.name: kind for kind in self.launching.catalogue}
        return caps.counted(stack, bodies, open_launches, kinds, at)

    def _put_off(self, want: Want, why: str, until: float | None, whose: str = "") -> None:
        """Not now; looked at again then (None: when somebody wakes it). `whose`: as in its place."""
        want.put_off = True
        want.ledger = self._held(want.ledger, want.found, why)
        key, now = want.ledger.set_key, self.clock.now()
        place = Place(set_key=key, since=min(want.age, now), jobs=len(want.left), whose=whose, at=now)
        known = self._lined_up.get(key)
        if known is None or changed(known, at=now) != place or now - known.at > HELD_S:
            self.records.lined_up(place)
            self._lined_up[key] = place
        if until is not None:
            self.records.wake(want.ledger.set_key, until)

    def _each(self, ask: Ask) -> caps.Each:
        """One of its machines, at most."""
        return caps.each_of(planning.serving(self.settings, self.launching.catalogue, ask))

    def _room(self, want: Want, stack: Stack, planned: Sequence[Planned], paces: dict[str, Pace]) -> caps.Room:
        """For how many more machines of its repository and label set; `paces` gets those that a launch must write.

        Those launched lately may still have to get their registration.
        """
        allowed = self.sessions.github.registrations(scope_of(want.ledger))
        rooms = [caps.registrations(allowed, len(planned) + caps.lately(stack))]
        name, settings = repository_of(want.ledger), self.settings
        taken = sum(one.repository == name for one in planned)
        if settings.per_repository != Caps():
            mine = caps.room_of(self.records.board(repository_key(name)), settings.per_repository, self._each(want.ask), name)
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

    def _unservable(self, ask: Ask) -> str:
        if ask.architecture not in self.launching.compute.site().templates:
            return f"there is no launch template for {ask.architecture}"
        return planning.unservable(self.settings, self.launching.catalogue, ask)

    def _committed(self, spec: str, wants: Sequence[Want], everybody: Sequence[Want]) -> Launch | None:
        """One launch for as many of `wants` as go into one, as far as no older job of `everybody` needs the room; None: not now.

        Either something is launched, or somebody is put off. Raises: Conflict.
        """
        now, launch_id = self.clock.now(), f"l-{self.ids.fresh()}"
        stack = self._counted(caps.after_a_pause(self.records.stack(), self.settings, now), now)
        each = self._each(wants[0].ask)
        whole = caps.room(stack, self.settings, each)
        room = min(planning.AT_ONCE, whole.machines)
        shares = dict(zip(map(id, everybody), caps.shares([want.left for want in everybody], whole.machines), strict=True))
        sharing = self._fitting([want for want in wants if want.is_open and shares[id(want)]])
        if stack.paused or not room:
            for want in filter(lambda one: one.is_open, wants):
                self._put_off(want, "paused" if stack.paused else whole.why, None if stack.paused else now + PACED_S)
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


def _is_open(want: Want) -> bool:
    return want.is_open


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
