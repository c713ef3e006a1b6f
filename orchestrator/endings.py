"""How a session ends: what its agent says, what EC2 shows, and what has to be gone before it is closed."""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.errors import ContractError
from agent.contract.messages import BootstrapFailed, Busy, FinalWord, Interrupting, Started, Status, read_message
from agent.contract.names import parameter_name
from orchestrator import demand
from orchestrator.launching import Launching
from orchestrator.model import Session, SessionState, changed, is_over
from orchestrator.ports import Clock, Compute, GitHub, Journal, Parameters, Received
from orchestrator.reapers import GONE, Measure, measure
from orchestrator.records import Records
from orchestrator.sessions import Sessions, handle_of, scope_of
from orchestrator.settings import ServerSettings

COUNTABLE = 1 << 53
"""No honest count is larger; a number that no store can hold must not come back for ever."""
SHORT = 300
"""Characters kept of a word that an agent or a job chose."""
INFERRED = frozenset({"instance_gone", "deadline"})
"""Reasons that nobody told us: a final word that arrives late knows better."""
LOOK_AGAIN_S = 5.0
"""How soon an ended session whose instance still lives is looked at again, until its farewell is over."""


@dataclass
class Endings:
    """Endings; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    github: GitHub
    parameters: Parameters
    sessions: Sessions
    launching: Launching
    clock: Clock
    journal: Journal

    def hear(self, received: Received) -> None:
        """What an agent said. A message nobody can act on is counted and dropped, never redelivered for ever.

        Raises: Conflict: read again; ServiceFailed.
        """
        try:
            message = read_message(received.body)
        except ContractError as error:
            self.journal.event("agent_message.unusable", error=str(error))
            return
        if received.sender and ":i-" in received.sender and not received.sender.endswith(f":{message.instance_id}"):
            self.journal.event("agent_message.forged", sender=received.sender, instance_id=message.instance_id)
            return
        session = self._speaker(message)
        if session is None:
            self.journal.event("agent_message.unknown_session", instance_id=message.instance_id, status=str(message.status))
            return
        now = self.clock.now()
        match message:
            case Started():
                self.parameters.delete(parameter_name(session.instance_id))
                self.sessions.moved(session, SessionState.READY, ready_at=now)
            case Busy():
                self.sessions.moved(session, SessionState.BUSY, busy_at=now, ran_job=message.ran_job[:SHORT])
            case Interrupting():
                self._interrupting(session, message.reason)
            case FinalWord():
                self._spoken(session, message)
            case BootstrapFailed():
                self.sessions.ended(session, "failure", "bootstrap_failed", message.error)

    def look_after(self, session: Session, instance_state: str | None) -> None:
        """One session that is due. `instance_state` is EC2's word, None: EC2 does not know the instance. Raises.

        OrchestratorError.
        """
        now = self.clock.now()
        match measure(session, instance_state, now):
            case Measure.NOTHING:
                self._look_again(session, LOOK_AGAIN_S if session.state is SessionState.ENDED else self.settings.watch_s)
            case Measure.ADVANCE:
                self.sessions.configure(self.launching.claimed(session))
            case Measure.NOTE_GONE:
                self._look_again(changed(session, gone_at=now), 0.0)
            case Measure.BACK:
                self._look_again(changed(session, gone_at=None), self.settings.watch_s)
            case Measure.END:
                late = session.gone_at is None and now >= session.deadline
                status, reason = ("failure", "deadline") if late else ("interrupted", "instance_gone")
                self.sessions.ended(session, status, reason, f"the session ended without a word: {reason}", farewell_s=0.0)
                if instance_state not in GONE:
                    self.compute.stop_session(handle_of(session))
            case Measure.TERMINATE:
                self.compute.stop_session(handle_of(session))
                self._look_again(session, LOOK_AGAIN_S)
            case Measure.CLOSE:
                self._closed(session)

    def _speaker(self, message: Started | Busy | Interrupting | FinalWord | BootstrapFailed) -> Session | None:
        """Whose agent it is: the session it names, if it has that instance, else the one of that instance."""
        name = getattr(message, "session_id", "")
        session = self.records.session(name) if name else self.records.session_of(message.instance_id)
        if session is None or session.instance_id != message.instance_id:
            return None
        return session if getattr(message, "attempt", 0) in (0, session.attempt) else None

    def _interrupting(self, session: Session, reason: str) -> None:
        """Its machine is going away: one without a job is no supply any more, one with a job will send it back to us."""
        self.journal.event("session.interrupting", session_id=session.session_id, reason=reason)
        if is_over(session) or session.interrupting_at is not None:
            return
        now = self.clock.now()
        ledger = self.records.ledger(session.set_key) if session.state is SessionState.BUSY else None
        expecting = [demand.expecting(ledger, now)] if ledger is not None else []
        self.records.save(changed(session, interrupting_at=now), *expecting)
        self.sessions.wake(session.set_key)

    def _spoken(self, session: Session, word: FinalWord) -> None:
        """The agent's own account; it also replaces what was only inferred from a vanished instance."""
        told: dict[str, object] = {
            "phases_ms": {name[:64]: ms for name, ms in list(word.phases_ms.items())[:32] if abs(ms) < COUNTABLE},
            "log_outcome": word.log_outcome[:64],
            "log_lines": max(0, min(word.log_lines_shipped, COUNTABLE)),
            "ran_job": (word.ran_job or session.ran_job)[:SHORT],
        }
        if not is_over(session):
            worked = word.status in (Status.SUCCESS, Status.TIMEOUT) or bool(word.ran_job)
            self.sessions.ended(session, word.status.value, word.reason, word.error, told=told, worked=worked)
        elif session.reason in INFERRED:
            told |= {"status": word.status.value, "reason": word.reason[:SHORT], "error": word.error[:1000]}
            self.records.save(changed(session, **told))

    def _look_again(self, session: Session, after_s: float) -> None:
        """Never later than its deadline; one that is past it is looked at again soon."""
        now = self.clock.now()
        at = min(session.deadline if session.deadline > now else now + LOOK_AGAIN_S, now + after_s)
        self.records.save(changed(session, due=at))

    def _closed(self, session: Session) -> None:
        """The instance is gone: nothing can use the secret or the registration any more."""
        self.parameters.delete(parameter_name(session.instance_id))
        scope = scope_of(session)
        runner_id = self.github.find(scope, session.runner_name)
        if runner_id is None or self.github.remove(scope, runner_id):
            self.sessions.moved(session, SessionState.CLOSED, closed_at=self.clock.now(), deadline=session.deadline)
        else:
            self._look_again(session, self.settings.watch_s)
