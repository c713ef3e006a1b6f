"""What the strategy `ec2` says of a request before anything is started: why not, how large, from what image, and the steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.compute.ec2.catalogue import FIRST_S, SNAPSHOT, InstanceType, fitting, snapshot
from orchestrator.compute.ec2.error_codes import HINTS
from orchestrator.compute.ec2.strategy import SITES_S, Ec2Strategy
from orchestrator.compute.port import Plan
from orchestrator.errors import FailureKind, ServiceFailed, Unanswered
from orchestrator.retry_policy import POOL_RECLAIMS
from orchestrator.store.request import Fallback, MachineRequest
from orchestrator.store.resources import Resources
from simulation.examples import some_settings, some_wanted
from simulation.world import World

SHIPPED = {it.name: it for it in snapshot(SNAPSHOT.read_text("utf-8"))}
FIT = [it.name for it in fitting(SHIPPED.values(), MachineRequest())]
NO_CAPACITY = FailureKind.NO_CAPACITY


def a_strategy(
    world: World | None = None, offerings: Callable[[], tuple[InstanceType, ...]] | None = None, **changes: object
) -> Ec2Strategy:
    """The strategy as wiring builds it, with these settings; `offerings` asks EC2 what it offers."""
    world = world or World(settings=some_settings(**changes))
    return world.ec2_strategy(world.records, world.compute, offerings)


def with_types(*types: InstanceType, **changes: object) -> Ec2Strategy:
    """A strategy that has heard from EC2 that these types are all there is."""
    world = World(settings=some_settings(**changes))
    strategy = a_strategy(world, lambda: types)
    strategy.maintain()
    world.clock.at += FIRST_S
    strategy.maintain()
    return strategy


def named(plan: Plan | None, what: str = "InstanceType") -> list[str]:
    """The types or subnets of a plan's pools, in its order, each once."""
    assert plan is not None
    pools: list[dict[str, Any]] = json.loads(plan.request)["LaunchTemplateConfigs"][0]["Overrides"]
    return list(dict.fromkeys(pool[what] for pool in pools))


def test_what_no_type_has_is_objected_to_with_what_was_asked_for() -> None:
    why = a_strategy().objection(MachineRequest(cpu_min=500, cpu_max=600, architecture="arm64"))

    assert why == "no instance type of arm64 has 500 to 600 vCPUs and what else is asked for"


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_operators_own_list_is_kept_to_for_its_own_architecture(architecture: str) -> None:
    own = {"amd64": "m7i.xlarge", "arm64": "c8g.xlarge"}
    strategy = a_strategy(instance_types=(own["amd64"],), arm_instance_types=(own["arm64"],))
    request = MachineRequest(architecture=architecture)

    assert named(strategy.plan(some_wanted(request))) == [own[architecture]]
    assert "no instance type" in strategy.objection(MachineRequest(architecture=architecture, cpu_min=16, cpu_max=16))


def test_an_obstacle_is_a_template_that_is_missing_and_goes_with_it() -> None:
    world = World()
    world.compute.architectures = ("amd64",)
    strategy, arm = a_strategy(world), MachineRequest(architecture="arm64")

    assert strategy.objection(arm) == "" and strategy.obstacle(arm) == "there is no launch template for arm64"
    assert (strategy.plan(some_wanted(arm)), strategy.image(arm)) == (None, "")
    assert strategy.obstacle(MachineRequest()) == ""
    world.compute.architectures, world.clock.at = ("amd64", "arm64"), world.clock.at + 1000.0
    assert strategy.obstacle(arm) == ""


def test_a_machine_takes_at_most_the_most_vcpus_and_the_highest_price_of_those_that_serve_it() -> None:
    small, large = replace(SHIPPED["m7i.large"], usd=0.9), replace(SHIPPED["m7i.xlarge"], usd=0.2)
    strategy = with_types(small, large)

    assert strategy.at_most(MachineRequest()) == Resources(1, 4.0, 0.9)
    assert strategy.at_most(MachineRequest(cpu_min=4, cpu_max=4)) == Resources(1, 4.0, 0.2)
    assert strategy.at_most(MachineRequest(cpu_min=64, cpu_max=64)) == Resources(1)


def test_where_money_is_limited_only_a_type_of_known_price_is_asked_for_as_long_as_there_is_one() -> None:
    priced, other = replace(SHIPPED["m7i.large"], usd=0.1), SHIPPED["c7i.large"]

    assert named(with_types(priced, other, max_usd_per_hour=5.0).plan(some_wanted())) == ["m7i.large"]
    assert set(named(with_types(priced, other).plan(some_wanted()))) == {"m7i.large", "c7i.large"}
    assert named(with_types(other, max_usd_per_hour=5.0).plan(some_wanted())) == ["c7i.large"]


def test_a_machine_without_a_known_price_counts_as_dear_as_the_dearest_and_an_unknown_type_as_nothing_known() -> None:
    world = World()
    known = (replace(SHIPPED["m7i.large"], usd=0.2), replace(SHIPPED["m6i.large"], usd=0.1), SHIPPED["c7i.xlarge"])
    strategy = a_strategy(world, lambda: known)
    strategy.maintain()
    world.clock.at += FIRST_S
    strategy.maintain()
    names = ("c7i.xlarge", "m6i.large", "z1.large")
    world.calls.script(
        "ec2.create_fleet", answer=lambda _: {"Instances": [{"InstanceIds": [name], "InstanceType": name} for name in names]}
    )

    started = strategy.start_sessions("{}", {}, sent_before=False).instances

    assert [one.resources for one in started] == [Resources(1, 4.0, 0.4), Resources(1, 2.0, 0.1), None]


def test_the_plan_says_what_it_asks_for_and_whether_that_may_be_taken_back() -> None:
    strategy, wanted = a_strategy(), some_wanted()
    plans = [strategy.plan(wanted), *(strategy.plan(wanted, after=step, failure=NO_CAPACITY) for step in range(4))]

    found = [(plan.step, plan.market, plan.interruptible) for plan in plans if plan is not None]
    assert found == [(0, "spot", True), (1, "spot", True), (2, "on-demand", False), (3, "on-demand", False)]
    quota = strategy.plan(wanted, after=0, failure=FailureKind.QUOTA)
    assert quota is not None and quota.step == 2


def test_a_step_of_which_every_pool_is_left_alone_is_passed_over() -> None:
    strategy = a_strategy()
    for name in FIT:
        interrupt(strategy, name, "spot")

    plan = strategy.plan(some_wanted())

    assert plan is not None and (plan.step, plan.market) == (2, "on-demand")


def test_where_nothing_else_may_be_asked_for_what_is_left_alone_is_asked_for_all_the_same() -> None:
    strategy, patient = a_strategy(), some_wanted(MachineRequest(fallback=Fallback.WAIT))
    for name in FIT:
        interrupt(strategy, name, "spot")

    plan = strategy.plan(patient)

    assert plan is not None and plan.step == 0 and named(plan)


def test_one_pool_that_was_taken_back_again_and_again_is_left_out_and_only_there() -> None:
    strategy = a_strategy()
    for _ in range(POOL_RECLAIMS):
        strategy.interrupted(f"{FIT[0]}/subnet-1/spot")

    plan = strategy.plan(some_wanted())
    assert plan is not None
    pools = json.loads(plan.request)["LaunchTemplateConfigs"][0]["Overrides"]

    assert [pool["SubnetId"] for pool in pools if pool["InstanceType"] == FIT[0]] == ["subnet-2"]
    assert {pool["SubnetId"] for pool in pools if pool["InstanceType"] == FIT[1]} == {"subnet-1", "subnet-2"}


def interrupt(strategy: Ec2Strategy, name: str, market: str) -> None:
    """Machines of this type are taken back in every subnet, so often that it is left alone."""
    for subnet in ("subnet-1", "subnet-2"):
        for _ in range(POOL_RECLAIMS):
            strategy.interrupted(f"{name}/{subnet}/{market}")


@pytest.mark.parametrize("name", ["/dev/sda1", "/dev/xvda"])
def test_the_image_is_asked_for_the_name_of_its_disk_once_for_each_version(name: str) -> None:
    world = World()
    world.compute.root_disk = name
    strategy = world.ec2_strategy(world.records, world.compute)

    for version in ("1", "1", "2"):
        world.compute.version = version
        world.clock.at += SITES_S + 1.0
        plan = strategy.plan(some_wanted(MachineRequest(disk_gib=200)))
        assert plan is not None
        for one in json.loads(plan.request)["LaunchTemplateConfigs"][0]["Overrides"]:
            assert one["BlockDeviceMappings"][0]["DeviceName"] == name

    assert world.calls.made.count("ec2.root_device") == 2


def test_who_asks_for_no_disk_needs_no_answer_about_the_image() -> None:
    world = World()
    world.calls.fail("ec2.root_device", ServiceFailed("ec2:DescribeImages", "UnauthorizedOperation"))

    assert world.ec2_strategy(world.records, world.compute).plan(some_wanted()) is not None


def test_the_operators_choices_stand_in_the_request() -> None:
    changes = {"stack_id": "mine", "launch_template": "ours", "root_device": "/dev/sda1"}
    plan = a_strategy(**changes).plan(some_wanted(MachineRequest(disk_gib=50), 7))
    assert plan is not None
    request = json.loads(plan.request)

    (config,), (tags,) = request["LaunchTemplateConfigs"], request["TagSpecifications"]
    assert config["LaunchTemplateSpecification"] == {"LaunchTemplateName": "ours-amd64", "Version": "1"}
    assert {one["BlockDeviceMappings"][0]["DeviceName"] for one in config["Overrides"]} == {"/dev/sda1"}
    assert {"Key": "runs-fleet:stack", "Value": "mine"} in tags["Tags"]
    assert request["TargetCapacitySpecification"]["TotalTargetCapacity"] == 7


def test_the_pace_of_starts_is_the_one_that_the_operator_was_granted() -> None:
    rate = a_strategy(ec2_at_once=50.0, ec2_per_second=4.0).traits.start_rate

    assert rate is not None and (rate.burst, rate.per_second) == (50.0, 4.0) and "4 instances a second" in rate.words


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ServiceFailed("ec2:CreateFleet", "VcpuLimitExceeded"), FailureKind.QUOTA, "is used up (VcpuLimitExceeded)"),
        (ServiceFailed("ec2:CreateFleet", "UnauthorizedOperation"), FailureKind.REFUSED, "refuses what is asked"),
        (Unanswered("ec2:CreateFleet"), FailureKind.THROTTLED, "left alone for a while (NoAnswer)"),
        (ServiceFailed("ec2:CreateFleet", "BrandNew"), FailureKind.UNKNOWN, "EC2 has no capacity"),
    ],
)
def test_an_error_is_told_by_its_code_with_words_for_people_and_a_hint(
    error: ServiceFailed, kind: FailureKind, words: str
) -> None:
    failure = a_strategy().classify(error)

    assert (failure.kind, failure.hint) == (kind, HINTS[kind]) and words in failure.words


def test_what_ec2_offers_is_renewed_by_maintenance_and_said_and_a_failure_keeps_what_was_known() -> None:
    world, answers = World(), [(SHIPPED["m7i.large"], replace(SHIPPED["c7i.large"], spot_usd=0.01))]

    def offered() -> tuple[InstanceType, ...]:
        if not answers:
            raise ServiceFailed("ec2:DescribeInstanceTypes", "Unavailable")
        return answers.pop()

    strategy = a_strategy(world, offered)
    for _ in range(2):
        strategy.maintain()
        world.clock.at += FIRST_S
    assert world.journal.of("catalogue.renewed") == [{"types": 2, "priced_on_spot": 1}]
    world.clock.at += 86_400.0
    with pytest.raises(ServiceFailed):
        strategy.maintain()
    assert named(strategy.plan(some_wanted())) == ["c7i.large", "m7i.large"]
