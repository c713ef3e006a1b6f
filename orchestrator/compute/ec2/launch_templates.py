"""Whether a launch template and its image are what machines of this fleet need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.readiness import Fault

SETTING = "RUNS_FLEET_LAUNCH_TEMPLATE_NAME"
IMAGE_ARCHITECTURE = {"amd64": "x86_64", "arm64": "arm64"}
"""EC2's own names. Source: `Architecture`, Image in the EC2 API reference."""


@dataclass(frozen=True)
class Template:
    """The newest version of a launch template: `data` as EC2 tells it, a parameter in place of an image looked up."""

    name: str
    version: str
    data: Mapping[str, Any]


def no_template(base: str, architectures: tuple[str, ...]) -> Fault:
    """There is a launch template for none of the architectures."""
    names = " or ".join(f"{base}-{one}" for one in architectures)
    data = {
        "ImageId": "ami-…", "IamInstanceProfile": {"Name": "…"}, "SecurityGroupIds": ["sg-…"], "UserData": "…",
        "InstanceInitiatedShutdownBehavior": "terminate", "MetadataOptions": {"HttpTokens": "required"},
    }  # fmt: skip
    create = f"aws ec2 create-launch-template --launch-template-name {base}-{architectures[0]}"
    remedy = f"{create} --launch-template-data '{json.dumps(data, ensure_ascii=False)}'"
    return Fault(setting=SETTING, found=f"no launch template {names}", expected="one for each architecture in use", remedy=remedy)


def faults_of_template(template: Template) -> Iterator[Fault]:
    """What of its newest version would leave machines running, open or without rights."""
    data, name = template.data, f"{template.name}:{template.version}"
    behaviour = str(data.get("InstanceInitiatedShutdownBehavior", "stop"))
    if behaviour != "terminate":
        told, wanted = (
            f"{name} has InstanceInitiatedShutdownBehavior={behaviour}",
            "terminate: else a machine that goes off stays",
        )
        yield _fault(template, told, wanted, {"InstanceInitiatedShutdownBehavior": "terminate"})
    options = data.get("MetadataOptions") or {}
    if str(options.get("HttpTokens", "optional")) != "required":
        told = f"{name} has MetadataOptions.HttpTokens={options.get('HttpTokens', 'optional')}"
        yield _fault(template, told, "required (IMDSv2)", {"MetadataOptions": {"HttpTokens": "required"}})
    if str(options.get("HttpEndpoint", "enabled")) != "enabled":
        told = f"{name} has MetadataOptions.HttpEndpoint={options['HttpEndpoint']}"
        wanted = "enabled: the agent learns there who it is"
        yield _fault(template, told, wanted, {"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"}})
    profile = data.get("IamInstanceProfile") or {}
    if not (profile.get("Arn") or profile.get("Name")):
        wanted = "an instance profile with the machines' role (docs/permissions.md)"
        yield _fault(template, f"{name} has no instance profile", wanted, {"IamInstanceProfile": {"Name": "…"}})
    if not data.get("ImageId"):
        yield _fault(template, f"{name} names no image", "an image, or a parameter that names one", {"ImageId": "ami-…"})
    if data.get("InstanceMarketOptions"):
        told, wanted = f"{name} has InstanceMarketOptions", "none: the orchestrator says which market an instance is of"
        yield Fault(setting=SETTING, found=told, expected=wanted, remedy="create a version of the template without them")


def faults_of_image(template: Template, architecture: str, image: Mapping[str, Any] | None) -> Iterator[Fault]:
    """`image`: of DescribeImages' answer, None: there is no such image, or this account may not use it."""
    name, image_id = f"{template.name}:{template.version}", str(template.data.get("ImageId", ""))
    if image is None:
        told = f"{name} names the image {image_id}, which this account does not see"
        yield _fault(template, told, "an image that is there", {"ImageId": "ami-…"})
        return
    if str(image.get("State", "available")) != "available":
        told = f"the image {image_id} of {name} is {image['State']}"
        yield _fault(template, told, "an image that is available", {"ImageId": "ami-…"})
    found, wanted = str(image.get("Architecture", "")), IMAGE_ARCHITECTURE[architecture]
    if found and found != wanted:
        told = f"the image {image_id} of {name} is for {found}"
        yield _fault(template, told, f"an image for {wanted}", {"ImageId": "ami-…"})


def _fault(template: Template, found: str, expected: str, change: Mapping[str, Any]) -> Fault:
    """With the command that makes a version which differs in this alone."""
    change = {**change}
    if "MetadataOptions" in change:
        change["MetadataOptions"] = {**(template.data.get("MetadataOptions") or {}), **change["MetadataOptions"]}
        change["MetadataOptions"].pop("State", None)
    source = f"--launch-template-name {template.name} --source-version {template.version}"
    data = json.dumps(change, ensure_ascii=False)
    remedy = f"aws ec2 create-launch-template-version {source} --launch-template-data '{data}'"
    return Fault(setting=SETTING, found=found, expected=expected, remedy=remedy)
