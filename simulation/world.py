"""The orchestrator's turns on twins, and the actions of everybody else: GitHub's deliveries, agents, EC2, time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from orchestrator.adapters.aws import Clients
from orchestrator.commands.explain import Explainer, Explanation, gather
from orchestrator.components import Ports, assemble
from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.calls import Ec2
from orchestrator.compute.ec2.catalogue import InstanceType
from orchestrator.compute.ec2.events import read_event
from orchestrator.compute.ec2.strategy import Ec2Strategy
from orchestrator.errors import OrchestratorError
from orchestrator.jobs.model import JobState
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.webhook import JobEvent
from orchestrator.ports import Received
from orchestrator.settings import ServerSettings
from orchestrator.store.model import Session
from orchestrator.store.naming import set_key
from orchestrator.store.states import LaunchState, SessionState
from orchestrator.strategies import StrategyParts, ec2_strategy
from orchestrator.turns import Turns
from simulation.calls import Calls
from simulation.clock import MORNING, VirtualTime
from simulation.ec2 import MemoryEc2
from simulation.examples import a_job, a_label_set, a_launch, a_session, an_event, final_fields, sender_of, some_settings
from simulation.github import MemoryGitHub
from simulation.process import CollectedWakes, CountedIds, InlineWorkerPool, MemoryJournal
from simulation.services import MemoryConfigurations, MemoryQueue
from simulation.tables import MemoryTables

NO_CLIENTS = cast("Clients", None)
"""No strategy of a virtual world has clients of AWS."""


class World:
    """The turns on twins, and the pools of everybody else."""

    def __init__(self, calls: Calls | None = None, settings: ServerSettings | None = None, index_lag_s: float = 0.0) -> None:
        self.calls = calls or Calls()
        self.settings = settings or some_settings()
        self.clock, self.journal = VirtualTime(), MemoryJournal()
        self.tables, self.compute = MemoryTables(self.clock, self.calls, index_lag_s), MemoryEc2(self.calls)
        self.github, self.configurations = MemoryGitHub(self.calls), MemoryConfigurations(self.calls)
        self.queue, self.terminations = MemoryQueue(self.calls), MemoryQueue(self.calls)
        self.ids, self.wakes = CountedIds(), CollectedWakes()
        self.records = JobRecords(self.tables, self.settings.index_shards)
        self.turns = self.replica()
        self.github.agrees = self._as_remembered

    def replica(self, **parts: Any) -> Turns:
        """A process more, on the same world but for these parts of it (the fields of components.Ports)."""
        records = parts.get("records") or JobRecords(parts.pop("tables", self.tables), self.settings.index_shards)
        outside = Ports(
            records=records, strategies=Strategies([self.ec2_strategy(records, parts.pop("ec2", self.compute))]),
            github=self.github, configurations=self.configurations, job_queue=self.queue,
            termination_queue=self.terminations, clock=self.clock, ids=self.ids, journal=self.journal, wakes=self.wakes,
            workers=InlineWorkerPool(), configurers=InlineWorkerPool(), sweepers=InlineWorkerPool(), read_notice=read_event,
        )  # fmt: skip
        return assemble(self.settings, replace(outside, **parts))

    def ec2_strategy(
        self, records: JobRecords, ec2: Ec2, offerings: Callable[[], tuple[InstanceType, ...]] | None = None
    ) -> Ec2Strategy:
        """The strategy `ec2` as wiring builds it, on the twin."""
        parts = StrategyParts(settings=self.settings, clients=NO_CLIENTS, records=records, clock=self.clock, journal=self.journal)
        return ec2_strategy(parts, ec2, offerings)

    def forgotten(self) -> None:
        """GitHub does not know any job any more."""
        self.github.agrees = lambda _: None

    def _as_remembered(self, job_id: str) -> JobEvent | None:
        """What our own record says: GitHub knows nothing else, unless a test says so."""
        item = self.tables.peek("jobs", (job_id, "job"))
        if item is None:
            return None
        action: Any = item["state"]
        told: dict[str, Any] = {name: item[name] for name in ("conclusion", "runner_name", "head_sha") if name in item}
        told |= {name: item[name] for name in ("job_id", "run_id", "run_attempt", "owner", "repo", "name", "installation_id")}
        return an_event(action, at=item["queued_at"], labels=tuple(item["labels"]), **told)

    def explanation(self, job_id: str = "1") -> Explanation:
        """What `runs-fleet explain` says of a job now."""
        job = self.records.job(job_id)
        assert job is not None, f"no job {job_id} is known"
        context = gather(self.records, job, self.settings.stack_id, self.clock.now())
        return Explainer(self.settings, self.turns.requests, self.turns.strategies).explain(context, self.clock.now())

    @property
    def session(self) -> Session:
        """The only session there is."""
        (only,) = self.records.sessions()
        return only

    @property
    def sessions(self) -> list[Session]:
        """All sessions, oldest first."""
        return sorted(self.records.sessions(), key=lambda session: (session.launched_at or 0.0, session.session_id))

    def told(self, event: JobEvent) -> None:
        """A delivery from the queue, and what it wakes."""
        self.turns.on_job_event(event)
        self.reconcile()

    def reconcile(self) -> None:
        """Everything that is awake; what that wakes in turn."""
        for _ in range(20):
            if keys := self.wakes.taken():
                self.turns.on_wake(keys)

    def launched(self, **changes: Any) -> Session:
        """A job was queued and its machine configured."""
        self.told(an_event(**changes))
        return self.session

    def at_work(self) -> Session:
        """A machine, and GitHub says that it took the job."""
        session = self.launched()
        self.told(an_event("in_progress", runner_name=session.registration_name))
        return self.session

    def hear(self, status: str, sender: str | None = None, session: Session | None = None, **fields: object) -> None:
        """The turn of one message of an agent; of the only session, unless said."""
        about = session or self.session
        told = {"instance_id": about.instance_id, "session_id": about.session_id, "job_id": "1", **fields}
        by = sender_of(about) if sender is None else sender
        self.turns.on_agent_message(Received(json.dumps({"status": status, **told}), "receipt", by))
        self.reconcile()

    def end_without_a_job(self, times: int) -> None:
        """The youngest machine goes unclaimed, and whatever was launched for it, so many times."""
        for _ in range(times):
            last = self.sessions[-1]
            self.compute.instances[last.instance_id] = "terminated"
            self.hear_the_end("interrupted", session=last, reason="unclaimed")

    def hear_the_end(
        self, status: str = "success", sender: str | None = None, session: Session | None = None, **fields: object
    ) -> None:
        """The turn of an agent's final word."""
        self.hear(status, sender, session, **{**final_fields(status), **fields})

    def tick(self, after_s: float = 0.0) -> None:
        """Time passes, then a tick."""
        self.clock.at += after_s
        self.turns.on_sweep()
        try:
            self.reconcile()
        except OrchestratorError as error:
            self.journal.event("turn.failed", error=str(error))  # as the loop says it, that goes on

    def ticks(self, until_s: float, every_s: float = 5.0) -> None:
        """Time passes, with ticks all the while."""
        end = self.clock.at + until_s
        while self.clock.at < end:
            self.tick(min(every_s, end - self.clock.at))

    def becomes(self, state: str | None) -> None:
        """EC2's word for the only instance; None: it never heard of it."""
        if state is None:
            del self.compute.instances[self.session.instance_id]
        else:
            self.compute.instances[self.session.instance_id] = state


def old_records(world: World, number: int) -> None:
    """So many of each kind that are over: jobs, launches and sessions, each of a label set that names its run, and that set."""
    past = MORNING - 3600.0
    for n in range(number):
        labels = (f"runs-fleet={n}",)
        key, session_id = set_key("octo", "widgets", 1, labels), f"s-old-{n}"
        told = {"set_key": key, "labels": labels}
        world.records.put(a_job(**told, job_id=f"old-{n}", run_id=str(n), state=JobState.COMPLETED, completed_at=past))
        world.records.put(a_label_set(**told, touched_at=past))
        over = {"state": SessionState.CLOSED, "ended_at": past, "closed_at": past}
        world.records.put(a_session(**told, session_id=session_id, instance_id=f"i-old-{n}", bound_job=f"old-{n}", **over))
        closed = {"state": LaunchState.CLOSED, "created_at": past}
        world.records.put(a_launch(launch_id=f"l-old-{n}", sets=(key,), sessions=(), **closed))
        world.records.wake(key, MORNING)
        world.records.rest(world.records.view(key), None)


def consume(queue: MemoryQueue, handle: Callable[[Received], object]) -> None:
    """Handle each message, then delete it, as the loops do."""
    for message in queue.receive(0):
        try:
            handle(message)
        except OrchestratorError:
            continue
        queue.delete(message.receipt)
