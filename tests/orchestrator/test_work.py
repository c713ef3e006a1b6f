"""A second source of work beside GitHub jobs: what it is asked for, and nothing that the fleet does of its own accord."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from agent.contract.messages import FinalWord
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.fleet.work import Refreshed, Registered, RegistrationQuota
from orchestrator.retry_policy import REFUSALS
from orchestrator.store.kinds import Kind, OpenItem, Record
from orchestrator.store.model import LabelSet, LabelSetView, Session
from orchestrator.store.naming import Scope
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS
from simulation.clock import MORNING
from simulation.examples import SET, a_label_set, a_session, an_event
from simulation.world import World

TASKS = "set-of-tasks"


def _items(task: Task) -> Mapping[str, OpenItem | None]:
    """A task waits until it is done."""
    state = {"kind": "task", "state": "waiting", "source": "tasks", "wants_session": True}
    return {TASKS: OpenItem(identity=task.task_id, since=MORNING, **state)}  # type: ignore[arg-type]


class Task(Record, frozen=True, kw_only=True):
    """A piece of work that GitHub never heard of."""

    KIND: ClassVar[Kind[Task]] = Kind(table=JOBS, row="task", key=lambda it: it.task_id, items=_items)
    task_id: str
    due: float = MORNING + 1e6


@dataclass
class Tasks:
    """WorkSource (`fleet/work.py`) that remembers what it was asked and told."""

    name: str = "tasks"
    told: list[str] = field(default_factory=list)
    registered: dict[str, int] = field(default_factory=dict)
    most: int | None = None

    def describe(self, view: LabelSetView) -> LabelSet | None:
        """One label set of all tasks."""
        scope = Scope("", "tasks")
        return view.label_set or LabelSet(set_key=TASKS, source=self.name, scope=scope, repository="tasks", labels=("task",))

    def refresh(self, set_key: str, silent: Sequence[Session], *, urgent: bool) -> Refreshed:
        """Nothing is news."""
        return Refreshed(answered=True, news=False)

    def quota(self, label_set: LabelSet) -> RegistrationQuota:
        """As the test says."""
        return RegistrationQuota(self.most, "the tasks' own limit")

    def waits(self, item_ids: Sequence[str], why: str) -> None:
        """Remembered."""
        self.told += [f"{one} waits: {why}" for one in item_ids]

    def untaken(self, item_ids: Sequence[str], why: str) -> None:
        """Remembered."""
        self.told += [f"{one} is taken by none: {why}" for one in item_ids]

    def waits_for_nothing(self, item_ids: Sequence[str], why: str) -> None:
        """Remembered."""
        self.told += [f"{one} waits for nothing: {why}" for one in item_ids]

    def give_up(self, item_ids: Sequence[str], why: str) -> None:
        """Remembered."""
        self.told += [f"{one} is given up: {why}" for one in item_ids]

    def register(self, session: Session) -> Registered:
        """A number each."""
        number = self.registered.setdefault(session.session_id, 100 + len(self.registered))
        return Registered(number, lambda now: f"do {now.launched_for}, attempt {now.attempt}")

    def registration_of(self, session: Session) -> int:
        """Its number."""
        return self.registered.get(session.session_id, 0)

    def withdraw(self, session: Session) -> bool:
        """Always."""
        return self.is_unregistered(session)

    def is_working(self, session: Session) -> bool:
        """Never."""
        return False

    def is_unregistered(self, session: Session) -> bool:
        """From now on."""
        self.registered.pop(session.session_id, None)
        return True

    def will_return(self, session: Session) -> bool:
        """Never."""
        return False

    def cause_of(self, word: FinalWord) -> str:
        """In its own words."""
        return f"as tasks put it: {word.reason or 'nothing'}"

    def ended(self, session: Session) -> None:
        """Remembered."""
        self.told.append(f"{session.session_id} ended: {session.status}")

    def end_corrected(self, session: Session) -> None:
        """Remembered."""
        self.told.append(f"{session.session_id} corrected: {session.status}")

    @property
    def due(self) -> Mapping[str, Callable[[str], None]]:
        """Tasks that are due."""
        return {Task.KIND.row: lambda task_id: self.told.append(f"{task_id} is due")}

    @property
    def collectors(self) -> Mapping[str, Callable[[], None]]:
        """One."""
        return {"tasks": lambda: self.told.append("collected")}


def with_tasks(world: World) -> Tasks:
    """The turns with one source more."""
    tasks = Tasks()
    world.turns = world.replica(more_sources=lambda sourced: [tasks])
    return tasks


def the_machine_of_a_task(world: World) -> Session:
    """A task waits, and its machine is launched and configured."""
    world.records.put(Task(task_id="t-1"))
    world.turns.on_wake([TASKS])
    return world.session


def test_work_of_another_source_gets_its_machine_with_the_registration_of_that_source() -> None:
    world = World()
    tasks = with_tasks(world)

    session = the_machine_of_a_task(world)

    assert (session.source, session.state, session.launched_for) == ("tasks", SessionState.CONFIGURED, "t-1")
    assert (session.registration_id, tasks.registered) == (100, {session.session_id: 100})
    assert world.configurations.values == {session.instance_id: "do t-1, attempt 1"}
    assert world.github.runners == {} and not any(call.startswith("github.") for call in world.calls.made)


def test_the_end_of_a_session_is_told_to_the_source_of_its_work_alone() -> None:
    world = World()
    tasks = with_tasks(world)
    session = the_machine_of_a_task(world)

    world.hear_the_end("failure", reason="out_of_memory")

    assert tasks.told == [f"{session.session_id} ended: failure"]
    assert world.sessions[0].cause == "as tasks put it: out_of_memory"


def test_a_source_is_told_of_an_end_that_nobody_reported_and_again_when_its_session_is_closed() -> None:
    world = World()
    tasks = with_tasks(world)
    session = the_machine_of_a_task(world)
    world.compute.instances[session.instance_id] = "terminated"

    states = []
    for _ in range(3):
        world.turns.on_sweep()
        states.append((world.session.state.value, len(tasks.told)))
        world.clock.at += WORD_S

    assert states == [("configured", 0), ("ended", 1), ("closed", 2)]
    assert set(tasks.told) == {f"{session.session_id} ended: interrupted"}


def test_an_end_that_was_only_inferred_is_corrected_with_the_source_before_it_is_told_anew() -> None:
    world = World()
    tasks = with_tasks(world)
    session = the_machine_of_a_task(world)
    world.compute.instances[session.instance_id] = "terminated"
    world.ticks(until_s=20.0, every_s=10.0)
    tasks.told.clear()

    world.hear_the_end("success", session=session)

    assert tasks.told[:2] == [f"{session.session_id} corrected: success", f"{session.session_id} ended: success"]


def test_a_source_limits_its_own_machines_and_jobs_get_theirs() -> None:
    world = World()
    tasks = with_tasks(world)
    tasks.most = 0
    world.records.put(Task(task_id="t-1"))
    world.told(an_event())

    world.turns.on_wake([TASKS])

    assert [one.source for one in world.sessions] == ["jobs"]
    assert "the tasks' own limit" in {fields["why"] for fields in world.journal.of("label_set.held")}


def test_a_source_is_told_of_what_can_never_be_served_and_of_refusals_in_a_row() -> None:
    world = World()
    tasks = with_tasks(world)
    world.compute.full = {"*"}
    world.records.put(Task(task_id="t-1"))
    world.turns.on_wake([TASKS])
    world.ticks(until_s=300.0)
    waits = [words for words in tasks.told if words.startswith("t-1 waits: ")]
    refused = len(world.journal.of("label_set.unfulfilled"))

    world.compute.architectures = ()
    world.ticks(until_s=1000.0)

    assert len(waits) == refused - REFUSALS + 1 >= 1
    assert "t-1 waits for nothing: there is no launch template for amd64" in tasks.told


def test_what_is_due_of_a_source_is_attended_to_and_its_garbage_is_collected() -> None:
    world = World()
    tasks = with_tasks(world)
    world.records.put(Task(task_id="t-1", due=MORNING - 1.0))
    world.records.put(Task(task_id="t-2", due=MORNING + 60.0))

    world.turns.on_sweep()
    failed = world.turns.on_tick()

    assert (tasks.told, failed) == (["t-1 is due", "collected"], 0)


def test_the_source_of_a_view_is_that_of_its_label_set_or_of_its_work() -> None:
    world = World()
    tasks = with_tasks(world)
    sources = world.turns.sources
    work = [OpenItem(kind="x", identity="1", state="s", source=name) for name in ("", "tasks", "jobs")]

    of_both = LabelSetView(set_key=SET, label_set=a_label_set(source="jobs"), items=(work[1],))
    assert sources.of_view(of_both) is sources.of(a_session())
    assert sources.of_view(LabelSetView(set_key=SET, items=tuple(work))) is tasks
    assert sources.of_view(LabelSetView(set_key=SET, items=(work[0],))) is None
    assert [one.name for one in sources] == ["jobs", "tasks"]


def test_records_of_a_source_that_is_not_there_any_more_are_named_and_not_guessed() -> None:
    sources = World().turns.sources
    gone = a_label_set(source="tasks")

    with pytest.raises(ServiceFailed, match="UnknownSource: 'tasks': expected one of jobs"):
        sources.of(a_session(source="tasks"))
    with pytest.raises(ServiceFailed, match="UnknownSource"):
        sources.of_view(LabelSetView(set_key=SET, label_set=gone))
    assert sources.of_view(LabelSetView(set_key=SET, items=(OpenItem(kind="x", identity="1", state="", source="tasks"),))) is None
