"""Garbage collection: machines and secrets that nobody owns, and what the sources of work collect.

Each is suspected first, looked at again, and then removed. Unknown means keep: a thing goes only if the records, read
consistently, say that its session is over or that there never was one, and said so already some minutes ago. One collector's
failure keeps no other from its work, and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.port import GONE, Compute, ComputeInstance
from orchestrator.errors import OrchestratorError, ServiceFailed, failure_of
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Sources
from orchestrator.ports import Clock, Configurations, Journal, Queue
from orchestrator.store.records import Records
from orchestrator.store.states import LaunchState, SessionState

Thing = TypeVar("Thing")
SUSPECTED_S = 600.0
"""Seconds something must look ownerless: longer than any launch takes to become records."""
PAST_S = 30.0
"""Seconds a machine must be past the end that it carries: seen so by two ticks, and its session's own end comes first."""
FEW, MOST = 5, 0.5
"""More machines of no session than these, and than this part of all, are not believed in."""
LEASE_S = 50.0
"""Seconds for which one process collects; shorter than the tick, so that another may take over at the next."""


@dataclass(kw_only=True)
class GarbageCollector:
    """Collectors; on ports that are handed in."""

    records: Records
    strategies: Strategies
    sources: Sources
    sessions: Sessions
    configurations: Configurations
    queues: dict[str, Queue]
    clock: Clock
    journal: Journal

    def collect(self) -> int:
        """Every collector once, unless another process is at it; returns how many failed."""
        if not self.records.leases.acquire("garbage", self.clock.now(), LEASE_S):
            return 0
        collectors: dict[str, Callable[[], None]] = {
            f"machines of {strategy.name}": partial(self._machines, strategy) for strategy in self.strategies
        }
        collectors |= {"secrets": self._secrets}
        for source in self.sources:
            collectors |= source.collectors
        collectors |= {"queues": self._log_depths}
        failed = [name for name, collector in collectors.items() if not self._succeeds(name, collector)]
        if failed:
            self.journal.event("garbage.incomplete", failed=", ".join(failed))
        return len(failed)

    def _succeeds(self, name: str, collector: Callable[[], None]) -> bool:
        error = failure_of(collector)
        if error is not None:
            self.journal.event("garbage.failed", collector=name, error=f"{type(error).__name__}: {error}")
        return error is None

    def _machines(self, strategy: Compute) -> None:
        """A strategy's machines past the end that they carry, and those of no session.

        Raises: ServiceFailed: so many are of no session that it must be the tables that are wrong. None of these is touched.
        """
        instances, strangers = list(strategy.list_sessions()), list[ComputeInstance]()
        each(instances, partial(self._machine, strategy, strangers))
        if len(strangers) > max(FEW, MOST * len(instances)):
            told = f"{len(strangers)} of {len(instances)} machines belong to no session"
            hint = (
                "none is terminated before its expiry: check that RUNS_FLEET_SESSIONS_TABLE is the sessions table of this stack,"
                " and that no other stack has its RUNS_FLEET_STACK_ID"
            )
            raise ServiceFailed("garbage:machines", "Unlikely", f"{told}; {hint}")
        each(strangers, partial(self._stranger, strategy))

    def _machine(self, strategy: Compute, strangers: list[ComputeInstance], instance: ComputeInstance) -> None:
        now, identity = self.clock.now(), instance.handle.instance
        if instance.expires_at is not None and now >= instance.expires_at:
            if self.records.leases.suspect(f"{identity}/past", now, PAST_S):
                self._terminate(strategy, instance, "past its end")
        elif self._is_owned(instance):
            self.records.leases.clear(identity)
        else:
            strangers.append(instance)

    def _stranger(self, strategy: Compute, instance: ComputeInstance) -> None:
        if self.records.leases.suspect(instance.handle.instance, self.clock.now(), SUSPECTED_S):
            self._terminate(strategy, instance, "of no session")

    def _is_owned(self, instance: ComputeInstance) -> bool:
        """Whether a session that is not closed has it, or a launch may still assign it."""
        session = self.records.session_of(instance.handle.instance)
        if session is not None:
            return session.state is not SessionState.CLOSED
        launch = self.records.launch(instance.launch_id) if instance.launch_id else None
        return launch is not None and launch.state is not LaunchState.CLOSED

    def _terminate(self, strategy: Compute, instance: ComputeInstance, why: str) -> None:
        """Terminate an instance, after one more look at it and its records: the list is some pages old."""
        seen = strategy.poll_sessions([instance.handle]).get(instance.handle)
        if seen is None or seen.state in GONE:
            return
        past = seen.expires_at is not None and self.clock.now() >= seen.expires_at
        if not past and (seen.expires_at != instance.expires_at or self._is_owned(instance)):
            return
        identity = instance.handle.instance
        self.journal.event("machine.collected", instance_id=identity, launch_id=instance.launch_id, why=why)
        self.sessions.stop(instance.handle)

    def _secrets(self) -> None:
        """Configurations whose session is over, or never was."""
        each(self.configurations.instances(), self._secret)

    def _secret(self, instance_id: str) -> None:
        session = self.records.session_of(instance_id)
        if session is not None and not session.is_over:
            return
        if self.records.leases.suspect(f"configuration/{instance_id}", self.clock.now(), SUSPECTED_S):
            self.journal.event("secret.collected", instance_id=instance_id)
            self.configurations.delete(instance_id)

    def _log_depths(self) -> None:
        """How much waits in each queue, and how long what was received lately had waited, for whoever watches."""
        for name, queue in self.queues.items():
            self.journal.event("queue.depth", queue=name, messages=queue.depth(), age_s=round(queue.age_s(), 1))


def each(things: Iterable[Thing], look_at: Callable[[Thing], None]) -> None:
    """Look at all of them; one that fails keeps no other from its turn. Raises: the first failure, in the end."""
    failures: list[OrchestratorError] = []
    for thing in things:
        try:
            look_at(thing)
        except OrchestratorError as error:
            failures.append(error)
    if failures:
        raise failures[0]
