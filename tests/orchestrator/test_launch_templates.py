"""Launch templates and images that would leave machines running, open or without rights are named; EC2 is moto's."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.ec2 import Ec2Api
from orchestrator.compute.ec2.account import account_checks
from orchestrator.compute.ec2.launch_templates import Template, faults_of_image, faults_of_template
from orchestrator.readiness import Fault
from sandbox.moto_speedups import registered_image
from tests.conftest import Moto

RIGHT: dict[str, Any] = {
    "InstanceInitiatedShutdownBehavior": "terminate", "MetadataOptions": {"HttpTokens": "required"},
    "IamInstanceProfile": {"Name": "machines"}, "ImageId": "ami-12345678",
}  # fmt: skip


def made(moto: Moto, architecture: str = "amd64", **changes: Any) -> None:
    """A launch template that is right but for these; None leaves a part away."""
    data = {name: value for name, value in {**RIGHT, **changes}.items() if value is not None}
    moto.client("ec2").create_launch_template(LaunchTemplateName=f"runner-{architecture}", LaunchTemplateData=data)


def looked(name: str = "ec2-launch-templates", subnets: tuple[str, ...] = ()) -> list[Fault]:
    checks = {check.name: check for check in account_checks(Ec2Api(Clients()), "runner", subnets)}
    return list(checks[name].look())


def corrected(moto: Moto, fault: Fault) -> None:
    """What the remedy does, read as somebody who copies it would."""
    words = r"--launch-template-name (\S+) --source-version (\S+) --launch-template-data '(.*)'"
    found = re.search(words, fault.remedy)
    assert found is not None, fault.remedy
    name, source, data = found.groups()
    old = Ec2Api(Clients()).template_data(name, source)  # EC2 keeps what is not named; moto does not
    change = {**old, **json.loads(data.replace("…", "machines"))}
    moto.client("ec2").create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=change)


def test_a_right_template_of_one_architecture_is_enough(moto: Moto) -> None:
    made(moto)

    assert looked() == []


def test_without_any_template_nothing_could_be_started(moto: Moto) -> None:
    (fault,) = looked()

    assert fault.found == "no launch template runner-amd64 or runner-arm64"
    assert fault.setting == "RUNS_FLEET_LAUNCH_TEMPLATE_NAME"


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"InstanceInitiatedShutdownBehavior": "stop"}, "InstanceInitiatedShutdownBehavior=stop"),
        ({"InstanceInitiatedShutdownBehavior": None}, "InstanceInitiatedShutdownBehavior=stop"),
        ({"MetadataOptions": {"HttpTokens": "optional"}}, "HttpTokens=optional"),
        ({"MetadataOptions": None}, "HttpTokens=optional"),
        ({"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "disabled"}}, "HttpEndpoint=disabled"),
        ({"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "no"}}, "HttpEndpoint=no"),
        ({"IamInstanceProfile": None}, "no instance profile"),
    ],
)
def test_what_is_wrong_is_named_and_the_remedy_corrects_it(
    moto: Moto, architecture: str, changes: dict[str, Any], words: str
) -> None:
    made(moto, architecture, **changes)
    (fault,) = looked()

    assert fault.found.startswith(f"runner-{architecture}:1 ") and words in fault.found
    corrected(moto, fault)
    assert looked() == []


def test_a_remedy_changes_nothing_else_of_the_metadata_options(moto: Moto) -> None:
    made(moto, MetadataOptions={"HttpTokens": "optional", "HttpPutResponseHopLimit": 1})
    corrected(moto, looked()[0])

    data = Ec2Api(Clients()).template_data("runner-amd64", "2")
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}


def test_a_template_that_chooses_the_market_itself_is_refused_by_fleets(moto: Moto) -> None:
    made(moto, InstanceMarketOptions={"MarketType": "spot"})

    assert [fault.found for fault in looked()] == ["runner-amd64:1 has InstanceMarketOptions"]


def test_a_template_that_names_no_image_starts_nothing(moto: Moto) -> None:
    made(moto, ImageId=None)

    assert [fault.found for fault in looked()] == ["runner-amd64:1 names no image"]
    assert looked("ec2-images") == []


def test_the_newest_version_counts_which_is_the_one_that_is_used(moto: Moto) -> None:
    made(moto, InstanceInitiatedShutdownBehavior="stop")
    moto.client("ec2").create_launch_template_version(LaunchTemplateName="runner-amd64", LaunchTemplateData=RIGHT)

    assert looked() == []


def image(moto: Moto, architecture: str) -> str:
    return registered_image(moto.client("ec2"), architecture)


@pytest.mark.parametrize(("template", "kind", "is_right"), [
    ("amd64", "x86_64", True), ("arm64", "arm64", True), ("amd64", "arm64", False), ("arm64", "x86_64", False),
])  # fmt: skip
def test_an_image_for_the_other_architecture_would_never_boot(moto: Moto, template: str, kind: str, is_right: bool) -> None:
    made(moto, template, ImageId=image(moto, kind))

    found = looked("ec2-images")

    assert (found == []) is is_right
    assert is_right or f"is for {kind}" in found[0].found


def test_an_image_that_is_gone_is_named(moto: Moto) -> None:
    made(moto, ImageId="ami-00000000000000000")

    (fault,) = looked("ec2-images")

    assert "ami-00000000000000000, which this account does not see" in fault.found


def test_an_image_that_is_not_available_yet_is_named() -> None:
    template = Template("runner-amd64", "3", {"ImageId": "ami-1"})

    (fault,) = faults_of_image(template, "amd64", {"Architecture": "x86_64", "State": "pending"})

    assert fault.found == "the image ami-1 of runner-amd64:3 is pending"


def test_each_subnet_that_is_not_there_is_named(moto: Moto) -> None:
    there = str(moto.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"])

    found = looked("ec2-subnets", (there, "subnet-0000", "subnet-1111"))

    assert [fault.found.split()[2] for fault in found] == ["subnet-0000", "subnet-1111"]


def test_one_remedy_corrects_everything_that_is_wrong(moto: Moto) -> None:
    made(moto, InstanceInitiatedShutdownBehavior=None, MetadataOptions=None, IamInstanceProfile=None)
    found = looked()

    assert len(found) == 3 and len({fault.remedy for fault in found}) == 1
    corrected(moto, found[0])
    assert looked() == []


def test_an_image_that_demands_imdsv2_itself_needs_no_word_of_the_template() -> None:
    data = {name: value for name, value in RIGHT.items() if name != "MetadataOptions"}

    assert list(faults_of_template(Template("runner-amd64", "1", data), {"ImdsSupport": "v2.0"})) == []
    assert len(list(faults_of_template(Template("runner-amd64", "1", data), {}))) == 1
