"""What happens to one session, wherever the cause is known.

It is registered and configured, it moves on, it ends, it is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.contract.config import RunnerConfig, write_config
from agent.contract.errors import ContractError
from orchestrator import demand, planning
from orchestrator.errors import PACED, ServiceFailed, Throttled, Unanswered, Unlaunchable
from orchestrator.model import Ledger, Session, changed, may_become
from orchestrator.patience import MINTS, due_again
from orchestrator.ports import Clock, Journal, Wakes
from orchestrator.records import Records
from orchestrator.services import Compute, Configurations, GitHub, Minted, Scope, SessionHandle
from orchestrator.settings import ServerSettings
from orchestrator.states import SessionState
from orchestrator.troubles import Trouble, trouble

FAREWELL_S = 60.0
"""Seconds an ended session's machine gets to end itself before it is terminated from here."""
CLAIMED = 0.75
"""What must be left of a lease where a configuration is to be laid down, which may have to wait for its turn, too."""
FIRST_LOOK_S = 1.0
"""An agent terminates its machine right after its final word; then what is left of the session can be removed."""


@dataclass
class Sessions:
    """Single sessions; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    github: GitHub
    configurations: Configurations
    clock: Clock
    journal: Journal
    wakes: Wakes

    def configure(self, session: Session) -> Session:
        """Register its runner and lay its configuration down. Who calls has just written the record: it is theirs for a while.

        Raises: OrchestratorError; the sweep takes it up again.
        """
        if session.state is not SessionState.LAUNCHED:
            return session
        try:
            session, runner_id = self._configured(session)
        except ServiceFailed as error:
            now, known = self.clock.now(), self._again(session)
            ours = known.state is SessionState.LAUNCHED and now < session.due
            due = due_again(error, now, self.settings.lease_s) if ours else known.due
            self.records.noted(changed(known, due=due), now, "" if error.code == PACED else str(error))
            raise
        except Unlaunchable as error:
            return self.ended(self._again(session), "failure", "unconfigurable", str(error))
        deadline = self.clock.now() + planning.BOOT_S
        return self.moved(
            session, SessionState.CONFIGURED, runner_id=runner_id, deadline=deadline, configured_at=self.clock.now()
        )

    def _again(self, session: Session) -> Session:
        """As written last: what failed may have written it before. Raises: ServiceFailed."""
        return self.records.session(session.session_id) or session

    def release(self, session_id: str) -> None:
        """Take an idle session back, if GitHub agrees that it is idle: then nobody can give it a job any more.

        Raises: OrchestratorError.
        """
        session = self.records.session(session_id)
        if session is None or session.bound_job or session.state not in demand.IDLE:
            return
        scope = scope_of(session)
        runner_id = self.github.find(scope, session.runner_name)
        if runner_id is None and session.state is SessionState.READY:
            return  # it has had its job, or GitHub removed it: its own word is on the way
        if runner_id is not None and not self.github.remove(scope, runner_id):
            return
        self.ended(session, "interrupted", "surplus", "more sessions than jobs: taken back before it had one", farewell_s=0.0)
        self.stop(handle_of(session))

    def stop(self, handle: SessionHandle) -> None:
        """Ask for its body's end, and say how grave it is if that cannot be had.

        Raises: Throttled: asked again in seconds; ServiceFailed: it will be denied again, and somebody must mend a permission.
        """
        try:
            if not self.compute.stop_session(handle):
                self.journal.event("machine.stop", instance_id=handle.body, grade="info", why="it was gone already")
        except ServiceFailed as error:
            later = isinstance(error, Throttled | Unanswered) or trouble(error.code) is Trouble.LATER
            grade, hint = ("retry", "asked again") if later else ("error", "look at the orchestrator's permissions")
            self.journal.event("machine.stop", instance_id=handle.body, grade=grade, why=str(error), hint=hint)
            raise

    def moved(self, session: Session, state: SessionState, **changes: object) -> Session:
        """The session in its new state, committed; what the table does not allow, or has happened already, changes nothing.

        Raises: Conflict.
        """
        if not may_become(session, state):
            return session
        moved = self.records.put(self._in(session, state, changes))
        self._told(moved)
        return moved

    def ended(
        self, session: Session, status: str, reason: str, error: str, *, farewell_s: float = FAREWELL_S,
        told: Mapping[str, object] | None = None, worked: bool = False,
    ) -> Session:  # fmt: skip
        """The session at its end, its ledger the wiser, and the level it leaves looked at again.

        `farewell_s`: what its machine has to end itself; `worked`: it says that it had a job. Raises: Conflict.
        """
        if not may_become(session, SessionState.ENDED):
            return session
        now = self.clock.now()
        end = {"status": status, "reason": reason[:300], "error": error[:1000], "ended_at": now, "deadline": now + farewell_s}
        over = self._in(session, SessionState.ENDED, {**end, "due": now + min(FIRST_LOOK_S, farewell_s), **(told or {})})
        worked = worked or bool(session.bound_job) or session.busy_at is not None
        ledger = self.records.ledger(session.set_key) if reason != "surplus" else None
        wiser = ledger and demand.after_an_end(ledger, over, worked=worked, now=now)
        ended: Session
        ended, *_ = self.records.save(over, *([wiser] if wiser is not None and wiser is not ledger else []))
        self._told(ended)
        self.wake(session.set_key)
        return ended

    def leased(self) -> float:
        """Until when what we begin now is ours alone."""
        return self.clock.now() + self.settings.lease_s

    def wake(self, set_key: str) -> None:
        """Have a label set looked at: soon by whoever hears it, by the sweep if nobody does. Raises: ServiceFailed."""
        self.records.wake(set_key, self.leased())
        self.wakes.wake(set_key)

    def _in(self, session: Session, state: SessionState, changes: dict[str, object]) -> Session:
        told: dict[str, object] = {"deadline": session.expires_at, **changes}
        due = min(float(str(told["deadline"])), self.clock.now() + self.settings.watch_s)
        return changed(session, state=state, **{"due": due, **told})

    def _told(self, session: Session) -> None:
        fields = {"session_id": session.session_id, "state": session.state.value, "instance_id": session.instance_id}
        self.journal.event("session.moved", **fields, **({"reason": session.reason} if session.reason else {}))

    def _configured(self, session: Session) -> tuple[Session, int]:
        """Register and lay the configuration down, unless that happened before we were cut off. Also returns the runner's id.

        Each registration after the first is an attempt of its own: what an agent of an earlier one says does not count any more.
        """
        scope, taken_up = scope_of(session), session.version > 1
        if taken_up and self.configurations.exists(session.instance_id):
            return session, self.github.find(scope, session.runner_name) or 0
        minted = self._minted(session, scope)
        if taken_up or self.clock.now() > session.due - CLAIMED * self.settings.lease_s:
            # if it is still ours: who waited for a turn may have lost it
            session = self.records.put(changed(session, attempt=session.attempt + taken_up, due=self.leased()))
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
        if not self.configurations.put(session.instance_id, written):
            session = self.records.put(changed(session, due=now.timestamp() + self.settings.lease_s))  # if it is still ours
            if not self.configurations.replace(session.instance_id, written):  # the other is for a registration that is gone
                raise ServiceFailed("configurations:replace", "Deleted", "of an earlier registration; laid down by the lease")
        return session, minted.runner_id

    def _minted(self, session: Session, scope: Scope) -> Minted:
        """A runner whose name is taken is our own, from a mint whose answer was lost: remove it and mint again."""
        for _ in range(MINTS):
            minted = self.github.mint(scope, session.runner_name, session.labels, self.settings.runner_group_id)
            if minted is not None:
                return minted
            other = self.github.find(scope, session.runner_name)
            if other is not None:
                self.github.remove(scope, other)
        raise ServiceFailed("github:generate-jitconfig", "NameTaken", session.runner_name)


def scope_of(record: Session | Ledger) -> Scope:
    """Where its runners belong."""
    return Scope(record.installation_id, record.owner, record.repo)


def handle_of(session: Session) -> SessionHandle:
    """Its body."""
    return SessionHandle(session.strategy, session.instance_id)
