"""Decide how long to wait before the next try, and when to give up; then do it on a clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agent.calls.error_codes import PASSING, meaning_of
from agent.errors import ServiceError, caught

Answer = TypeVar("Answer")


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    return isinstance(error, ServiceError) and meaning_of(error.code) in PASSING


class RetryClock(Protocol):
    """The part of the clock and of chance that waiting needs."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow."""

    def pause(self, seconds: float) -> None:
        """Let that much time pass."""

    def fraction(self) -> float:
        """A number in [0, 1), to keep a fleet from asking in step."""


@dataclass(frozen=True)
class RetryPolicy:
    """How a wait grows (`first_s`, doubled up to `longest_s`, plus up to `jitter` of itself) and when it ends (`within_s`)."""

    within_s: float
    first_s: float = 0.5
    longest_s: float = 10.0
    jitter: float = 0.25
    tries: int = 1_000_000

    def wait_s(self, attempt: int, fraction: float) -> float:
        """Seconds to wait after the `attempt`-th failure (1 is the first); `fraction` is a random number in [0, 1)."""
        grown = min(self.first_s * 2.0 ** min(attempt - 1, 30), self.longest_s)
        return grown * (1 + self.jitter * fraction)

    def exhausted(self, attempt: int, waited_s: float, next_wait_s: float) -> bool:
        """Whether the next try would come too late, or would be one too many."""
        return attempt >= self.tries or waited_s + next_wait_s > self.within_s


def retry(call: Callable[[], Answer], passing: Callable[[BaseException], bool], policy: RetryPolicy, clock: RetryClock) -> Answer:
    """The first answer `call` gives; failures that `passing` accepts are tried again while `policy` lasts.

    Raises: whatever `call` raised last, unchanged.
    """
    start_s = clock.monotonic_s()
    once = caught(call)
    if once.error is None or not passing(once.error):
        return once.value
    first: Exception | None = once.error
    import tenacity  # not before something failed: the import costs more than a successful call

    def wait(state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt."""
        return policy.wait_s(int(state.attempt_number), clock.fraction())

    def stop(state: tenacity.RetryCallState) -> bool:
        """Whether it was tried for long enough."""
        return policy.exhausted(state.attempt_number, clock.monotonic_s() - start_s, state.upcoming_sleep)

    def again() -> Answer:
        """The first failure again, then the call."""
        nonlocal first
        if (known := first) is not None:
            first = None
            raise known
        return call()

    retrying = tenacity.Retrying(
        sleep=clock.pause, wait=wait, stop=stop, retry=tenacity.retry_if_exception(passing), reraise=True
    )
    return retrying(again)
