"""What happens to one session, wherever the cause is known: it is configured, it moves on, it ends, it is taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import SessionHandle
from orchestrator.errors import PACED, FailureKind, ServiceFailed, Throttled, Unanswered, Unlaunchable
from orchestrator.fleet.demand import IDLE, after_a_refusal, after_an_end
from orchestrator.fleet.limits import boot_s
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Configurations, Journal, Wakes
from orchestrator.retry_policy import REFUSALS, due_again
from orchestrator.settings import ServerSettings
from orchestrator.store.kinds import changed, may_become
from orchestrator.store.model import Session
from orchestrator.store.records import Records
from orchestrator.store.states import SessionState

FAREWELL_S = 60.0
"""Seconds an ended session's machine gets to end itself before it is terminated from here."""
CLAIMED = 0.75
"""What must be left of a lease where a configuration is to be written, which may have to wait for its turn, too."""
FIRST_LOOK_S = 1.0
"""An agent terminates its machine right after its final message; then what is left of the session can be removed."""


@dataclass(kw_only=True)
class Sessions:
    """Single sessions; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    strategies: Strategies
    sources: Sources
    configurations: Configurations
    clock: Clock
    journal: Journal
    wakes: Wakes

    def configure(self, session: Session) -> Session:
        """Register a session and write its configuration. The caller has just written the record: it is theirs for a while.

        Raises: OrchestratorError; the sweep takes it up again.
        """
        if session.state is not SessionState.LAUNCHED:
            return session
        try:
            session, registration_id = self._configured(session)
        except ServiceFailed as error:
            now, known = self.clock.now(), self._again(session)
            ours = known.state is SessionState.LAUNCHED and now < session.due
            due = due_again(error, now, self.settings.lease_s) if ours else known.due
            self.records.add_failure(changed(known, due=due), now, "" if error.code == PACED else str(error))
            raise
        except Unlaunchable as error:
            ended = self.ended(self._again(session), "failure", "unconfigurable", str(error), farewell_s=0.0)
            self.stop(handle_of(ended))
            return ended
        now = self.clock.now()
        return self.moved(
            session,
            SessionState.CONFIGURED,
            registration_id=registration_id,
            deadline=now + boot_s(self.settings),
            configured_at=now,
        )

    def taken_back(self, session: Session) -> Session:
        """The service itself says that it takes the machine back: its strategy asks elsewhere for a while. Once for a session.

        Raises: Conflict; ServiceFailed.
        """
        if session.taken_back:
            return session
        session = self.records.put(changed(session, taken_back=True))
        self.strategies.of(session.strategy).interrupted(session.placement)
        return session

    def release(self, session_id: str) -> None:
        """Take an idle session back, if the source agrees that it is idle: then nobody can give it work any more.

        Raises: OrchestratorError.
        """
        session = self.records.session(session_id)
        if session is None or session.bound_job or session.state not in IDLE:
            return
        if not self.sources.of(session).withdraw(session):
            return
        self.ended(session, "interrupted", "surplus", "more sessions than jobs: taken back before it had one", farewell_s=0.0)
        self.stop(handle_of(session))

    def stop(self, handle: SessionHandle) -> None:
        """End a session's machine, and say how grave it is if that fails.

        Raises: Throttled: asked again in seconds; ServiceFailed: it will be denied again, and somebody must mend a permission.
        """
        strategy = self.strategies.of(handle.strategy)
        try:
            if not strategy.stop_session(handle):
                self.journal.event("machine.stop_failed", instance_id=handle.instance, grade="info", why="it was gone already")
        except ServiceFailed as error:
            kind = strategy.classify(error).kind
            later = isinstance(error, Throttled | Unanswered) or kind is FailureKind.THROTTLED
            grade, hint = ("retry", "asked again") if later else ("error", "look at the orchestrator's permissions")
            self.journal.event("machine.stop_failed", instance_id=handle.instance, grade=grade, why=str(error), hint=hint)
            raise

    def moved(self, session: Session, state: SessionState, **changes: object) -> Session:
        """The session in its new state, committed; what the table does not allow, or has happened already, changes nothing.

        Raises: Conflict.
        """
        if not may_become(session, state):
            return session
        moved = self.records.put(self._in(session, state, changes))
        self._log_move(moved)
        return moved

    def ended(
        self, session: Session, status: str, reason: str, error: str, *, farewell_s: float = FAREWELL_S,
        told: Mapping[str, object] | None = None, worked: bool = False, refused: str = "",
    ) -> Session:  # fmt: skip
        """The session at its end, its label set the wiser, and woken.

        `farewell_s`: what its machine has to end itself; `worked`: it says that it had work; `refused`: why its machine could not
        be run as it was asked for, which counts as a refused launch. Raises: Conflict.
        """
        if not may_become(session, SessionState.ENDED):
            return session
        now = self.clock.now()
        end = {"status": status, "reason": reason[:300], "error": error[:1000], "ended_at": now, "deadline": now + farewell_s}
        over = self._in(session, SessionState.ENDED, {**end, "due": now + min(FIRST_LOOK_S, farewell_s), **(told or {})})
        worked = worked or bool(session.bound_job) or session.busy_at is not None
        label_set = self.records.label_set(session.set_key) if reason != "surplus" else None
        wiser = label_set
        if label_set is not None and refused:
            wiser = after_a_refusal(label_set, session.launch_id, refused, now)
        elif label_set is not None:
            wiser = after_an_end(label_set, over, worked=worked, now=now)
        ended: Session
        ended, *_ = self.records.save(over, *([wiser] if wiser is not None and wiser is not label_set else []))
        self._log_move(ended)
        self.wake(session.set_key)
        if refused and wiser is not None and wiser.refusals >= REFUSALS and session.launched_for:
            self.sources.of(session).waits([session.launched_for], refused)
        return ended

    def claimed(self, session: Session) -> Session:
        """The session as ours now, if it still wants its configuration. Raises: Conflict: it is somebody else's."""
        if session.state is not SessionState.LAUNCHED:
            return session
        return self.records.put(changed(session, due=self.leased()))

    def leased(self) -> float:
        """Until when what we begin now is ours alone, epoch seconds."""
        return self.clock.now() + self.settings.lease_s

    def wake(self, set_key: str) -> None:
        """Have a label set looked at: soon by whoever hears it, by the sweep if nobody does. Raises: ServiceFailed."""
        self.records.wake(set_key, self.leased())
        self.wakes.wake(set_key)

    def _again(self, session: Session) -> Session:
        """As written last: what failed may have written it before. Raises: ServiceFailed."""
        return self.records.session(session.session_id) or session

    def _in(self, session: Session, state: SessionState, changes: Mapping[str, object]) -> Session:
        told: dict[str, object] = {"deadline": session.expires_at, **changes}
        due = min(float(str(told["deadline"])), self.clock.now() + self.settings.watch_s)
        return changed(session, state=state, **{"due": due, **told})

    def _log_move(self, session: Session) -> None:
        fields = {"session_id": session.session_id, "state": session.state.value, "instance_id": session.instance_id}
        self.journal.event("session.state_changed", **fields, **({"reason": session.reason} if session.reason else {}))

    def _configured(self, session: Session) -> tuple[Session, int]:
        """Register and write the configuration, unless that happened before we were cut off. Also returns the registration's id.

        Each registration after the first is an attempt of its own: messages of an agent of an earlier one do not count any more.
        """
        source, taken_up = self.sources.of(session), session.version > 1
        if taken_up and self.configurations.exists(session.instance_id):
            return session, source.registration_of(session)
        registered = source.register(session)
        if taken_up or self.clock.now() > session.due - CLAIMED * self.settings.lease_s:
            # if it is still ours: who waited for a turn may have lost it
            session = self.records.put(changed(session, attempt=session.attempt + taken_up, due=self.leased()))
        written = registered.configuration(session)
        if not self.configurations.put(session.instance_id, written):
            session = self.records.put(changed(session, due=self.leased()))  # if it is still ours
            if not self.configurations.replace(session.instance_id, written):  # the other is for a registration that is gone
                raise ServiceFailed("configurations:replace", "Deleted", "of an earlier registration; written by the lease")
        return session, registered.registration_id


def handle_of(session: Session) -> SessionHandle:
    """The handle of a session's machine."""
    return SessionHandle(session.strategy, session.instance_id)
