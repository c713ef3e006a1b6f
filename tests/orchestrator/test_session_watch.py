"""What is done about a session that is due though nothing was heard of it."""

from __future__ import annotations

import pytest

from orchestrator.compute.port import ComputeInstance, InstanceState
from orchestrator.errors import ServiceFailed
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.fleet.session_watch import AWAY_S, LOOK_AGAIN_S
from orchestrator.fleet.sessions import FAREWELL_S, handle_of
from orchestrator.store.kinds import changed
from orchestrator.store.model import Session
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import BOOT_S, an_event, some_settings
from simulation.world import World


def looked_after(world: World, session: Session, state: str | None = "running", ended_at: float | None = None) -> Session:
    """The only session, written so, after somebody looked at it and its strategy said that."""
    written = world.records.put(session)
    told = ComputeInstance(handle=handle_of(session), state=InstanceState(state), ended_at=ended_at) if state else None
    world.turns.watch.look_after(written, told)
    return world.session


def died(world: World, console: str = "") -> None:
    """The machine of the only session goes without a word, and as long as a final message may take passes."""
    world.compute.consoles[world.session.instance_id] = console
    world.becomes("terminated")
    world.tick()
    world.tick(after_s=WORD_S)


def test_a_session_past_its_deadline_that_github_calls_busy_lives_on_as_one_at_work() -> None:
    world = World()
    session = world.launched()
    world.github.runners[session.registration_id].busy = True

    world.tick(after_s=BOOT_S)

    assert (world.session.state, world.session.busy_at) == (SessionState.BUSY, MORNING + BOOT_S)
    assert (world.session.deadline, world.compute.instances[session.instance_id]) == (session.expires_at, "running")


def test_a_session_past_its_deadline_that_has_no_work_fails_and_its_machine_is_ended() -> None:
    world = World()
    session = world.launched()
    world.told(an_event("completed", conclusion="cancelled"))

    world.tick(after_s=BOOT_S)

    assert (world.session.status, world.session.reason) == ("failure", "deadline") and "ec2.console" not in world.calls.made
    assert world.compute.instances[session.instance_id] == "terminated"


def test_past_its_life_no_word_of_github_keeps_a_session() -> None:
    world = World()
    session = world.at_work()
    world.github.runners[session.registration_id].busy = True
    world.clock.at = session.expires_at

    world.tick()

    assert (world.session.reason, world.compute.instances[session.instance_id]) == ("deadline", "terminated")
    assert world.session.deadline == world.clock.at, "there is no agent left that would take its leave"


@pytest.mark.parametrize("word", ["stopped", None])
def test_a_machine_that_does_not_run_is_not_at_work_whatever_github_says(word: str | None) -> None:
    world = World()
    session = world.launched()
    world.github.runners[session.registration_id].busy = True

    ended = looked_after(world, changed(session, deadline=MORNING), word)

    assert (ended.state, ended.reason) == (SessionState.ENDED, "deadline")


def test_a_machine_that_went_before_the_deadline_of_its_session_was_interrupted() -> None:
    world = World()
    session = changed(world.at_work(), gone_at=MORNING - 5.0, deadline=MORNING)

    ended = looked_after(world, session, "terminated")

    assert (ended.status, ended.reason) == ("interrupted", "instance_gone")


def test_what_a_machine_printed_that_died_without_a_word_is_kept_with_its_session() -> None:
    world = World()
    world.at_work()

    died(world, "kernel panic")

    assert (world.session.reason, world.session.console) == ("instance_gone", "kernel panic")


def test_a_console_that_cannot_be_had_keeps_nothing_from_ending() -> None:
    world = World()
    session = world.at_work()
    world.calls.fail("ec2.console", ServiceFailed("ec2:GetConsoleOutput", "UnauthorizedOperation"))

    died(world)

    assert (world.session.reason, world.session.console) == ("instance_gone", "")
    assert [told["session_id"] for told in world.journal.of("session.console_read_failed")] == [session.session_id]


@pytest.mark.parametrize(("word", "terminated"), [("terminated", 0), ("shutting-down", 0), ("stopped", 1)])
def test_a_machine_is_terminated_only_where_it_may_still_cost_something(word: str, terminated: int) -> None:
    world = World()
    world.at_work()
    world.becomes(word)

    world.tick()
    world.tick(after_s=WORD_S)

    assert world.session.state is SessionState.ENDED
    assert world.calls.made.count("ec2.terminate") == terminated


def test_a_machine_went_when_its_strategy_says_so_and_never_later_than_now() -> None:
    world = World()
    session = world.at_work()
    world.clock.at += 100.0

    told = looked_after(world, session, "terminated", MORNING + 40.0)
    late = looked_after(world, changed(told, gone_at=None), "terminated", MORNING + 900.0)

    assert (told.gone_at, told.due) == (MORNING + 40.0, MORNING + 100.0 + WORD_S)
    assert late.gone_at == MORNING + 100.0


@pytest.mark.parametrize(("late_s", "gone_s"), [(AWAY_S - 1.0, AWAY_S - 1.0), (AWAY_S, -60.0)])
def test_who_was_away_for_long_takes_a_machine_to_have_gone_when_somebody_looked_last(late_s: float, gone_s: float) -> None:
    world = World(settings=some_settings(watch_s=60.0))
    session = changed(world.at_work(), due=MORNING + 500.0)
    world.clock.at = session.due + late_s

    found = looked_after(world, session, "terminated")

    assert found.gone_at == session.due + gone_s


def test_a_machine_that_is_there_again_was_never_gone() -> None:
    world = World()
    session = changed(world.at_work(), gone_at=MORNING - 5.0)

    assert looked_after(world, session).gone_at is None
    assert world.session.state is SessionState.BUSY


@pytest.mark.parametrize(("deadline_s", "due_s"), [(20.0, 20.0), (100.0, 60.0)])
def test_a_session_is_looked_at_again_after_a_while_and_never_later_than_its_deadline(deadline_s: float, due_s: float) -> None:
    world = World(settings=some_settings(watch_s=60.0))
    session = changed(world.at_work(), deadline=MORNING + deadline_s)

    assert looked_after(world, session).due == MORNING + due_s


def test_an_ended_session_is_looked_at_often_and_its_machine_is_left_to_end_itself_for_a_while() -> None:
    world = World(settings=some_settings(watch_s=1000.0))
    session = world.at_work()
    world.hear_the_end()

    world.tick(after_s=2.0)
    early = (world.session.due, world.compute.instances[session.instance_id])
    world.tick(after_s=FAREWELL_S)

    assert early == (MORNING + 2.0 + LOOK_AGAIN_S, "running")
    assert (world.compute.instances[session.instance_id], world.session.state) == ("terminated", SessionState.ENDED)
    assert world.session.due == world.clock.at + LOOK_AGAIN_S > world.session.deadline
    world.tick(after_s=LOOK_AGAIN_S)
    assert world.session.state is SessionState.CLOSED


def test_what_cannot_be_removed_keeps_its_session_from_being_closed() -> None:
    world = World()
    world.at_work()
    world.hear_the_end()
    world.becomes("terminated")
    world.calls.fail("configurations.delete", ServiceFailed("ssm:DeleteParameter", "AccessDenied"))

    world.tick(after_s=2.0)
    refused = world.session.state
    world.ticks(until_s=120.0)

    assert (refused, world.session.state) == (SessionState.ENDED, SessionState.CLOSED)
    assert (world.configurations.values, world.github.runners) == ({}, {})


def test_a_session_that_still_wants_its_configuration_gets_it_from_whoever_looks_after_it() -> None:
    world = World()
    world.calls.fail("github.mint", ServiceFailed("github:generate-jitconfig", "500"))
    with pytest.raises(ServiceFailed):
        world.told(an_event())
    waiting = world.session

    world.tick(after_s=world.settings.lease_s)

    assert (waiting.state, world.session.state) == (SessionState.LAUNCHED, SessionState.CONFIGURED)
    assert list(world.configurations.values) == [waiting.instance_id]
