"""THE STORY: what the orchestrator does when something happens. Each turn may be cut off anywhere and taken again.

A delivery becomes a job. A waiting job becomes a session: its launch request is committed, then sent; its instance is noted; its
runner is registered and its configuration laid down. What the agent says moves the session on. The tick finishes what was cut
off, ends what the world has moved on from, and removes what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from agent.contract.config import RunnerConfig, write_config
from agent.contract.errors import ContractError
from agent.contract.messages import BootstrapFailed, Busy, FinalWord, Interrupting, Started, read_message
from agent.contract.names import parameter_name
from orchestrator import labels, planning
from orchestrator.demand import lacks_a_session
from orchestrator.errors import OrchestratorError, ServiceFailed, Unlaunchable
from orchestrator.model import Job, JobState, Session, SessionState, is_news, may_become
from orchestrator.ports import Clock, Compute, GitHub, Journal, Minted, Parameters, Queue, Received, Records, Scope
from orchestrator.reapers import Measure, measure
from orchestrator.settings import ServerSettings
from orchestrator.webhook import JobEvent, deduplication_id

COUNTABLE = 1 << 53
"""No honest count is larger; a number that no store can hold must not come back for ever."""
SHORT = 300
"""Characters kept of a word that an agent or a job chose."""
FAREWELL_S = 60.0
"""Seconds an ended session's machine gets to end itself before it is terminated from here."""
INFERRED = frozenset({"instance_gone", "deadline"})
"""Reasons that nobody told us: a final word that arrives late knows better."""
_JOB_STATES = {"queued": JobState.QUEUED, "in_progress": JobState.IN_PROGRESS, "completed": JobState.COMPLETED}


@dataclass
class Turns:
    """Everything the orchestrator ever does, on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    github: GitHub
    parameters: Parameters
    job_queue: Queue
    clock: Clock
    journal: Journal

    def on_webhook(self, body: bytes, event: JobEvent) -> bool:
        """A genuine delivery: durable once this returns; whether it was ours. Raises: ServiceFailed: answer 5xx."""
        if event.action not in _JOB_STATES or not labels.is_ours(event.labels, self._aliased):
            return False
        self.job_queue.send(msgspec.json.encode(event).decode(), event.job_id, deduplication_id(body))
        return True

    def on_job_event(self, event: JobEvent) -> None:
        """A delivery from the queue. Late, repeated and reordered ones change nothing."""
        job = self._remembered(event)
        if lacks_a_session(job, existing := self._session_for(job)):
            self.advance(self._intended(job))
        elif existing is not None:
            self.advance(existing)

    def on_agent_message(self, received: Received) -> None:
        """What an agent said. A message nobody can act on is counted and dropped, never redelivered for ever."""
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
        match message:
            case Started():
                self.parameters.delete(parameter_name(session.instance_id))
                self._moved(session, SessionState.READY, started_at=self.clock.now(), deadline=session.expires_at)
            case Busy():
                self._moved(session, SessionState.BUSY, ran_job=message.ran_job[:SHORT], deadline=session.expires_at)
            case Interrupting():
                self.journal.event("session.interrupting", session_id=session.session_id, reason=message.reason)
            case FinalWord():
                self._spoken(session, message)
            case BootstrapFailed():
                self._ended(session, "failure", "bootstrap_failed", message.error)

    def on_tick(self) -> int:
        """Look after every open session once; returns how many there are. One that fails does not keep the others waiting."""
        sessions = list(self.records.open_sessions())
        states = self.compute.states(session.instance_id for session in sessions if session.instance_id)
        for session in sessions:
            try:
                self._look_after(session, states.get(session.instance_id) if session.instance_id else None)
            except OrchestratorError as error:
                self.journal.event("session.unattended", session_id=session.session_id, error=str(error))
        return len(sessions)

    def advance(self, session: Session) -> Session:
        """Take the launch as far as it goes; safe to repeat from any point at which it was cut off."""
        if session.state is SessionState.LAUNCHING:
            instance_id = self.compute.launch(session.request)
            session = self._moved(session, SessionState.LAUNCHED, instance_id=instance_id, launched_at=self.clock.now())
        if session.state is SessionState.LAUNCHED:
            try:
                runner_id = self._configured(session)
            except Unlaunchable as error:
                return self._ended(session, "failure", "unconfigurable", str(error))
            deadline = session.expires_at
            session = self._moved(session, SessionState.CONFIGURED, runner_id=runner_id, deadline=deadline)
        return session

    def _remembered(self, event: JobEvent) -> Job:
        state = _JOB_STATES[event.action]
        known = self.records.job(event.job_id)
        job = known or Job(
            job_id=event.job_id, run_id=event.run_id, run_attempt=event.run_attempt, owner=event.owner, repo=event.repo,
            name=event.name, labels=event.labels, installation_id=event.installation_id, queued_at=event.at,
        )  # fmt: skip
        if known is not None and not is_news(job, state):
            return job
        changes: dict[str, object] = {"state": state}
        if event.runner_name:
            changes["runner_name"] = event.runner_name
        if state is JobState.IN_PROGRESS:
            changes["started_at"] = event.at
        if state is JobState.COMPLETED:
            changes |= {"completed_at": event.at, "conclusion": event.conclusion}
        self.journal.event("job.told", job_id=job.job_id, state=state.value, runner=event.runner_name)
        return self.records.save_job(msgspec.structs.replace(job, **changes))

    def _session_for(self, job: Job) -> Session | None:
        return self.records.session(planning.session_id(self.settings.stack_id, job))

    def _intended(self, job: Job) -> Session:
        """Commit the wish, with the exact request, before anything is asked of EC2."""
        now = self.clock.now()
        identity = planning.session_id(self.settings.stack_id, job)
        expires_at = now + planning.lifetime_s(self.settings)
        session = Session(
            session_id=identity, launched_for=job.job_id, owner=job.owner, repo=job.repo, run_id=job.run_id, labels=job.labels,
            installation_id=job.installation_id, created_at=now, deadline=now + planning.BOOT_S, expires_at=expires_at,
            runner_name=planning.runner_name(self.settings.stack_id, identity),
            request=planning.launch_request(self.settings, job, identity, expires_at),
        )  # fmt: skip
        saved = self.records.save_session(session)
        self.journal.event("session.intended", session_id=identity, job_id=job.job_id)
        return saved

    def _configured(self, session: Session) -> int:
        """Register and lay the configuration down, unless that happened before we were cut off. Returns the runner's id."""
        scope = _scope(session)
        if self.parameters.exists(parameter_name(session.instance_id)):
            return self.github.find(scope, session.runner_name) or 0
        minted = self._minted(session, scope)
        now = datetime.fromtimestamp(self.clock.now(), UTC)
        config = RunnerConfig(
            org=session.owner, repo=session.repo, job_id=session.launched_for, run_id=session.run_id, labels=session.labels,
            jit_config=type(minted.blob)(planning.without_update(minted.blob.reveal())), runner_name=session.runner_name,
            session_id=session.session_id, attempt=session.attempt, stack_id=self.settings.stack_id, issued_at=now,
            runner_version=self.settings.runner_version, runner_sha256=self.settings.runner_sha256,
            max_runtime_minutes=self.settings.max_runtime_minutes,
        )  # fmt: skip
        try:
            written = write_config(config)
        except ContractError as error:
            raise Unlaunchable(str(error)) from error
        name, stack = parameter_name(session.instance_id), self.settings.stack_id
        if not self.parameters.put(name, written, session.instance_id, stack):
            self.parameters.delete(name)  # laid down for a registration that is gone
            self.parameters.put(name, written, session.instance_id, stack)
        return minted.runner_id

    def _minted(self, session: Session, scope: Scope) -> Minted:
        """A runner whose name is taken is our own, from a mint whose answer was lost: remove it and mint again."""
        for _ in range(3):
            minted = self.github.mint(scope, session.runner_name, session.labels, self.settings.runner_group_id)
            if minted is not None:
                return minted
            other = self.github.find(scope, session.runner_name)
            if other is not None:
                self.github.remove(scope, other)
        raise ServiceFailed("github:generate-jitconfig", "NameTaken", session.runner_name)

    def _speaker(self, message: Started | Busy | Interrupting | FinalWord | BootstrapFailed) -> Session | None:
        identity = getattr(message, "session_id", "")
        session = self.records.session(identity) if identity else None
        if session is None:
            session = next((s for s in self.records.open_sessions() if s.instance_id == message.instance_id), None)
        return session if session is not None and session.instance_id == message.instance_id else None

    def _look_after(self, session: Session, instance_state: str | None) -> None:
        match measure(session, instance_state, self.clock.now()):
            case Measure.NOTHING:
                return
            case Measure.ADVANCE:
                self.advance(session)
            case Measure.NOTE_GONE:
                self.records.save_session(msgspec.structs.replace(session, gone_at=self.clock.now()))
            case Measure.END:
                late = session.gone_at is None and self.clock.now() >= session.deadline
                reason = "deadline" if late else "instance_gone"
                ended = self._ended(
                    session, "failure" if late else "interrupted", reason, f"the session ended without a word: {reason}"
                )
                if ended.instance_id and instance_state is not None:
                    self.compute.terminate(ended.instance_id)
            case Measure.TERMINATE:
                self.compute.terminate(session.instance_id)
            case Measure.CLOSE:
                self._closed(session)

    def _ended(self, session: Session, status: str, reason: str, error: str, **more: object) -> Session:
        now = self.clock.now()
        changes = {
            "status": status,
            "reason": reason[:SHORT],
            "error": error[:1000],
            "ended_at": now,
            "deadline": now + FAREWELL_S,
            **more,
        }
        return self._moved(session, SessionState.ENDED, **changes)

    def _spoken(self, session: Session, word: FinalWord) -> None:
        """The agent's own account; it also replaces what was only inferred from a vanished instance."""
        told: dict[str, object] = {
            "phases_ms": {name[:64]: ms for name, ms in list(word.phases_ms.items())[:32] if abs(ms) < COUNTABLE},
            "log_outcome": word.log_outcome[:64],
            "log_lines": max(0, min(word.log_lines_shipped, COUNTABLE)),
            "ran_job": (word.ran_job or session.ran_job)[:SHORT],
        }
        if session.state in (SessionState.ENDED, SessionState.CLOSED):
            if session.reason in INFERRED:
                told |= {"status": word.status.value, "reason": word.reason[:SHORT], "error": word.error[:1000]}
                self.records.save_session(msgspec.structs.replace(session, **told))
            return
        self._ended(session, word.status.value, word.reason, word.error, **told)

    def _closed(self, session: Session) -> None:
        """The instance is gone: nothing can use the secret or the registration any more."""
        if session.instance_id:
            self.parameters.delete(parameter_name(session.instance_id))
        scope = _scope(session)
        runner_id = self.github.find(scope, session.runner_name)
        if runner_id is None or self.github.remove(scope, runner_id):
            self._moved(session, SessionState.CLOSED, closed_at=self.clock.now())

    def _moved(self, session: Session, state: SessionState, **changes: object) -> Session:
        """The session in its new state, committed; what the table does not allow, or has happened already, changes nothing."""
        if not may_become(session, state):
            return session
        moved = self.records.save_session(msgspec.structs.replace(session, state=state, **changes))
        self.journal.event("session.moved", session_id=session.session_id, state=state.value, instance_id=moved.instance_id)
        return moved

    @property
    def _aliased(self) -> Callable[[str], bool]:
        return lambda label: any(alias.covers(label) for alias in self.settings.aliases)


def _scope(session: Session) -> Scope:
    return Scope(session.installation_id, session.owner, session.repo)
