"""The EC2 calls that the strategy makes, and how their answers are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from orchestrator.compute.ec2.breakers import pool_name
from orchestrator.compute.port import ComputeInstance, InstanceState, SessionHandle
from orchestrator.store.resources import Resources

ASKED_FOR = frozenset({"Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", "Client.UserInitiatedHibernate"})
"""Ends that somebody asked for."""
TAKEN_BACK = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
"""Ends of spot instances by EC2. Source: StateReason in the EC2 API reference."""


class Ec2(Protocol):
    """The EC2 calls this strategy makes; answers as boto3 gives them."""

    def create_fleet(self, request: str) -> dict[str, Any]:
        """Send a CreateFleet request (JSON). Raises: ServiceFailed, Unanswered."""

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Every instance that matches the filters. Raises: ServiceFailed."""

    def terminate(self, instance_id: str) -> None:
        """Terminate one instance. Raises: ServiceFailed."""

    def console(self, instance_id: str) -> str:
        """What EC2 kept of an instance's console. Raises: ServiceFailed."""

    def templates(self, names: list[str]) -> dict[str, str]:
        """The newest version of those launch templates that exist. Raises: ServiceFailed."""

    def root_device(self, template: str, version: str) -> str:
        """The name by which the image of a launch template's version knows its root disk. Raises: ServiceFailed."""

    def template_data(self, template: str, version: str) -> dict[str, Any]:
        """The data of a launch template's version; empty: there is no such version. Raises: ServiceFailed."""

    def image(self, image_id: str) -> dict[str, Any] | None:
        """An image; None: there is none for this account. Raises: ServiceFailed."""

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """The zone of each subnet that exists. Raises: ServiceFailed."""


def pool_of(told: dict[str, Any]) -> str:
    """The pool of a part of CreateFleet's answer. Source: CreateFleetInstance and CreateFleetError in the EC2 API reference."""
    where = told.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    return pool_name(str(where.get("InstanceType", "")), str(where.get("SubnetId", "")), str(told.get("Lifecycle", "")))


def started_instances(
    answer: dict[str, Any], strategy: str, resources_of: Callable[[str], Resources | None]
) -> list[ComputeInstance]:
    """The instances in CreateFleet's answer; `resources_of` an instance type."""
    return [
        ComputeInstance(
            handle=SessionHandle(strategy, identity), state=InstanceState.PENDING, market=str(group.get("Lifecycle", "")),
            placement=pool_of(group), resources=resources_of(str(group.get("InstanceType", ""))),
        )
        for group in answer.get("Instances", [])
        for identity in group.get("InstanceIds", [])
    ]  # fmt: skip


def described_instance(told: dict[str, Any], strategy: str, resources_of: Callable[[str], Resources | None]) -> ComputeInstance:
    """An instance as DescribeInstances tells it; `resources_of` an instance type."""
    tags = {tag["Key"]: tag["Value"] for tag in told.get("Tags", [])}
    expires, launched = tags.get("runs-fleet:expires-at", ""), told.get("LaunchTime")
    market, kind = str(told.get("InstanceLifecycle", "on-demand")), str(told.get("InstanceType", ""))
    return ComputeInstance(
        handle=SessionHandle(strategy, str(told["InstanceId"])), state=InstanceState(told["State"]["Name"]),
        launch_id=tags.get("runs-fleet:launch-id", ""), placement=pool_name(kind, str(told.get("SubnetId", "")), market),
        market=market, resources=resources_of(kind), launched_at=launched.timestamp() if launched is not None else 0.0,
        expires_at=float(expires) if expires.isdigit() else None, ended_at=_ended_at(told), **_why_ended(told),
    )  # fmt: skip


def _why_ended(told: dict[str, Any]) -> dict[str, Any]:
    """EC2's own reason for the end of an instance, and whether EC2 could not run it as it was asked for.

    Source: StateReason in the EC2 API reference; what begins with `Client.` is about what we asked for, but for the two ends that
    users and instances ask for themselves.
    """
    reason = told.get("StateReason") or {}
    code, message = str(reason.get("Code", "")), str(reason.get("Message", ""))
    if told["State"]["Name"] not in ("shutting-down", "terminated", "stopping", "stopped") or not code:
        return {}
    words = message if message.startswith(code) else f"{code}: {message}" if message else code
    return {
        "why_ended": words[:500], "was_refused": code.startswith("Client.") and code not in ASKED_FOR,
        "was_taken_back": code in TAKEN_BACK,
    }  # fmt: skip


def _ended_at(told: dict[str, Any]) -> float | None:
    """As in `User initiated (2026-01-31 12:00:00 GMT)`. Source: StateTransitionReason, "Instance" in the EC2 API reference."""
    if told["State"]["Name"] not in ("shutting-down", "terminated"):
        return None
    found = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", str(told.get("StateTransitionReason", "")))
    return datetime.fromisoformat(f"{found[1]}+00:00").timestamp() if found else None
