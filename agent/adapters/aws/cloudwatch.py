"""CloudWatch Logs: one stream per life."""

from __future__ import annotations

from typing import Any

from agent.adapters.aws.clients import Clients, translated
from agent.errors import ServiceError
from agent.reports.log_stream import LogEvent

READ_S = 6.0
_THERE = "ResourceAlreadyExistsException"
_NO_GROUP = "ResourceNotFoundException"


class CloudWatchLogs:
    """A LogService (agent.reports.log_stream)."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def create_stream(self, group: str, stream: str) -> None:
        """The stream; the group too where it is missing, so that only then its permission is needed."""
        try:
            self._create(group, stream)
        except ServiceError as error:
            if error.code == _THERE:
                return
            if error.code != _NO_GROUP:
                raise
            self._create_group(group)
            self.create_stream(group, stream)

    def put(self, group: str, stream: str, events: list[LogEvent]) -> int:
        """One PutLogEvents; an answer of 200 may still reject events, too old or too new, and those are counted."""
        batch = [{"timestamp": event.at_ms, "message": event.message} for event in events]
        with translated(f"logs:PutLogEvents to {group}"):
            answer = self._client().put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)
        rejected = answer.get("rejectedLogEventsInfo") or {}
        too_new = len(events) - rejected["tooNewLogEventStartIndex"] if "tooNewLogEventStartIndex" in rejected else 0
        too_old = max(rejected.get("tooOldLogEventEndIndex", 0), rejected.get("expiredLogEventEndIndex", 0))
        return int(too_new + too_old)

    def _create(self, group: str, stream: str) -> None:
        with translated(f"logs:CreateLogStream in {group}"):
            self._client().create_log_stream(logGroupName=group, logStreamName=stream)

    def _create_group(self, group: str) -> None:
        try:
            with translated(f"logs:CreateLogGroup {group}"):
                self._client().create_log_group(logGroupName=group)
        except ServiceError as error:
            if error.code != _THERE:
                raise

    def _client(self) -> Any:
        return self._clients.client("logs", read_s=READ_S)
