"""The strategies that the settings name are built, in their order, from what the settings say of them."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.aws import Clients
from orchestrator.compute.ec2.catalogue import InstanceType
from orchestrator.compute.ec2.strategy import Ec2Strategy
from orchestrator.compute.local import LocalStrategy
from orchestrator.compute.port import Compute
from orchestrator.errors import SettingsInvalid
from orchestrator.jobs.records import JobRecords
from orchestrator.setting_values import Local
from orchestrator.store.request import MachineRequest
from orchestrator.strategies import BUILDERS, StrategyParts, build_strategies, ec2_strategy
from simulation.clock import VirtualTime
from simulation.ec2 import MemoryEc2
from simulation.examples import some_settings, some_wanted
from simulation.process import MemoryJournal
from simulation.tables import MemoryTables
from tests.conftest import Moto
from tests.orchestrator.conformance import end, handles


def parts(clients: Clients | None = None, **changes: object) -> StrategyParts:
    """What strategies are built from, with these settings."""
    clock = VirtualTime()
    return StrategyParts(
        settings=some_settings(**changes), clients=clients or Clients(), records=JobRecords(MemoryTables(clock)), clock=clock,
        journal=MemoryJournal(),
    )  # fmt: skip


def local(directory: Path, **changes: Any) -> Local:
    """How agents live on this machine: they only wait."""
    given: dict[str, Any] = {
        "directory": directory, "slots": 2, "agent": ("sleep", "300"), "runner": None, "environment": {"PATH": "/usr/bin:/bin"},
    }  # fmt: skip
    return Local(**{**given, **changes})


def test_the_strategies_that_are_named_are_built_in_their_order_and_the_first_is_the_default(moto: Moto, tmp_path: Path) -> None:
    found = build_strategies(parts(strategies=("local", "ec2"), local=local(tmp_path)))

    assert found.names == ("local", "ec2") and [type(one) for one in found] == [LocalStrategy, Ec2Strategy]
    assert found.of("").name == "local"


def test_only_what_is_named_is_built(moto: Moto) -> None:
    built: list[str] = []

    def builder(name: str) -> Any:
        def build(told: StrategyParts) -> Compute:
            built.append(name)
            return BUILDERS["ec2"](told)

        return build

    build_strategies(parts(strategies=("mine",)), {name: builder(name) for name in ("mine", "other")})

    assert built == ["mine"]


def test_a_name_that_no_builder_has_is_a_fault_of_the_settings_that_names_all_of_them_and_builds_nothing() -> None:
    def never(_: StrategyParts) -> Compute:
        raise AssertionError("built")

    with pytest.raises(SettingsInvalid) as raised:
        build_strategies(parts(strategies=("ec2", "moon", "mars")), {"ec2": never, "local": never})

    assert raised.value.problems == ("RUNS_FLEET_STRATEGIES: expected some of ec2, local, found moon, mars",)


def test_each_builder_makes_the_strategy_of_its_own_name(moto: Moto, tmp_path: Path) -> None:
    told = parts(local=local(tmp_path))

    assert {name: build(told).name for name, build in BUILDERS.items()} == {name: name for name in BUILDERS}


def test_local_agents_live_as_the_settings_say(tmp_path: Path) -> None:
    told = parts(strategies=("local",), stack_id="mine", local=local(tmp_path / "here", slots=1))
    strategy = build_strategies(told).of("local")
    plan = strategy.plan(some_wanted(None, 2))
    assert plan is not None

    started = strategy.start_sessions(plan.request, {}, sent_before=False)

    assert len(started.instances) == 1 and started.reasons == ("InsufficientSlots: this machine has 1",)
    (handle,) = handles(started)
    tags = json.loads((tmp_path / "here" / "instances" / handle.instance / "tags.json").read_text("utf-8"))
    assert tags["runs-fleet:stack"] == "mine" and (tmp_path / "here" / "launches").is_dir()
    end(strategy)


def test_local_agents_have_the_architecture_of_this_machine_in_our_words(tmp_path: Path) -> None:
    strategy = build_strategies(parts(strategies=("local",), local=local(tmp_path))).of("local")

    assert strategy.traits.architectures == ({"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],)


def test_the_operators_decisions_about_ec2_reach_its_strategy() -> None:
    told = parts(
        stack_id="mine", launch_template="ours", subnet_ids=("subnet-1",), instance_types=("m7i.large",),
        arm_instance_types=("c8g.large",), root_device="/dev/sda1", spot=False, ec2_at_once=50.0, ec2_per_second=4.0,
    )  # fmt: skip
    strategy = ec2_strategy(told, MemoryEc2(), None)
    requests = {}
    for architecture in ("amd64", "arm64"):
        plan = strategy.plan(some_wanted(MachineRequest(architecture=architecture, disk_gib=9)))
        assert plan is not None and plan.market == "on-demand"
        requests[architecture] = json.loads(plan.request)["LaunchTemplateConfigs"]

    disk = {"VolumeSize": 9, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    for architecture, name in (("amd64", "m7i.large"), ("arm64", "c8g.large")):
        ((config,), root) = requests[architecture], [{"DeviceName": "/dev/sda1", "Ebs": disk}]
        assert config["LaunchTemplateSpecification"] == {"LaunchTemplateName": f"ours-{architecture}", "Version": "1"}
        assert config["Overrides"] == [{"InstanceType": name, "SubnetId": "subnet-1", "BlockDeviceMappings": root}]
    rate = strategy.traits.start_rate
    assert rate is not None and (rate.burst, rate.per_second) == (50.0, 4.0)


@pytest.mark.parametrize(("usd", "asked"), [(5.0, 1), (0.0, 0)])
def test_prices_are_asked_for_at_once_where_money_is_limited_and_otherwise_the_shipped_types_do_for_now(
    usd: float, asked: int
) -> None:
    calls: list[int] = []

    def offerings() -> tuple[InstanceType, ...]:
        calls.append(1)
        return ()

    strategy = ec2_strategy(parts(max_usd_per_hour=usd), MemoryEc2(), offerings)
    strategy.maintain()

    assert len(calls) == asked and strategy.objection(MachineRequest()) == ""


def test_what_ec2_learns_is_kept_in_the_stacks_records_and_said_in_its_log() -> None:
    told = parts()
    ec2 = MemoryEc2()
    ec2.full = {"*"}
    strategy, other = (ec2_strategy(told, ec2, None) for _ in range(2))
    first = strategy.plan(some_wanted())
    assert first is not None
    strategy.start_sessions(first.request, {}, sent_before=False)

    again = other.plan(some_wanted(launch_id="l-2"))

    assert again is not None and (first.step, again.step > first.step) == (0, True)
    assert isinstance(told.journal, MemoryJournal) and told.journal.names == ["circuits.changed"]


class Asked(Clients):
    """Clients of an AWS whose lists are empty, and which remembers what they were asked for."""

    region = "eu-west-1"

    def __init__(self) -> None:
        self.wanted: dict[str, Any] = {}
        self.listing = ""

    def get(self, service: str, region: str | None = None) -> Any:
        """Itself: it stands for the client of every service."""
        return self

    def describe_subnets(self, **wanted: Any) -> dict[str, Any]:
        """Two of three zones, the last one first."""
        zones = {"subnet-1": "eu-west-1c", "subnet-2": "eu-west-1a", "subnet-3": "eu-west-1c"}
        asked = wanted["Filters"][0]["Values"]
        return {"Subnets": [{"SubnetId": subnet, "AvailabilityZone": zones[subnet]} for subnet in asked]}

    def get_paginator(self, name: str) -> Any:
        """The list of this name."""
        self.listing = name
        return self

    def paginate(self, **wanted: Any) -> Any:
        """No page."""
        self.wanted[self.listing] = wanted
        return iter(())


@pytest.mark.parametrize(("usd", "priced"), [(5.0, True), (0.0, False)])
def test_ec2_is_asked_what_it_offers_in_the_zones_of_our_subnets_and_for_prices_where_money_is_limited(
    usd: float, priced: bool
) -> None:
    clients = Asked()
    told = parts(clients, subnet_ids=("subnet-1", "subnet-2", "subnet-3"), max_usd_per_hour=usd)
    strategy = BUILDERS["ec2"](told)
    for _ in range(2):
        strategy.maintain()
        told.clock.at += 300.0  # type: ignore[attr-defined]

    (zones,) = clients.wanted["describe_instance_type_offerings"]["Filters"]
    assert zones == {"Name": "location", "Values": ["eu-west-1a", "eu-west-1c"]}
    assert ("get_products" in clients.wanted) is priced
    if priced:
        filters = clients.wanted["get_products"]["Filters"]
        assert {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-west-1"} in filters
