"""Whole lives of the real agent where AWS is reached through a private authority or a proxy: nothing is lost on the way."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.messages import Status
from tests.conftest import Moto
from tests.integration.agent_harness import AgentHarness
from tests.wires import Authority, ConnectProxy, TlsFront

GROUP = "/runs-fleet/network"


@pytest.fixture
def harness(moto: Moto, tmp_path: Path) -> Iterator[AgentHarness]:
    made = AgentHarness(moto, tmp_path)
    made.configure()
    made.play("echo through the network")
    moto.client("logs").create_log_group(logGroupName=GROUP)
    yield made
    made.kill_what_is_left()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def front(moto: Moto, authority: Authority) -> Iterator[TlsFront]:
    made = TlsFront(moto.url, authority)
    yield made
    made.stop()


def assert_all_arrived(harness: AgentHarness, exit_code: int | None) -> None:
    """A green life whose final message, log lines and termination arrived."""
    word = harness.word()
    assert (exit_code, word.status, word.log_outcome) == (0, Status.SUCCESS, "shipped"), word
    assert any("Job build completed" in line for line in harness.log_lines(GROUP))
    assert (harness.state(), harness.off.exists()) == ("terminated", False)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_life_behind_a_private_authority(harness: AgentHarness, front: TlsFront, authority: Authority, name: str) -> None:
    agent = harness.live(AWS_ENDPOINT_URL=front.url, RUNS_FLEET_LOG_GROUP=GROUP, **{name: str(authority.path)})

    assert_all_arrived(harness, agent.process.returncode)


def test_a_life_behind_a_proxy_with_a_password(harness: AgentHarness, front: TlsFront, authority: Authority) -> None:
    proxy = ConnectProxy("fleet", "s3cr@t")

    agent = harness.live(
        AWS_ENDPOINT_URL=front.url,
        RUNS_FLEET_LOG_GROUP=GROUP,
        AWS_CA_BUNDLE=str(authority.path),
        HTTPS_PROXY=proxy.url_with("fleet:s3cr%40t"),
    )

    assert_all_arrived(harness, agent.process.returncode)
    assert proxy.refused == 0 and len(proxy.asked) >= front.connections > 3
    assert "s3cr" not in agent.log
    proxy.stop()


def test_a_life_whose_queue_cannot_be_reached_takes_no_job(harness: AgentHarness, front: TlsFront) -> None:
    agent = harness.live(AWS_ENDPOINT_URL_SQS=front.url)

    assert agent.process.returncode == 69
    assert "queue_unusable" in agent.log and "certificate" in agent.log
    assert "work.signalled" not in agent.log and harness.state() == "terminated"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a file system")
def test_a_runner_whose_own_volume_is_full_is_stopped_with_that_reason(harness: AgentHarness) -> None:
    runner = harness.runner_dir
    kept = harness.root / "kept"
    mount = f"cp -a {runner} {kept} && mount -t tmpfs -o size=48m tmpfs {runner} && cp -a {kept}/. {runner}"
    harness.play(f"head -c 100m /dev/zero > {runner}/_work/fill || true; sleep 300")

    with harness.agent(["unshare", "--mount", "bash", "-c", f"{mount} && exec {sys.executable} -m agent"]) as agent:
        agent.process.wait(600)

    word = harness.word()
    assert (word.status, word.reason) == (Status.FAILURE, "disk_full")
    assert any(part == f"disk full: {runner}" for part in word.degraded)
