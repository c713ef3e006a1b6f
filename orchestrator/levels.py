"""How a level is corrected: what lacks becomes a committed wish, what is too much is taken back.

A wish is committed, with the exact request and on the ledgers as they were read, before EC2 hears of it. So two replicas, a
message that comes again and an index that lags make one launch: whoever commits second is told to read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator import caps, planning
from orchestrator.demand import BARREN, Level, after_a_pause, level
from orchestrator.errors import Conflict, OrchestratorError
from orchestrator.intake import Intake
from orchestrator.labels import Ask
from orchestrator.launching import Launching, report
from orchestrator.model import Board, Launch, Ledger, Planned, Stack, changed, repository_key
from orchestrator.ports import Clock, Crew, Ids, Journal
from orchestrator.records import Records
from orchestrator.sessions import Sessions, scope_of
from orchestrator.settings import ServerSettings

ASKED_S, ASKED_JOBS = 60.0, 5
"""How often GitHub is asked about a label set's jobs, and about how many, if a runner works on something it has not told of."""
COUNTED_S = 10.0
"""How long a count of all machines is believed."""
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

    def settle(self, set_keys: Iterable[str]) -> None:
        """Correct the level of each label set; sets that need the same kind of machine share a launch.

        Raises: OrchestratorError.
        """
        wanted: dict[str, list[Want]] = defaultdict(list)
        troubles: list[Exception] = []
        for key in sorted(set(set_keys)):
            try:
                self._weigh(key, wanted)
            except Conflict:
                self.sessions.wake(key)
            except OrchestratorError as error:
                troubles.append(error)
        launches: list[Launch] = []
        for spec, wants in sorted(wanted.items()):
            try:
                launches += self._intended(spec, wants)
            except OrchestratorError as error:
                troubles.append(error)
        troubles += self.crew.each([partial(self.launching.carry, launch) for launch in launches])
        report(self.journal, troubles)

    def _weigh(self, key: str, wanted: dict[str, list[Want]]) -> None:
        board, now = self.records.board(key), self.clock.now()
        found = level(board, now)
        if found.ask and now - self._asked.get(key, 0.0) >= ASKED_S:
            self._asked[key] = now
            self.intake.ask(key, max(ASKED_JOBS, len(found.ask)))
            board = self.records.board(key)
            found = level(board, now)
        ledger = board.ledger or self._fresh(board)
        if ledger is None:
            self.records.rest(board, None)
            return
        if found.held and self._has_a_new_image(ledger):
            ledger = self.records.put(changed(ledger, barren=0, backoff_until=0.0, backoff_why=""))
            found = level(changed(board, ledger=ledger), now)
        if found.surplus_since != ledger.surplus_since and board.ledger is not None:
            ledger = self.records.put(changed(ledger, surplus_since=found.surplus_since))
        look_at = found.look_at
        if found.lacking:
            look_at = now + self.settings.lease_s
            self._wanted(ledger, found, wanted)
        elif found.held:
            self._held(key, found, found.held)
        report(self.journal, self.crew.each([partial(self.sessions.release, session_id) for session_id in found.surplus]))
        self.records.rest(board, look_at)

    def _has_a_new_image(self, ledger: Ledger) -> bool:
        """Whether a launch would now use another template version than those whose machines did no work."""
        if ledger.barren < BARREN or not ledger.image:
            return False
        ask = self.settings.ask_of(ledger.owner, ledger.repo, ledger.labels)
        template = self.launching.compute.site().templates.get(ask.architecture)
        return template is not None and ":".join(template) != ledger.image

    def _wanted(self, ledger: Ledger, found: Level, wanted: dict[str, list[Want]]) -> None:
        """Beside others that need the same machine; no more than its label set may have."""
        most = max(0, self.settings.max_sessions_per_label_set - found.there)
        if most < found.lacking:
            self._held(ledger.set_key, found, f"{found.there} machines of its label set, the most allowed")
            found = replace(found, lacking=most)
        if found.lacking:
            ledger = self._installed(ledger, found)
            ask = self.settings.ask_of(ledger.owner, ledger.repo, ledger.labels)
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

    def _held(self, set_key: str, found: Level, why: str) -> None:
        self.journal.event("level.held", set_key=set_key, why=why, waiting=len(found.waiting), until=found.look_at)

    def _fresh(self, board: Board) -> Ledger | None:
        """A ledger for a label set that has none, from one of its jobs."""
        for card in board.cards:
            job = self.records.job(card.identity) if card.kind == "job" else None
            if job is not None:
                return Ledger(
                    set_key=board.set_key, owner=job.owner, repo=job.repo, installation_id=job.installation_id, labels=job.labels,
                )  # fmt: skip
        return None

    def _intended(self, spec: str, wants: Sequence[Want]) -> list[Launch]:
        """Commit the wishes, as many as the pace allows."""
        ask = wants[0].ask
        why = "; ".join(ask.complaints) or self._unservable(ask)
        if why:
            for want in wants:
                self.journal.event("level.unservable", set_key=want.ledger.set_key, labels=want.ledger.labels, why=why)
            return []
        made: list[Launch] = []
        try:
            while any(want.asked < want.found.lacking for want in wants):
                launch = self._committed(spec, wants)
                if launch is None:
                    break
                made.append(launch)
        except Conflict:
            for want in wants:
                self.sessions.wakes.wake(want.ledger.set_key)
        return made

    def _counted(self, stack: Stack, now: float) -> Stack:
        """With what there is by EC2's own word, if the last count is old."""
        if now - stack.counted_at < COUNTED_S:
            return stack
        kinds = {kind.name: kind for kind in self.launching.catalogue}
        return caps.counted(stack, self.launching.compute.list_sessions(), kinds, now)

    def _put_off(self, want: Want, why: str, until: float | None) -> None:
        """Not now; looked at again then (None: when somebody wakes it)."""
        self._held(want.ledger.set_key, want.found, why)
        if until is not None:
            self.records.wake(want.ledger.set_key, until)

    def _room(self, want: Want, stack: Stack, planned: Sequence[Planned]) -> caps.Room:
        """For how many more machines of its repository; those launched lately may still have to get their registration."""
        left = self.sessions.github.registrations_left(scope_of(want.ledger))
        for_all = planning.AT_ONCE if left is None else max(0, left - len(planned) - caps.lately(stack))
        github = caps.Room(for_all, "GitHub's limit of registrations")
        if not self.settings.max_sessions_per_repository:
            return github
        name = repository_of(want.ledger)
        board = self.records.board(repository_key(name))
        mine = caps.room_of_repository(board, self.settings, name)
        taken = sum(one.repository == name for one in planned)
        return min(github, caps.Room(max(0, mine.machines - taken), mine.why), key=lambda one: one.machines)

    def _unservable(self, ask: Ask) -> str:
        if ask.architecture not in self.launching.compute.site().templates:
            return f"there is no launch template for {ask.architecture}"
        if not planning.serving(self.settings, self.launching.catalogue, ask):
            return f"no instance type of {ask.architecture} has what it asks for"
        return "" if planning.steps(ask, self.settings) else "spot is switched off, and it asks for nothing else"

    def _committed(self, spec: str, wants: Sequence[Want]) -> Launch | None:
        """One launch for as many as go into one; None: not now. Raises: Conflict."""
        now, launch_id = self.clock.now(), f"l-{self.ids.fresh()}"
        stack = after_a_pause(self.records.stack(), now, self.settings.launches_per_minute)
        stack = self._counted(stack, now)
        each = caps.each_of(planning.serving(self.settings, self.launching.catalogue, wants[0].ask))
        whole = caps.room(stack, self.settings, each)
        room = min(planning.AT_ONCE, whole.machines)
        sharing = [want for want in wants if want.asked < want.found.lacking][: planning.SETS_AT_ONCE]
        if stack.paused or not room:
            for want in sharing:
                self._put_off(want, "paused" if stack.paused else whole.why, None if stack.paused else now + PACED_S)
            return None
        sessions: list[Planned] = []
        for want in sharing:
            number = min(want.found.lacking - want.asked, room - len(sessions))
            own = self._room(want, stack, sessions)
            allowed = min(number, own.machines)
            if allowed < number:
                self._put_off(want, own.why, now + PACED_S)
            sessions += _planned(want, allowed, launch_id, len(sessions))
            want.asked += allowed
        sharing = [want for want in sharing if any(one.set_key == want.ledger.set_key for one in sessions)]
        if not sharing:
            return None
        first = sharing[0]
        launch = Launch(
            launch_id=launch_id, spec=spec, request="", sessions=tuple(sessions),
            sets=tuple(want.ledger.set_key for want in sharing),
            repositories=tuple(sorted({repository_of(want.ledger) for want in sharing})), firm=any(want.firm for want in sharing),
            image=":".join(self.launching.compute.site().templates[first.ask.architecture]), created_at=now,
            expires_at=now + planning.lifetime_s(self.settings),
        )  # fmt: skip
        launch = self.launching.requested(launch, first.ask)
        ledgers = [changed(want.ledger, touched_at=now, surplus_since=None) for want in sharing]
        saved: Launch
        saved, _, *ledgers = self.records.save(launch, caps.launched(stack, len(sessions), each), *ledgers)
        for want, ledger in zip(sharing, ledgers, strict=True):
            want.ledger = ledger
        self.journal.event("launch.intended", launch_id=launch_id, spec=spec, sessions=len(sessions), sets=len(sharing))
        return saved


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


def repository_of(ledger: Ledger) -> str:
    """`owner/repo`."""
    return f"{ledger.owner}/{ledger.repo}"
