"""What nobody owns any more is removed: machines, secrets, registrations. Each is suspected first, looked at again, and then
removed.

Unknown means keep: a thing goes only if the records, read consistently, say that its session is over or that there never was one,
and said so already some minutes ago. One reaper's failure keeps no other from its work, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from orchestrator.cards import is_over
from orchestrator.errors import OrchestratorError, ServiceFailed, Unanswered
from orchestrator.naming import session_of
from orchestrator.ports import Clock, Journal, Queue
from orchestrator.reapers import GONE
from orchestrator.records import Records
from orchestrator.services import Body, Compute, Configurations, GitHub, Registered, Scope, place_of
from orchestrator.sessions import Sessions
from orchestrator.settings import ServerSettings
from orchestrator.states import LaunchState, SessionState

Thing = TypeVar("Thing")
SUSPECTED_S = 600.0
"""How long something must look ownerless: longer than any launch takes to become records."""
PAST_S = 30.0
"""How long a machine must be past the end that its tag names: seen so by two ticks, and its session's own end comes first."""
OFFLINE_S = 3600.0
"""How long a registration must be offline and ownerless. Some read offline while their machine boots."""
LATELY_S = 7 * 86_400.0
"""Repositories whose registrations are looked through: those heard of lately."""
FEW, MOST = 5, 0.5
"""More machines of no session than these, and than this part of all, are not believed in."""
CURSOR = "cleaning/registrations"
A_TICKS_S = 20.0
"""For how long one tick looks through registrations."""
LEASE_S = 50.0
"""One replica cleans at a time; shorter than the tick, so that another may take over at the next."""


@dataclass
class Cleaning:
    """Reapers; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    compute: Compute
    sessions: Sessions
    github: GitHub
    configurations: Configurations
    queues: dict[str, Queue]
    clock: Clock
    journal: Journal

    def sweep(self) -> int:
        """Every reaper once, unless another replica is at it; returns how many failed."""
        if not self.records.leased("cleaning", self.clock.now(), LEASE_S):
            return 0
        reapers: dict[str, Callable[[], None]] = {
            "machines": self._machines, "secrets": self._secrets, "registrations": self._registrations, "queues": self._depths,
        }  # fmt: skip
        failed = [name for name, reaper in reapers.items() if not self._isolated(name, reaper)]
        if failed:
            self.journal.event("cleaning.incomplete", failed=", ".join(failed))
        return len(failed)

    def _isolated(self, name: str, reaper: Callable[[], None]) -> bool:
        try:
            reaper()
        except Exception as error:  # noqa: BLE001 - a net: what one reaper cannot read must not stop the others
            self.journal.event("cleaning.failed", reaper=name, error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _machines(self) -> None:
        """Those past the end that their tag names, and those of no session.

        Raises: ServiceFailed: so many are of no session that it must be the tables that are wrong. None of these is touched.
        """
        bodies, strangers = list(self.compute.list_sessions()), list[Body]()
        self._each(bodies, partial(self._machine, strangers))
        if len(strangers) > max(FEW, MOST * len(bodies)):
            told = f"{len(strangers)} of {len(bodies)} machines are of no session"
            hint = (
                "kept until the end that their tags name: is this the sessions table of this stack, and its stack id no other's?"
            )
            raise ServiceFailed("cleaning:machines", "Unlikely", f"{told}; {hint}")
        self._each(strangers, self._stranger)

    def _machine(self, strangers: list[Body], body: Body) -> None:
        now = self.clock.now()
        if body.expires_at is not None and now >= body.expires_at:
            if self.records.suspected(f"{body.handle.body}/past", now, PAST_S):
                self._terminated(body, "past its end")
        elif self._is_owned(body):
            self.records.cleared(body.handle.body)
        else:
            strangers.append(body)

    def _stranger(self, body: Body) -> None:
        if self.records.suspected(body.handle.body, self.clock.now(), SUSPECTED_S):
            self._terminated(body, "of no session")

    def _is_owned(self, body: Body) -> bool:
        """Whether a session that is not closed has it, or a launch may still deal it."""
        session = self.records.session_of(body.handle.body)
        if session is not None:
            return session.state is not SessionState.CLOSED
        launch = self.records.launch(body.launch_id) if body.launch_id else None
        return launch is not None and launch.state is not LaunchState.CLOSED

    def _terminated(self, body: Body, why: str) -> None:
        """Looked at once more, itself and its records: the list is some pages old."""
        seen = self.compute.poll_sessions([body.handle]).get(body.handle)
        if seen is None or seen.state in GONE:
            return
        past = seen.expires_at is not None and self.clock.now() >= seen.expires_at
        if not past and (seen.expires_at != body.expires_at or self._is_owned(body)):
            return
        self.journal.event("machine.reaped", instance_id=body.handle.body, launch_id=body.launch_id, why=why)
        self.sessions.stop(body.handle)

    def _secrets(self) -> None:
        """Configurations whose session is over, or never was."""
        self._each(self.configurations.instances(), self._secret)

    def _secret(self, instance_id: str) -> None:
        session = self.records.session_of(instance_id)
        if session is not None and not is_over(session):
            return
        if self.records.suspected(f"configuration/{instance_id}", self.clock.now(), SUSPECTED_S):
            self.journal.event("secret.reaped", instance_id=instance_id)
            self.configurations.delete(instance_id)

    @staticmethod
    def _each(things: Iterable[Thing], look_at: Callable[[Thing], None]) -> None:
        """All of them; one that fails keeps no other from its turn. Raises: the first failure, in the end."""
        troubles: list[OrchestratorError] = []
        for thing in things:
            try:
                look_at(thing)
            except OrchestratorError as error:
                troubles.append(error)
        if troubles:
            raise troubles[0]

    def _registrations(self) -> None:
        """Runners of this stack's that are offline, and whose session is over or never was.

        Every repository once in half an hour; as many at a time as do not keep the next tick waiting. Raises: OrchestratorError.
        """
        now, last = self.clock.now(), self.records.reached_last(CURSOR)
        if not last and not self.records.leased("registrations", now, OFFLINE_S / 2):
            return
        troubles: list[OrchestratorError] = []
        for scope in sorted(self.records.repositories(now - LATELY_S), key=place_of):
            if place_of(scope) <= last:
                continue
            if self.clock.now() - now > A_TICKS_S or any(isinstance(one, Unanswered) for one in troubles):
                break
            try:
                self._registrations_of(scope)
            except OrchestratorError as error:
                troubles.append(error)
            self.records.reached(CURSOR, place_of(scope))
        else:
            self.records.reached(CURSOR, "")
        if troubles:
            raise troubles[0]

    def _registrations_of(self, scope: Scope) -> None:
        self._each(self.github.registered(scope), partial(self._registration, scope))

    def _registration(self, scope: Scope, runner: Registered) -> None:
        name = session_of(self.settings.stack_id, runner.name)
        session = self.records.session(name) if name else None
        what = f"runner/{scope.owner}/{scope.repo}/{runner.runner_id}"
        if not name or runner.online or runner.busy or (session is not None and not is_over(session)):
            if name:
                self.records.cleared(what)
        elif self.records.suspected(what, self.clock.now(), OFFLINE_S) and self.github.remove(scope, runner.runner_id):
            self.journal.event("registration.reaped", runner=runner.name)

    def _depths(self) -> None:
        """How much waits in each queue, and how long what was received lately had waited, for whoever watches."""
        for name, queue in self.queues.items():
            self.journal.event("queue.depth", queue=name, messages=queue.depth(), age_s=round(queue.age_s(), 1))
