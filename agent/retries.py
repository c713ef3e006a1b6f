"""Decide how long to wait before the next try, and when to give up; then do it on a clock that is handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from agent.errors import ServiceError

Answer = TypeVar("Answer")

THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "SlowDown",
        "RequestThrottled",
        "RequestThrottledException",
        "ThrottledException",
        "EC2ThrottledException",
        "RateLimited",
        "429",
    }
)
"""Codes that ask for fewer calls. Source: "Error retries" in the AWS general reference."""
PASSING = THROTTLED | {
    "Unreachable",
    "NoCredentials",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Unavailable",
    "RequestTimeout",
    "RequestTimeoutException",
    "ExpiredToken",
    "ExpiredTokenException",
    "500",
    "502",
    "503",
    "504",
}
"""Codes after which the same call may succeed: the service, the network or the credentials were not there just now."""


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed a little later."""
    return isinstance(error, ServiceError) and error.code in PASSING


class Pace(Protocol):
    """The part of the clock and of chance that waiting needs."""

    def monotonic_s(self) -> float:
        """Seconds that only ever grow."""

    def pause(self, seconds: float) -> None:
        """Let that much time pass."""

    def fraction(self) -> float:
        """A number in [0, 1), to keep a fleet from asking in step."""


@dataclass(frozen=True)
class Patience:
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


def persist(call: Callable[[], Answer], passing: Callable[[BaseException], bool], patience: Patience, pace: Pace) -> Answer:
    """The first answer `call` gives; failures that `passing` accepts are tried again while `patience` lasts.

    Raises: whatever `call` raised last, unchanged.
    """
    start_s = pace.monotonic_s()
    try:
        return call()
    except Exception as error:
        if not passing(error):
            raise
        first = error
    import tenacity  # not before something failed: the import costs more than a successful call

    def wait(state: tenacity.RetryCallState) -> float:
        return patience.wait_s(int(state.attempt_number), pace.fraction())

    def stop(state: tenacity.RetryCallState) -> bool:
        return patience.exhausted(state.attempt_number, pace.monotonic_s() - start_s, state.upcoming_sleep)

    def again() -> Answer:
        nonlocal first
        if (known := first) is not None:
            first = None  # type: ignore[assignment]
            raise known
        return call()

    retrying = tenacity.Retrying(sleep=pace.pause, wait=wait, stop=stop, retry=tenacity.retry_if_exception(passing), reraise=True)
    return retrying(again)
