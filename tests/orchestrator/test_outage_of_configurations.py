"""SSM that is slow or refuses, and configurations that lie there already: each machine gets its own, once."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.contract.config import read_config
from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.errors import ServiceFailed, Unanswered
from orchestrator.store.states import SessionState
from simulation.examples import an_event, some_settings
from simulation.world import World

PATIENCE_S = 600.0


def test_each_registration_after_the_first_is_an_attempt_of_its_own() -> None:
    world = World()
    written = []

    def fails(_: str, value: str) -> None:
        written.append(value)
        raise ServiceFailed("ssm:PutParameter", "InternalError")

    world.calls.script("configurations.put", before=fails)
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    world.tick(after_s=61.0)

    again = read_config(world.configurations.values[world.session.instance_id])
    assert (read_config(written[0]).attempt, again.attempt, world.session.attempt) == (1, 2, 2)
    assert len(world.github.runners) == 1, "the first registration is gone"

    world.hear_the_end("failure", attempt=1, reason="registration_deleted")
    assert world.session.state is SessionState.CONFIGURED and world.journal.names[-1] == "agent_message.unknown_session"
    world.hear("started", attempt=2)
    assert world.session.state is SessionState.READY


def test_a_configuration_that_was_laid_down_before_we_were_cut_off_stays_the_first_attempt() -> None:
    world = World()
    world.calls.lose("configurations.put")
    with pytest.raises(Unanswered):
        world.told(an_event())
    world.tick(after_s=61.0)

    assert (world.session.state, world.session.attempt) == (SessionState.CONFIGURED, 1)
    assert read_config(world.configurations.values[world.session.instance_id]).attempt == 1


@pytest.mark.parametrize("late", [False, True])
def test_what_was_laid_down_for_another_registration_is_never_what_the_machine_gets(late: bool) -> None:
    world = World()
    world.configurations.replaces_late = late

    def beside_another(*_: object) -> None:
        world.configurations.values[world.session.instance_id] = "stale"

    world.calls.script("github.mint", after=beside_another)
    world.turns.on_job_event(an_event())
    with contextlib.suppress(ServiceFailed):
        world.reconcile()
    world.ticks(until_s=70.0)

    config = read_config(world.configurations.values[world.session.instance_id])
    assert (config.attempt, world.session.state) == (world.session.attempt, SessionState.CONFIGURED)


def test_one_secret_that_cannot_be_deleted_keeps_no_other_where_it_is() -> None:
    world = World()
    for instance_id in ("i-a", "i-b", "i-c"):
        world.configurations.put(instance_id, "left over")

    def refused(instance_id: str) -> None:
        if instance_id == "i-a":
            raise ServiceFailed("ssm:DeleteParameter", "AccessDeniedException")

    world.calls.script("configurations.delete", times=None, before=refused)
    for _ in range(2):
        failed = world.turns.on_tick()
        world.clock.at += 601.0
    failed = world.turns.on_tick()

    assert set(world.configurations.values) == {"i-a"} and failed == 1


def test_the_secret_is_deleted_only_once_its_session_wants_none_any_more() -> None:
    """Else whoever takes up an unfinished configuration finds none, and removes a runner that lives to register another."""
    world = World()
    session = world.launched()
    seen: list[SessionState] = []
    world.calls.script("configurations.delete", times=None, before=lambda _: seen.append(world.session.state))
    world.hear("started", session=session)

    assert seen == [SessionState.READY]


def test_configurations_have_hands_of_their_own() -> None:
    """SSM takes three a second: a launch of a hundred keeps nobody else's launch waiting for half a minute."""
    world, begun, go_on = World(settings=some_settings(max_sessions=100)), threading.Semaphore(0), threading.Event()

    def slow(*_: object) -> None:
        begun.release()
        assert go_on.wait(PATIENCE_S)

    world.calls.script("configurations.put", times=None, before=slow)
    workers, configurers = ThreadWorkerPool(4), ThreadWorkerPool(4)
    turns = world.replica(workers=workers, configurers=configurers)
    for number in range(8):
        world.turns.on_job_event(an_event(job_id=str(number)))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(turns.on_wake, world.wakes.taken())
        assert all(begun.acquire(timeout=PATIENCE_S) for _ in range(4)), "four configurers are busy"
        did: list[int] = []
        workers.run_all([lambda: did.append(1) for _ in range(4)])
        go_on.set()
        first.result(PATIENCE_S)
    configurers.stop()
    workers.stop()

    assert did == [1] * 4
    assert len(world.configurations.values) == 8
