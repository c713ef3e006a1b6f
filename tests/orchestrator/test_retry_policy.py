"""When a session whose turn failed is due again, and that the numbers of every retry fit one another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator import retry_policy
from orchestrator.errors import Conflict, ServiceFailed, Throttled, Unanswered
from orchestrator.retry_policy import (
    NOTICE_S,
    NOTICE_TRIES,
    NOTICE_WITHIN_S,
    OLD_LAUNCH_S,
    RERUN_WITHIN_S,
    SENT_S,
    THROTTLED_S,
    due_again,
)
from orchestrator.store.states import SessionState
from simulation.clock import MORNING
from simulation.examples import some_settings
from simulation.world import World

LEASE_S = 120.0
"""Seconds of a lease here."""
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in Path(retry_policy.__file__).parent.rglob("*.py"))


def throttled(until: float | None) -> Throttled:
    """A service that has had too many calls, until then."""
    return Throttled("ssm:PutParameter", "ThrottlingException", until=until)


@pytest.mark.parametrize("error", [ServiceFailed("a", "b"), Unanswered("a"), Conflict("lost"), ValueError("a bug")])
def test_what_failed_for_another_reason_is_due_after_a_lease(error: Exception) -> None:
    assert due_again(error, MORNING, LEASE_S) == MORNING + LEASE_S


@pytest.mark.parametrize(
    ("until_s", "after_s"),
    [(None, THROTTLED_S), (-60.0, THROTTLED_S), (0.0, THROTTLED_S), (THROTTLED_S - 1, THROTTLED_S), (60.0, 60.0),
     (LEASE_S, LEASE_S), (LEASE_S + 1, LEASE_S), (3600.0, LEASE_S)],
)  # fmt: skip
def test_what_was_throttled_is_due_when_the_limit_is_over_but_not_at_once_and_never_later_than_a_lease(
    until_s: float | None, after_s: float
) -> None:
    until = None if until_s is None else MORNING + until_s

    assert due_again(throttled(until), MORNING, LEASE_S) == MORNING + after_s


def test_a_lease_shorter_than_the_wait_ends_the_wait() -> None:
    assert due_again(throttled(None), MORNING, THROTTLED_S / 2) == MORNING + THROTTLED_S / 2


def test_a_session_that_could_not_be_configured_is_due_when_the_limit_is_said_to_be_over() -> None:
    world = World()
    world.calls.fail("configurations.put", throttled(MORNING + 20.0))
    with pytest.raises(Throttled):
        world.launched()

    world.tick(19.0)
    before = set(world.configurations.values)
    world.tick(1.0)

    assert (before, set(world.configurations.values)) == (set(), {world.session.instance_id})


@pytest.mark.parametrize(("error", "after_s"), [(throttled(MORNING + 60.0), 30.0), (Unanswered("github:remove"), LEASE_S)])
def test_a_session_that_could_not_be_closed_is_looked_after_again_then_and_not_before(error: Exception, after_s: float) -> None:
    world = World(settings=some_settings(lease_s=LEASE_S))
    world.at_work()
    world.hear_the_end()
    world.becomes("terminated")
    world.calls.fail("github.remove", error)
    world.tick(after_s=30.0)

    world.tick(after_s=after_s - 1.0)
    waiting = world.session.state
    world.tick(after_s=1.0)

    assert (waiting, world.session.state) == (SessionState.ENDED, SessionState.CLOSED)


@pytest.mark.parametrize("first", [name for name in vars(retry_policy) if "FIRST" in name])
def test_what_is_doubled_each_time_begins_below_its_longest(first: str) -> None:
    numbers = vars(retry_policy)

    assert 0 < numbers[first] < numbers[first.replace("FIRST", "LONGEST")]


@pytest.mark.parametrize("name", [name for name in vars(retry_policy) if name.isupper()])
def test_every_number_is_one_of_tries_or_of_seconds(name: str) -> None:
    number = vars(retry_policy)[name]

    assert number > 0 and type(number) is (float if name.endswith("_S") else int)


@pytest.mark.parametrize("name", [name for name in vars(retry_policy) if name.isupper()])
def test_every_number_is_used_by_somebody(name: str) -> None:
    assert re.search(rf"\b{name}\b(?! =|,.* =)", SOURCES), "a number that nobody reads"


def test_a_run_is_not_run_again_after_the_thirty_days_in_which_github_does() -> None:
    assert RERUN_WITHIN_S == 30 * 24 * 3600


def test_the_tries_of_a_notice_are_some_two_hours_in_all_and_a_day_is_enough_for_them() -> None:
    waits = [NOTICE_S * 2.0**number for number in range(NOTICE_TRIES - 1)]

    assert 1.5 * 3600 < sum(waits) < 2.5 * 3600 < NOTICE_WITHIN_S == 24 * 3600


def test_a_launch_is_sent_again_only_while_it_is_young_enough_to_be_asked_for() -> None:
    assert SENT_S < OLD_LAUNCH_S


def test_a_throttled_call_comes_again_before_the_lease_of_its_turn_is_over() -> None:
    assert some_settings().lease_s > THROTTLED_S
