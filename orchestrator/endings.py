"""How a session ends: what its agent says, what EC2 shows, and what has to be gone before it is closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from agent.contract import CONTRACT_VERSION
from agent.contract.errors import ContractError
from agent.contract.messages import BootstrapFailed, Busy, FinalWord, Interrupting, Started, Status, read_message
from orchestrator import demand
from orchestrator.cards import is_over
from orchestrator.circuits import after_a_reclaim
from orchestrator.errors import ServiceFailed
from orchestrator.launching import Launching
from orchestrator.model import Session, changed
from orchestrator.naming import OPEN_LAUNCHES
from orchestrator.notes import cause_of
from orchestrator.ports import Clock, Crew, Journal, Received
from orchestrator.reapers import DOWN, GONE, WORD_S, Measure, measure
from orchestrator.records import Records
from orchestrator.rescues import LOST, Rescues
from orchestrator.services import Body, Compute, Configurations, GitHub
from orchestrator.sessions import Sessions, handle_of, scope_of
from orchestrator.settings import ServerSettings
from orchestrator.states import JobState, SessionState

COUNTABLE = 1 << 53
"""No honest count is larger; a number that no store can hold must not come back for ever."""
SHORT = 300
"""Characters kept of a word that an agent or a job chose."""
INFERRED = frozenset({"instance_gone", "deadline"})
"""Reasons that nobody told us: a final word that arrives late knows better."""
LOOK_AGAIN_S = 5.0
"""How soon an ended session whose instance still lives is looked at again, until its farewell is over."""


AWAY_S = 300.0
"""Who looks at a session so late was away: its machine may have gone at any time since."""
YOUNG_S = 20.0
"""An event of an instance that we do not know comes again, until it is older than the index can lag."""


LAUNCHED_S = 120.0
"""How long after a launch its instances may still be unknown: EC2's answer, the deal and the index take a part of it."""


class _Versioned(msgspec.Struct):
    contract_version: int = 0


class _Detail(msgspec.Struct):
    instance_id: str = msgspec.field(name="instance-id")
    state: str = ""


class _Event(msgspec.Struct):
    """What we read of an EventBridge envelope."""

    kind: str = msgspec.field(name="detail-type")
    detail: _Detail
    time: str = ""

    def at(self, now: float) -> float:
        """When it happened: it may have waited for us, for hours. A time that cannot be read is now."""
        try:
            return min(now, datetime.fromisoformat(self.time.replace("Z", "+00:00")).timestamp())
        except ValueError:
            return now


@dataclass
class Endings:
    """Endings; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    github: GitHub
    configurations: Configurations
    sessions: Sessions
    launching: Launching
    rescues: Rescues
    clock: Clock
    journal: Journal
    crew: Crew

    def hear(self, received: Received) -> None:
        """What an agent said. A message nobody can act on is counted and dropped, never redelivered for ever.

        Raises: Conflict: read again; ServiceFailed.
        """
        try:
            message = read_message(received.body)
        except ContractError as error:
            self._unusable(received.body, str(error))
            return
        if self._is_forged(received.sender, message.instance_id):
            self.journal.event("agent_message.forged", sender=received.sender, instance_id=message.instance_id)
            return
        session = self._speaker(message)
        if session is None:
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
                self._alone(session, message.reason, now - received.waited_s)
            case FinalWord():
                self._spoken(session, message)
            case BootstrapFailed():
                self.sessions.ended(session, "failure", "bootstrap_failed", message.error)

    def _unusable(self, body: str, error: str) -> None:
        """Dropped: what its session comes to is learned from EC2 and GitHub. One of a newer agent says what to do about it."""
        try:
            version = msgspec.json.decode(body, type=_Versioned).contract_version
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            version = 0
        newer = {"contract_version": version, "hint": f"we know version {CONTRACT_VERSION}: update the orchestrator first"}
        self.journal.event("agent_message.unusable", error=error, **(newer if version > CONTRACT_VERSION else {}))

    def _is_forged(self, sender: str, instance_id: str) -> bool:
        """Whether AWS itself does not say that this instance sent it, in the role of our machines if that is known.

        An instance is `AROA…:i-…`; whoever may assume another role can give its session any name, but not its id. Processes of
        this machine (strategy `local`) all are who we are, and cannot be told apart.
        """
        role_id, _, name = sender.partition(":")
        if self.settings.local is not None:
            return False
        return name != instance_id or self.settings.runner_role_id not in ("", role_id)

    def hear_of_instance(self, received: Received) -> None:
        """What EventBridge says of an instance. One that is not ours, or cannot be read, is dropped.

        Raises: Conflict; ServiceFailed. Source: EC2 events in EventBridge, EC2 user guide.
        """
        try:
            event = msgspec.json.decode(received.body, type=_Event)
        except msgspec.MsgspecError as error:
            self.journal.event("event.unusable", error=str(error))
            return
        session = self.records.session_of(event.detail.instance_id)
        if session is None and 0.0 < received.waited_s < YOUNG_S and self._launched_lately():
            raise ServiceFailed("records:session_of", "NotYet", f"{event.detail.instance_id}: the index may not have heard of it")
        if session is None:
            return
        match event.kind:
            case "EC2 Spot Instance Interruption Warning" if is_over(session):
                self._warned_before_its_end(session, event.at(self.clock.now()))
            case _ if is_over(session):
                return
            case "EC2 Spot Instance Interruption Warning":
                self._alone(session, "spot", event.at(self.clock.now()))
            case "EC2 Instance Rebalance Recommendation":
                self.journal.event("session.at_risk", session_id=session.session_id)
            case "EC2 Instance State-change Notification" if event.detail.state in GONE | DOWN and session.gone_at is None:
                now = self.clock.now()
                self.records.put(changed(session, gone_at=event.at(now), due=now + WORD_S))
                self.journal.event("session.instance_gone", session_id=session.session_id, state=event.detail.state)
            case _:
                return

    def _launched_lately(self) -> bool:
        """Whether it may be one of ours of which the index has not heard: others' events need not come twice."""
        now, lately = self.clock.now(), self.records.stack().lately
        return bool(lately and now - lately[-1][0] < LAUNCHED_S) or bool(self.records.board(OPEN_LAUNCHES).cards)

    def look_after(self, session: Session, body: Body | None) -> None:
        """One session that is due. `body` is EC2's word, None: EC2 does not know the instance. Raises: OrchestratorError."""
        now, instance_state = self.clock.now(), body.state if body is not None else None
        match measure(session, instance_state, now):
            case Measure.NOTHING:
                self._look_again(session, LOOK_AGAIN_S if session.state is SessionState.ENDED else self.settings.watch_s)
            case Measure.ADVANCE:
                self.sessions.configure(self.launching.claimed(session))
            case Measure.NOTE_GONE:
                self._look_again(changed(session, gone_at=self._went(session, body)), WORD_S)
            case Measure.BACK:
                self._look_again(changed(session, gone_at=None), self.settings.watch_s)
            case Measure.END:
                late = session.gone_at is None and now >= session.deadline
                if late and now < session.expires_at and instance_state == "running" and self._is_at_work(session):
                    self.sessions.moved(session, SessionState.BUSY, busy_at=now)
                    return
                status, reason = ("failure", "deadline") if late else ("interrupted", "instance_gone")
                words = {"console": self._last_words(session)} if reason == "instance_gone" else {}
                error = f"the session ended without a word: {reason}"
                self._rescued(self.sessions.ended(session, status, reason, error, farewell_s=0.0, told=words))
                if instance_state not in GONE:
                    self.sessions.stop(handle_of(session))
            case Measure.TERMINATE:
                self.sessions.stop(handle_of(session))
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

    def _alone(self, session: Session, reason: str, at: float) -> None:
        """One of a label set after the other: a hundred machines taken at once would lose races for its ledger for minutes."""
        with self.crew.alone(session.set_key):
            is_news = self._interrupting(session, reason, at)
        if is_news and "spot" in reason:  # of all pools there is one record
            now = self.clock.now()
            self.launching.learned(lambda circuits: after_a_reclaim(circuits, session.pool, now))

    def _interrupting(self, session: Session, reason: str, at: float) -> bool:
        """Its machine is going away: one without a job is no supply any more, one with a job will send it back to us.

        Whether that was news.
        """
        self.journal.event("session.interrupting", session_id=session.session_id, reason=reason)
        if is_over(session) or "rebalance" in reason:
            return False
        if session.interrupting_at is not None:
            self.sessions.wake(session.set_key)  # whoever heard it first may have been cut off before
            return False
        now = self.clock.now()
        ledger = self.records.ledger(session.set_key) if self._works(session) else None
        expecting = [demand.expecting(ledger, now)] if ledger is not None else []
        self.records.save(changed(session, interrupting_at=at), *expecting)
        if expecting and not self._works(session):  # its job's end was told while we wrote
            known = self.records.ledger(session.set_key)
            if known is not None and known.expected:
                self.records.put(changed(known, expected=known.expected[:-1]))
        self.sessions.wake(session.set_key)
        return True

    def _warned_before_its_end(self, session: Session, at: float) -> None:
        """EC2's warning, heard after the agent's last word: a runner that went without a word went because of it."""
        if session.reason in LOST and session.interrupting_at is None and at <= (session.ended_at or 0.0):
            session = self.records.put(changed(session, interrupting_at=at))
        self._rescued(session)

    def _works(self, session: Session) -> bool:
        """Whether it has a job that would come back to us; one that is over, or was run again before, will not."""
        if session.state is not SessionState.BUSY:
            return False
        job = self.records.job(session.bound_job) if session.bound_job else None
        return job is None or (job.state is not JobState.COMPLETED and self.rescues.will_try(job))

    def _spoken(self, session: Session, word: FinalWord) -> None:
        """The agent's own account; it also replaces what was only inferred from a vanished instance."""
        told: dict[str, object] = {
            "phases_ms": {name[:64]: ms for name, ms in list(word.phases_ms.items())[:32] if abs(ms) < COUNTABLE},
            "log_outcome": word.log_outcome[:64],
            "log_lines": max(0, min(word.log_lines_shipped, COUNTABLE)),
            "ran_job": (word.ran_job or session.ran_job)[:SHORT],
            "cause": cause_of(word),
        }
        if not is_over(session):
            worked = word.status in (Status.SUCCESS, Status.TIMEOUT) or bool(word.ran_job)
            self._rescued(self.sessions.ended(session, word.status.value, word.reason, word.error, told=told, worked=worked))
        elif session.reason in INFERRED:
            told |= {"status": word.status.value, "reason": word.reason[:SHORT], "error": word.error[:1000]}
            corrected: Session = changed(session, **told)
            if corrected.status != "interrupted" and corrected.bound_job:
                self.rescues.withdraw(
                    self.records.job(corrected.bound_job)
                )  # first: it is not known any more once it is corrected
            self._rescued(self.records.put(corrected))
        else:
            self._rescued(session)

    def _rescued(self, session: Session) -> None:
        """Its job is run again if both were told that it was taken away; whichever is told second gets here with both."""
        if session.bound_job:
            job = self.records.job(session.bound_job)
            self.rescues.consider(job, session)
            self.rescues.notes.say_cause(job, session)

    def _last_words(self, session: Session) -> str:
        """What a machine printed that died without a word; that it cannot be had keeps nothing from ending."""
        try:
            return self.compute.last_words(handle_of(session))
        except ServiceFailed as error:
            self.journal.event("session.console_unread", session_id=session.session_id, error=str(error))
            return ""

    def _is_at_work(self, session: Session) -> bool:
        """Whether GitHub says so: what we did not hear for long, because we were away, may lie in our queues."""
        scope = scope_of(session)
        try:
            runner_id = self.github.find(scope, session.runner_name)
            return runner_id is not None and not self.github.remove(scope, runner_id)
        except ServiceFailed as error:
            if error.code != "404" and session.state is not SessionState.LAUNCHED:
                raise
            return False  # never configured, or the App is not there any more

    def _is_unregistered(self, session: Session) -> bool:
        """Whether GitHub has no runner of it any more; asked only where its job's end does not say so already: calls are few."""
        job = self.records.job(session.bound_job) if session.bound_job else None
        if job is not None and job.state is JobState.COMPLETED:
            return True
        scope = scope_of(session)
        try:
            runner_id = self.github.find(scope, session.runner_name)
            return runner_id is None or self.github.remove(scope, runner_id)
        except ServiceFailed as error:
            if error.code != "404":
                raise
            return True  # the repository is gone, or the App: there is nothing left to remove

    def _went(self, session: Session, body: Body | None) -> float:
        """When its machine went, as far as can be said: by EC2's word; else now, or when we looked last, if that is long ago."""
        now = self.clock.now()
        if body is not None and body.ended_at is not None:
            return min(now, body.ended_at)
        return now if now - session.due < AWAY_S else session.due - self.settings.watch_s

    def _look_again(self, session: Session, after_s: float) -> None:
        """Never later than its deadline; one that is past it is looked at again soon."""
        now = self.clock.now()
        at = min(session.deadline if session.deadline > now else now + LOOK_AGAIN_S, now + after_s)
        self.records.save(changed(session, due=at))

    def _closed(self, session: Session) -> None:
        """The instance is gone: nothing can use the secret or the registration any more."""
        self._rescued(session)
        self.configurations.delete(session.instance_id)
        if self._is_unregistered(session):
            self.sessions.moved(session, SessionState.CLOSED, closed_at=self.clock.now(), deadline=session.deadline)
        else:
            self._look_again(session, self.settings.watch_s)
