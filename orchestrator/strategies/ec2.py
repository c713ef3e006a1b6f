"""Bodies on EC2: instant fleets, and whatever came of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

from orchestrator.errors import NoCapacity, ServiceFailed, Unanswered

GONE = "InvalidInstanceID.NotFound"
DEAD = ("terminated", "shutting-down")


class Ec2(Protocol):
    """The EC2 calls this strategy makes."""

    def create_fleet(self, request: str) -> dict[str, Any]:
        """Raises: ServiceFailed, Unanswered."""

    def describe(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """Raises: ServiceFailed."""


class Ec2Strategy:
    """Compute (ports)."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2

    def launch(self, request: str) -> str:
        """Replays of one request give one instance: by its token, and by its tag where an answer was lost.

        Instances are looked for in the answer *before* its errors: a partial answer carries both.
        """
        earlier = self._launched_before(request)
        if earlier is not None:
            return earlier
        try:
            answer = self._ec2.create_fleet(request)
        except Unanswered:
            found = self._launched_before(request)
            if found is None:
                raise
            return found
        instances = [identity for group in answer.get("Instances", []) for identity in group.get("InstanceIds", [])]
        if instances:
            return str(instances[0])
        told = "; ".join(sorted({f"{e.get('ErrorCode')}: {e.get('ErrorMessage')}" for e in answer.get("Errors", [])}))
        raise NoCapacity(f"EC2 launched nothing: {told or 'it gave no reason'}")

    def states(self, instance_ids: Iterable[str]) -> dict[str, str]:
        """By a filter, because an unknown id in the list itself would fail the whole call."""
        wanted = sorted(set(instance_ids))
        found: dict[str, str] = {}
        for at in range(0, len(wanted), 200):
            some = [{"Name": "instance-id", "Values": wanted[at : at + 200]}]
            found |= {i["InstanceId"]: i["State"]["Name"] for i in self._ec2.describe(some)}
        return found

    def terminate(self, instance_id: str) -> None:
        """Gone already is success."""
        try:
            self._ec2.terminate(instance_id)
        except ServiceFailed as error:
            if error.code != GONE:
                raise

    def _launched_before(self, request: str) -> str | None:
        """A dead one counts too: the session had its one instance."""
        token = json.loads(request)["ClientToken"]
        found = self._ec2.describe([{"Name": "tag:runs-fleet:session-id", "Values": [token]}])
        living_first = sorted(found, key=lambda i: i["State"]["Name"] in DEAD)
        return str(living_first[0]["InstanceId"]) if living_first else None
