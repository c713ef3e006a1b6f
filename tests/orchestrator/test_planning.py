"""What we ask EC2 and the runner for: the same wish makes the same request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.contract.config import PARAMETER_LIMIT, RunnerConfig, read_config, write_config
from agent.contract.secret import Secret
from orchestrator.catalogue import SNAPSHOT, Kind, fitting, rows, snapshot
from orchestrator.labels import Ask, read_ask
from orchestrator.naming import runner_name, session_of
from orchestrator.planning import (
    BOOT_S,
    REPORT_S,
    launch_request,
    lifetime_s,
    spec_name,
    steps,
    unservable,
    without_update,
)  # fmt: skip
from orchestrator.services import Site
from tests.conftest import Moto
from tests.orchestrator.memory import a_blob, some_settings


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def files_of(blob: str) -> dict[str, dict[str, object]]:
    return {name: json.loads(base64.b64decode(content)) for name, content in json.loads(base64.b64decode(blob)).items()}


CATALOGUE = snapshot(SNAPSHOT.read_text("utf-8"))
SITE = Site({a: (f"runs-fleet-runner-{a}", "7") for a in ("amd64", "arm64")}, {"az1": "subnet-1", "az2": "subnet-2"})


def requested(label: str = "runs-fleet", step: int = 0, number: int = 3, **changes: object) -> dict[str, Any]:
    """The request of one step for a label."""
    ask, settings = read_ask((label,)), some_settings(**changes)
    kinds = fitting(CATALOGUE, ask, ask.architecture or "amd64", frozenset(settings.instance_types))
    text = launch_request(
        settings, SITE, ask, kinds, steps(ask, settings)[step], launch_id="l-1", number=step, count=number, spec="spec",
        expires_at=1234.5,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(text)
    return found


@given(st.text("abcdefgh-123", min_size=1, max_size=100), st.integers(0, 99))
@example("s" * 41, 0)
@example("s" * 200, 99)
@example("a-s-b", 1)
def test_r3_a_runner_name_has_at_most_64_characters_and_leads_back_to_its_session(stack: str, number: int) -> None:
    session = f"s-0123456789abcdef-{number}"

    name = runner_name(stack, session)

    assert len(name) <= 64 and name.startswith(stack[:20])
    assert session_of(stack, name) == session


@pytest.mark.parametrize("name", ["", "somebody-else", "other-s-0123456789abcdef-1", "tests-s-", "tests", "s-1", "TESTS-s-1"])
def test_a_runner_of_somebody_else_is_no_session_of_ours(name: str) -> None:
    assert session_of("tests", name) in ("", "s-") and session_of("tests", name) != "s-1"


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
    for request in (requested(spot=False), requested("runs-fleet/spot=false")):
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
    assert [step.market for step in steps(read_ask((label,)), some_settings())] == markets


def test_each_step_has_a_token_of_its_own() -> None:
    assert len({requested(step=step)["ClientToken"] for step in range(4)}) == 4


@pytest.mark.parametrize(("one", "other"), [("runs-fleet=1", "runs-fleet=2"), ("runs-fleet/cpu=4", "runs-fleet/cpu=4+8")])
def test_asks_that_mean_the_same_share_a_spec(one: str, other: str) -> None:
    names = {spec_name(read_ask((label,)), "amd64", some_settings()) for label in (one, other)}

    assert len(names) == 1


@pytest.mark.parametrize("label", ["cpu=4", "ram=8", "family=m7i", "gen=7", "spot=false", "disk=100", "fallback=wait", "price=1"])
def test_asks_that_differ_never_share_a_spec(label: str) -> None:
    names = {spec_name(read_ask((marker,)), "amd64", some_settings()) for marker in ("runs-fleet", f"runs-fleet/{label}")}

    assert len(names) == 2


asks = st.builds(
    Ask, cpu_min=st.integers(1, 64), cpu_max=st.integers(1, 128), ram_min_gib=st.floats(0, 512),
    ram_max_gib=st.just(0.0) | st.floats(1, 1024),
    families=st.lists(st.sampled_from(["c", "m", "r", "t", "m7i", "c8g"]), max_size=2).map(tuple), generation=st.integers(0, 9),
)  # fmt: skip


@given(asks, st.sampled_from(["amd64", "arm64"]))
def test_f7_f8_no_machine_has_less_than_asked_for_or_the_wrong_architecture(ask: Ask, architecture: str) -> None:
    for kind in fitting(CATALOGUE, ask, architecture):
        assert kind.architecture == architecture
        assert ask.cpu_min <= kind.cpus <= ask.cpu_max and kind.ram_gib >= (ask.ram_min_gib or 4)
        assert not ask.ram_max_gib or kind.ram_gib <= ask.ram_max_gib
        assert kind.generation == ask.generation or not ask.generation
        assert not kind.burstable or any(family.startswith("t") for family in ask.families)
        assert not ask.families or any(kind.family.startswith(family) for family in ask.families)


def test_the_operators_own_list_bounds_the_choice() -> None:
    found = fitting(CATALOGUE, Ask(), "amd64", frozenset({"m7i.large", "m7i.48xlarge", "t3.large"}))

    assert [kind.name for kind in found] == ["m7i.large", "t3.large"]


def test_a_catalogue_is_made_of_what_ec2_describes(moto: Moto) -> None:
    pages = moto.client("ec2").get_paginator("describe_instance_types").paginate()
    described = [one for page in pages for one in page["InstanceTypes"]]

    assert [Kind(*row) for row in rows(described)] == list(CATALOGUE)


def test_a_machine_lives_as_long_as_boot_runtime_and_report_take() -> None:
    assert lifetime_s(some_settings(max_runtime_minutes=10.0)) == BOOT_S + 600.0 + REPORT_S


def test_updates_are_switched_off_and_everything_else_stays() -> None:
    before, after = files_of(a_blob()), files_of(without_update(a_blob()))

    assert after.pop(".runner") == {**before.pop(".runner"), "DisableUpdate": "True"}
    assert after == before


def test_a_runner_file_with_a_byte_order_mark_is_read() -> None:
    marked = base64.b64encode(b'\xef\xbb\xbf{"AgentId": "1"}').decode()

    assert files_of(without_update(encoded({".runner": marked})))[".runner"]["DisableUpdate"] == "True"


SHAPES = {
    "no base64": "not base64!",
    "no json": base64.b64encode(b"no json").decode(),
    "a list": encoded([1]),
    "a text": encoded("text"),
    "no runner file": encoded({".credentials": "e30="}),
    "a runner file that is a number": encoded({".runner": 7}),
    "a runner file that is no base64": encoded({".runner": "%%"}),
    "a runner file that is a list": encoded({".runner": encoded([1])}),
    "a runner file that is a text": encoded({".runner": encoded("text")}),
    "not ascii": "ü",
    "nothing": "",
}


@pytest.mark.parametrize("blob", SHAPES.values(), ids=SHAPES.keys())
def test_a_blob_of_another_shape_is_left_as_it_is(blob: str) -> None:
    assert without_update(blob) == blob


@pytest.mark.parametrize("seed", range(5))
def test_r6_the_blob_written_anew_still_fits_a_standard_parameter_as_a_whole(seed: int) -> None:
    blob = without_update(a_blob(seed, "x" * 64))
    config = RunnerConfig(
        org="acme-corporation", job_id="47331908423", repo="widgets-and-gadgets", labels=("runs-fleet=15739284610/arch=arm64",),
        jit_config=Secret(blob), run_id="15739284610", runner_name="x" * 64, session_id="s-" + "0" * 20, attempt=1,
        stack_id="production", runner_version="2.336.0", runner_sha256="0123456789abcdef" * 4, max_runtime_minutes=360.0,
    )  # fmt: skip

    text = write_config(config)

    assert len(text) <= PARAMETER_LIMIT
    assert read_config(text).blob() == Secret(blob)


@pytest.mark.parametrize("label", ["runs-fleet/price=0.1", "runs-fleet/fallback=wait", "runs-fleet/fallback=fail"])
def test_where_spot_is_switched_off_who_wants_nothing_else_gets_nothing_dearer(label: str) -> None:
    settings = some_settings(spot=False)
    ask = settings.ask_of("octo", "widgets", (label,))

    assert steps(ask, settings) == ()
    assert "spot is switched off" in unservable(settings, snapshot(SNAPSHOT.read_text("utf-8")), ask)


def test_where_spot_is_switched_off_everybody_else_gets_on_demand() -> None:
    settings = some_settings(spot=False)

    assert {step.market for step in steps(settings.ask_of("octo", "widgets", ("runs-fleet",)), settings)} == {"on-demand"}
