"""How long to wait before the next try, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calls.retries import RetryPolicy, is_passing, retry
from agent.errors import ServiceError
from simulation.agent_inbox import Script
from simulation.clock import AgentClock

STEADY = RetryPolicy(within_s=10.0, first_s=1.0, longest_s=4.0, jitter=0.0)
DOWN = ServiceError("call", "Unreachable")
DENIED = ServiceError("call", "AccessDenied")


@dataclass
class Service:
    """Answers by script and remembers when it was called."""

    clock: AgentClock
    answers: Script[str]
    took_s: float = 0.0
    called_s: list[float] = field(default_factory=list)

    def call(self) -> str:
        self.called_s.append(self.clock.age_s)
        self.clock.pause(self.took_s)
        return self.answers.next()


def service(*answers: str | BaseException, took_s: float = 0.0) -> Service:
    return Service(AgentClock(), Script(*answers), took_s)


def test_the_first_answer_is_taken_without_waiting() -> None:
    asked = service("yes")

    assert retry(asked.call, is_passing, STEADY, asked.clock) == "yes"
    assert asked.called_s == [0.0]


def test_waits_double_from_the_first_to_the_longest() -> None:
    asked = service(DOWN, DOWN, DOWN, DOWN, "yes")

    assert retry(asked.call, is_passing, RetryPolicy(60.0, 1.0, 4.0, jitter=0.0), asked.clock) == "yes"
    assert asked.called_s == [0.0, 1.0, 3.0, 7.0, 11.0]


def test_a_failure_that_does_not_pass_is_raised_at_once_and_unchanged() -> None:
    asked = service(DENIED)

    with pytest.raises(ServiceError) as caught:
        retry(asked.call, is_passing, STEADY, asked.clock)

    assert (caught.value, asked.called_s) == (DENIED, [0.0])


def test_a_failure_that_does_not_pass_ends_the_waiting_too() -> None:
    asked = service(DOWN, DENIED, "never asked")

    with pytest.raises(ServiceError) as caught:
        retry(asked.call, is_passing, STEADY, asked.clock)

    assert (caught.value, asked.called_s) == (DENIED, [0.0, 1.0])


def test_no_try_is_made_that_would_come_after_the_patience_and_the_last_failure_is_raised() -> None:
    asked = service(DOWN)

    with pytest.raises(ServiceError) as caught:
        retry(asked.call, is_passing, STEADY, asked.clock)

    assert (caught.value, asked.called_s) == (DOWN, [0.0, 1.0, 3.0, 7.0])


def test_the_time_the_calls_themselves_take_counts() -> None:
    asked = service(DOWN, took_s=4.0)

    with pytest.raises(ServiceError):
        retry(asked.call, is_passing, STEADY, asked.clock)

    assert asked.called_s == [0.0, 5.0]


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_never_more_than_the_given_number_of_tries(tries: int) -> None:
    asked = service(DOWN)

    with pytest.raises(ServiceError):
        retry(asked.call, is_passing, RetryPolicy(1_000.0, tries=tries), asked.clock)

    assert len(asked.called_s) == tries


def test_an_error_nobody_planned_is_no_reason_to_try_again() -> None:
    asked = service(ValueError("ours"))

    with pytest.raises(ValueError, match="ours"):
        retry(asked.call, is_passing, STEADY, asked.clock)

    assert len(asked.called_s) == 1


@pytest.mark.parametrize(("fraction", "expected_s"), [(0.0, 2.0), (0.5, 2.25), (0.999, 2.4995)])
def test_jitter_lengthens_a_wait_by_its_share(fraction: float, expected_s: float) -> None:
    assert RetryPolicy(60.0, first_s=1.0, jitter=0.25).wait_s(2, fraction) == pytest.approx(expected_s)


@given(attempt=st.integers(1, 10_000), fraction=st.floats(0, 1, exclude_max=True))
def test_no_wait_is_longer_than_the_longest_and_its_jitter(attempt: int, fraction: float) -> None:
    patience = RetryPolicy(60.0, first_s=0.5, longest_s=10.0, jitter=0.25)

    assert 0.5 <= patience.wait_s(attempt, fraction) <= 12.5


@given(
    within_s=st.floats(0.1, 500),
    first_s=st.floats(0.01, 10),
    longest_s=st.floats(0.01, 60),
    failures=st.integers(0, 60),
)
def test_no_try_ever_begins_after_the_patience(within_s: float, first_s: float, longest_s: float, failures: int) -> None:
    asked = service(*[DOWN] * failures, "yes")
    try:
        retry(asked.call, is_passing, RetryPolicy(within_s, first_s, longest_s), asked.clock)
    except ServiceError:
        assert len(asked.called_s) <= failures

    assert max(asked.called_s) <= within_s + 1e-6
