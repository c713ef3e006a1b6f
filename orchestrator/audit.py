"""The auditor: ends what outlived its end, even if the orchestrator and all its records are gone.

It knows tags and the clock, nothing else; it runs on a schedule and with a role of its own (`runs-fleet audit`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from orchestrator.errors import ServiceFailed
from orchestrator.ports import Clock, Journal

MARGIN_S = 900.0
"""After the end that its tag names: the orchestrator's own sweep comes first, by some minutes."""
OLDEST_S = 5 * 86_400.0 + 7200.0
"""An instance of ours without a readable end is ended at this age: no job runs longer.

Source: GitHub Actions usage limits, 5 days.
"""


class Ec2(Protocol):
    """The EC2 calls it makes."""

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """Raises: ServiceFailed."""


def outlived(instance: dict[str, Any], now: float) -> bool:
    """Whether an instance, as EC2 describes it, should not be there any more."""
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    end = tags.get("runs-fleet:expires-at", "")
    if end.isdigit():
        return now >= float(end) + MARGIN_S
    launched = instance.get("LaunchTime")
    return launched is not None and now - launched.timestamp() > OLDEST_S


def audit(ec2: Ec2, clock: Clock, journal: Journal, stack_id: str) -> int:
    """Terminate what outlived its end; returns how many could not be. Raises: ServiceFailed if they cannot even be listed."""
    mine = [
        {"Name": "tag:runs-fleet:managed", "Values": ["true"]},
        {"Name": "tag:runs-fleet:stack", "Values": [stack_id]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    failed = 0
    for instance in ec2.describe(mine):
        if not outlived(instance, clock.now()):
            continue
        identity = str(instance["InstanceId"])
        try:
            ec2.terminate(identity)
            journal.event("audit.terminated", instance_id=identity)
        except ServiceFailed as error:
            failed += 1
            journal.event("audit.failed", instance_id=identity, error=str(error))
    return failed
