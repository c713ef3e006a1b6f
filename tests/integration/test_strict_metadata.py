"""Strict mode with real parts: EC2 switches the metadata service off, and the agent lives on with the credentials it has."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.contract.messages import Status
from sandbox.imds import ROLE, Metadata
from tests.conftest import Moto
from tests.integration.agent_harness import AgentHarness
from tests.integration.ec2_proxy import Ec2Proxy

GROUP = "/runs-fleet/agent"
ABSENT = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


@pytest.fixture
def harness(moto: Moto, tmp_path: Path) -> AgentHarness:
    return AgentHarness(moto, tmp_path)


def test_the_job_finds_no_metadata_service_and_the_agent_ends_as_ever(harness: AgentHarness) -> None:
    metadata = Metadata(harness.instance_id, "us-east-1")
    board = Ec2Proxy(harness.moto.url, metadata)
    harness.configure()
    harness.play(f"curl -sf --max-time 2 {metadata.url}/latest/api/token -X PUT && exit 3; true")

    agent = harness.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, AWS_ENDPOINT_URL_EC2=board.url,
        RUNS_FLEET_LOG_GROUP=GROUP, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT,
    )  # fmt: skip

    board.stop()
    word = harness.word()
    assert (agent.code, word.status, word.log_outcome, harness.state()) == (0, Status.SUCCESS, "shipped", "terminated"), agent.log


def test_credentials_that_would_not_last_are_named_and_no_job_is_run(harness: AgentHarness) -> None:
    metadata = Metadata(harness.instance_id, "us-east-1")
    path = f"meta-data/iam/security-credentials/{ROLE}"
    soon = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata.values[path] = json.dumps({**json.loads(metadata.values[path]), "Expiration": soon})
    harness.configure()
    harness.play("true")

    agent = harness.live(
        RUNS_FLEET_STRICT_METADATA="yes", AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url, RUNS_FLEET_MAX_RUNTIME="60", **ABSENT
    )

    metadata.stop()
    word = harness.word()
    assert (agent.code, word.reason, harness.state()) == (70, "metadata_exposed", "terminated")
    assert "lower RUNS_FLEET_MAX_RUNTIME" in word.error
