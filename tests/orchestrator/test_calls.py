"""How EC2's answers are read, and that the adapter's calls give such answers: on moto, which is asked as EC2 would be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.ec2 import Ec2Api
from orchestrator.compute.ec2.breakers import Circuits, open_pools
from orchestrator.compute.ec2.calls import described_instance, pool_of, started_instances
from orchestrator.compute.ec2.strategy import Ec2Strategy
from orchestrator.compute.port import InstanceState, SessionHandle
from orchestrator.errors import FailureKind, ServiceFailed, Throttled
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources
from sandbox.cloud import Cloud
from sandbox.instances import Idle
from sandbox.world import CloudClients
from simulation.examples import some_wanted
from simulation.world import World
from tests.conftest import Moto
from tests.orchestrator.conformance import ec2_world, emptied, handles, is_gone

UNKNOWN = SessionHandle("ec2", "i-0123456789abcdef0")
AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LARGE = Resources(1, 2.0, 0.1)


def resources_of(instance_type: str) -> Resources | None:
    """A catalogue of one type."""
    return LARGE if instance_type == "m7i.large" else None


def test_a_pool_is_named_by_type_subnet_and_market_and_is_empty_where_ec2_does_not_say() -> None:
    where = {"InstanceType": "m7i.large", "SubnetId": "subnet-1"}

    assert pool_of({"Lifecycle": "spot", "LaunchTemplateAndOverrides": {"Overrides": where}}) == "m7i.large/subnet-1/spot"
    assert pool_of({"Lifecycle": "spot", "LaunchTemplateAndOverrides": {"Overrides": {"InstanceType": "m7i.large"}}}) == ""
    assert pool_of({"Lifecycle": "spot", "LaunchTemplateAndOverrides": {}}) == pool_of({}) == ""


def test_every_instance_of_every_group_of_an_answer_is_read() -> None:
    groups = [
        {"InstanceIds": ["i-1", "i-2"], "InstanceType": "m7i.large", "Lifecycle": "spot"},
        {"InstanceIds": ["i-3"], "InstanceType": "z1.large", "Lifecycle": "on-demand"},
        {"InstanceIds": []},
    ]

    found = started_instances({"Instances": groups}, "ec2", resources_of)

    assert [(one.handle, one.market, one.resources) for one in found] == [
        (SessionHandle("ec2", "i-1"), "spot", LARGE), (SessionHandle("ec2", "i-2"), "spot", LARGE),
        (SessionHandle("ec2", "i-3"), "on-demand", None),
    ]  # fmt: skip
    assert {one.state for one in found} == {InstanceState.PENDING} and started_instances({}, "ec2", resources_of) == []


def told(state: str = "running", **changes: Any) -> dict[str, Any]:
    """An instance as DescribeInstances tells it."""
    tags = {"runs-fleet:launch-id": "l-1", "runs-fleet:expires-at": "1234"}
    return {
        "InstanceId": "i-1", "State": {"Name": state}, "InstanceType": "m7i.large", "SubnetId": "subnet-1", "LaunchTime": AT,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()], **changes,
    }  # fmt: skip


def test_an_instance_is_read_whole() -> None:
    one = described_instance(told(InstanceLifecycle="spot"), "ec2", resources_of)

    assert (one.handle, one.state) == (SessionHandle("ec2", "i-1"), InstanceState.RUNNING)
    assert (one.launch_id, one.placement, one.market) == ("l-1", "m7i.large/subnet-1/spot", "spot")
    assert (one.resources, one.launched_at, one.expires_at, one.ended_at) == (LARGE, AT.timestamp(), 1234.0, None)


def test_what_is_not_said_of_an_instance_is_not_made_up() -> None:
    one = described_instance({"InstanceId": "i-1", "State": {"Name": "pending"}}, "ec2", resources_of)

    assert (one.launch_id, one.placement, one.resources, one.launched_at, one.expires_at) == ("", "", None, 0.0, None)
    assert one.market == "on-demand", "EC2 names the market only of spot instances"


@pytest.mark.parametrize("expires", ["", "tomorrow", "-1", "12.5"])
def test_an_end_that_is_no_number_is_no_end(expires: str) -> None:
    tagged = told(Tags=[{"Key": "runs-fleet:expires-at", "Value": expires}])

    assert described_instance(tagged, "ec2", resources_of).expires_at is None


@pytest.mark.parametrize(
    ("state", "reason", "ended"),
    [
        ("terminated", "User initiated (2026-01-31 12:00:00 GMT)", True),
        ("shutting-down", "Server.SpotInstanceTermination (2026-01-31 12:00:00 UTC)", True),
        ("stopped", "User initiated (2026-01-31 12:00:00 GMT)", False),
        ("terminated", "", False),
        ("terminated", "Client.UserInitiatedShutdown", False),
    ],
)
def test_the_moment_of_an_end_is_read_where_ec2_says_it(state: str, reason: str, ended: bool) -> None:
    one = described_instance(told(state, StateTransitionReason=reason), "ec2", resources_of)

    assert one.ended_at == (AT.timestamp() if ended else None)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An AWS for this module."""
    up = Cloud(tmp_path_factory.mktemp("cloud"), Idle()).start()
    yield up
    up.stop()


@pytest.fixture
def world(cloud: Cloud) -> World:
    """A world in an AWS with nothing in it but launch templates and subnets."""
    cloud.faults.full, cloud.faults.throttled = set(), 0.0
    return ec2_world(emptied(cloud))


@pytest.fixture
def api(cloud: Cloud) -> Ec2Api:
    """The adapter, on that AWS."""
    return Ec2Api(CloudClients(cloud))


@pytest.fixture
def strategy(world: World, api: Ec2Api) -> Ec2Strategy:
    """The strategy on the adapter."""
    return world.ec2_strategy(world.records, api)


def request_for(strategy: Ec2Strategy, launch_id: str, count: int = 1, machine: MachineRequest | None = None) -> str:
    """The request of a launch's first step."""
    plan = strategy.plan(some_wanted(machine, count, launch_id=launch_id, expires_at=1234.0))
    assert plan is not None
    return plan.request


@pytest.mark.parametrize("interruptible", [True, False])
def test_f6_whatever_ec2_makes_has_our_tags_from_its_birth_by_the_request_itself(
    strategy: Ec2Strategy, api: Ec2Api, interruptible: bool
) -> None:
    request = request_for(strategy, f"l-f6-{interruptible}", 3, MachineRequest(interruptible=interruptible))
    made = handles(strategy.start_sessions(request, {}, sent_before=False))

    found = api.describe([{"Name": "instance-id", "Values": [handle.instance for handle in made]}])
    tags = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in found]
    named = {"runs-fleet:stack": "tests", "runs-fleet:managed": "true", "runs-fleet:expires-at": "1234"}
    assert len(tags) == 3 and all(named.items() <= one.items() for one in tags)


def test_p11_a_machine_that_is_only_stopped_is_still_ours_to_end(strategy: Ec2Strategy, cloud: Cloud) -> None:
    request = request_for(strategy, "l-p11", machine=MachineRequest(interruptible=False))
    (handle,) = handles(strategy.start_sessions(request, {}, sent_before=False))
    cloud.client("ec2").stop_instances(InstanceIds=[handle.instance])

    assert [one.handle for one in strategy.list_sessions()] == [handle]
    assert strategy.stop_session(handle) and is_gone(strategy, handle)


def test_a_machine_that_only_carries_our_stacks_name_is_not_ours(strategy: Ec2Strategy, cloud: Cloud) -> None:
    """Somebody's own, made to look into a stack: it is not ended as one that nobody knows."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "runs-fleet:stack", "Value": "tests"}]}]
    cloud.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags)

    assert list(strategy.list_sessions()) == []


def test_of_a_cloud_whose_one_zone_is_full_exactly_the_pools_of_that_zone_are_refused(
    strategy: Ec2Strategy, cloud: Cloud, world: World
) -> None:
    request = request_for(strategy, "l-zone", 2)
    pools = json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]
    full = pools[0]["SubnetId"]
    cloud.faults.full = {full}

    started = strategy.start_sessions(request, {}, sent_before=False)

    named = {(pool["SubnetId"] == full, f"{pool['InstanceType']}/{pool['SubnetId']}/spot") for pool in pools}
    assert len(started.instances) == 2 and {(False, one.placement) for one in started.instances} <= named
    circuits = world.records.read(Circuits, Circuits().name)
    assert circuits is not None
    assert {(True, pool) for pool in open_pools(circuits, world.clock.now())} == {one for one in named if one[0]}


def test_a_template_that_is_gone_is_no_lack_of_capacity(strategy: Ec2Strategy) -> None:
    request = request_for(strategy, "l-template").replace("runs-fleet-runner-amd64", "not-there")

    with pytest.raises(ServiceFailed, match="ec2:CreateFleet") as raised:
        strategy.start_sessions(request, {}, sent_before=False)

    assert strategy.classify(raised.value).kind is FailureKind.REFUSED


def test_a_refusal_says_whether_trying_again_helps(strategy: Ec2Strategy, cloud: Cloud) -> None:
    cloud.faults.throttled = 1.0

    with pytest.raises(Throttled):
        strategy.stop_session(UNKNOWN)
    with pytest.raises(Throttled):
        list(strategy.list_sessions())


def test_an_instance_that_went_is_described_with_its_last_state_and_listed_no_more(strategy: Ec2Strategy) -> None:
    first, second = handles(strategy.start_sessions(request_for(strategy, "l-went", 2), {}, sent_before=False))
    strategy.stop_session(first)

    found = strategy.poll_sessions([first, second, UNKNOWN])
    assert is_gone(strategy, first) and [one.handle for one in strategy.list_sessions()] == [second]
    assert found[second].state in ("pending", "running") and set(found) == {first, second}
    assert found[second].launch_id == "l-went" and found[second].launched_at > 0 and found[second].expires_at == 1234.0
    assert found[second].placement.count("/") == 2 and found[second].resources is not None


def test_templates_and_zones_that_are_not_there_are_left_out(api: Ec2Api, world: World) -> None:
    (subnet, *_) = world.settings.subnet_ids

    assert api.templates(["runs-fleet-runner-amd64", "not-there"]) == {"runs-fleet-runner-amd64": "1"}
    assert api.zones([subnet, "subnet-00000000"]).keys() == {subnet} and api.zones(["subnet-00000000"]) == {}


def test_the_newest_version_of_a_template_is_named(api: Ec2Api, world: World, cloud: Cloud) -> None:
    cloud.client("ec2").create_launch_template_version(
        LaunchTemplateName="runs-fleet-runner-arm64", LaunchTemplateData={"ImageId": "ami-0123456789abcdef1"}
    )

    assert api.templates([f"runs-fleet-runner-{it}" for it in ("amd64", "arm64")]) == {
        "runs-fleet-runner-amd64": "1", "runs-fleet-runner-arm64": "2",
    }  # fmt: skip


def test_an_id_that_ec2_does_not_know_is_an_error_of_the_call_and_its_action_names_it(api: Ec2Api, world: World) -> None:
    for call, action in ((api.terminate, "TerminateInstances"), (api.console, "GetConsoleOutput")):
        with pytest.raises(ServiceFailed, match=f"ec2:{action} {UNKNOWN.instance}") as raised:
            call(UNKNOWN.instance)
        assert raised.value.code == "InvalidInstanceID.NotFound"


def test_instances_come_page_by_page_and_none_is_forgotten(api: Ec2Api, cloud: Cloud, world: World) -> None:
    ec2 = cloud.client("ec2")
    made = {ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"] for _ in range(7)}

    assert {one["InstanceId"] for one in api.describe([])} == made


def test_the_console_of_a_machine_is_read_as_it_was_printed(moto: Moto) -> None:
    launched = moto.client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)

    console = Ec2Api(Clients()).console(launched["Instances"][0]["InstanceId"])

    assert "Linux version" in console and "\n" in console


@pytest.mark.parametrize(
    ("state", "code", "why", "refused"),
    [
        ("terminated", "Client.InvalidKMSKey.InvalidState", "Client.InvalidKMSKey.InvalidState: the key is disabled", True),
        ("terminated", "Client.VolumeLimitExceeded", "Client.VolumeLimitExceeded: the key is disabled", True),
        ("shutting-down", "Server.InternalError", "Server.InternalError: the key is disabled", False),
        ("terminated", "Server.SpotInstanceTermination", "Server.SpotInstanceTermination: the key is disabled", False),
        ("terminated", "Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: the key is disabled", False),
        ("terminated", "Client.InstanceInitiatedShutdown", "Client.InstanceInitiatedShutdown: the key is disabled", False),
        ("running", "Client.InvalidKMSKey.InvalidState", "", False),
        ("terminated", "", "", False),
    ],
)
def test_why_ec2_ended_an_instance_is_read_and_whether_it_could_not_run_it_at_all(
    state: str, code: str, why: str, refused: bool
) -> None:
    reason = {"Code": code, "Message": "the key is disabled"}

    one = described_instance(told(state, StateReason=reason), "ec2", resources_of)

    assert (one.why_ended, one.was_refused) == (why, refused)
    assert one.was_taken_back is (code == "Server.SpotInstanceTermination")


def test_a_message_that_repeats_its_code_is_not_told_twice() -> None:
    reason = {"Code": "Client.X", "Message": "Client.X: no"}

    assert described_instance(told("terminated", StateReason=reason), "ec2", resources_of).why_ended == "Client.X: no"


def test_the_image_of_a_template_is_asked_how_it_calls_its_disk(cloud: Cloud, api: Ec2Api) -> None:
    ec2 = cloud.client("ec2")
    image_id = ec2.register_image(Name="ubuntu", RootDeviceName="/dev/sda1")["ImageId"]
    made = ec2.create_launch_template(LaunchTemplateName="of-a-disk", LaunchTemplateData={"ImageId": image_id})
    ec2.create_launch_template(LaunchTemplateName="of-none", LaunchTemplateData={"InstanceType": "m7i.large"})

    assert api.root_device("of-a-disk", str(made["LaunchTemplate"]["LatestVersionNumber"])) == "/dev/sda1"
    with pytest.raises(ServiceFailed, match="names no image"):
        api.root_device("of-none", "1")
