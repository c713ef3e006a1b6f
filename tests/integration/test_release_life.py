"""Whole lives that begin without a runner: its release from GitHub and S3, its registration by token, its job from a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.messages import Status
from sandbox.github.server import StandInGitHub
from sandbox.plan import PlannedJob, Workflow
from sandbox.runner import release
from tests.conftest import Moto
from tests.integration.agent_harness import AgentHarness

GROUP = "/runs-fleet/agent"
LABELS = ["self-hosted", "runs-fleet"]


@pytest.fixture(scope="module")
def github() -> Iterator[StandInGitHub]:
    made = StandInGitHub(archive=release.archive("2.997.0")).start()
    yield made
    made.stop()


@pytest.fixture
def harness(moto: Moto, tmp_path: Path, github: StandInGitHub) -> AgentHarness:
    made = AgentHarness(moto, tmp_path)
    moto.client("s3").create_bucket(Bucket="config")
    made.environment |= {
        "RUNS_FLEET_RUNNER_DIR": "/nonexistent/runner", "RUNS_FLEET_CONFIG_BUCKET": "config", "RUNS_FLEET_GITHUB_URL": github.url,
        "RUNS_FLEET_GITHUB_API_URL": github.url, "RUNS_FLEET_IDLE_TIMEOUT_SECONDS": "20",
    }  # fmt: skip
    return made


def queued(github: StandInGitHub, *steps: str) -> PlannedJob:
    job = PlannedJob(
        key="build",
        name="build",
        labels=("runs-fleet",),
        needs=(),
        condition="success()",
        matrix={},
        env={},
        outputs={},
        timeout_minutes=5.0,
        steps=tuple({"run": step} for step in steps),
    )
    github.state.dispatch(Workflow(name="w", path=Path("w.yml"), jobs=(job,)))
    return job


def registered_by_token(harness: AgentHarness, github: StandInGitHub) -> None:
    token = github.state.token("AREG")
    harness.configure(org=github.state.owner, repo=github.state.repo, jit_config=None, jit_token=token, labels=LABELS)


def test_rq4_the_first_machine_fills_the_cache_and_the_next_one_never_asks_github_for_bytes(
    harness: AgentHarness, github: StandInGitHub
) -> None:
    registered_by_token(harness, github)
    queued(github, "echo first")
    first = harness.live()
    first_word = harness.word()
    harness.moto.client("ssm").delete_parameter(Name=f"/runs-fleet/runners/{harness.instance_id}/config")
    registered_by_token(harness, github)
    queued(github, "echo second")
    github.calls.clear()

    second = harness.live()

    second_word = harness.word()
    assert (first.code, first_word.status, first_word.cache_outcome) == (0, Status.SUCCESS, "uploaded")
    assert (second.code, second_word.status, second_word.cache_outcome) == (0, Status.SUCCESS, "hit")
    assert second_word.digest == "releases-api"
    assert not [path for _, path in github.calls if path.startswith(("/cdn", "/actions/runner/releases/download"))]


def test_the_token_path_registers_ephemeral_and_the_job_says_who_it_was(harness: AgentHarness, github: StandInGitHub) -> None:
    registered_by_token(harness, github)
    queued(github, f"tr '\\0' '\\n' < /proc/$PPID/cmdline > {harness.root}/argv; env > {harness.root}/env")

    agent = harness.live()

    word = harness.word()
    assert (agent.code, word.status, word.ran_job) == (0, Status.SUCCESS, f"{github.state.owner}/{github.state.repo}:build")
    assert word.ran_run_id
    assert "AREG" not in agent.log + (harness.root / "env").read_text("utf-8")
    assert github.state.runners == {}


def test_a_token_github_refuses_ends_the_life_with_what_config_sh_said(harness: AgentHarness, github: StandInGitHub) -> None:
    harness.configure(org="octo", repo="sandbox", jit_config=None, jit_token="AREGnobodyknowsthisone", labels=LABELS)

    agent = harness.live()

    word = harness.word()
    assert (agent.code, word.status, word.reason) == (70, Status.FAILURE, "registration_failed")
    assert "Unauthorized" in word.error
    assert "AREGnobody" not in agent.log + word.error


def test_a_wrong_digest_in_the_configuration_is_fatal_and_nothing_is_run(harness: AgentHarness) -> None:
    harness.configure(runner_sha256="0" * 64)

    agent = harness.live()

    word = harness.word()
    assert (agent.code, word.status, word.reason) == (65, Status.FAILURE, "digest_mismatch")
    assert not list(harness.work.glob("runner-*"))
    assert not list(harness.work.glob(".unpacking-*"))


def test_an_upload_that_hangs_delays_neither_the_runner_nor_the_end_and_is_reported(
    harness: AgentHarness, github: StandInGitHub
) -> None:
    """The cache answers what is asked of it, but swallows uploads: a real proxy that never answers a PUT."""
    registered_by_token(harness, github)
    queued(github, "true")
    swallowing = Swallowing(harness.moto.url)

    agent = harness.live(AWS_ENDPOINT_URL_S3=swallowing.url)

    swallowing.stop()
    word = harness.word()
    assert (agent.code, word.status, word.cache_outcome) == (0, Status.SUCCESS, "abandoned")


def test_rq6_a_line_is_readable_while_the_job_still_runs(harness: AgentHarness, github: StandInGitHub) -> None:
    registered_by_token(harness, github)
    go = harness.root / "go"
    queued(github, f"until [ -e {go} ]; do sleep 0.05; done")

    with harness.agent(RUNS_FLEET_LOG_GROUP=GROUP) as agent:
        agent.says("message.outcome kind=busy")
        seen, looking = [""], threading.Event()
        while not any("Running job: build" in line for line in seen) and agent.process.poll() is None:
            looking.wait(0.1)
            groups = harness.moto.client("logs").describe_log_groups()["logGroups"]
            seen = harness.log_lines(GROUP) if groups else [""]
        still_running = agent.process.poll() is None
        go.touch()
        agent.process.wait(600)

    assert still_running
    assert harness.word().log_outcome == "shipped"


class Swallowing:
    """Forwards everything but PUTs; those are taken and never answered."""

    def __init__(self, target: str) -> None:
        import http.client
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        from urllib.parse import urlsplit

        self.over = over = threading.Event()
        parts = urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                over.wait(600)
                self.close_connection = True

            def do_GET(self) -> None:
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
                connection.request(self.command, self.path, headers=dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
