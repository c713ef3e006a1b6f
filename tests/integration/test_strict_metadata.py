"""Strict mode with real parts: EC2 switches the metadata service off, and the agent lives on with the credentials it has."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Status
from sandbox.imds import ROLE, Metadata
from tests.conftest import Moto
from tests.integration.house import House
from tests.integration.switchboard import Switchboard

GROUP = "/runs-fleet/agent"
ABSENT = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


@pytest.fixture
def house(moto: Moto, tmp_path: Path) -> House:
    return House(moto, tmp_path)


def test_the_job_finds_no_metadata_service_and_the_agent_ends_as_ever(house: House) -> None:
    metadata = Metadata(house.instance_id, "us-east-1")
    board = Switchboard(house.moto.url, metadata)
    house.configure()
    house.play(f"curl -sf --max-time 2 {metadata.url}/latest/api/token -X PUT && exit 3; true")

    agent = house.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, AWS_ENDPOINT_URL_EC2=board.url,
        RUNS_FLEET_LOG_GROUP=GROUP, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT,
    )  # fmt: skip

    board.stop()
    word = house.word()
    assert (agent.code, word.status, word.log_outcome, house.state()) == (0, Status.SUCCESS, "shipped", "terminated"), agent.log


def test_credentials_that_would_not_last_are_named_and_no_job_is_run(house: House) -> None:
    metadata = Metadata(house.instance_id, "us-east-1")
    path = f"meta-data/iam/security-credentials/{ROLE}"
    soon = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata.values[path] = json.dumps({**json.loads(metadata.values[path]), "Expiration": soon})
    house.configure()
    house.play("true")

    agent = house.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT
    )

    metadata.stop()
    word = house.word()
    assert (agent.code, word.reason, house.state()) == (70, "metadata_exposed", "terminated")
    assert "lower RUNS_FLEET_MAX_RUNTIME" in word.error
