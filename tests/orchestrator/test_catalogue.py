"""Which types serve a request; what EC2 offers is asked for once a day, and believed until it says otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.ec2.catalogue import (
    FIRST_S,
    RENEWED_S,
    SNAPSHOT,
    USUAL,
    Catalogue,
    InstanceType,
    fitting,
    rows,
    snapshot,
)
from orchestrator.compute.ec2.fleet_request import STEPS, LaunchSites, launch_request
from orchestrator.errors import OrchestratorError, ServiceFailed
from orchestrator.retry_policy import OFFERINGS_AGAIN_S
from orchestrator.store.request import MachineRequest
from orchestrator.store.resources import Resources
from simulation.examples import an_event, some_wanted
from simulation.world import World

CATALOGUE = snapshot(SNAPSHOT.read_text("utf-8"))


asks = st.builds(
    MachineRequest, cpu_min=st.integers(1, 64), cpu_max=st.integers(1, 128), ram_min_gib=st.floats(0, 512),
    ram_max_gib=st.just(0.0) | st.floats(1, 1024),
    families=st.lists(st.sampled_from(["c", "m", "r", "t", "m7i", "c8g"]), max_size=2).map(tuple), generation=st.integers(0, 9),
    architecture=st.sampled_from(["amd64", "arm64"]),
)  # fmt: skip


@given(asks)
def test_f7_f8_no_machine_has_less_than_asked_for_or_the_wrong_architecture(ask: MachineRequest) -> None:
    for it in fitting(CATALOGUE, ask):
        assert it.architecture == ask.architecture
        assert ask.cpu_min <= it.cpus <= ask.cpu_max and it.ram_gib >= (ask.ram_min_gib or 4)
        assert not ask.ram_max_gib or it.ram_gib <= ask.ram_max_gib
        assert it.generation == ask.generation or not ask.generation
        assert not it.burstable or any(family.startswith("t") for family in ask.families)
        assert not ask.families or any(it.family.startswith(family) for family in ask.families)


def test_the_operators_own_list_bounds_the_choice() -> None:
    found = fitting(CATALOGUE, MachineRequest(), frozenset({"m7i.large", "m7i.48xlarge", "t3.large"}))

    assert [it.name for it in found] == ["m7i.large", "t3.large"]


@pytest.mark.parametrize(("step", "first"), [(0, "m7i.xlarge"), (2, "m6i.xlarge")])
def test_the_cheapest_in_its_market_is_named_first_and_one_without_a_price_last(step: int, first: str) -> None:
    known = {"m7i.xlarge": {"spot_usd": 0.01, "usd": 0.3}, "m6i.xlarge": {"spot_usd": 0.02, "usd": 0.2}}
    types = tuple(replace(it, **known.get(it.name, {})) for it in fitting(CATALOGUE, MachineRequest()))
    sites = LaunchSites({"amd64": ("t", "1")}, {"a": "subnet-1"})
    request = launch_request(some_wanted(), sites, types, 0, STEPS[step], stack_id="tests", root_device="/dev/xvda")

    named = [one["InstanceType"] for one in json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]]
    assert named[0] == first and set(named[:2]) == set(known)
    assert named[2:] == [it.name for it in types if it.name not in known][: len(named) - 2]


def test_it_is_asked_once_a_day_and_sooner_if_it_did_not_answer() -> None:
    answers: list[Any] = [ServiceFailed("ec2", "Unavailable"), CATALOGUE[:3], CATALOGUE[:2]]

    def fresh() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    catalogue = Catalogue(CATALOGUE, fresh)
    assert [catalogue.renew(at) for at in (1000.0, 999.0 + FIRST_S)] == [None, None], (
        "a process that begins has other things to do"
    )
    with pytest.raises(OrchestratorError):
        catalogue.renew(1000.0 + FIRST_S)
    assert tuple(catalogue) == CATALOGUE

    began = 1000.0 + FIRST_S + OFFERINGS_AGAIN_S
    moments = [began - 1.0, began, began + 1.0, began + RENEWED_S - 1.0, began + RENEWED_S]
    assert [catalogue.renew(at) for at in moments] == [None, 3, None, None, 2]
    assert tuple(catalogue) == CATALOGUE[:2]


def test_which_types_fit_is_remembered_only_as_long_as_the_types_are() -> None:
    request, nobodys = MachineRequest(), frozenset[str]()
    few = fitting(CATALOGUE, request)[:2]
    catalogue = Catalogue(few, lambda: CATALOGUE, at_once=True)
    before = catalogue.fitting(request, nobodys)

    assert catalogue.fitting(request, nobodys) is before == few
    assert catalogue.fitting(request, frozenset({few[0].name})) == few[:1]
    catalogue.renew(1000.0)
    assert catalogue.fitting(request, nobodys) == fitting(CATALOGUE, request) != before


def test_an_empty_answer_is_no_reason_to_serve_nobody() -> None:
    catalogue = Catalogue(CATALOGUE, tuple, renew_at=1.0)

    assert catalogue.renew(1.0) == len(CATALOGUE)


def test_a_type_is_asked_for_only_where_it_is_offered() -> None:
    types = fitting(CATALOGUE, MachineRequest())
    types = (replace(types[0], zones=("a",)), replace(types[1], zones=("a", "b")), *types[2:])
    sites = LaunchSites({"amd64": ("t", "1")}, {"a": "subnet-1", "b": "subnet-2"})
    request = launch_request(some_wanted(), sites, types, 0, STEPS[0], stack_id="tests", root_device="/dev/xvda")

    named = [(one["InstanceType"], one["SubnetId"]) for one in json.loads(request)["LaunchTemplateConfigs"][0]["Overrides"]]
    assert [subnet for name, subnet in named if name == types[0].name] == ["subnet-1"]
    assert [subnet for name, subnet in named if name == types[1].name] == ["subnet-1", "subnet-2"]


def test_what_is_heard_in_a_tick_decides_the_next_launch_and_a_failure_keeps_the_tick_from_nothing() -> None:
    world = World()
    few = tuple(it for it in CATALOGUE if it.name == "m7i.xlarge")
    answers: list[Any] = [few]
    world.turns = world.replica(strategies=Strategies([world.ec2_strategy(world.records, world.compute, lambda: answers.pop())]))
    world.turns.on_tick()
    world.clock.at += FIRST_S
    world.turns.on_tick()
    world.told(an_event())

    overrides = world.compute.requests[0]["LaunchTemplateConfigs"][0]["Overrides"]
    assert {one["InstanceType"] for one in overrides} == {"m7i.xlarge"}
    world.clock.at += RENEWED_S
    assert world.turns.on_tick() == 0 and "sweep.item_failed" in world.journal.names


def test_the_first_time_is_now_where_nothing_may_be_launched_without_prices() -> None:
    catalogue = Catalogue(CATALOGUE, lambda: CATALOGUE[:1], at_once=True)

    assert (catalogue.renew(5.0), catalogue.renew(6.0)) == (1, None)


def test_where_nobody_is_asked_the_shipped_types_stay() -> None:
    catalogue = Catalogue(CATALOGUE)

    assert catalogue.renew(1e9) is None and tuple(catalogue) == CATALOGUE


def test_a_type_is_found_by_its_whole_name_and_an_unknown_one_is_none() -> None:
    catalogue = Catalogue((replace(CATALOGUE[0], name="m7i.large", spot_usd=0.01), replace(CATALOGUE[1], name="m7i.large2")))

    assert catalogue.named("m7i.large") == catalogue.types[0] and catalogue.priced_on_spot == 1
    assert catalogue.named("m7i") is catalogue.named("") is None


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_who_names_no_family_gets_a_usual_one_the_smallest_first_and_the_newest_of_equals(architecture: str) -> None:
    found = fitting(CATALOGUE, MachineRequest(architecture=architecture, cpu_min=2, cpu_max=8))

    assert found and {it.family for it in found} <= set(USUAL[architecture]) and not any(it.burstable for it in found)
    sizes = [(it.cpus, it.ram_gib, -it.generation) for it in found]
    assert sizes == sorted(sizes) and sizes[0][:2] == (2, 4.0)


def test_a_burstable_type_is_given_only_to_who_names_it() -> None:
    names = {it.name for it in fitting(CATALOGUE, MachineRequest(families=("t3",)))}

    assert "t3.large" in names and all(name.startswith("t3") for name in names)


@pytest.mark.parametrize(
    ("name", "family", "number"), [("m7i-flex.large", "m7i-flex", 7), ("t3.micro", "t3", 3), ("x.y", "x", 0)]
)
def test_family_and_generation_are_read_from_the_name(name: str, family: str, number: int) -> None:
    found = InstanceType(name=name, architecture="amd64", cpus=4, ram_gib=8.0, usd=0.2)

    assert (found.family, found.generation, found.resources) == (family, number, Resources(1, 4.0, 0.2))


def described(name: str, architecture: str = "x86_64", **changes: Any) -> dict[str, Any]:
    """A type as DescribeInstanceTypes tells it."""
    return {
        "InstanceType": name, "VCpuInfo": {"DefaultVCpus": 2}, "MemoryInfo": {"SizeInMiB": 3840},
        "ProcessorInfo": {"SupportedArchitectures": ["i386", architecture]}, **changes,
    }  # fmt: skip


def test_of_what_ec2_describes_machines_of_general_families_are_kept_that_are_not_too_old() -> None:
    kept = [
        described("t3.small", BurstablePerformanceSupported=True),
        described("c5d.large", InstanceStorageInfo={"TotalSizeInGB": 50}),
    ]
    odd = [
        described("m4.large"), described("t2.micro"), described("g5.xlarge"), described("m5.metal", BareMetal=True),
        described("m5.large", "arm64_mac"), described("mac2.large"),
    ]  # fmt: skip

    assert rows([*odd, *kept, described("c7g.large", "arm64")]) == [
        ["c5d.large", "amd64", 2, 3.75, False, 50], ["c7g.large", "arm64", 2, 3.75, False, 0],
        ["t3.small", "amd64", 2, 3.75, True, 0],
    ]  # fmt: skip
