"""What the sandbox's cloud adds to moto: fleets once for each token, launch templates that count, machines that come and go."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.cloud import Cloud
from sandbox.instances import Instances
from tests.sandbox.runner_driver import listening_on

PATIENCE_S = 600.0


class Garage:
    """Instances without processes: what was booted and ended, in order."""

    def __init__(self) -> None:
        self.machines: dict[str, str] = {}
        self.ended: list[str] = []

    def boot(self, instance_id: str, user_data: str) -> None:
        self.machines[instance_id] = user_data

    def end(self, instance_id: str) -> None:
        self.ended.append(instance_id)

    def stop(self) -> None:
        """Nothing runs."""

    def console(self, instance_id: str) -> str:
        return ""


class Departures:
    """Hears of each machine that went, after the cloud has been told."""

    def __init__(self) -> None:
        self.gone = threading.Semaphore(0)
        self.tell: Any = None

    def __call__(self, instance_id: str) -> None:
        self.tell(instance_id)
        self.gone.release()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One for the module, with instances that are only noted."""
    up = Cloud(tmp_path_factory.mktemp("cloud"), Garage()).start()
    yield up
    up.stop()


def template(cloud: Cloud, name: str, user_data: str = "true", **data: Any) -> str:
    whole = {"ImageId": "ami-12c6146b", "InstanceType": "m7i.large", "UserData": _encoded(user_data), **data}
    cloud.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=whole)
    return name


def fleet(cloud: Cloud, name: str, token: str = "", **extra: Any) -> list[str]:
    """Launch one machine; returns the ids in the answer."""
    ec2 = cloud.client("ec2")
    answer = ec2.create_fleet(
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"}}],
        TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        Type="instant", **({"ClientToken": token} if token else {}), **extra,
    )  # fmt: skip
    return [identity for group in answer["Instances"] for identity in group["InstanceIds"]]


def state(cloud: Cloud, instance_id: str) -> str:
    found = cloud.client("ec2").describe_instances(InstanceIds=[instance_id])
    return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])


def attribute(cloud: Cloud, instance_id: str, name: str) -> str:
    answer = cloud.client("ec2").describe_instance_attribute(InstanceId=instance_id, Attribute=name)
    return str(answer[name[0].upper() + name[1:]]["Value"])


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_the_same_token_gives_the_same_instance_and_starts_one_machine(cloud: Cloud) -> None:
    name, before = template(cloud, "idempotent"), set(cloud.instances.machines)

    first, second = (fleet(cloud, name, "token-1") for _ in range(2))

    assert first == second and len(first) == 1
    assert set(cloud.instances.machines) - before == set(first)


def test_calls_with_one_token_at_the_same_time_start_one_machine(cloud: Cloud) -> None:
    name, before, found = template(cloud, "at-once"), set(cloud.instances.machines), []
    barrier = threading.Barrier(4)

    def launch() -> None:
        barrier.wait(PATIENCE_S)
        found.extend(fleet(cloud, name, "token-2"))

    threads = [threading.Thread(target=launch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert len(found) == 4 and set(found) == set(cloud.instances.machines) - before
    assert len(set(found)) == 1


def test_a_token_used_with_other_arguments_is_a_mismatch(cloud: Cloud) -> None:
    first, second = template(cloud, "this-one"), template(cloud, "that-one")
    fleet(cloud, first, "token-3")

    with pytest.raises(ClientError) as refused:
        fleet(cloud, second, "token-3")

    assert refused.value.response["Error"]["Code"] == "IdempotentParameterMismatch"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_other_tokens_are_other_instances(cloud: Cloud) -> None:
    name = template(cloud, "plenty")

    assert fleet(cloud, name, "token-4") != fleet(cloud, name, "token-5")


def test_a_refused_fleet_is_not_remembered(cloud: Cloud) -> None:
    with pytest.raises(ClientError):
        fleet(cloud, "not-there-yet", "token-6")
    template(cloud, "not-there-yet")

    assert len(fleet(cloud, "not-there-yet", "token-6")) == 1


def test_a_fleets_instance_has_its_templates_user_data_and_boots_with_it(cloud: Cloud) -> None:
    (instance_id,) = fleet(cloud, template(cloud, "with-data", "#!/bin/bash\necho boot\n"))

    assert cloud.instances.machines[instance_id] == "#!/bin/bash\necho boot\n"
    assert base64.b64decode(attribute(cloud, instance_id, "userData")).decode() == "#!/bin/bash\necho boot\n"


@pytest.mark.parametrize("behaviour", ["terminate", "stop"])
def test_a_fleets_instance_has_its_templates_shutdown_behaviour(behaviour: str, cloud: Cloud) -> None:
    name = template(cloud, f"behaves-{behaviour}", InstanceInitiatedShutdownBehavior=behaviour)
    (instance_id,) = fleet(cloud, name)

    assert attribute(cloud, instance_id, "instanceInitiatedShutdownBehavior") == behaviour


def test_a_fleets_instance_carries_the_tags_it_was_launched_with(cloud: Cloud) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "runs-fleet:stack", "Value": "tagged"}]}]
    ids = fleet(cloud, template(cloud, "with-tags"), "token-7", TagSpecifications=tags)

    found = cloud.client("ec2").describe_instances(Filters=[{"Name": "tag:runs-fleet:stack", "Values": ["tagged"]}])

    assert [i["InstanceId"] for reservation in found["Reservations"] for i in reservation["Instances"]] == ids


def test_terminating_ends_the_machine_and_a_refused_termination_does_not(cloud: Cloud) -> None:
    (instance_id,) = fleet(cloud, template(cloud, "ending"))
    garage = cloud.instances
    assert isinstance(garage, Garage)
    with pytest.raises(ClientError):
        cloud.client("ec2").terminate_instances(InstanceIds=["i-0000000000000dead"])
    assert instance_id not in garage.ended

    cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])

    assert garage.ended.count(instance_id) == 1
    assert state(cloud, instance_id) == "terminated"


def test_a_dry_run_of_a_termination_ends_nothing(cloud: Cloud) -> None:
    (instance_id,) = fleet(cloud, template(cloud, "dry"))
    garage = cloud.instances
    assert isinstance(garage, Garage)

    with pytest.raises(ClientError) as told:
        cloud.client("ec2").terminate_instances(InstanceIds=[instance_id], DryRun=True)

    assert told.value.response["Error"]["Code"] == "DryRunOperation"
    assert (instance_id in garage.ended, state(cloud, instance_id)) == (False, "running")


def test_other_calls_reach_moto_unchanged(cloud: Cloud) -> None:
    cloud.client("s3").create_bucket(Bucket="plain")
    cloud.client("s3").put_object(Bucket="plain", Key="k", Body=b"v", IfNoneMatch="*")

    with pytest.raises(ClientError) as refused:
        cloud.client("s3").put_object(Bucket="plain", Key="k", Body=b"w", IfNoneMatch="*")

    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    assert cloud.client("s3").get_object(Bucket="plain", Key="k")["Body"].read() == b"v"


def test_the_cloud_listens_on_loopback_alone(cloud: Cloud) -> None:
    port = int(cloud.url.rpartition(":")[2])

    assert listening_on(port) == {"127.0.0.1"}


# With real machines


@pytest.fixture
def housed(tmp_path: Path) -> Iterator[tuple[Cloud, Departures]]:
    """A cloud whose instances are processes; whoever waits hears when one has gone."""
    departures = Departures()
    instances = Instances(tmp_path / "instances", "us-east-1", lambda: up.url, departures)
    up = Cloud(tmp_path, instances)
    departures.tell = up._powered_off
    yield up.start(), departures
    up.stop()


@pytest.mark.parametrize(("behaviour", "end"), [("terminate", "terminated"), ("stop", "stopped")])
def test_a_machine_that_powers_itself_off_does_what_its_shutdown_behaviour_says(
    behaviour: str, end: str, housed: tuple[Cloud, Departures]
) -> None:
    cloud, departures = housed
    name = template(cloud, behaviour, "$RUNS_FLEET_POWER_OFF\n", InstanceInitiatedShutdownBehavior=behaviour)

    (instance_id,) = fleet(cloud, name)

    assert departures.gone.acquire(timeout=PATIENCE_S)
    assert state(cloud, instance_id) == end
    assert cloud.instances.machines == {}


def test_a_machine_that_powers_itself_off_before_any_list_shows_it_is_terminated_all_the_same(
    housed: tuple[Cloud, Departures],
) -> None:
    cloud, departures = housed
    name = template(cloud, "quick", "$RUNS_FLEET_POWER_OFF\n", InstanceInitiatedShutdownBehavior="terminate")
    cloud.faults.unseen_s = 2.0

    (instance_id,) = fleet(cloud, name)

    assert departures.gone.acquire(timeout=PATIENCE_S)
    cloud.faults.unseen_s = 0.0
    assert state(cloud, instance_id) == "terminated"


def test_a_terminated_machine_is_gone_with_all_its_processes(housed: tuple[Cloud, Departures], tmp_path: Path) -> None:
    cloud, departures = housed
    (instance_id,) = fleet(cloud, template(cloud, "busy", "sleep 1000\n", InstanceInitiatedShutdownBehavior="terminate"))

    cloud.client("ec2").terminate_instances(InstanceIds=[instance_id])

    assert departures.gone.acquire(timeout=PATIENCE_S)
    assert (state(cloud, instance_id), cloud.instances.machines) == ("terminated", {})
