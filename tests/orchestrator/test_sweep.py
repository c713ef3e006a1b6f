"""What is due is attended to side by side: what hangs or cannot be listed keeps nothing else from its turn."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest

from agent.contract.config import read_config
from orchestrator.adapters.system import Hands
from orchestrator.errors import PACED, Conflict, ServiceFailed, Throttled
from orchestrator.marks import JOBS
from orchestrator.ports import Due, Write
from orchestrator.services import Minted, Scope, SessionHandle
from orchestrator.states import SessionState
from tests.orchestrator.memory import MemoryCompute, MemoryConfigurations, MemoryGitHub, MemoryTables, World, an_event

FOR_GOOD_S = 20.0
"""Nobody waits so long unless the sweep does one thing after the other."""


class Over:
    """A twin on the state of another, with other manners."""

    def __init__(self, twin: object) -> None:
        vars(self).update(vars(twin))


class Hanging(Over, MemoryCompute):
    """EC2 that answers no TerminateInstances until so many were asked for."""

    def __init__(self, world: World, together: int) -> None:
        super().__init__(world.compute)
        self.together = threading.Barrier(together)
        self.broke = False

    def stop_session(self, handle: SessionHandle) -> bool:
        """Together, or too late."""
        try:
            self.together.wait(FOR_GOOD_S)
        except threading.BrokenBarrierError:
            self.broke = True
        return super().stop_session(handle)


class Unlisted(Over, MemoryTables):
    """DynamoDB that cannot list one table's deadlines."""

    def __init__(self, world: World, table: str) -> None:
        super().__init__(world.tables)
        self.table = table

    def due(self, table: str, shard: str, before: float) -> Iterator[Due]:
        """Not this table's."""
        if table == self.table:
            raise ServiceFailed("dynamodb:Query", "ProvisionedThroughputExceededException")
        return super().due(table, shard, before)


def overdue(number: int) -> tuple[World, list[str]]:
    """So many sessions past their deadlines, of machines that run on; and their ids."""
    world = World()
    for at in range(number):
        world.told(an_event(job_id=str(at), run_id=str(at), labels=(f"runs-fleet={at}/cpu=2/arch=amd64",)))
    world.clock.at = max(session.deadline for session in world.sessions) + 1.0
    return world, [session.session_id for session in world.sessions]


def states(world: World, identities: list[str]) -> set[SessionState]:
    return {session.state for session in world.sessions if session.session_id in identities}


def test_a_termination_that_hangs_keeps_no_other_session_waiting() -> None:
    world, late = overdue(3)
    compute = Hanging(world, together=3)

    world.replica(compute=compute, crew=Hands(3)).on_sweep()

    assert not compute.broke
    assert states(world, late) == {SessionState.ENDED}
    assert [compute.instances[session.instance_id] for session in world.sessions if session.session_id in late] == [
        "terminated"
    ] * 3


def test_jobs_that_cannot_be_listed_keep_no_session_from_its_end() -> None:
    world, late = overdue(2)

    world.replica(tables=Unlisted(world, "jobs")).on_sweep()

    assert states(world, late) == {SessionState.ENDED}


@pytest.mark.parametrize("hands", [1, 3])
def test_what_can_be_listed_is_attended_to_though_the_rest_cannot(hands: int) -> None:
    world, late = overdue(2)

    world.replica(tables=Unlisted(world, "sessions"), crew=Hands(hands)).on_sweep()
    assert "sweep.unattended" in world.journal.names
    assert SessionState.ENDED not in states(world, late), "they could not be listed"

    world.replica(tables=Unlisted(world, "none"), crew=Hands(hands)).on_sweep()
    assert states(world, late) == {SessionState.ENDED}


def test_a_row_of_a_newer_version_stops_nothing() -> None:
    world, late = overdue(1)
    world.tables.write([Write(JOBS, ("future", "forecast"), {"version": 1, "shard": "0", "due": 1.0}, 0)])

    world.replica().on_sweep()

    assert states(world, late) == {SessionState.ENDED}


class Closed(Over, MemoryGitHub):
    """GitHub that registers nothing until then, and says so."""

    def __init__(self, world: World, until: float, code: str = "403") -> None:
        super().__init__(world.github)
        self.clock, self.until, self.code, self.asked = world.clock, until, code, 0

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """Too many calls."""
        self.asked += 1
        if self.clock.now() < self.until:
            raise Throttled("github:generate-jitconfig", self.code, "too many calls", self.until)
        return super().mint(scope, name, labels, group_id)


@pytest.mark.parametrize(("closed_s", "asked", "after_s"), [(1.0, 2, 6.0), (90.0, 3, 91.0), (3_600.0, 11, 605.0)])
def test_a_registration_that_github_refuses_until_then_is_tried_then_and_once_a_lease_at_least(
    closed_s: float, asked: int, after_s: float
) -> None:
    world = World()
    github = Closed(world, world.clock.at + closed_s)
    turns = world.replica(github=github)
    turns.on_job_event(an_event())
    with pytest.raises(Throttled):
        turns.on_wake(world.wakes.taken())

    for _ in range(int(after_s)):
        world.clock.at += 1.0
        turns.on_sweep()

    assert world.session.state is (SessionState.CONFIGURED if closed_s < 3_000.0 else SessionState.LAUNCHED)
    assert github.asked == asked


class Full(Over, MemoryConfigurations):
    """SSM that takes nothing now."""

    def __init__(self, world: World) -> None:
        super().__init__(world.configurations)

    def put(self, instance_id: str, value: str) -> bool:
        """Too many writes."""
        raise Throttled("ssm:PutParameter", "ThrottlingException")


class Slow(Over, MemoryGitHub):
    """GitHub whose registrations take so long; and what happens meanwhile."""

    def __init__(self, world: World, takes_s: float, meanwhile: Callable[[], object]) -> None:
        super().__init__(world.github)
        self.clock, self.takes_s, self.meanwhile = world.clock, takes_s, meanwhile

    def mint(self, scope: Scope, name: str, labels: tuple[str, ...], group_id: int) -> Minted | None:
        """Late."""
        minted = super().mint(scope, name, labels, group_id)
        self.clock.at += self.takes_s
        self.meanwhile()
        return minted


@pytest.mark.parametrize("other_is_cut_off", [False, True])
@pytest.mark.parametrize("takes_s", [1.0, 20.0, 45.0, 65.0])
def test_who_waited_long_for_a_registration_lays_it_down_only_if_the_session_is_still_his(
    takes_s: float, other_is_cut_off: bool
) -> None:
    """What is laid down must be of the attempt that the record names, or the machine's word counts for nothing."""
    world = World()
    other = world.replica(configurations=Full(world) if other_is_cut_off else world.configurations)
    slow = Slow(world, takes_s, other.on_sweep)
    turns = world.replica(github=slow)
    turns.on_job_event(an_event())
    with contextlib.suppress(Conflict):
        turns.on_wake(world.wakes.taken())
    world.clock.at += 100.0
    world.replica().on_sweep()

    (session,) = world.sessions
    (laid,) = world.configurations.values.values()
    assert session.state is SessionState.CONFIGURED
    assert read_config(laid, session.instance_id).attempt == session.attempt
    assert [runner.name for runner in world.github.runners.values()] == [session.runner_name]


def test_a_registration_that_only_waits_for_its_turn_is_no_trouble_that_anybody_would_ask_about() -> None:
    world = World()
    github = Closed(world, world.clock.at + 30.0, code=PACED)
    turns = world.replica(github=github)
    turns.on_job_event(an_event())
    with pytest.raises(Throttled):
        turns.on_wake(world.wakes.taken())

    assert (world.session.troubles, world.session.due) == ((), world.clock.at + 30.0)
