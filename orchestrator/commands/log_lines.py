"""The lines of a log stream in CloudWatch Logs, for `runs-fleet logs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from orchestrator.adapters.aws import translated


def lines_of(client: Any, group: str, stream: str) -> Iterator[str]:
    """Every line, from the first, each with its time. Raises: ServiceFailed; code `ResourceNotFoundException`: there is none.

    Source: GetLogEvents in the CloudWatch Logs API reference: the end is where the token stays the same.
    """
    token: dict[str, str] = {}
    while True:
        with translated(f"logs:GetLogEvents of {stream} in {group} (RUNS_FLEET_LOG_GROUP)"):
            page = client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token)
        for event in page["events"]:
            stamp = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
            yield f"{stamp}Z {event['message']}"
        if token.get("nextToken") == page["nextForwardToken"]:
            return
        token = {"nextToken": page["nextForwardToken"]}
