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


def faults_of_template(template: Template, image: Mapping[str, Any] | None = None) -> Iterator[Fault]:
    """What of its newest version would leave machines running, open or without rights; one command corrects all of it.

    `image`: its image, if it is known: one that demands IMDSv2 itself needs no word of the template.
    """
    wrong = [*_wrong_parts(template.data, image or {})]
    change: dict[str, Any] = {}
    for _, _, part in wrong:
        for name, value in part.items():
            change[name] = {**change[name], **value} if isinstance(change.get(name), dict) else value
    for found, expected, _ in wrong:
        yield _fault(template, f"{template.name}:{template.version} {found}", expected, change)
    if template.data.get("InstanceMarketOptions"):
        told = f"{template.name}:{template.version} has InstanceMarketOptions"
        wanted = "none: the orchestrator says which market an instance is of"
        yield Fault(setting=SETTING, found=told, expected=wanted, remedy="create a version of the template without them")


def _wrong_parts(data: Mapping[str, Any], image: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What was found, what was expected, and what has to be changed."""
    behaviour = str(data.get("InstanceInitiatedShutdownBehavior", "stop"))
    if behaviour != "terminate":
        found, expected = f"has InstanceInitiatedShutdownBehavior={behaviour}", "terminate: else a machine that goes off stays"
        yield found, expected, {"InstanceInitiatedShutdownBehavior": "terminate"}
    options = data.get("MetadataOptions") or {}
    tokens = str(options.get("HttpTokens") or ("required" if image.get("ImdsSupport") == "v2.0" else "optional"))
    if tokens != "required":
        found = f"has MetadataOptions.HttpTokens={tokens}"
        yield found, "required (IMDSv2)", {"MetadataOptions": {"HttpTokens": "required"}}
    if (endpoint := str(options.get("HttpEndpoint", "enabled"))) != "enabled":
        found, expected = f"has MetadataOptions.HttpEndpoint={endpoint}", "enabled: the agent learns there who it is"
        yield found, expected, {"MetadataOptions": {"HttpEndpoint": "enabled"}}
    profile = data.get("IamInstanceProfile") or {}
    if not (profile.get("Arn") or profile.get("Name")):
        expected = "an instance profile with the machines' role (docs/permissions.md)"
        yield "has no instance profile", expected, {"IamInstanceProfile": {"Name": "…"}}
    if not data.get("ImageId"):
        yield "names no image", "an image, or a parameter that names one", {"ImageId": "ami-…"}


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
