"""What we ask EC2 and the runner for: the same wish makes the same request."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.contract.config import PARAMETER_LIMIT, RunnerConfig, read_config, write_config
from agent.contract.secret import Secret
from orchestrator.planning import BOOT_S, REPORT_S, launch_request, lifetime_s, runner_name, session_id, without_update
from tests.orchestrator.memory import a_blob, a_job, some_settings


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def files_of(blob: str) -> dict[str, dict[str, object]]:
    return {name: json.loads(base64.b64decode(content)) for name, content in json.loads(base64.b64decode(blob)).items()}


def test_a_session_has_the_same_id_for_every_delivery_of_one_wish() -> None:
    assert session_id("tests", a_job(name="a", version=3)) == session_id("tests", a_job(name="b"))


def test_another_stack_job_or_attempt_is_another_session() -> None:
    wishes = [("tests", a_job()), ("live", a_job()), ("tests", a_job(job_id="2")), ("tests", a_job(run_attempt=2))]

    assert len({session_id(stack, job) for stack, job in wishes}) == 4


@given(st.text("abcdefgh-123", min_size=1, max_size=100))
@example("s" * 41)
@example("s" * 42)
@example("s" * 200)
def test_a_runner_name_has_at_most_64_characters_and_all_of_its_unique_part(stack: str) -> None:
    session = session_id(stack, a_job())

    name = runner_name(stack, session)

    assert len(name) <= 64 and name.endswith(f"-{session}") and name.startswith(stack[:20])


def test_the_same_wish_makes_the_same_bytes() -> None:
    made = {launch_request(some_settings(), a_job(), "s-1", 1234.5) for _ in range(3)}

    assert len(made) == 1


def test_a_request_is_for_one_instance_that_carries_the_session_and_its_end() -> None:
    request = json.loads(launch_request(some_settings(), a_job(), "s-1", 1234.5))

    (specification,) = request["TagSpecifications"]
    tags = {tag["Key"]: tag["Value"] for tag in specification["Tags"]}
    assert (request["ClientToken"], request["Type"]) == ("s-1", "instant")
    assert request["TargetCapacitySpecification"] == {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    assert (tags["runs-fleet:session-id"], tags["runs-fleet:stack"], tags["runs-fleet:expires-at"]) == ("s-1", "tests", "1234")


def test_every_type_is_tried_in_every_subnet() -> None:
    settings = some_settings(instance_types=("a.large", "b.large"))

    request = json.loads(launch_request(settings, a_job(), "s-1", 0.0))

    overrides = request["LaunchTemplateConfigs"][0]["Overrides"]
    assert {(o["InstanceType"], o["SubnetId"]) for o in overrides} == {
        (kind, subnet) for kind in ("a.large", "b.large") for subnet in ("subnet-1", "subnet-2")
    }


def test_an_arm_job_gets_the_arm_template_and_arm_types() -> None:
    request = json.loads(launch_request(some_settings(), a_job(labels=("runs-fleet/arch=arm64",)), "s-1", 0.0))

    (config,) = request["LaunchTemplateConfigs"]
    assert config["LaunchTemplateSpecification"]["LaunchTemplateName"] == "runs-fleet-runner-arm64"
    assert {override["InstanceType"] for override in config["Overrides"]} == {"m7g.large"}


def test_without_spot_there_are_no_spot_options() -> None:
    request = json.loads(launch_request(some_settings(spot=False), a_job(), "s-1", 0.0))

    assert request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "on-demand"
    assert "SpotOptions" not in request


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
def test_the_blob_written_anew_still_fits_a_standard_parameter_as_a_whole(seed: int) -> None:
    blob = without_update(a_blob(seed, "x" * 64))
    config = RunnerConfig(
        org="acme-corporation", job_id="47331908423", repo="widgets-and-gadgets", labels=("runs-fleet=15739284610/arch=arm64",),
        jit_config=Secret(blob), run_id="15739284610", runner_name="x" * 64, session_id="s-" + "0" * 20, attempt=1,
        stack_id="production", runner_version="2.336.0", runner_sha256="0123456789abcdef" * 4, max_runtime_minutes=360.0,
    )  # fmt: skip

    text = write_config(config)

    assert len(text) <= PARAMETER_LIMIT
    assert read_config(text).blob() == Secret(blob)
