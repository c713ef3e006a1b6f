"""The orchestrator's main flow: what it does on each event. Each turn may be cut off anywhere and taken again.

A delivery is queued. From the queue it becomes a job, and wakes its label set. A label set that is awake is reconciled: what
waits is compared with what is there or on its way, and the difference is corrected. A launch is committed, then sent, and its
machines become sessions. Messages of agents and notices about machines move sessions on. Whatever nobody hears of any more has
a deadline, and the sweep finds what is due. When each turn is taken stands in `schedule.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.notices import InstanceNotice
from orchestrator.compute.port import ComputeInstance
from orchestrator.errors import Conflict, NotServed, OrchestratorError, failure_of
from orchestrator.fleet.demand import MOST_EXPECTED
from orchestrator.fleet.garbage import GarbageCollector
from orchestrator.fleet.launching import Launching
from orchestrator.fleet.reconciler import Reconciler
from orchestrator.fleet.session_events import SessionEvents
from orchestrator.fleet.session_watch import SessionWatch
from orchestrator.fleet.sessions import Sessions, handle_of
from orchestrator.fleet.work import Sources
from orchestrator.jobs.backfill import Backfill
from orchestrator.jobs.intake import Intake
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.requests import JobRequests
from orchestrator.jobs.webhook import Acceptance, JobEvent
from orchestrator.ports import Clock, Journal, Received, WorkerPool
from orchestrator.retry_policy import RACES, due_again
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed
from orchestrator.store.launch import Launch
from orchestrator.store.model import LabelSet, Session
from orchestrator.store.naming import Scope, set_key
from orchestrator.store.records import WAKE
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS, SESSIONS

Outcome = TypeVar("Outcome")
AT_A_RESUME = 10_000
"""Entries of one shard that are looked through for label sets in which something waits."""
AT_A_TIME = 200
"""Entries of one shard of the index that one sweep attends to."""
CONFIGURED = 64
"""Sessions that one sweep configures: at SSM's pace they take twenty seconds, for which the next sweep waits."""


@dataclass(kw_only=True)
class Turns:
    """Everything the orchestrator ever does."""

    settings: ServerSettings
    records: JobRecords
    strategies: Strategies
    sources: Sources
    acceptance: Acceptance
    requests: JobRequests
    clock: Clock
    journal: Journal
    intake: Intake
    reconciler: Reconciler
    launching: Launching
    events: SessionEvents
    watch: SessionWatch
    sessions: Sessions
    garbage: GarbageCollector
    backfill: Backfill
    sweepers: WorkerPool
    read_notice: Callable[[str, float], InstanceNotice | None]
    """The notice in an event of the events queue, at this time; raises ValueError: it is no such event."""

    def on_webhook(self, body: bytes, event: JobEvent) -> bool:
        """A genuine delivery: durable once this returns; whether it was ours. Raises: ServiceFailed: answer 5xx."""
        return self.acceptance.accept(body, event)

    def on_job_event(self, event: JobEvent) -> None:
        """A delivery from the queue. Late, repeated and reordered ones change nothing.

        Raises: OrchestratorError: let it come again.
        """
        self._again(lambda: self.intake.apply(event))

    def on_wake(self, set_keys: Iterable[str]) -> None:
        """Label sets whose number of sessions may be wrong. Raises: OrchestratorError; the sweep finds them again."""
        self.reconciler.reconcile(set_keys)

    def on_agent_message(self, received: Received) -> None:
        """A message of an agent. Raises: OrchestratorError: let it come again."""
        self._again(lambda: self.events.on_message(received))

    def on_instance_event(self, received: Received) -> None:
        """An event of EventBridge about an instance. Raises: OrchestratorError: let it come again."""
        try:
            notice = self.read_notice(received.body, self.clock.now())
        except ValueError as error:
            self.journal.event("event.unusable", error=str(error))
            return
        if notice is not None:
            self._again(lambda: self.events.on_notice(notice, received))

    def on_tick(self) -> int:
        """Every minute: renew what strategies know, and collect garbage; returns how many collectors failed."""
        for strategy in self.strategies:
            self._attend("strategy", strategy.name, lambda _, it=strategy: it.maintain())  # type: ignore[misc]
        return self.garbage.collect()

    def on_backfill(self) -> int:
        """Every five minutes: ask GitHub for what we never heard; returns how much that was."""
        return self.backfill.round()

    def on_sweep(self) -> int:
        """Attend to everything that is due; returns how much that was. Label sets are woken: their launches take time.

        Side by side, and last what may have to wait for its turn with GitHub or SSM, not too much of it at once. What fails does
        not keep the rest waiting, and is due again.
        """
        due = self._listed()
        for asleep in [identity for identity, row in due if row == WAKE]:
            self.sessions.wakes.wake(asleep)
        soon, later = self._sessions_are_due([identity for identity, row in due if row == Session.KIND.row])
        acts = self._acts()
        for identity, row in due:
            if row in acts:
                (later if row == Launch.KIND.row else soon).append(partial(self._attend, row, identity, acts[row]))
        self.sweepers.run_all(soon)
        self.sweepers.run_all(later)
        return len(due)

    def prepare(self, owner: str, repo: str, names: tuple[str, ...], count: int, for_s: float) -> str:
        """Have `count` machines made though no job asks yet; they count as wanted for so long. Returns the label set's key.

        Raises: NotServed: a job that asks so would be refused; OrchestratorError.
        """
        repository = f"{owner}/{repo}"
        if why := self.requests.objection(repository, names):
            raise NotServed(f"{', '.join(names)} for {repository}: {why}")
        scope = Scope("", owner, repo, self.settings.runner_group_id)
        key, until = set_key(owner, repo, scope.group_id, names), self.clock.now() + for_s
        machine = self.requests.request_of(repository, names)

        def wanted() -> None:
            known = self.records.label_set(key) or LabelSet(
                set_key=key, scope=scope, repository=repository, labels=names, machine=machine
            )
            more = (*known.prepared, *[until] * count)[-MOST_EXPECTED:]
            self.records.put(changed(known, prepared=more, touched_at=self.clock.now()))

        self.records.repositories.heard_of(Scope("", owner, repo), self.clock.now())
        self.sessions.wake(key)  # before, for the case that we are cut off; and after, to be looked at now
        self._again(wanted)
        self.sessions.wake(key)
        return key

    def dismiss(self, session_id: str) -> Session | None:
        """End a session and its machine now, at an operator's word; None: it is not open. Raises: OrchestratorError."""

        def ended() -> Session | None:
            session = self.records.session(session_id)
            if session is None or session.is_over:
                return None
            over = self.sessions.ended(session, "interrupted", "dismissed", "ended by an operator", farewell_s=0.0)
            self.sessions.stop(handle_of(session))
            return over

        return self._again(ended)

    def pause(self, *, paused: bool) -> bool:
        """Launch nothing, or launch again. Returns what holds now. Raises: OrchestratorError."""
        self._again(lambda: self.records.put(changed(self.records.stack(), paused=paused)))
        soon = () if paused else self.records.overdue(self.clock.now() + self.settings.lease_s, AT_A_RESUME)
        for asleep in [identity for identity, row in soon if row == WAKE]:
            # whatever waits is looked at within a lease anyway: now instead, by anybody
            self.records.wake(asleep, self.clock.now())
            self.sessions.wakes.wake(asleep)
        return paused

    def drain(self) -> dict[str, str]:
        """Take every idle session back. What fails keeps no other from its turn, and may be asked for again.

        Returns the ids of those that could not be asked, with why. Raises: OrchestratorError: they cannot even be listed.
        """
        failed: dict[str, str] = {}
        for session in list(self.records.open_sessions()):
            try:
                self._again(partial(self.sessions.release, session.session_id))
            except OrchestratorError as error:
                failed[session.session_id] = f"{type(error).__name__}: {error}"
        return failed

    def _acts(self) -> Mapping[str, Callable[[str], None]]:
        """Row of a record to what is done about one that is due: launches, and what the sources of work say."""
        acts: dict[str, Callable[[str], None]] = {Launch.KIND.row: self._launch_is_due}
        for source in self.sources:
            acts |= source.due
        return acts

    def _launch_is_due(self, launch_id: str) -> None:
        """Somebody began it and was cut off."""
        launch = self.records.launch(launch_id)
        if launch is not None and launch.due <= self.clock.now():
            self.launching.resume(launch)

    def _listed(self) -> list[tuple[str, str]]:
        """What is due, by id and row: one table that cannot be read keeps the other from nothing."""
        due: list[tuple[str, str]] = []
        for table in (SESSIONS, JOBS):
            self._attend("listing", table, lambda name: due.extend(self.records.overdue(self.clock.now(), AT_A_TIME, (name,))))
        return due

    def _sessions_are_due(self, identities: list[str]) -> tuple[list[Callable[[], None]], list[Callable[[], None]]]:
        """What is to be done for them: for those that run, and for those that want their configuration.

        Their records are read again, the index may be old; then each strategy is asked once for all of its machines.
        """
        found: list[Session] = []
        read = partial(self._read_if_due, found)
        self.sweepers.run_all([partial(self._attend, "session", identity, read) for identity in identities])
        instances: dict[str, ComputeInstance | None] = {}
        for name in dict.fromkeys(one.strategy for one in found):
            mine = [one for one in found if one.strategy == name]
            self._attend("instances", name, lambda _, mine=mine: instances.update(self._polled(mine)))  # type: ignore[misc]
        soon: list[Callable[[], None]] = []
        later: list[Callable[[], None]] = []
        for one in [one for one in found if one.session_id in instances]:
            look = partial(self._look_after, one, instances[one.session_id])
            wave = later if one.state is SessionState.LAUNCHED else soon
            wave.append(partial(self._attend, "session", one.session_id, look))
        return soon, later[:CONFIGURED]

    def _polled(self, sessions: list[Session]) -> dict[str, ComputeInstance | None]:
        """The strategies' word for each of them; None: unknown there. Raises: ServiceFailed."""
        told = self.strategies.poll_sessions([handle_of(one) for one in sessions])
        return {one.session_id: told.get(handle_of(one)) for one in sessions}

    def _read_if_due(self, found: list[Session], session_id: str) -> None:
        session = self.records.session(session_id)
        if session is not None and session.due <= self.clock.now():
            found.append(session)

    def _look_after(self, session: Session, instance: ComputeInstance | None, _: str) -> None:
        """One that cannot be looked after now is due again later, and keeps nobody from his turn."""
        try:
            self.watch.look_after(session, instance)
        except Conflict:
            raise
        except OrchestratorError as error:
            self._log_unattended("session", session.session_id, error)
            known, now = self.records.session(session.session_id), self.clock.now()  # what was done before is written already
            again = due_again(error, now, self.settings.lease_s)
            if known is not None and known.due < again - 1.0:
                self.records.put(changed(known, due=again))

    def _attend(self, what: str, identity: str, act: Callable[[str], None]) -> None:
        """One entry that breaks something must not stop the sweep at itself; a lost race means that somebody else attends."""
        error = failure_of(lambda: act(identity))
        if error is not None and not isinstance(error, Conflict):
            self._log_unattended(what, identity, error)

    def _log_unattended(self, what: str, identity: str, error: Exception) -> None:
        self.journal.event("sweep.item_failed", what=what, identity=identity, error=f"{type(error).__name__}: {error}")

    @staticmethod
    def _again(turn: Callable[[], Outcome]) -> Outcome:
        """The turn again after a lost race; each try reads everything anew."""
        for _ in range(RACES - 1):
            try:
                return turn()
            except Conflict:
                continue
        return turn()
