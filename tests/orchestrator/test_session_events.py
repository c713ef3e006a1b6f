"""How a session ends that nobody spoke for, and what has to be gone before it is closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.compute.ec2.strategy import UNSEEN_S
from orchestrator.fleet.session_checks import WORD_S
from orchestrator.fleet.session_watch import LOOK_AGAIN_S
from orchestrator.fleet.sessions import FAREWELL_S, FIRST_LOOK_S
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import BOOT_S, an_event, some_settings
from simulation.world import World


@pytest.mark.parametrize("word", ["terminated", "shutting-down", "stopped", "stopping"])
def test_a_vanished_instance_is_waited_for_before_its_session_is_interrupted(word: str) -> None:
    world = World()
    world.at_work()
    world.becomes(word)

    world.tick()
    world.tick(after_s=WORD_S - 1)
    waiting = world.session
    world.tick(after_s=1)

    assert (waiting.state, waiting.gone_at) == (SessionState.BUSY, MORNING)
    assert (world.session.state, world.session.status) == (SessionState.ENDED, "interrupted")
    assert (world.session.reason, bool(world.session.error)) == ("instance_gone", True)


def test_an_instance_ec2_never_heard_of_is_believed_in_at_first() -> None:
    world = World()
    world.at_work()
    world.becomes(None)

    world.tick(after_s=UNSEEN_S - 1)

    assert (world.session.state, world.session.gone_at) == (SessionState.BUSY, None)


def test_the_final_word_of_a_vanished_instance_is_heard_while_it_is_waited_for() -> None:
    world = World()
    world.at_work()
    world.becomes("terminated")
    world.tick()

    world.hear_the_end("success")

    assert (world.session.state, world.session.status) == (SessionState.ENDED, "success")


@pytest.mark.parametrize("closed", [False, True])
def test_a_late_final_word_replaces_an_end_that_was_only_inferred(closed: bool) -> None:
    world = World()
    world.at_work()
    world.becomes("terminated")
    world.tick()
    world.tick(after_s=WORD_S)
    if closed:
        world.tick(after_s=LOOK_AGAIN_S)

    world.hear_the_end("timeout", reason="max_runtime", log_outcome="shipped")

    session = world.session
    assert session.state is (SessionState.CLOSED if closed else SessionState.ENDED)
    assert (session.status, session.reason, session.error, session.log_outcome) == (
        "timeout",
        "max_runtime",
        "it broke",
        "shipped",
    )


def test_a_late_final_word_changes_no_end_that_was_told() -> None:
    world = World()
    world.at_work()
    world.hear_the_end("success")
    told = world.session

    world.hear_the_end("failure", reason="forged")

    assert world.session == told


def test_a_stopped_instance_is_terminated_before_its_session_is_closed() -> None:
    world = World()
    session = world.at_work()
    world.hear_the_end()
    world.becomes("stopped")

    world.tick(after_s=FIRST_LOOK_S)
    waiting = world.session.state
    world.tick(after_s=FAREWELL_S)
    terminated = world.compute.instances[session.instance_id]
    world.tick(after_s=LOOK_AGAIN_S)

    assert (waiting, terminated, world.session.state) == (SessionState.ENDED, "terminated", SessionState.CLOSED)


def test_a_machine_past_its_life_is_terminated_and_its_session_a_failure() -> None:
    world = World()
    session = world.at_work()

    world.tick(after_s=session.expires_at - MORNING)

    assert world.compute.instances[session.instance_id] == "terminated"
    assert (world.session.state, world.session.status, world.session.reason) == (SessionState.ENDED, "failure", "deadline")


def test_a_configured_machine_has_more_time_than_a_booting_one() -> None:
    world = World()
    session = world.at_work()

    world.tick(after_s=BOOT_S + 1)

    assert (world.session.state, world.compute.instances[session.instance_id]) == (SessionState.BUSY, "running")


def test_a_machine_that_ended_but_lives_on_is_terminated_after_its_farewell() -> None:
    world = World()
    session = world.at_work()
    world.hear_the_end()

    world.tick(after_s=FAREWELL_S - 1)
    before = world.compute.instances[session.instance_id]
    world.tick(after_s=1)

    assert (before, world.compute.instances[session.instance_id]) == ("running", "terminated")


def test_a_machine_that_cannot_be_terminated_is_tried_again_at_the_next_tick() -> None:
    world = World()
    session = world.at_work()
    world.compute.broken = {session.instance_id}
    world.tick(after_s=session.expires_at - MORNING)

    world.compute.broken = set()
    world.tick(after_s=FAREWELL_S)

    assert world.compute.instances[session.instance_id] == "terminated"


def test_closing_removes_the_secret_and_the_registration() -> None:
    world = World()
    world.at_work()
    world.hear_the_end("failure")
    world.becomes("terminated")

    world.tick(after_s=FIRST_LOOK_S)

    assert (world.session.state, world.session.closed_at) == (SessionState.CLOSED, MORNING + FIRST_LOOK_S)
    assert (world.configurations.values, world.github.runners) == ({}, {})


def test_a_registration_that_is_gone_already_does_not_keep_a_session_open() -> None:
    world = World()
    world.at_work()
    world.hear_the_end()
    world.becomes("terminated")
    world.github.runners.clear()

    world.tick(after_s=FIRST_LOOK_S)

    assert world.session.state is SessionState.CLOSED


def test_a_busy_registration_keeps_the_session_open_until_github_lets_go() -> None:
    world = World()
    session = world.at_work()
    world.hear_the_end("interrupted")
    world.becomes("terminated")
    world.github.runners[session.registration_id].busy = True

    world.tick(after_s=FIRST_LOOK_S)
    kept = world.session.state
    world.github.runners[session.registration_id].busy = False
    world.tick(after_s=LOOK_AGAIN_S)

    assert (kept, world.session.state, world.github.runners) == (SessionState.ENDED, SessionState.CLOSED, {})


def test_a_closed_session_is_looked_after_no_more() -> None:
    world = World()
    world.at_work()
    world.hear_the_end()
    world.becomes("terminated")
    world.tick(after_s=FIRST_LOOK_S)
    closed = world.session

    world.tick(after_s=86_400.0)

    assert world.session == closed


SMALL = {
    "out of memory": ({"degraded": ["out-of-memory: the kernel killed 3 processes"]}, "the kernel killed 3 processes", "ram="),
    "killed": ({"reason": "listener_killed"}, "it broke", "ram="),
    "disk": ({"reason": "disk_full"}, "it broke", "disk="),
}


@pytest.mark.parametrize("told_first", ["agent", "github"])
@pytest.mark.parametrize(("fields", "why", "remedy"), SMALL.values(), ids=SMALL)
def test_a_job_whose_machine_was_too_small_is_told_once_on_its_commit_what_to_ask_for(
    fields: dict[str, Any], why: str, remedy: str, told_first: str
) -> None:
    world = World()
    session = world.launched(head_sha="0f")
    told = {"head_sha": "0f", "runner_name": session.registration_name}
    world.told(an_event("in_progress", **told))
    turns: list[Callable[[], None]] = [
        lambda: world.hear_the_end("failure", **fields),
        lambda: world.told(an_event("completed", conclusion="failure", **told)),
    ]

    for turn in turns if told_first == "agent" else reversed(turns):
        turn()
        turn()

    (notice,) = world.github.notices
    assert why in notice and remedy in notice


def test_a_green_job_beside_which_the_kernel_killed_is_told_nothing() -> None:
    world = World()
    session = world.launched(head_sha="0f")
    told = {"head_sha": "0f", "runner_name": session.registration_name}
    world.told(an_event("in_progress", **told))
    world.hear_the_end(degraded=["out-of-memory: the kernel killed 3 processes"])
    world.told(an_event("completed", conclusion="success", **told))

    assert world.github.notices == []


@pytest.mark.parametrize(("minutes", "state"), [(5.0, SessionState.ENDED), (30.0, SessionState.CONFIGURED)])
def test_how_long_a_machine_may_boot_is_the_operators_to_say(minutes: float, state: SessionState) -> None:
    world = World(settings=some_settings(boot_timeout_minutes=minutes))
    session = world.launched()

    world.tick(after_s=6 * 60.0)

    (found,) = [one for one in world.sessions if one.session_id == session.session_id]
    assert found.state is state
