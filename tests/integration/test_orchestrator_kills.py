"""kill -9 before and after every call of a normal run: afterwards one instance was ever made, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.states import SessionState
from sandbox.cloud import Cloud
from sandbox.github.server import StandInGitHub
from sandbox.plan import PlannedJob, Workflow
from sandbox.stack import deploy
from sandbox.world import records
from tests.integration.killing import KillingProxy, PuppetFleet, Watch, spawn

ENDS_WITHIN_S = 600.0
NORMAL_RUN = [
    ("SendMessage", 1), ("TransactWriteItems", 1), ("TransactWriteItems", 2), ("TransactWriteItems", 3),
    ("TransactWriteItems", 4), ("TransactWriteItems", 6), ("CreateFleet", 1),
    ("POST /repos/octo/sandbox/actions/runners/generate-jitconfig", 1), ("PutParameter", 1), ("DeleteParameter", 1),
]  # fmt: skip
"""Where it is struck here; the matrix in memory (tests/orchestrator/test_crashes.py) strikes after every single call."""
ONCE = {"CreateFleet", "PutParameter", "POST /repos/octo/sandbox/actions/runners/generate-jitconfig"}
LOOKS = {
    "ReceiveMessage", "Scan", "GetItem", "Query", "PutItem", "UpdateItem", "DeleteMessage", "DescribeInstances",
    "DescribeSubnets", "DescribeParameters", "DescribeLaunchTemplates", "GetQueueAttributes", "GET /app/hook/deliveries",
    "POST /app/hook/deliveries/#/attempts", "GET /repos/octo/sandbox/actions/runners", "GET /repos/octo/sandbox/actions/runs/#",
    "POST /app/installations/#/access_tokens", "GET /rate_limit", "GET /repos/octo/sandbox/actions/runs",
    "GET /repos/octo/sandbox/actions/runs/#/jobs", "GetCallerIdentity", "DescribeTable", "DescribeTimeToLive", "DescribeImages",
    "DescribeLaunchTemplateVersions", "GET /app", "GET /app/hook/config", "GET /app/installations",
    "GET /repos/actions/runner/releases/latest",
}  # fmt: skip
"""Struck in memory only: looks (the checks before it is ready; the backfill's first round may fall into the run), wakes, and
what is deleted when it is done."""


class Ground:
    """One cloud, one GitHub and one zygote for all scenarios of this process; each scenario has a stack of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.github = StandInGitHub().start()
        self.fleet = PuppetFleet(
            self.github, lambda service: self.cloud.client(service), lambda body, service: self.cloud.client_of(body, service)
        )
        self.cloud = Cloud(root, self.fleet).start()
        script = Path(__file__).with_name("zygote.py")
        checkout = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self.zygote = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=checkout
        )
        assert self.zygote.stdout is not None
        assert self.zygote.stdout.readline().startswith("ready")

    def stop(self) -> None:
        assert self.zygote.stdin is not None
        self.zygote.stdin.close()
        self.zygote.wait(600)
        self.cloud.stop()
        self.github.stop()


class Scenario:
    """One job through an orchestrator that may be killed once, and is then started again without the killer."""

    def __init__(self, ground: Ground, plan: tuple[str, int, str] | None) -> None:
        self.ground, self.name = ground, f"k{uuid.uuid4().hex[:10]}"
        self.watch = Watch()
        self.watch.plan = plan
        self.aws, self.api = KillingProxy(ground.cloud.url, self.watch), KillingProxy(ground.github.url, self.watch)
        self.stack = deploy(ground.cloud, ground.github, visibility_s=1, name=self.name)
        ground.fleet.queue_url = self.stack.termination_queue_url
        ground.github.webhook_url = f"{self.stack.url}/webhook"
        self.pid = 0

    def start(self, *, watched: bool) -> None:
        environment = {
            **self.stack.environment,
            "LOG": str(self.ground.root / f"{self.name}.log"),
            "RUNS_FLEET_SWEEP_SECONDS": "0.5",
            "RUNS_FLEET_LEASE_SECONDS": "2",
            "RUNS_FLEET_WATCH_SECONDS": "1",
            "RUNS_FLEET_POLL_SECONDS": "1",
            "RUNS_FLEET_RECOVERY_SECONDS": "600",
        }
        if watched:
            environment |= {"AWS_ENDPOINT_URL": self.aws.url, "RUNS_FLEET_GITHUB_API_URL": self.api.url}
        self.pid = self.watch.pid = spawn(self.ground.zygote, environment)

    def run(self) -> None:
        label = f"only-{self.name}"
        job = PlannedJob(
            key="one",
            name="one",
            labels=(label,),
            needs=(),
            condition="success()",
            matrix={},
            env={},
            outputs={},
            timeout_minutes=5.0,
            steps=(),
        )
        self.start(watched=True)
        self.job = self.ground.github.state.dispatch(Workflow(name="kills", path=Path("kills.yml"), jobs=(job,))).jobs[0]
        until_s = time.monotonic() + ENDS_WITHIN_S
        event = self.watch.killed
        while not self.over() and time.monotonic() < until_s:
            if event.wait(0.2) and event is self.watch.killed:
                event = threading.Event()
                self.start(watched=False)
            elif event is not self.watch.killed:
                os.kill(self.pid, 0)  # ProcessLookupError: it has ended by itself, and there is nothing to wait for

    def over(self) -> bool:
        """All closed. Read only when the job is over: this process is the cloud as well, and every reading slows it."""
        if self.job.conclusion is None:
            return False
        sessions = self.sessions()
        return bool(sessions) and all(s.state is SessionState.CLOSED for s in sessions)

    def sessions(self) -> list[Any]:
        return list(records(self.ground.cloud, self.name).sessions())

    def instances(self) -> list[str]:
        wanted = [{"Name": "tag:runs-fleet:stack", "Values": [self.name]}]
        found = self.ground.cloud.client("ec2").describe_instances(Filters=wanted)["Reservations"]
        return [i["State"]["Name"] for reservation in found for i in reservation["Instances"]]

    def end(self) -> None:
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.aws.stop()
        self.api.stop()

    def log(self) -> str:
        return (self.ground.root / f"{self.name}.log").read_text("utf-8")[-3000:]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("kills"))
    yield made
    made.stop()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("call", "nth"), NORMAL_RUN, ids=[f"{call.split('/')[-1]}-{nth}" for call, nth in NORMAL_RUN])
def test_h1_killed_at_any_call_the_fleet_still_makes_one_instance_and_leaves_nothing(
    ground: Ground, call: str, nth: int, when: str
) -> None:
    scenario = Scenario(ground, (call, nth, when))
    try:
        scenario.run()

        assert scenario.watch.killed.is_set(), f"this run never made its {nth}. {call}: {Counter(scenario.watch.calls)}"
        assert scenario.over(), scenario.log()
        assert scenario.instances() == ["terminated"]
        assert scenario.job.conclusion == "success", scenario.log()
        assert [r.name for r in ground.github.state.runners.values() if r.name.startswith(scenario.name)] == []
        assert ground.cloud.client("ssm").describe_parameters()["Parameters"] == []
    finally:
        scenario.end()


def test_the_kill_points_cover_every_kind_of_call_of_a_normal_run(ground: Ground) -> None:
    scenario = Scenario(ground, None)
    try:
        scenario.run()

        assert scenario.over(), scenario.log()
        made = Counter(scenario.watch.calls)
        covered = Counter(call for call, _ in NORMAL_RUN)
        assert set(made) - LOOKS == set(covered)
        assert {call: made[call] for call in ONCE} == dict.fromkeys(ONCE, 1)
    finally:
        scenario.end()


def test_a_thread_of_the_puppet_fleet_never_outlives_its_instance(ground: Ground) -> None:
    assert not [t for t in threading.enumerate() if t in ground.fleet.machines.values() and not t.is_alive()]
