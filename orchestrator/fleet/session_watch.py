"""What is done about a session that is due though nothing was heard of it: ended, terminated, closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import GONE, ComputeInstance, InstanceState
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.session_checks import WORD_S, SessionAction, check_session
from orchestrator.fleet.sessions import Sessions, handle_of
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Configurations, Journal
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed
from orchestrator.store.model import Session
from orchestrator.store.records import Records
from orchestrator.store.states import SessionState

LOOK_AGAIN_S = 5.0
"""Seconds until an ended session whose machine still lives is looked at again, until its time to end itself is over."""
AWAY_S = 300.0
"""Whoever looks at a session so many seconds late was away: its machine may have gone at any time since."""


@dataclass(kw_only=True)
class SessionWatch:
    """Sessions that are due; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    configurations: Configurations
    sessions: Sessions
    clock: Clock
    journal: Journal

    def look_after(self, session: Session, instance: ComputeInstance | None) -> None:
        """One session that is due. `instance`: its strategy's word, None: unknown there. Raises: OrchestratorError."""
        if instance is not None and instance.was_taken_back:
            session = self.sessions.taken_back(session)
        now, state = self.clock.now(), instance.state if instance is not None else None
        action = check_session(session, state, now, self.strategies.of(session.strategy).traits.unseen_s)
        match action:
            case SessionAction.NOTHING:
                self._look_again(session, LOOK_AGAIN_S if session.state is SessionState.ENDED else self.settings.watch_s)
            case SessionAction.ADVANCE:
                self.sessions.configure(self.sessions.claimed(session))
            case SessionAction.NOTE_GONE:
                self._look_again(changed(session, gone_at=self._went_at(session, instance)), WORD_S)
            case SessionAction.BACK:
                self._look_again(changed(session, gone_at=None), self.settings.watch_s)
            case SessionAction.END:
                self._end(session, instance)
            case SessionAction.TERMINATE:
                self.sessions.stop(handle_of(session))
                self._look_again(session, LOOK_AGAIN_S)
            case SessionAction.CLOSE:
                self._close(session)
            case _:
                assert_never(action)

    def _end(self, session: Session, instance: ComputeInstance | None) -> None:
        """Its machine is gone, or its time is up; one that is at work by the word of its source lives on."""
        now, state = self.clock.now(), instance.state if instance is not None else None
        late = session.gone_at is None and now >= session.deadline
        is_running = late and now < session.expires_at and state is InstanceState.RUNNING
        if is_running and self.sources.of(session).is_working(session):
            self.sessions.moved(session, SessionState.BUSY, busy_at=now)
            return
        status, reason = ("failure", "deadline") if late else ("interrupted", "instance_gone")
        words = {"console": self._console_tail(session)} if reason == "instance_gone" else {}
        error = "no final message arrived before the deadline" if late else "the instance disappeared without a final message"
        why = instance.why_ended if instance is not None else ""
        is_refused = instance is not None and instance.was_refused and session.ready_at is None and not session.bound_job
        if is_refused:
            status, reason = "failure", "instance_refused"
        error = f"{error}: {why}" if why else error
        ended = self.sessions.ended(session, status, reason, error, farewell_s=0.0, told=words, refused=why if is_refused else "")
        self.sources.of(session).ended(ended)
        if state not in GONE:
            self.sessions.stop(handle_of(session))

    def _console_tail(self, session: Session) -> str:
        """What a machine printed that died without a message; that it cannot be had keeps nothing from ending."""
        try:
            return self.strategies.of(session.strategy).console_tail(handle_of(session))
        except ServiceFailed as error:
            self.journal.event("session.console_read_failed", session_id=session.session_id, error=str(error))
            return ""

    def _went_at(self, session: Session, instance: ComputeInstance | None) -> float:
        """When its machine went, by its strategy's word; otherwise now, or when we looked last, if that is long ago."""
        now = self.clock.now()
        if instance is not None and instance.ended_at is not None:
            return min(now, instance.ended_at)
        return now if now - session.due < AWAY_S else session.due - self.settings.watch_s

    def _look_again(self, session: Session, after_s: float) -> None:
        """Never later than its deadline; one that is past it is looked at again soon."""
        now = self.clock.now()
        at = min(session.deadline if session.deadline > now else now + LOOK_AGAIN_S, now + after_s)
        self.records.save(changed(session, due=at))

    def _close(self, session: Session) -> None:
        """The machine is gone: nothing can use the secret or the registration any more."""
        source = self.sources.of(session)
        source.ended(session)
        self.configurations.delete(session.instance_id)
        if source.is_unregistered(session):
            self.sessions.moved(session, SessionState.CLOSED, closed_at=self.clock.now(), deadline=session.deadline)
        else:
            self._look_again(session, self.settings.watch_s)
