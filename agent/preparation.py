"""Everything a runner needs, side by side: its configuration, its release, its log stream; then its registration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from agent.configuration import Configuration
from agent.contract.config import RunnerConfig
from agent.desk import Desk, Overdue
from agent.errors import ConfigurationExpired, ConfigurationMissing, RegistrationFailed, ReleaseUnavailable, ServiceError
from agent.phases import Stopwatch
from agent.ports import Clock, ErrandEnded, Transcript
from agent.release import Release, Releases, Wanted
from agent.supervision import Stop

Value = TypeVar("Value")
RELEASE_S = 420.0
"""Seconds for fetching and unpacking; with the default waits for configuration (300) and registration (150) below 900."""


class StoppedEarly(Exception):
    """Somebody asked for the end before there was a runner."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        super().__init__(stop.value)


@dataclass
class Preparation:
    """Finds out what is needed as soon as anything is known, and asks for nothing twice."""

    configuration: Configuration
    releases: Releases
    transcript: Transcript
    desk: Desk
    clock: Clock
    stopwatch: Stopwatch
    config: RunnerConfig | None = None
    """Kept here as well as returned: a life that fails later must still tell whose it was."""

    def configured(self) -> RunnerConfig:
        """The configuration. If it is not there at once, the release the settings already decide on is fetched meanwhile.

        Raises: StoppedEarly, and what `Configuration.wait` raises.
        """
        self._begin("configuration")
        try:
            self.config = self._looked_up()
        except ConfigurationExpired as error:
            self.config = error.config
            raise
        self.stopwatch.end("configuration", self.clock.monotonic_s())
        self.stop_if_asked()
        return self.config

    def _looked_up(self) -> RunnerConfig:
        try:
            config = self.desk.bounded("first look", self.configuration.now, within_s=15.0)
        except Overdue:
            config = None
        if config is not None:
            return config
        if self.releases.decided():
            self._fetch(Wanted())
        self.desk.begin("configuration", self.configuration.wait)
        waited: RunnerConfig = self._outcome(
            "configuration", self.clock.monotonic_s() + self.configuration.timeout_s + 15.0
        ).value
        return waited

    def released(self, config: RunnerConfig) -> Release:
        """The release the configuration wants, fetched now unless that is already under way; the log stream opens beside it.

        Raises: StoppedEarly, and what `Releases.fetch` raises.
        """
        wanted = Wanted(config.runner_version or None, config.runner_sha256.lower() or None)
        under_way = self._fetching
        if not under_way:
            self._fetch(wanted)
        with suppress(ServiceError):
            self.transcript.open(config.job_id)
        until_s = self.clock.monotonic_s() + RELEASE_S
        end = self._outcome("release", until_s)
        if under_way and (end.error is not None or not self.releases.satisfies(end.value, wanted)):
            self._fetch(wanted)
            end = self._outcome("release", until_s)
        self.stopwatch.end("release", self.clock.monotonic_s())
        if end.error is not None:
            raise end.error
        release: Release = end.value
        return release

    def unless_stopped(self, name: str, task: Callable[[], Value], within_s: float) -> Value:
        """What `task` returns. Raises: StoppedEarly as soon as somebody asks; RegistrationFailed if it hangs; what it raises."""
        self.desk.begin(name, task)
        until_s = self.clock.monotonic_s() + within_s
        while (end := self.desk.ended(name)) is None:
            self.stop_if_asked()
            if self.desk.next(until_s) is None:
                raise RegistrationFailed(f"the {name} did not end within {within_s:g} s")
        if end.error is not None:
            raise end.error
        return end.value  # type: ignore[no-any-return]

    def stop_if_asked(self) -> None:
        """Raises: StoppedEarly if a signal or a spot notice came in."""
        if self.desk.stops:
            raise StoppedEarly(self.desk.stops[0].stop)

    _fetching: bool = False

    def _fetch(self, wanted: Wanted) -> None:
        self._fetching = True
        self._begin("release")
        self.desk.begin("release", lambda: self.releases.fetch(wanted))

    def _begin(self, span: str) -> None:
        self.stopwatch.begin(span, self.clock.monotonic_s())

    def _outcome(self, errand: str, until_s: float | None) -> ErrandEnded:
        """How the errand ended. The configuration bounds itself and raises; a release that failed early may be tried again."""
        while (end := self.desk.ended(errand)) is None:
            self.stop_if_asked()
            now_s = self.clock.monotonic_s()
            if until_s is not None and now_s >= until_s:
                if errand == "configuration":
                    raise ConfigurationMissing("ssm:GetParameter did not answer")
                raise ReleaseUnavailable(f"the runner's release was not there after {RELEASE_S:g} s")
            self.desk.next(now_s + 3_600.0 if until_s is None else until_s)
        if end.error is not None and errand != "release":
            raise end.error
        return end
