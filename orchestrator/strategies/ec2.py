"""Bodies on EC2: instant fleets, and whatever came of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Protocol

from orchestrator.circuits import pool_name
from orchestrator.errors import ServiceFailed
from orchestrator.ports import Clock
from orchestrator.services import Body, SessionHandle, Site, Started
from orchestrator.troubles import BROKEN

NAME = "ec2"
GONE = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
MISMATCH = "IdempotentParameterMismatch"
SITE_S = 300.0
"""For how long templates and subnets are believed; a new image is used that much later at most."""
CONSOLE = 4000
"""Characters kept of a console."""
LIVING = ["pending", "running", "stopping", "stopped"]


class Ec2(Protocol):
    """The EC2 calls this strategy makes."""

    def create_fleet(self, request: str) -> dict[str, Any]:
        """Raises: ServiceFailed, Unanswered."""

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """Raises: ServiceFailed."""

    def console(self, instance_id: str) -> str:
        """Raises: ServiceFailed."""

    def templates(self, names: list[str]) -> dict[str, str]:
        """The newest version of those there are. Raises: ServiceFailed."""

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """The zone of each. Raises: ServiceFailed."""


class Ec2Strategy:
    """Compute (services)."""

    name = NAME

    def __init__(self, ec2: Ec2, clock: Clock, *, stack_id: str, template: str, subnet_ids: tuple[str, ...]) -> None:
        self._ec2, self._clock, self._stack_id, self._template, self._subnet_ids = ec2, clock, stack_id, template, subnet_ids
        self._site: tuple[float, Site] | None = None

    def site(self) -> Site:
        """One subnet of each zone: EC2 refuses two pools of one type in one zone."""
        known = self._site  # another thread may forget it meanwhile
        if known is None or self._clock.now() - known[0] > SITE_S:
            wanted = {f"{self._template}-{architecture}": architecture for architecture in ("amd64", "arm64")}
            found = self._ec2.templates(sorted(wanted))
            zones = self._ec2.zones(list(self._subnet_ids))
            subnets = {zones[subnet]: subnet for subnet in reversed(self._subnet_ids) if subnet in zones}
            if not subnets:
                raise ServiceFailed("ec2:DescribeSubnets", "NoSubnets", f"none of {', '.join(self._subnet_ids)} is there")
            known = self._site = (self._clock.now(), Site({wanted[name]: (name, v) for name, v in found.items()}, subnets))
        return known[1]

    def start_sessions(self, request: str, *, sent_before: bool) -> Started:
        """Replays of one request give the same bodies, by its token; where EC2 refuses the repetition, by its tags.

        A lost answer is asked for again, and not looked up: EC2 shows new instances late, and half of them is not the answer.
        Instances are looked for in the answer *before* its errors: a partial answer carries both.
        """
        try:
            answer = self._ec2.create_fleet(request)
        except ServiceFailed as error:
            self._site = None  # perhaps it named what is not there any more
            if error.code == MISMATCH and sent_before and (found := self.look_up(request)):
                return Started(found)
            raise
        bodies = [
            Body(
                SessionHandle(NAME, identity),
                "pending",
                kind=str(group.get("InstanceType", "")),
                market=str(group.get("Lifecycle", "")),
                pool=_pool(group),
            )
            for group in answer.get("Instances", [])
            for identity in group.get("InstanceIds", [])
        ]
        reasons = tuple(sorted({f"{e.get('ErrorCode')}: {e.get('ErrorMessage')}" for e in answer.get("Errors", [])}))
        refused = {_pool(error) for error in answer.get("Errors", []) if error.get("ErrorCode") in BROKEN}
        return Started(tuple(bodies), reasons, tuple(sorted(refused - {""})))

    def poll_sessions(self, handles: Iterable[SessionHandle]) -> dict[SessionHandle, Body]:
        """By a filter, because an unknown id in the list itself would fail the whole call."""
        wanted = sorted({handle.body for handle in handles if handle.strategy == NAME})
        found: dict[SessionHandle, Body] = {}
        for at in range(0, len(wanted), 200):
            some = [{"Name": "instance-id", "Values": wanted[at : at + 200]}]
            found |= {body.handle: body for body in map(_body, self._ec2.describe(some))}
        return found

    def stop_session(self, handle: SessionHandle) -> bool:
        """Gone already is success."""
        try:
            self._ec2.terminate(handle.body)
        except ServiceFailed as error:
            if error.code not in GONE:
                raise
            return False
        return True

    def list_sessions(self) -> Iterator[Body]:
        """By the stack's tag, whoever made them."""
        mine = [
            {"Name": "tag:runs-fleet:stack", "Values": [self._stack_id]},
            {"Name": "tag:runs-fleet:managed", "Values": ["true"]},
            {"Name": "instance-state-name", "Values": LIVING},
        ]
        return map(_body, self._ec2.describe(mine))

    def last_words(self, handle: SessionHandle) -> str:
        """EC2 keeps the console of a dead instance for about an hour. Source: GetConsoleOutput in the EC2 API reference."""
        try:
            return "".join(c for c in self._ec2.console(handle.body) if c.isprintable() or c == "\n")[-CONSOLE:]
        except ServiceFailed as error:
            if error.code in GONE:
                return ""
            raise

    def look_up(self, request: str) -> tuple[Body, ...]:
        """By the tags of its launch and step; the dead count too: they were its machines."""
        tags = {tag["Key"]: tag["Value"] for tag in json.loads(request)["TagSpecifications"][0]["Tags"]}
        wanted = [
            {"Name": f"tag:{name}", "Values": [tags[name]]}
            for name in ("runs-fleet:stack", "runs-fleet:launch-id", "runs-fleet:launch-step")
        ]
        return tuple(_body(instance) for instance in self._ec2.describe(wanted))


def _pool(told: dict[str, Any]) -> str:
    """Of a part of CreateFleet's answer. Source: CreateFleetInstance and CreateFleetError in the EC2 API reference."""
    where = told.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return pool_name(str(where.get("InstanceType", "")), str(where.get("SubnetId", "")), str(told.get("Lifecycle", "")))


def _body(instance: dict[str, Any]) -> Body:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    expires = tags.get("runs-fleet:expires-at", "")
    launched = instance.get("LaunchTime")
    market, kind = str(instance.get("InstanceLifecycle", "on-demand")), str(instance.get("InstanceType", ""))
    return Body(
        SessionHandle(NAME, str(instance["InstanceId"])), str(instance["State"]["Name"]), tags.get("runs-fleet:launch-id", ""),
        kind=kind, pool=pool_name(kind, str(instance.get("SubnetId", "")), market), market=market,
        launched_at=launched.timestamp() if launched is not None else 0.0,
        expires_at=float(expires) if expires.isdigit() else None, ended_at=_ended_at(instance),
    )  # fmt: skip


def _ended_at(instance: dict[str, Any]) -> float | None:
    """As in `User initiated (2026-01-31 12:00:00 GMT)`. Source: StateTransitionReason, "Instance" in the EC2 API reference."""
    if instance["State"]["Name"] not in ("shutting-down", "terminated"):
        return None
    found = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", str(instance.get("StateTransitionReason", "")))
    return datetime.fromisoformat(f"{found[1]}+00:00").timestamp() if found else None
