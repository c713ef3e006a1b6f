"""The EC2 calls of the strategy `ec2`. Errors come out as ServiceFailed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.adapters.aws import Clients, pages, translated
from orchestrator.errors import ServiceFailed

NO_IMAGE = frozenset({"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed"})
"""Source: "Client error codes" of the EC2 API reference."""


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

    def root_device(self, template: str, version: str) -> str:
        """Of the image; a parameter that names it is looked up by EC2. Source: `ResolveAlias`, DescribeLaunchTemplateVersions."""
        image_id = str(self.template_data(template, version).get("ImageId", ""))
        if not image_id:
            raise ServiceFailed("ec2:DescribeLaunchTemplateVersions", "NoImage", f"{template}:{version} names no image")
        name = str((self.image(image_id) or {}).get("RootDeviceName", ""))
        if not name:
            raise ServiceFailed("ec2:DescribeImages", "NoRootDevice", f"{image_id} of {template} names no root disk")
        return name

    def template_data(self, template: str, version: str) -> dict[str, Any]:
        """As EC2 tells it; a parameter in place of an image is looked up."""
        with translated("ec2:DescribeLaunchTemplateVersions"):
            asked = {"LaunchTemplateName": template, "Versions": [version], "ResolveAlias": True}
            found = self._clients.get("ec2").describe_launch_template_versions(**asked)["LaunchTemplateVersions"]
        return dict(found[0]["LaunchTemplateData"]) if found else {}

    def image(self, image_id: str) -> dict[str, Any] | None:
        """As EC2 tells it; one that this account does not see is not there."""
        try:
            with translated("ec2:DescribeImages"):
                images = self._clients.get("ec2").describe_images(ImageIds=[image_id], IncludeDeprecated=True)["Images"]
        except ServiceFailed as error:
            if error.code in NO_IMAGE:
                return None
            raise
        return dict(images[0]) if images else None

    def zones(self, subnet_ids: list[str]) -> dict[str, str]:
        """By a filter: one that is not there is left out."""
        with translated("ec2:DescribeSubnets"):
            wanted = [{"Name": "subnet-id", "Values": subnet_ids}]
            found = self._clients.get("ec2").describe_subnets(Filters=wanted)["Subnets"]
        return {one["SubnetId"]: one["AvailabilityZone"] for one in found}
