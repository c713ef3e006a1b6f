"""A server that is started where something is missing: what it says, what it does meanwhile, and once it is corrected."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.world import World, world
from tests.integration.commands import Commands
from tests.waiting import sooner_or_later


@pytest.fixture
def up(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with contextlib.closing(Commands()) as made:
        yield made


def ready(up: World) -> tuple[int, dict[str, Any]]:
    assert up.stack is not None
    answer = requests.get(f"{up.stack.url}/ready", timeout=600)
    return answer.status_code, answer.json()


def log(up: World) -> str:
    return (up.root / "orchestrator.log").read_text("utf-8")


def with_template(up: World, **changes: Any) -> None:
    """A new version of the launch template for amd64, with these instead."""
    ec2, name = up.cloud.client("ec2"), "sandbox-runner-amd64"
    found = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])["LaunchTemplateVersions"]
    data = {**found[0]["LaunchTemplateData"], **changes}
    ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=data)


def test_a_server_of_a_whole_stack_is_ready_and_says_so_after_it_has_bound(up: World) -> None:
    up.serve()
    sooner_or_later(lambda: ready(up)[0] == 200)

    assert ready(up) == (200, {"status": "ready"})
    told = log(up)
    assert 0 < told.index("serve.bound") < told.index("serve.ready")


def test_a_template_that_stops_machines_instead_of_ending_them_is_named_until_it_is_corrected(
    up: World, commands: Commands
) -> None:
    assert up.stack is not None
    with_template(up, InstanceInitiatedShutdownBehavior="stop")
    up.serve()
    sooner_or_later(lambda: ready(up)[1].get("failed") == ["ec2-launch-templates"])

    shown = commands.typed(up.stack.environment, "doctor")
    status, answer = ready(up)

    assert (status, answer["status"]) == (503, "not ready")
    assert "serve.ready" not in log(up)
    assert "check=ec2-launch-templates setting=RUNS_FLEET_LAUNCH_TEMPLATE_NAME" in log(up)
    assert shown.returncode == 1 and "aws ec2 create-launch-template-version" in shown.stdout
    with_template(up, InstanceInitiatedShutdownBehavior="terminate")
    sooner_or_later(lambda: ready(up)[0] == 200)
    assert commands.typed(up.stack.environment, "doctor").returncode == 0


def test_without_its_tables_it_answers_and_begins_nothing(up: World) -> None:
    assert up.stack is not None
    up.cloud.client("dynamodb").delete_table(TableName="sandbox-sessions")
    up.serve()
    sooner_or_later(lambda: "table-sessions" in log(up))

    status, answer = ready(up)

    assert status == 503 and "table-sessions" in answer["failed"]
    assert requests.get(f"{up.stack.url}/health", timeout=600).status_code == 200
    assert "turn.failed" not in log(up)


def test_an_app_that_may_too_little_keeps_it_from_being_ready_and_each_place_is_named(up: World, commands: Commands) -> None:
    up.github.permissions["administration"] = "read"
    up.serve()
    sooner_or_later(lambda: ready(up)[1].get("failed") == ["github-app"])

    assert up.stack is not None
    shown = commands.typed(up.stack.environment, "doctor", "--json")
    (app,) = [one for one in json.loads(shown.stdout) if one["check"] == "github-app"]

    assert (ready(up)[0], shown.returncode, app["standing"]) == (503, 1, "failed")
    assert {fault["expected"] for fault in app["faults"]} == {"administration: write"}


def test_what_may_not_be_read_could_not_be_checked_and_stands_in_nobodys_way(up: World, commands: Commands) -> None:
    assert up.stack is not None
    up.cloud.faults.denied = {"DescribeTable", "DescribeImages"}
    up.serve()
    sooner_or_later(lambda: ready(up)[0] == 200)

    assert ready(up)[1]["unchecked"] == ["table-jobs", "table-sessions", "ec2-images"]
    shown = commands.typed(up.stack.environment, "doctor")
    assert shown.returncode == 0 and "needs ec2:DescribeImages" in shown.stdout
    assert "3 could not be checked" in shown.stdout


def test_a_port_that_is_taken_is_said_and_nothing_is_begun(up: World, commands: Commands) -> None:
    assert up.stack is not None
    up.serve()

    second = commands.typed(up.stack.environment, "serve")

    assert second.returncode == 1 and "RUNS_FLEET_PORT" in second.stderr and "in use" in second.stderr
    assert "serve.bound" not in second.stderr
    assert up.server is not None and up.server.poll() is None
