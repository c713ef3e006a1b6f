"""THE STORY: what the orchestrator does when something happens. Each turn may be cut off anywhere and taken again.

A delivery is queued. From the queue it becomes a job, and wakes its label set. A label set that is awake compares what waits with
what is there or on its way, and corrects the difference: a launch is committed, then sent, and its instances become sessions.
What agents and EC2 say moves sessions on. Whatever nobody hears of any more has a deadline, and the sweep finds what is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import msgspec

from orchestrator.cards import is_over
from orchestrator.cleaning import Cleaning
from orchestrator.demand import MOST_EXPECTED
from orchestrator.endings import Endings
from orchestrator.errors import Conflict, NotServed, OrchestratorError
from orchestrator.intake import STATES, Intake
from orchestrator.launching import Launching
from orchestrator.levels import Levels
from orchestrator.marks import JOBS, SESSIONS
from orchestrator.model import Ledger, Session, changed
from orchestrator.naming import set_key
from orchestrator.patience import RACES, due_again
from orchestrator.ports import Clock, Crew, Journal, Queue, Received
from orchestrator.records import WAKE, Records
from orchestrator.recovery import Recovery
from orchestrator.rescues import Rescues
from orchestrator.services import Body, Compute, Scope
from orchestrator.sessions import Sessions, handle_of
from orchestrator.settings import ServerSettings
from orchestrator.states import SessionState
from orchestrator.webhook import JobEvent, deduplication_id

Outcome = TypeVar("Outcome")
AT_A_RESUME = 10_000
"""Entries of one shard that are looked through for label sets in which something waits."""
AT_A_TIME = 200
"""Entries of one shard of the index that one sweep attends to."""
CONFIGURED = 64
"""Sessions that one sweep configures: at SSM's pace they take twenty seconds, for which the next sweep waits."""


@dataclass
class Turns:
    """Everything the orchestrator ever does."""

    settings: ServerSettings
    records: Records
    compute: Compute
    job_queue: Queue
    clock: Clock
    journal: Journal
    intake: Intake
    levels: Levels
    launching: Launching
    endings: Endings
    sessions: Sessions
    rescues: Rescues
    cleaning: Cleaning
    recovery: Recovery
    sweepers: Crew

    def on_webhook(self, body: bytes, event: JobEvent) -> bool:
        """A genuine delivery: durable once this returns; whether it was ours. Raises: ServiceFailed: answer 5xx."""
        if event.action not in STATES or not self.settings.are_ours(event.labels):
            return False
        self.job_queue.send(msgspec.json.encode(event).decode(), event.job_id, deduplication_id(body))
        return True

    def on_job_event(self, event: JobEvent) -> None:
        """A delivery from the queue. Late, repeated and reordered ones change nothing. Raises: OrchestratorError.

        Let it come again.
        """
        self._again(lambda: self.intake.apply(event))

    def on_wake(self, set_keys: Iterable[str]) -> None:
        """Label sets whose level may be wrong. Raises: OrchestratorError; the sweep finds them again."""
        self.levels.settle(set_keys)

    def on_agent_message(self, received: Received) -> None:
        """What an agent said. Raises: OrchestratorError: let it come again."""
        self._again(lambda: self.endings.hear(received))

    def on_instance_event(self, received: Received) -> None:
        """What EventBridge says of an instance. Raises: OrchestratorError: let it come again."""
        self._again(lambda: self.endings.hear_of_instance(received))

    def on_tick(self) -> int:
        """What is done every minute: remove what nobody owns; returns how many reapers failed."""
        self._attend("catalogue", "", lambda _: self._renew())
        return self.cleaning.sweep()

    def _renew(self) -> None:
        """What EC2 offers, once a day."""
        number = self.launching.catalogue.renew(self.clock.now())
        if number is not None:
            self.journal.event("catalogue.renewed", types=number, priced_on_spot=self.launching.catalogue.priced_on_spot)

    def on_recovery(self) -> int:
        """What is done every five minutes: ask GitHub for what we never heard; returns how much that was."""
        return self.recovery.round()

    def on_sweep(self) -> int:
        """Attend to everything that is due; returns how much that was. Label sets are woken: their launches take time.

        Side by side, and last what may have to wait for its turn with GitHub or SSM, not too much of it at once. What fails does
        not keep the rest waiting, and is due again.
        """
        due = self._listed()
        for asleep in [identity for identity, row in due if row == WAKE]:
            self.sessions.wakes.wake(asleep)
        soon, later = self._sessions_are_due([identity for identity, row in due if row == "session"])
        acts = self._due
        for identity, row in due:
            if row in acts:
                (later if row == "launch" else soon).append(partial(self._attend, row, identity, acts[row]))
        self.sweepers.each(soon)
        self.sweepers.each(later)
        return len(due)

    def prepare(self, owner: str, repo: str, names: tuple[str, ...], count: int, for_s: float) -> str:
        """Have `count` machines made though no job asks yet; they count as wanted for so long.

        Raises: NotServed: a job that asks so would be refused; OrchestratorError.
        """
        if why := self.intake.objection(owner, repo, names):
            raise NotServed(f"{', '.join(names)} for {owner}/{repo}: {why}")
        key = set_key(owner, repo, self.settings.runner_group_id, names)
        until = self.clock.now() + for_s

        def wanted() -> None:
            known = self.records.ledger(key) or Ledger(set_key=key, owner=owner, repo=repo, installation_id="", labels=names)
            more = (*known.prepared, *[until] * count)[-MOST_EXPECTED:]
            self.records.put(changed(known, prepared=more, touched_at=self.clock.now()))

        self.records.seen(Scope("", owner, repo), self.clock.now())
        self.sessions.wake(key)  # before, for the case that we are cut off; and after, to be looked at now
        self._again(wanted)
        self.sessions.wake(key)
        return key

    def dismiss(self, session_id: str) -> Session | None:
        """End a session and its body now, at an operator's word; None: it is not open. Raises: OrchestratorError."""

        def ended() -> Session | None:
            session = self.records.session(session_id)
            if session is None or is_over(session):
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
            self.records.wake(
                asleep, self.clock.now()
            )  # whatever waits is looked at within a lease anyway: now instead, by anybody
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

    @property
    def _due(self) -> dict[str, Callable[[str], None]]:
        return {
            "launch": self._launch_is_due, "job": self._job_is_due, "rescue": self.rescues.attempt,
            "note": self.rescues.notes.attempt,
        }  # fmt: skip

    def _launch_is_due(self, launch_id: str) -> None:
        """Somebody began it and was cut off."""
        launch = self.records.launch(launch_id)
        if launch is not None and launch.due <= self.clock.now():
            self.launching.resume(launch)

    def _job_is_due(self, job_id: str) -> None:
        """GitHub must have ended it long ago, and we never heard."""
        self.intake.forget(job_id)

    def _listed(self) -> list[tuple[str, str]]:
        """What can be: one table that cannot be read keeps the other from nothing."""
        due: list[tuple[str, str]] = []
        for table in (SESSIONS, JOBS):
            self._attend("listing", table, lambda name: due.extend(self.records.overdue(self.clock.now(), AT_A_TIME, (name,))))
        return due

    def _sessions_are_due(self, identities: list[str]) -> tuple[list[Callable[[], None]], list[Callable[[], None]]]:
        """What is to be done for them: for those that run, and for those that want their configuration.

        Their records are read again, the index may be old; then EC2 is asked once for all of them.
        """
        found: list[Session] = []
        read = partial(self._read_if_due, found)
        self.sweepers.each([partial(self._attend, "session", identity, read) for identity in identities])
        bodies: dict[str, Body | None] = {}
        self._attend("instances", "", lambda _: bodies.update(self._bodies(found)))
        soon: list[Callable[[], None]] = []
        later: list[Callable[[], None]] = []
        for one in [one for one in found if one.session_id in bodies]:
            look = partial(self._look_after, one, bodies[one.session_id])
            wave = later if one.state is SessionState.LAUNCHED else soon
            wave.append(partial(self._attend, "session", one.session_id, look))
        return soon, later[:CONFIGURED]

    def _bodies(self, sessions: list[Session]) -> dict[str, Body | None]:
        """EC2's word for each of them; None: it does not know it."""
        told = self.compute.poll_sessions([handle_of(one) for one in sessions]) if sessions else {}
        return {one.session_id: told.get(handle_of(one)) for one in sessions}

    def _read_if_due(self, found: list[Session], session_id: str) -> None:
        session = self.records.session(session_id)
        if session is not None and session.due <= self.clock.now():
            found.append(session)

    def _look_after(self, session: Session, body: Body | None, _: str) -> None:
        """One that cannot be looked after now is due again later, and keeps nobody from his turn."""
        try:
            self.endings.look_after(session, body)
        except Conflict:
            raise
        except OrchestratorError as error:
            self.journal.event(
                "sweep.unattended", what="session", identity=session.session_id, error=f"{type(error).__name__}: {error}"
            )
            known, now = self.records.session(session.session_id), self.clock.now()  # what was done before is written already
            again = due_again(error, now, self.settings.lease_s)
            if known is not None and known.due < again - 1.0:
                self.records.put(changed(known, due=again))

    def _attend(self, what: str, identity: str, act: Callable[[str], None]) -> None:
        try:
            act(identity)
        except Conflict:
            return  # somebody else attends to it
        except Exception as error:  # noqa: BLE001 - a net: one entry that breaks something must not stop the sweep at itself
            self.journal.event("sweep.unattended", what=what, identity=identity, error=f"{type(error).__name__}: {error}")

    @staticmethod
    def _again(turn: Callable[[], Outcome]) -> Outcome:
        """Again after a lost race; each try reads everything anew."""
        for _ in range(RACES - 1):
            try:
                return turn()
            except Conflict:
                continue
        return turn()
