"""What is heard of a session: its agent's messages, and notices about its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from agent.contract import CONTRACT_VERSION
from agent.contract.errors import ContractError
from agent.contract.messages import BootstrapFailed, Busy, FinalWord, Interrupting, Started, Status, read_message
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.notices import AGENT_REASONS, HANDLING, InstanceNotice, NoticeHandling, NoticeKind
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.demand import expecting
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Configurations, Journal, Received, WorkerPool
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed
from orchestrator.store.model import Session
from orchestrator.store.naming import OPEN_LAUNCHES
from orchestrator.store.records import Records
from orchestrator.store.states import SessionState

COUNTABLE = 1 << 53
"""No honest count is larger; a number that no store can hold must not come back for ever."""
SHORT = 300
"""Characters kept of text that an agent or a job chose."""
INFERRED = frozenset({"instance_gone", "deadline"})
"""Reasons for an end that nobody reported: a final message that arrives late knows better."""
LOST = frozenset({"job_lost", "listener_killed"})
"""Reasons of an agent that only saw its work go: why, the notice may have said."""
YOUNG_S = 20.0
"""Seconds for which a notice about an unknown machine comes again: until it is older than the index can lag."""
LAUNCHED_S = 120.0
"""Seconds after a launch in which its machines may still be unknown: answer, assignment and index take a part of it."""


class _Versioned(msgspec.Struct):
    contract_version: int = 0


@dataclass(kw_only=True)
class SessionEvents:
    """Events of sessions; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    configurations: Configurations
    sessions: Sessions
    clock: Clock
    journal: Journal
    workers: WorkerPool
    handling: Mapping[NoticeKind, NoticeHandling] = field(default_factory=lambda: HANDLING)

    def on_message(self, received: Received) -> None:
        """A message of an agent. One that nobody can act on is counted and dropped, never redelivered for ever.

        Raises: Conflict: read again; ServiceFailed.
        """
        try:
            message = read_message(received.body)
        except ContractError as error:
            self._log_unusable(received.body, str(error))
            return
        session = self._speaker(message)
        if session is None:
            self.journal.event("agent_message.unknown_session", instance_id=message.instance_id, status=str(message.status))
            return
        if self._is_forged(received.sender, session):
            self.journal.event("agent_message.forged", sender=received.sender, instance_id=message.instance_id)
            return
        if getattr(message, "attempt", 0) not in (0, session.attempt):
            self.journal.event("agent_message.unknown_session", instance_id=message.instance_id, status=str(message.status))
            return
        now = self.clock.now()
        match message:
            case Started():
                self.sessions.moved(session, SessionState.READY, ready_at=now)
                # then: whoever finds none while the session still wants one would register it anew
                self.configurations.delete(session.instance_id)
            case Busy():
                hints = {"ran_job": message.ran_job[:SHORT], "ran_run": message.ran_run_id[:SHORT]}
                self.sessions.moved(session, SessionState.BUSY, busy_at=now, **hints)
            case Interrupting():
                self._agent_noticed(session, message.reason, now - received.waited_s)
            case FinalWord():
                self._reported(session, message)
            case BootstrapFailed():
                self.sessions.ended(session, "failure", "bootstrap_failed", message.error)

    def on_notice(self, notice: InstanceNotice, received: Received) -> None:
        """A notice about a machine. One that is not ours is dropped. Raises: Conflict; ServiceFailed."""
        session = self.records.session_of(notice.instance_id)
        if session is None and 0.0 < received.waited_s < YOUNG_S and self._launched_lately():
            raise ServiceFailed("records:session_of", "NotYet", f"{notice.instance_id}: the index may not have heard of it")
        if session is not None:
            self._noticed(session, notice)

    def _agent_noticed(self, session: Session, reason: str, at: float) -> None:
        kind = AGENT_REASONS.get(reason)
        if kind is None:
            hint = "an agent knows a notice that we do not: update the orchestrator"
            self.journal.event("agent_message.unknown_notice", session_id=session.session_id, reason=reason, hint=hint)
            return
        self._noticed(session, InstanceNotice(session.instance_id, kind, at, reason))

    def _noticed(self, session: Session, notice: InstanceNotice) -> None:
        handling, fields = self.handling[notice.kind], {"session_id": session.session_id, "reason": notice.words}
        if handling.steers and notice.by_service:  # also of one that has ended by itself since it heard of it
            session = self.sessions.taken_back(session)
        if session.is_over:
            if handling.interrupts:
                self._warned_before_its_end(session, notice.at)
            return
        if handling.is_gone and session.gone_at is not None:
            return
        if not handling.is_gone:
            self.journal.event(handling.event, **fields)
        if handling.interrupts:
            self._interrupted_alone(session, notice.at)
            session = self.records.session(session.session_id) or session
        if handling.is_gone:
            self.records.put(changed(session, gone_at=notice.at, due=self.clock.now() + WORD_S))
            self.journal.event(handling.event, **fields)

    def _launched_lately(self) -> bool:
        """Whether it may be one of ours of which the index has not heard: others' events need not come twice."""
        now, lately = self.clock.now(), self.records.stack().lately
        return bool(lately and now - lately[-1].at < LAUNCHED_S) or bool(self.records.view(OPEN_LAUNCHES).items)

    def _log_unusable(self, body: str, error: str) -> None:
        """Dropped: what its session comes to is learned otherwise. A message of a newer agent says what to do about it."""
        try:
            version = msgspec.json.decode(body, type=_Versioned).contract_version
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            version = 0
        newer = {"contract_version": version, "hint": f"we know version {CONTRACT_VERSION}: update the orchestrator first"}
        self.journal.event("agent_message.unusable", error=error, **(newer if version > CONTRACT_VERSION else {}))

    def _is_forged(self, sender: str, session: Session) -> bool:
        """Whether the queue itself does not say that this machine sent it, in the role of our machines if that is known.

        A sender is `role id:machine id`; whoever may assume another role can give its session any name, but not its id. Where a
        strategy's machines all are who we are (`Traits.names_sender`), they cannot be told apart.
        """
        role_id, _, name = sender.partition(":")
        if not self.strategies.of(session.strategy).traits.names_sender:
            return False
        return name != session.instance_id or self.settings.runner_role_id not in ("", role_id)

    def _speaker(self, message: Started | Busy | Interrupting | FinalWord | BootstrapFailed) -> Session | None:
        """Whose agent it is: the session it names, if it has that machine, otherwise the one of that machine."""
        name = getattr(message, "session_id", "")
        session = self.records.session(name) if name else self.records.session_of(message.instance_id)
        return session if session is not None and session.instance_id == message.instance_id else None

    def _interrupted_alone(self, session: Session, at: float) -> None:
        """One of a label set after the other: a hundred machines taken at once would lose races for its record for minutes."""
        with self.workers.exclusive(session.set_key):
            self._interrupted(session, at)

    def _interrupted(self, session: Session, at: float) -> None:
        """Its machine is going away: one without work is no supply any more, one with work will send it back to us."""
        if session.interrupting_at is not None:
            self.sessions.wake(session.set_key)  # whoever heard it first may have been cut off before
            return
        now = self.clock.now()
        label_set = self.records.label_set(session.set_key) if self._works(session) else None
        expected = [expecting(label_set, now)] if label_set is not None else []
        self.records.save(changed(session, interrupting_at=at), *expected)
        if expected and not self._works(session):  # its work's end was told while we wrote
            known = self.records.label_set(session.set_key)
            if known is not None and known.expected:
                self.records.put(changed(known, expected=known.expected[:-1]))
        self.sessions.wake(session.set_key)

    def _works(self, session: Session) -> bool:
        """Whether it has work that would come back to us."""
        return session.state is SessionState.BUSY and self.sources.of(session).will_return(session)

    def _warned_before_its_end(self, session: Session, at: float) -> None:
        """A warning, heard after the agent's final message: work that went without a word went because of it."""
        if session.reason in LOST and session.interrupting_at is None and at <= (session.ended_at or 0.0):
            session = self.records.put(changed(session, interrupting_at=at))
        self.sources.of(session).ended(session)

    def _reported(self, session: Session, word: FinalWord) -> None:
        """The agent's own account; it also replaces what was only inferred from a vanished machine."""
        source = self.sources.of(session)
        told: dict[str, object] = {
            "phases_ms": {name[:64]: ms for name, ms in list(word.phases_ms.items())[:32] if abs(ms) < COUNTABLE},
            "log_outcome": word.log_outcome[:64],
            "log_lines": max(0, min(word.log_lines_shipped, COUNTABLE)),
            "ran_job": (word.ran_job or session.ran_job)[:SHORT],
            "cause": source.cause_of(word),
        }
        if not session.is_over:
            worked = word.status in (Status.SUCCESS, Status.TIMEOUT) or bool(word.ran_job)
            source.ended(self.sessions.ended(session, word.status.value, word.reason, word.error, told=told, worked=worked))
        elif session.reason in INFERRED:
            told |= {"status": word.status.value, "reason": word.reason[:SHORT], "error": word.error[:1000]}
            corrected: Session = changed(session, **told)
            if corrected.status != "interrupted":
                source.end_corrected(corrected)  # first: it is not known any more once it is corrected
            source.ended(self.records.put(corrected))
        else:
            source.ended(session)
