"""How a level is corrected: what lacks is asked for (`orders.py`), what is too much is taken back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator import caps, planning
from orchestrator.cards import Board
from orchestrator.demand import Level, level, without_backoff
from orchestrator.errors import Conflict, ServiceFailed
from orchestrator.intake import Intake
from orchestrator.launching import Launching, report
from orchestrator.model import Ledger, changed
from orchestrator.naming import kind_of
from orchestrator.orders import Orders, Want
from orchestrator.ports import Clock, Crew, Journal
from orchestrator.records import Records
from orchestrator.sessions import Sessions, scope_of
from orchestrator.settings import ServerSettings

ASKED_S, DOUBTED_S, LONGEST_S, ASKED_RUNS, DOUBTED_RUNS = 60.0, 300.0, 3600.0, 5, 50
"""How often GitHub is asked about a label set's jobs, and about how many of their runs: if a runner works, or has worked, on
something it has not told of, and if nobody took the machines that were there for them (less often each time it is no news).
"""
ASKED_KNOWN = 10_000
"""Label sets of which a process remembers when it asked."""


@dataclass
class Levels:
    """Levels; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    launching: Launching
    sessions: Sessions
    intake: Intake
    orders: Orders
    clock: Clock
    journal: Journal
    crew: Crew
    _asked: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When, and how often in a row only to be sure, and for nothing."""

    def settle(self, set_keys: Iterable[str]) -> None:
        """Correct the level of each label set; sets that need the same kind of machine share a launch.

        Raises: OrchestratorError.
        """
        wanted: dict[str, list[Want]] = defaultdict(list)
        own = sorted(set(set_keys))
        troubles = self.crew.each([partial(self._weighed, key, wanted) for key in own])
        before = self._before(own, wanted, troubles) if wanted else []
        troubles += self.crew.each([partial(self._weighed, key, wanted) for key in before])
        launches = self.orders.placed(wanted, troubles)
        served = [partial(self.orders.step_out, key, wanted) for key in self.orders.looked_at(own, before)]
        troubles += self.crew.each([*(partial(self.launching.carry, launch) for launch in launches), *served])
        report(self.journal, troubles)

    def _before(self, own: list[str], wanted: dict[str, list[Want]], troubles: list[Exception]) -> list[str]:
        """Who waited before; that the line cannot be read now keeps nobody from his machine."""
        try:
            return self.orders.before(own, wanted)
        except ServiceFailed as error:
            troubles.append(error)
            return []

    def _weighed(self, key: str, wanted: dict[str, list[Want]]) -> None:
        """Beside others; who loses a race is looked at again. Raises: ServiceFailed."""
        try:
            self._weigh(key, wanted)
        except Conflict:
            self.sessions.wake(key)

    def _weigh(self, key: str, wanted: dict[str, list[Want]]) -> None:
        board, now = self.records.board(key), self.clock.now()
        found = level(board, now)
        asked_at, times = self._asked.get(key, (0.0, 0))
        if (found.ask or found.doubtful) and now - asked_at >= (ASKED_S if found.ask else min(LONGEST_S, DOUBTED_S * 2.0**times)):
            if len(self._asked) >= ASKED_KNOWN:
                self._asked.clear()
            self._asked[key] = (now, times)
            answered, news = self._ask(key, found)
            self._asked[key] = (now, 0 if found.ask or news else min(times + 1, 10))
            board = self._asked_about(self.records.board(key), found.ask) if answered else self.records.board(key)
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
            self.orders.held(ledger, found, found.held)
        report(self.journal, self.crew.each([partial(self.sessions.release, session_id) for session_id in found.surplus]))
        self.records.rest(board, look_at)

    def _ask(self, key: str, found: Level) -> tuple[bool, bool]:
        """GitHub is asked what it has not told: of the runs that silent sessions say they work for, and of jobs that wait.

        Whether it answered everything, and whether anything of that was news.
        """
        silent = [one for one in map(self.records.session, found.ask) if one is not None and one.ran_run and not one.bound_job]
        runs = {(session.ran_run, scope_of(session)): session.runner_name for session in silent}
        asks = [partial(self.intake.ask_run, scope, run, name) for (run, scope), name in runs.items()]
        most = max(ASKED_RUNS, len(found.ask)) if found.ask else DOUBTED_RUNS
        told = [self._asking(key, ask) for ask in (*asks, partial(self.intake.ask, key, most, urgent=bool(found.ask)))]
        return None not in told, any(told)

    def _asking(self, key: str, ask: Callable[[], int]) -> int | None:
        """How much was news; None: it cannot be asked now, which keeps nobody from his machine."""
        try:
            return ask()
        except ServiceFailed as error:
            self.journal.event("level.unasked", set_key=key, error=str(error))
            return None

    def _asked_about(self, board: Board, sessions: Iterable[str]) -> Board:
        """Sessions that are over and of whose jobs GitHub has told by now are not asked about again. Raises: Conflict."""
        ledger = board.ledger
        left = {name: at for name, at in ledger.working.items() if name not in set(sessions)} if ledger is not None else {}
        if ledger is None or left == ledger.working:
            return board
        return changed(board, ledger=self.records.put(changed(ledger, working=left)))

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
        most = caps.room_of(board, self.settings.per_label_set, self.orders.each_of(ask), caps.OF_SET)
        if most.machines < found.lacking:
            ledger = self.orders.held(ledger, found, most.why)
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

    def _fresh(self, board: Board) -> Ledger | None:
        """A ledger for a label set that has none, from one of its jobs."""
        for card in board.cards:
            job = self.records.job(card.identity) if card.kind == "job" else None
            if job is not None:
                return Ledger(
                    set_key=board.set_key, owner=job.owner, repo=job.repo, installation_id=job.installation_id, labels=job.labels,
                )  # fmt: skip
        return None
