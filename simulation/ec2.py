"""The twin of EC2, as far as the strategy `ec2` calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import ServiceFailed, Throttled, Unanswered
from simulation.calls import Calls, call

LIVING = frozenset({"pending", "running", "stopping", "stopped"})


class MemoryEc2:
    """Ec2 (`compute/ec2/calls.py`) with EC2's behaviour.

    One token gives the same instances, a partial answer carries reasons, a pool may be full.
    """

    def __init__(self, calls: Calls | None = None) -> None:
        self._calls = calls or Calls()
        self._by_token: dict[str, tuple[str, dict[str, Any]]] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._where: dict[str, tuple[str, str]] = {}
        self.requests: list[dict[str, Any]] = []
        self.instances: dict[str, str] = {}
        """Id to state; take one out and EC2 does not know it any more."""
        self.launched_by: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        """Id to instance type."""
        self.full: set[str] = set()
        """Markets, instance types or zones' subnets without capacity; `*`: everything."""
        self.room: int | None = None
        """How many more instances there is capacity for at all; None: no end."""
        self.broken: set[str] = set()
        """Instances that cannot be terminated now."""
        self.answers: list[Exception | str] = []
        """Of the next requests, instead of instances; a text is the reason of an empty answer."""
        self.loses = 0
        """Of the next requests, so many take effect and are never answered."""
        self.sent = 0
        """Requests that came, also again."""
        self.reasons: dict[str, tuple[str, str]] = {}
        """Why instances ended, by EC2's word: code and message."""
        self.root_disk = "/dev/xvda"
        """What every image calls its root disk."""
        self.version = "1"
        """Of every launch template."""
        self.architectures: tuple[str, ...] = ("amd64", "arm64")
        """Those that have a launch template."""
        self.template_changes: dict[str, Any] = {}
        """What is otherwise in every launch template."""
        self.consoles: dict[str, str] = {}
        self.ended: dict[str, float] = {}
        """When those went of which it says so."""
        self.expires: dict[str, float] = {}
        """Of instances whose tag names another end than the request said."""

    @property
    def launched(self) -> int:
        """How many instances there ever were."""
        return len(self.launched_by)

    @call("ec2.create_fleet")
    def create_fleet(self, request: str) -> dict[str, Any]:
        """A replay gives the same instances; other words under the same token are refused."""
        self.sent += 1
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            code, _, message = answer.partition(": ")
            return {"Instances": [], "Errors": [{"ErrorCode": code, "ErrorMessage": message}]}
        told = json.loads(request)
        token = told["ClientToken"]
        if token in self._by_token and self._by_token[token][0] != request:
            raise ServiceFailed("ec2:CreateFleet", "IdempotentParameterMismatch")
        if token not in self._by_token:
            self.requests.append(told)
            self._by_token[token] = (request, self._answer(told))
        if self.loses:
            self.loses -= 1
            raise Unanswered("ec2:CreateFleet")
        return self._by_token[token][1]

    @call("ec2.describe")
    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """By ids, by tags and by state, in any combination."""
        return iter([self._described(identity) for identity in self.instances if self._matches(identity, filters)])

    @call("ec2.terminate")
    def terminate(self, instance_id: str) -> None:
        """An id it does not know is an error, one that is gone is not."""
        if instance_id in self.broken:
            raise Throttled(f"ec2:TerminateInstances {instance_id}", "RequestLimitExceeded")
        if instance_id not in self.instances:
            raise ServiceFailed(f"ec2:TerminateInstances {instance_id}", "InvalidInstanceID.NotFound")
        self.instances[instance_id] = "terminated"

    @call("ec2.console")
    def console(self, instance_id: str) -> str:
        """The console output that the test wrote."""
        return self.consoles.get(instance_id, "")

    @call("ec2.templates")
    def templates(self, names: list[str]) -> dict[str, str]:
        """One for each architecture, all of one version."""
        return {name: self.version for name in names if name.endswith(self.architectures)}

    @call("ec2.root_device")
    def root_device(self, template: str, version: str) -> str:
        """As the test says."""
        return self.root_disk

    @call("ec2.template_data")
    def template_data(self, template: str, version: str) -> dict[str, Any]:
        """A right one, unless the test says otherwise."""
        return {
            "ImageId": f"ami-{template}", "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {"HttpTokens": "required"}, "IamInstanceProfile": {"Name": "machines"}, **self.template_changes,
        }  # fmt: skip

    @call("ec2.image")
    def image(self, image_id: str) -> dict[str, Any] | None:
        """Of the architecture in its name."""
        kind = "arm64" if image_id.endswith("-arm64") else "x86_64"
        return {"ImageId": image_id, "Architecture": kind, "State": "available", "RootDeviceName": self.root_disk}

    @call("ec2.zones")
    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """A zone for each of the subnets."""
        return {subnet: f"use1-az{subnet.rpartition('-')[2]}" for subnet in subnet_ids}

    def _answer(self, told: dict[str, Any]) -> dict[str, Any]:
        market = told["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        pools = told["LaunchTemplateConfigs"][0]["Overrides"]
        open_pools = [p for p in pools if not self.full & {"*", market, p["InstanceType"], p["SubnetId"]}]
        errors = [self._error(pool, market, pool["InstanceType"]) for pool in pools if pool not in open_pools]
        number = told["TargetCapacitySpecification"]["TotalTargetCapacity"] if open_pools else 0
        given = number if self.room is None else min(number, self.room)
        if self.room is not None:
            self.room -= given
        if given < number:
            errors.append({"ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": "no more"})
        tags = {tag["Key"]: tag["Value"] for tag in told["TagSpecifications"][0]["Tags"]}
        identities = []
        for _ in range(given):
            identity = f"i-{len(self.launched_by) + 1:017x}"
            self.instances[identity], self.launched_by[identity] = "running", tags["runs-fleet:launch-id"]
            self.kinds[identity] = open_pools[0]["InstanceType"]
            self._tags[identity], self._where[identity] = tags, (open_pools[0]["SubnetId"], market)
            identities.append(identity)
        chosen = [{**self._place(open_pools[0], market), "InstanceIds": identities}] if identities else []
        if chosen:
            chosen[0]["InstanceType"] = open_pools[0]["InstanceType"]
        return {"Instances": chosen, "Errors": errors}

    def _error(self, pool: dict[str, Any], market: str, message: str) -> dict[str, Any]:
        return {**self._place(pool, market), "ErrorCode": "InsufficientInstanceCapacity", "ErrorMessage": message}

    @staticmethod
    def _place(pool: dict[str, Any], market: str) -> dict[str, Any]:
        where = {"InstanceType": pool["InstanceType"], "SubnetId": pool["SubnetId"]}
        return {"Lifecycle": market, "LaunchTemplateAndOverrides": {"Overrides": where}}

    def _described(self, identity: str) -> dict[str, Any]:
        subnet, market = self._where.get(identity, ("", "on-demand"))
        tags = dict(self._tags.get(identity, {}))
        tags["runs-fleet:launch-id"] = self.launched_by.get(identity, "")
        if identity in self.expires:
            tags["runs-fleet:expires-at"] = str(int(self.expires[identity]))
        told = {
            "InstanceId": identity, "State": {"Name": self.instances[identity]}, "InstanceType": self.kinds.get(identity, ""),
            "SubnetId": subnet, "Tags": [{"Key": key, "Value": value} for key, value in tags.items() if value],
            "StateTransitionReason": "",
        }  # fmt: skip
        if market == "spot":
            told["InstanceLifecycle"] = "spot"
        if identity in self.reasons:
            code, message = self.reasons[identity]
            told["StateReason"] = {"Code": code, "Message": message}
        if identity in self.ended:
            moment = datetime.fromtimestamp(self.ended[identity], UTC).strftime("%Y-%m-%d %H:%M:%S")
            told["StateTransitionReason"] = f"User initiated ({moment} GMT)"
        return told

    def _matches(self, identity: str, filters: list[dict[str, Any]]) -> bool:
        own = {"runs-fleet:managed": "true", **self._tags.get(identity, {})}
        for one in filters:
            name, values = one["Name"], one["Values"]
            if name == "instance-id":
                found = identity in values
            elif name == "instance-state-name":
                found = self.instances[identity] in values
            else:
                found = own.get(name.removeprefix("tag:"), values[0] if name == "tag:runs-fleet:stack" else "") in values
            if not found:
                return False
        return True
