"""Two at once: views that change while they are read, and writes before which somebody else was first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.errors import Conflict
from orchestrator.ports import Received, Write
from orchestrator.store.kinds import changed
from orchestrator.store.model import LabelSet, Session, WaitlistEntry
from orchestrator.store.naming import set_key
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import SET, an_event, sender_of, some_settings
from simulation.process import CollectedWakes
from simulation.world import World


class Calm:
    """Tables that are handed in, and all that a test does not change of them."""

    def __init__(self, world: World) -> None:
        self._tables = world.tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


class Torn(Calm):
    """A query of the label set's rows, by their names, in the middle of which somebody else's transaction is committed.

    So DynamoDB answers. Source: "Isolation levels" of its developer guide.
    """

    def __init__(self, world: World, after: int, happens: Callable[[], object]) -> None:
        super().__init__(world)
        self._after, self._happens = after, happens

    def rows(self, table: str, partition: str) -> list[dict[str, Any]]:
        """As they are, but for the first time."""
        found: list[dict[str, Any]] = self._tables.rows(table, partition)
        if partition != SET or self._happens is None:
            return found
        happens, self._happens = self._happens, None  # type: ignore[assignment]
        early = found[: self._after]
        last = early[-1]["row"] if early else ""
        happens()
        return [*early, *(row for row in self._tables.rows(table, partition) if row["row"] > last)]


class Raced(Calm):
    """Somebody else is first with the next write of this item."""

    def __init__(self, world: World, partition: str, row: str, times: int = 1) -> None:
        super().__init__(world)
        self._key, self._times = (partition, row), times

    def write(self, writes: Any) -> None:
        """All or none."""
        if self._times and any(isinstance(one, Write) and one.key == self._key for one in writes):
            self._times -= 1
            raise Conflict("somebody was first")
        self._tables.write(writes)


@pytest.mark.parametrize("after", range(8))
def test_two_replicas_of_which_one_launches_while_the_other_reads_make_one_launch(after: int) -> None:
    world = World()
    world.launched()
    world.told(an_event("completed", conclusion="cancelled"))  # there is a label set, and a machine too many
    for number in range(2, 6):
        world.turns.on_job_event(an_event(job_id=str(number)))

    world.replica(wakes=CollectedWakes(), tables=Torn(world, after, world.reconcile)).on_wake([SET])
    world.reconcile()

    assert world.compute.launched == 4


@pytest.mark.parametrize("after", range(6))
def test_a_job_that_takes_its_machine_while_the_board_is_read_gets_no_second_one(after: int) -> None:
    world = World()
    session = world.launched()

    def takes_it() -> None:
        world.turns.on_job_event(an_event("in_progress", runner_name=session.registration_name))

    world.replica(wakes=CollectedWakes(), tables=Torn(world, after, takes_it)).on_wake([SET])
    world.reconcile()

    assert world.compute.launched == 1


def test_a_lost_race_for_one_ledger_keeps_no_other_label_set_from_its_machine() -> None:
    """More stand in line than are looked at, so that the youngest are put off: one of their label sets has moved meanwhile."""
    world = World(settings=some_settings(max_sessions=1000))
    for number in range(25):
        world.records.waitlist.add(
            WaitlistEntry(
                set_key=f"old{number:02}", since=MORNING - 1000.0 + number, jobs=1, at=MORNING, repository="octo/widgets"
            )
        )
    for name, at in (("a", MORNING - 2000.0), ("b", MORNING), ("c", MORNING)):
        world.turns.on_job_event(an_event(job_id=name, labels=(f"runs-fleet={name}",), at=at))
    raced = set_key("octo", "widgets", 1, ("runs-fleet=b",))

    world.replica(tables=Raced(world, raced, LabelSet.KIND.row)).on_wake(world.wakes.taken())

    assert [session.launched_for for session in world.sessions] == ["a"]
    assert raced in world.wakes.waiting, "it is looked at again at once"


def test_a_lost_race_at_the_end_of_a_launch_keeps_no_machine_from_its_configuration() -> None:
    """EC2 gave two of three and refuses more: the launch closes with its label set, which somebody has written meanwhile."""
    world = World()
    world.compute.room = 2
    refusal = {"ErrorCode": "UnauthorizedOperation", "ErrorMessage": "not allowed any more"}
    world.calls.script("ec2.create_fleet", changes=lambda answer: {**answer, "Errors": [refusal]})
    for number in range(3):
        world.turns.on_job_event(an_event(job_id=str(number)))
    (key,) = world.wakes.taken()

    lost = []

    class Busy(Calm):
        """Somebody else is first whenever a launch is closed."""

        def write(self, writes: Sequence[Write]) -> None:
            if any(one.item and one.item.get("state") == "closed" for one in writes):
                lost.append(True)
                raise Conflict("somebody was first")
            self._tables.write(writes)

    with contextlib.suppress(Conflict):
        world.replica(tables=Busy(world)).on_wake([key])

    assert ([session.state for session in world.sessions], lost) == ([SessionState.CONFIGURED] * 2, [True])


def reclaimed(world: World, number: int) -> list[Session]:
    """That many machines at work, of one label set."""
    for at in range(number):
        world.turns.on_job_event(an_event(job_id=str(at)))
    world.reconcile()
    for session in world.sessions:
        world.turns.on_job_event(an_event("in_progress", job_id=session.launched_for, runner_name=session.registration_name))
    return world.sessions


def test_machines_that_are_all_taken_at_once_are_all_heard_at_once() -> None:
    """Forty consumers, one label set, one record of all pools: nobody's notice has to come again half a minute later."""
    world = World(settings=some_settings(max_sessions=200))
    sessions = reclaimed(world, 60)
    workers, turn = ThreadWorkerPool(8), threading.Lock()

    class OneAtATime(Calm):
        """Answers as a service across a network: late, and one call after the other."""

        def __getattr__(self, name: str) -> Any:
            act = getattr(self._tables, name)

            def done(*told: Any) -> Any:
                time.sleep(0.002)
                with turn:
                    found = act(*told)
                    return list(found) if name in ("due", "of_instance", "scan") else found

            return done

    turns = world.replica(tables=OneAtATime(world), workers=workers)

    def notice(session: Session) -> None:
        body = (
            f'{{"status":"interrupting","instance_id":"{session.instance_id}","session_id":"{session.session_id}",'
            f'"job_id":"1","reason":"spot_notice"}}'
        )
        turns.on_agent_message(Received(body, "receipt", sender_of(session)))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(notice, sessions))
    workers.stop()

    label_set = world.records.label_set(SET)
    assert all(one.interrupting_at is not None for one in world.sessions)
    assert label_set is not None and len(label_set.expected) == 60


def test_breakers_that_cannot_be_written_keep_no_notice_from_being_heard() -> None:
    world = World()
    session = world.at_work()
    world.records.put(changed(session, placement="m7i.large/zone-1/spot"))

    turns = world.replica(tables=Raced(world, "circuits", "circuits", times=99))
    body = f'{{"status":"interrupting","instance_id":"{session.instance_id}","job_id":"1","reason":"spot_notice"}}'
    turns.on_agent_message(Received(body, "receipt", sender_of(session)))

    label_set = world.records.label_set(SET)
    assert world.session.interrupting_at is not None and label_set is not None and len(label_set.expected) == 1


def test_a_turn_that_loses_a_race_reads_again() -> None:
    world = World()
    session = world.launched()
    lost = []

    def race(_: object) -> None:
        lost.append(True)
        raise Conflict("somebody was faster")

    world.calls.script("tables.write", before=race)
    world.hear("busy", session=session, ran_job="build")

    assert (world.session.state, lost) == (SessionState.BUSY, [True])


def test_a_turn_that_loses_every_race_is_left_to_the_queue() -> None:
    world = World()
    session = world.launched()

    world.calls.fail("tables.write", Conflict("somebody is always faster"), times=None)
    with pytest.raises(Conflict):
        world.hear("busy", session=session)
