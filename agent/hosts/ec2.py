"""An EC2 instance: identity and notices from the metadata service, TerminateInstances or the power switch to leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.errors import ServiceError
from agent.ports import Clock, Inbox, Launch, NoticeCame, Processes, Workers
from agent.supervision import NoticeKind

POLL_S = 5.0
"""Seconds between two looks for a notice; a spot notice comes two minutes ahead. Source: "Spot Instance interruption notices"."""
SILENT_AFTER = 3
"""Failed looks in a row after which the silence is reported, once."""
SILENT_POLL_S = 30.0
POWER_OFF_S = 20.0
CLOSED_AFTER = 3
CLOSED_WITHIN_S = 10.0
"""Seconds in which a metadata service that was switched off stops answering; EC2 applies it within a few."""
SWITCH = ("systemctl", "poweroff")
"""What switches the power off where no setting says it; with shutdown behaviour `terminate` this ends the instance."""


class Metadata(Protocol):
    """What we read from the metadata service."""

    def get(self, path: str) -> str | None:
        """The text below /latest/, None if there is none. Raises: ServiceError."""


class Ending(Protocol):
    """The EC2 API as far as it concerns ourselves."""

    def terminate(self, instance_id: str) -> None:
        """Returns once accepted. Raises: ServiceError."""

    def may_terminate(self, instance_id: str) -> str:
        """`permitted`, the refusal's code, or `unknown`."""

    def close_metadata(self, instance_id: str) -> None:
        """Returns once accepted. Raises: ServiceError."""

    def credentials_end(self) -> datetime | None:
        """When what we sign with expires; None: never. Raises: NoCredentials."""


class Ec2Machine:
    """An EC2 instance as the agent's host (ports.Machine)."""

    def __init__(
        self,
        *,
        metadata: Metadata,
        ending: Ending,
        processes: Processes,
        inbox: Inbox,
        workers: Workers,
        clock: Clock,
        certainly_ec2: Callable[[], bool],
        path: str,
    ) -> None:
        self._metadata, self._ending, self._processes = metadata, ending, processes
        self._inbox, self._workers, self._clock = inbox, workers, clock
        self._certainly_ec2, self._path = certainly_ec2, path
        self._closed = False

    def instance_id(self) -> str:
        """Asked three times: the network may not be up in the first second."""
        for left in (2, 1, 0):
            try:
                found = self._metadata.get("meta-data/instance-id")
                if found:
                    return found.strip()
            except ServiceError:
                if not left:
                    raise
            self._clock.pause(0.5)
        raise ServiceError("the metadata service", "NoInstanceId")

    def watch_notices(self) -> None:
        """Poll until the process ends."""
        self._workers.begin("notices", self._watch)

    def close_metadata(self, instance_id: str, needed_s: float) -> None:
        """Nothing is switched off unless the credentials we hold last as long as we may need them."""
        end = self._ending.credentials_end()
        if end is not None and (end - self._clock.now()).total_seconds() < needed_s:
            need = f"they end at {end:%H:%M} UTC and are needed for {needed_s / 60:.0f} minutes: lower RUNS_FLEET_MAX_RUNTIME"
            raise ServiceError("the role's credentials", "TooShort", need)
        self._closed = True
        self._ending.close_metadata(instance_id)
        until_s, silent = self._clock.monotonic_s() + CLOSED_WITHIN_S, 0
        while self._clock.monotonic_s() < until_s:
            try:
                self._metadata.get("meta-data/instance-id")
                silent = 0
            except ServiceError as error:
                silent += 1  # one hiccup of a service that still answers is no end
                if silent == CLOSED_AFTER or error.code == "403":
                    return
            self._clock.pause(0.1)
        raise ServiceError("the metadata service", "StillAnswers", f"{CLOSED_WITHIN_S:g} s after it was switched off")

    def may_terminate(self, instance_id: str) -> str:
        """Whether EC2 would accept our termination, asked by a dry run."""
        return self._ending.may_terminate(instance_id)

    def terminate(self, instance_id: str) -> None:
        """TerminateInstances on ourselves."""
        self._ending.terminate(instance_id)

    def power_off_by_default(self) -> tuple[str, ...] | None:
        """Only a machine that is certainly Amazon's may be switched off without being told how."""
        return SWITCH if self._certainly_ec2() else None

    def power_off(self, command: tuple[str, ...]) -> int:
        """Run it with nothing of our environment but the path."""
        finished = self._processes.run(Launch(command, Path("/"), {"PATH": self._path}, after_sweep=True), POWER_OFF_S)
        return -1 if finished.code is None else finished.code

    def _watch(self) -> None:
        told: set[tuple[str, str]] = set()
        failures = 0
        while not self._closed:
            try:
                for notice in self._look():
                    key = (notice.kind, str(notice.ends_at))
                    if key not in told:
                        told.add(key)
                        self._inbox.post(notice)
                failures = 0
            except ServiceError as error:
                failures += 1
                if failures == SILENT_AFTER and ("silent", "None") not in told:
                    told.add(("silent", "None"))
                    self._inbox.post(NoticeCame(NoticeKind.SILENT, detail=f"no spot notices can be seen: {error}"))
            self._clock.pause(POLL_S if failures < SILENT_AFTER else SILENT_POLL_S)

    def _look(self) -> list[NoticeCame]:
        """Source: "Spot Instance interruption notices" and "EC2 instance rebalance recommendations", EC2 user guide."""
        found: list[NoticeCame] = []
        if action := self._metadata.get("meta-data/spot/instance-action"):
            found.append(NoticeCame(NoticeKind.SPOT, _moment(action, "time"), _word(action, "action")))
        if rebalance := self._metadata.get("meta-data/events/recommendations/rebalance"):
            found.append(NoticeCame(NoticeKind.REBALANCE, None, _word(rebalance, "noticeTime")))
        return found


def _moment(text: str, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(str(json.loads(text)[name]).replace("Z", "+00:00"))
    except (ValueError, KeyError, TypeError):
        return None


def _word(text: str, name: str) -> str:
    try:
        return str(json.loads(text)[name])[:64]
    except (ValueError, KeyError, TypeError):
        return ""
