"""The auditor: ends what outlived its end, even if the orchestrator and all its records are gone.

It knows tags and the clock, nothing else; it runs on a schedule and with a role of its own (`runs-fleet audit`, or `handler` as a
Lambda function).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
        """As EC2 does it. Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """As EC2 does it. Raises: ServiceFailed."""


def outlived(instance: dict[str, Any], now: float) -> bool:
    """Whether an instance, as EC2 describes it, should not be there any more."""
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    end = tags.get("runs-fleet:expires-at", "")
    if end.isdigit():
        return now >= float(end) + MARGIN_S
    launched = instance.get("LaunchTime")
    return launched is not None and now - launched.timestamp() > OLDEST_S


@dataclass(frozen=True)
class Audit:
    """What came of it: machines looked at, terminated, and those that could not be."""

    stack_id: str
    seen: int = 0
    terminated: int = 0
    failed: int = 0

    def __str__(self) -> str:
        told = f"stack {self.stack_id}: {self.seen} machines, {self.terminated} outlived their end and are terminated"
        return told + (f", {self.failed} could not be (see above)" if self.failed else "")


def audit(ec2: Ec2, clock: Clock, journal: Journal, stack_id: str) -> Audit:
    """Terminate what outlived its end. Raises: ServiceFailed if they cannot even be listed."""
    mine = [
        {"Name": "tag:runs-fleet:managed", "Values": ["true"]},
        {"Name": "tag:runs-fleet:stack", "Values": [stack_id]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    seen = terminated = failed = 0
    for instance in ec2.describe(mine):
        seen += 1
        if not outlived(instance, clock.now()):
            continue
        identity = str(instance["InstanceId"])
        try:
            ec2.terminate(identity)
            terminated += 1
            journal.event("audit.terminated", instance_id=identity)
        except ServiceFailed as error:
            failed += 1
            journal.event("audit.failed", instance_id=identity, error=str(error))
    return Audit(stack_id, seen, terminated, failed)


def audited(environment: Mapping[str, str]) -> Audit:
    """The same on AWS, as the environment says. Raises: ServiceFailed."""
    from orchestrator.adapters.aws import Clients
    from orchestrator.adapters.clock import SystemClock
    from orchestrator.adapters.ec2 import Ec2Api
    from orchestrator.adapters.journal import TextJournal

    stack_id = environment.get("RUNS_FLEET_STACK_ID") or "runs-fleet"
    return audit(Ec2Api(Clients()), SystemClock(), TextJournal(), stack_id)


def handler(event: object, context: object) -> dict[str, object]:
    """For AWS Lambda, on a schedule. Raises: RuntimeError, so that the failure is counted where functions' errors are.

    Source: "Define Lambda function handler in Python", AWS Lambda developer guide.
    """
    found = audited(os.environ)
    if found.failed:
        raise RuntimeError(str(found))
    return {"stack": found.stack_id, "seen": found.seen, "terminated": found.terminated}
