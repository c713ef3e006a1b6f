"""The EC2 calls of the strategy `ec2`. Errors come out as ServiceFailed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.adapters.aws import Clients, pages, translated


class Ec2Api:
    """The EC2 calls the strategy makes."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def create_fleet(self, request: str) -> dict[str, Any]:
        """The stored request, unchanged."""
        with translated("ec2:CreateFleet"):
            return dict(self._clients.get("ec2").create_fleet(**json.loads(request)))

    def describe(self, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Every instance that matches, page by page."""
        found = self._clients.get("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        for page in pages("ec2:DescribeInstances", found):
            yield from (i for reservation in page["Reservations"] for i in reservation["Instances"])

    def terminate(self, instance_id: str) -> None:
        """Terminate one instance, by its id."""
        with translated(f"ec2:TerminateInstances {instance_id}"):
            self._clients.get("ec2").terminate_instances(InstanceIds=[instance_id])

    def console(self, instance_id: str) -> str:
        """What EC2 kept of its console, the latest if it can. Of all answers, botocore decodes this one itself."""
        with translated(f"ec2:GetConsoleOutput {instance_id}"):
            return str(self._clients.get("ec2").get_console_output(InstanceId=instance_id).get("Output", ""))

    def templates(self, names: list[str]) -> dict[str, str]:
        """By a filter: one that is not there is left out."""
        with translated("ec2:DescribeLaunchTemplates"):
            wanted = [{"Name": "launch-template-name", "Values": names}]
            found = self._clients.get("ec2").describe_launch_templates(Filters=wanted)["LaunchTemplates"]
        return {one["LaunchTemplateName"]: str(one["LatestVersionNumber"]) for one in found}

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """By a filter: one that is not there is left out."""
        with translated("ec2:DescribeSubnets"):
            wanted = [{"Name": "subnet-id", "Values": subnet_ids}]
            found = self._clients.get("ec2").describe_subnets(Filters=wanted)["Subnets"]
        return {one["SubnetId"]: one["AvailabilityZone"] for one in found}
