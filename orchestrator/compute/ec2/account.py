"""What the strategy `ec2` needs in the AWS account, as checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.compute.ec2.calls import Ec2
from orchestrator.compute.ec2.launch_templates import Template, faults_of_image, faults_of_template, no_template
from orchestrator.errors import ServiceFailed
from orchestrator.readiness import Check, Fault

ARCHITECTURES = ("amd64", "arm64")


def account_checks(ec2: Ec2, template: str, subnet_ids: Sequence[str]) -> tuple[Check, ...]:
    """`template`: the name that each architecture is appended to."""
    return (
        Check(
            name="ec2-launch-templates", look=partial(_templates, ec2, template),
            needs="ec2:DescribeLaunchTemplates and ec2:DescribeLaunchTemplateVersions",
        ),
        Check(name="ec2-images", look=partial(_images, ec2, template), needs="ec2:DescribeImages"),
        Check(name="ec2-subnets", look=partial(_subnets, ec2, tuple(subnet_ids)), needs="ec2:DescribeSubnets"),
    )  # fmt: skip


def _templates(ec2: Ec2, base: str) -> Iterator[Fault]:
    found = _newest(ec2, base)
    if not found:
        yield no_template(base, ARCHITECTURES)
    for template in found.values():
        yield from faults_of_template(template, _image_of(ec2, template))


def _image_of(ec2: Ec2, template: Template) -> Mapping[str, Any] | None:
    """The image, where the template leaves it to the image whether IMDSv2 is demanded; None: it is not known."""
    image_id = str(template.data.get("ImageId", ""))
    if not image_id or (template.data.get("MetadataOptions") or {}).get("HttpTokens"):
        return None
    try:
        return ec2.image(image_id)
    except ServiceFailed:
        return None  # the check of images says why


def _images(ec2: Ec2, base: str) -> Iterator[Fault]:
    for architecture, template in _newest(ec2, base).items():
        if image_id := str(template.data.get("ImageId", "")):
            yield from faults_of_image(template, architecture, ec2.image(image_id))


def _subnets(ec2: Ec2, subnet_ids: Sequence[str]) -> Iterator[Fault]:
    there = ec2.zones(list(subnet_ids))
    for missing in [one for one in subnet_ids if one not in there]:
        yield Fault(
            setting="RUNS_FLEET_SUBNET_IDS", found=f"no subnet {missing} in this region", expected="subnets that exist",
            remedy="aws ec2 describe-subnets --query 'Subnets[].[SubnetId,AvailabilityZone,VpcId]'",
        )  # fmt: skip


def _newest(ec2: Ec2, base: str) -> dict[str, Template]:
    """The newest version of each architecture's template that is there."""
    versions = ec2.templates([f"{base}-{architecture}" for architecture in ARCHITECTURES])
    return {
        architecture: Template(name, versions[name], ec2.template_data(name, versions[name]))
        for architecture in ARCHITECTURES
        if (name := f"{base}-{architecture}") in versions
    }
