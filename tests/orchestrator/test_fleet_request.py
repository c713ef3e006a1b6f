"""What we ask EC2 for: the same wish makes the same request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.compute.ec2.catalogue import fitting, shipped_types
from orchestrator.compute.ec2.fleet_request import STEPS, LaunchSites, all_shunned, launch_request, next_step, steps_for
from orchestrator.errors import FailureKind
from orchestrator.fleet.limits import REPORT_S, lifetime_s
from orchestrator.jobs.labels import read_labels
from orchestrator.store.request import MachineRequest
from simulation.examples import BOOT_S, some_settings, some_wanted
from simulation.world import World

CATALOGUE = shipped_types()
SITES = LaunchSites({a: (f"runs-fleet-runner-{a}", "7") for a in ("amd64", "arm64")}, {"az1": "subnet-1", "az2": "subnet-2"})


def asked_of(label: str) -> MachineRequest:
    """What a label asks for."""
    parsed = read_labels((label,))
    assert not parsed.complaints
    return parsed.request


def requested(label: str = "runs-fleet", step: int = 0, number: int = 3, *, spot_allowed: bool = True) -> dict[str, Any]:
    """The request of one step for a label."""
    request = asked_of(label)
    steps, wanted = steps_for(request, spot_allowed=spot_allowed), some_wanted(request, number, expires_at=1234.5)
    text = launch_request(
        wanted, SITES, fitting(CATALOGUE, request), step, steps[step], stack_id="tests", root_device="/dev/xvda"
    )
    found: dict[str, Any] = json.loads(text)
    return found


def tags_of(request: dict[str, Any]) -> dict[str, str]:
    """The tags that its instances get."""
    (of_instances,) = request["TagSpecifications"]
    assert of_instances["ResourceType"] == "instance"
    return {tag["Key"]: tag["Value"] for tag in of_instances["Tags"]}


def test_the_same_wish_makes_the_same_bytes() -> None:
    assert len({json.dumps(requested()) for _ in range(3)}) == 1


def test_f5_a_request_is_for_as_many_as_are_wanted_in_one_call_that_makes_no_lasting_fleet() -> None:
    request = requested(number=40)

    assert request["Type"] == "instant"
    assert request["TargetCapacitySpecification"] == {"TotalTargetCapacity": 40, "DefaultTargetCapacityType": "spot"}
    assert request["SpotOptions"] == {"AllocationStrategy": "price-capacity-optimized"}


@pytest.mark.parametrize(
    "label", ["runs-fleet", "runs-fleet/arch=arm64/cpu=8", "runs-fleet/spot=false", "runs-fleet/family=c+m+r/cpu=2+96"]
)
@pytest.mark.parametrize("step", [0, 1])
def test_f3_no_pool_is_named_twice_and_no_more_than_sixty(label: str, step: int) -> None:
    overrides = requested(label, step)["LaunchTemplateConfigs"][0]["Overrides"]

    pools = [(one["InstanceType"], one["SubnetId"]) for one in overrides]
    assert len(pools) == len(set(pools)) and 0 < len(pools) <= 60
    assert {subnet for _, subnet in pools} == {"subnet-1", "subnet-2"}


def test_an_arm_job_gets_the_arm_template_and_arm_types() -> None:
    (config,) = requested("runs-fleet/arch=arm64")["LaunchTemplateConfigs"]

    wanted = {"LaunchTemplateName": "runs-fleet-runner-arm64", "Version": "7"}
    assert config["LaunchTemplateSpecification"] == wanted
    assert all(one["InstanceType"].partition(".")[0].endswith("g") for one in config["Overrides"])


def test_without_spot_there_are_no_spot_options() -> None:
    for request in (requested(spot_allowed=False), requested("runs-fleet/spot=false")):
        assert request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "on-demand"
        assert "SpotOptions" not in request


def test_a_disk_and_a_price_stand_in_every_override() -> None:
    for one in requested("runs-fleet/disk=200/price=0.25")["LaunchTemplateConfigs"][0]["Overrides"]:
        (disk,) = one["BlockDeviceMappings"]
        assert (disk["DeviceName"], disk["Ebs"]["VolumeSize"], one["MaxPrice"]) == ("/dev/xvda", 200, "0.25")


@pytest.mark.parametrize(
    ("label", "markets"),
    [
        ("runs-fleet", ["spot", "spot", "on-demand", "on-demand"]),
        ("runs-fleet/fallback=wait", ["spot", "spot"]),
        ("runs-fleet/fallback=fail", ["spot", "spot"]),
        ("runs-fleet/price=1", ["spot", "spot"]),
        ("runs-fleet/spot=false", ["on-demand", "on-demand"]),
    ],
)
def test_the_fallback_is_what_the_label_allows(label: str, markets: list[str]) -> None:
    assert [step.market for step in steps_for(asked_of(label), spot_allowed=True)] == markets


def test_each_step_has_a_token_of_its_own() -> None:
    assert len({requested(step=step)["ClientToken"] for step in range(4)}) == 4


@pytest.mark.parametrize(("one", "other"), [("runs-fleet=1", "runs-fleet=2"), ("runs-fleet/cpu=4", "runs-fleet/cpu=4+8")])
def test_asks_that_mean_the_same_share_a_spec(one: str, other: str) -> None:
    names = {asked_of(label).spec() for label in (one, other)}

    assert len(names) == 1


@pytest.mark.parametrize("label", ["cpu=4", "ram=8", "family=m7i", "gen=7", "spot=false", "disk=100", "fallback=wait", "price=1"])
def test_asks_that_differ_never_share_a_spec(label: str) -> None:
    names = {tags_of(requested(marker))["runs-fleet:spec"] for marker in ("runs-fleet", f"runs-fleet/{label}")}

    assert len(names) == 2


def test_its_instances_carry_whose_they_are_the_launch_the_step_and_their_end_from_birth() -> None:
    assert tags_of(requested(step=1)) == {
        "Name": "tests-l-1", "runs-fleet:managed": "true", "runs-fleet:stack": "tests", "runs-fleet:launch-id": "l-1",
        "runs-fleet:launch-step": "1", "runs-fleet:spec": MachineRequest().spec(), "runs-fleet:expires-at": "1234",
    }  # fmt: skip


def test_a_price_bounds_what_spot_may_cost_and_nothing_else() -> None:
    dear = MachineRequest(price_limit=0.25)
    types = fitting(CATALOGUE, dear)
    of_step = [
        json.loads(launch_request(some_wanted(dear), SITES, types, 0, step, stack_id="tests", root_device="/dev/xvda"))
        for step in STEPS
    ]

    prices = [{one.get("MaxPrice") for one in request["LaunchTemplateConfigs"][0]["Overrides"]} for request in of_step]
    assert prices == [{"0.25"}, {"0.25"}, {None}, {None}]


def test_an_image_whose_disk_has_another_name_gets_that_one_enlarged() -> None:
    asked = MachineRequest(disk_gib=9)
    text = launch_request(
        some_wanted(asked), SITES, fitting(CATALOGUE, asked), 0, STEPS[0], stack_id="tests", root_device="/dev/sda1"
    )

    for one in json.loads(text)["LaunchTemplateConfigs"][0]["Overrides"]:
        (disk,) = one["BlockDeviceMappings"]
        assert disk["DeviceName"] == "/dev/sda1" and disk["Ebs"]["Encrypted"] and disk["Ebs"]["DeleteOnTermination"]


def test_a_step_is_shunned_only_if_every_pool_it_could_name_is() -> None:
    (one, other) = fitting(CATALOGUE, MachineRequest())[:2]
    every = {f"{it.name}/{subnet}/spot" for it in (one, other) for subnet in SITES.subnets.values()}

    assert all_shunned(SITES, (one, other), STEPS[0], frozenset(every))
    assert not any(all_shunned(SITES, (one, other), STEPS[0], frozenset(every - {pool})) for pool in every)
    assert not all_shunned(SITES, (one, other), STEPS[2], frozenset(every)), "the same pools of another market"


def test_where_everything_is_shunned_the_step_names_what_it_would_name_otherwise() -> None:
    types = fitting(CATALOGUE, MachineRequest())
    every = frozenset(f"{it.name}/{subnet}/on-demand" for it in types for subnet in SITES.subnets.values())
    texts = {
        launch_request(
            some_wanted(), SITES, types, 2, STEPS[2], stack_id="tests", root_device="/dev/xvda", shunned=shunned
        )
        for shunned in (every, frozenset())
    }  # fmt: skip

    (text,) = texts
    names = {one["InstanceType"] for one in json.loads(text)["LaunchTemplateConfigs"][0]["Overrides"]}
    assert len(types) > len(names) == STEPS[2].types


@pytest.mark.parametrize(
    ("failure", "following"),
    [
        (None, [1, 2, 3, None]), (FailureKind.NO_CAPACITY, [1, 2, 3, None]), (FailureKind.UNKNOWN, [1, 2, 3, None]),
        (FailureKind.QUOTA, [2, 2, None, None]), (FailureKind.THROTTLED, [None] * 4), (FailureKind.REFUSED, [None] * 4),
    ],
)  # fmt: skip
def test_each_kind_of_failure_leads_to_the_step_that_may_still_give(failure: FailureKind | None, following: list[int]) -> None:
    assert [next_step(STEPS, asked, failure) for asked in range(4)] == following


def test_a_machine_lives_as_long_as_boot_runtime_and_report_take() -> None:
    assert lifetime_s(some_settings(max_runtime_minutes=10.0)) == BOOT_S + 600.0 + REPORT_S


@pytest.mark.parametrize("label", ["runs-fleet/price=0.1", "runs-fleet/fallback=wait", "runs-fleet/fallback=fail"])
def test_where_spot_is_switched_off_who_wants_nothing_else_gets_nothing_dearer(label: str) -> None:
    world = World(settings=some_settings(spot=False))
    ask = world.turns.requests.request_of("octo/widgets", (label,))

    assert steps_for(ask, spot_allowed=False) == ()
    assert "spot is switched off" in world.turns.strategies.objection(ask)


def test_where_spot_is_switched_off_everybody_else_gets_on_demand() -> None:
    assert {step.market for step in steps_for(asked_of("runs-fleet"), spot_allowed=False)} == {"on-demand"}
