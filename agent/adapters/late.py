"""Parts whose making waits for the instance id, or that the operator left off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from agent.configuration import Configuration
from agent.contract.config import RunnerConfig
from agent.errors import ServiceError
from agent.ports import Clock, Journal, LogReport, LogStream, Parameters


class LateLogStream:
    """LogStream (ports) that is made when it is first used; `make` knows the instance id by then."""

    def __init__(self, make: Callable[[], LogStream]) -> None:
        self._make: Callable[[], LogStream] = cache(make)

    def open(self, job_id: str) -> None:
        """Open the stream of this job."""
        self._make().open(job_id)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        """Hand an event of the agent on."""
        self._make().event(name, fields)

    def finish(self, within_s: float) -> LogReport:
        """Send what is left, for so many seconds at most."""
        return self._make().finish(within_s)


class LateConfiguration(Configuration):
    """Configuration that is read from the parameter named at the time: its name holds the instance id."""

    def __init__(
        self, parameters: Parameters, parameter: Callable[[], str], timeout_s: float, *, clock: Clock, journal: Journal
    ) -> None:
        super().__init__(parameters, "", timeout_s, clock, journal)
        self._parameter = parameter

    def now(self) -> RunnerConfig | None:
        """One reading of it. Raises as Configuration does."""
        self._name = self._parameter()
        return super().now()


class NoQueue:
    """Queue (ports) of a machine whose operator named none: nothing can be said, and trying again does not help."""

    def send(self, body: str) -> None:
        """Refuse the message. Raises: ServiceError, always."""
        raise ServiceError("sqs:SendMessage", "NoQueue", "RUNS_FLEET_TERMINATION_QUEUE_URL is not set")
