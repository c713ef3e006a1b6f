"""Garbage collection of registrations: runners of this stack that are offline, and whose session is over or never was."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from orchestrator.errors import OrchestratorError, Unanswered
from orchestrator.fleet.garbage import each
from orchestrator.jobs.github import GitHub, RegisteredRunner
from orchestrator.ports import Clock, Journal
from orchestrator.settings import ServerSettings
from orchestrator.store.naming import Scope, place_of, session_of
from orchestrator.store.records import Records

OFFLINE_S = 3600.0
"""Seconds a registration must be offline and ownerless. Some read offline while their machine boots."""
LATELY_S = 7 * 86_400.0
"""Repositories whose registrations are looked through: those heard of within so many seconds."""
CURSOR = "garbage/registrations"
A_TICKS_S = 20.0
"""Seconds for which one tick looks through registrations."""


@dataclass
class RegistrationCollector:
    """Registrations that are left over; on ports that are handed in."""

    settings: ServerSettings
    records: Records
    github: GitHub
    clock: Clock
    journal: Journal

    def collect(self) -> None:
        """Every repository once in half an hour; as many at a time as do not keep the next tick waiting.

        Raises: OrchestratorError.
        """
        leases = self.records.leases
        now, last = self.clock.now(), leases.cursor(CURSOR)
        if not last and not leases.acquire("registrations", now, OFFLINE_S / 2):
            return
        failures: list[OrchestratorError] = []
        for scope in sorted(self.records.repositories.since(now - LATELY_S), key=place_of):
            if place_of(scope) <= last:
                continue
            if self.clock.now() - now > A_TICKS_S or any(isinstance(one, Unanswered) for one in failures):
                break
            try:
                each(self.github.registered(scope), partial(self._collect, scope))
            except OrchestratorError as error:
                failures.append(error)
            leases.set_cursor(CURSOR, place_of(scope))
        else:
            leases.set_cursor(CURSOR, "")
        if failures:
            raise failures[0]

    def _collect(self, scope: Scope, runner: RegisteredRunner) -> None:
        name = session_of(self.settings.stack_id, runner.name)
        session = self.records.session(name) if name else None
        what = f"runner/{scope.owner}/{scope.repo}/{runner.runner_id}"
        if not name or runner.online or runner.busy or (session is not None and not session.is_over):
            if name:
                self.records.leases.clear(what)
        elif self.records.leases.suspect(what, self.clock.now(), OFFLINE_S) and self.github.remove(scope, runner.runner_id):
            self.journal.event("registration.collected", runner=runner.name)
