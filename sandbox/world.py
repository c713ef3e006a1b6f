"""The sandbox's world: a cloud, a GitHub and an orchestrator on this machine, and a workflow played in it to the end."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.contract.names import CONFIG_OBJECTS
from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.adapters.processes import LocalProcesses
from orchestrator.compute.local import LocalStrategy
from orchestrator.jobs.model import RerunState
from orchestrator.jobs.records import JobRecords
from orchestrator.store.model import Session
from orchestrator.store.states import SessionState
from orchestrator.store.tables import JOBS, SESSIONS
from sandbox.cloud import Bodies, Cloud
from sandbox.github.records import RunRecord
from sandbox.github.server import StandInGitHub
from sandbox.plan import Workflow
from sandbox.stack import STACK, Stack, deploy

READY_S = 120.0
CLOSE_S = 320.0
"""Seconds after the last job in which every machine must be gone and everything removed: a job may be expected back for three
minutes, and a surplus machine is kept for one or two."""
STALLED_S = 180.0
"""Seconds in which a waiting job must get its machine; a job that runs is bounded by its own timeout."""
NOT_BEGUN = f"no job changed its state for {STALLED_S:.0f} s"
LOG_TAIL = 6000
"""Characters of the orchestrator's log shown when something is stuck."""


@dataclass(frozen=True)
class Leftovers:
    """What still exists, as the cloud and GitHub tell it."""

    instances: int
    registrations: int
    configurations: int

    @property
    def none(self) -> bool:
        """Whether nothing is left."""
        return not (self.instances or self.registrations or self.configurations)


class World:
    """The sandbox, up: cloud, GitHub, and the orchestrator as a process of its own."""

    def __init__(
        self, root: Path, *, agent: dict[str, str] | None = None, visibility_s: int = 30, config_source: str = "ssm", without_ec2: bool = False,
        instances: Bodies | None = None,
    ) -> None:  # fmt: skip
        """`config_source`: `ssm` or `s3`, for both sides. `without_ec2`: by the strategy whose bodies are processes.

        `instances`: what EC2 boots, if not real agents.
        """
        self.root, self._config_source = root, config_source
        self.bodies = root / "local" if without_ec2 else None
        self.cloud, self.github = Cloud(root, instances), StandInGitHub()
        self._agent, self._visibility_s = agent, visibility_s
        self.stack: Stack | None = None
        self.server: subprocess.Popen[bytes] | None = None
        self._restarting = False

    def start(self) -> World:
        """Everything but the orchestrator; the slow parts side by side."""
        with ThreadPoolExecutor(2) as pool:
            github = pool.submit(self.github.start)
            self.cloud.start()
            github.result()
        self.stack = deploy(
            self.cloud,
            self.github,
            visibility_s=self._visibility_s,
            agent=self._agent,
            config_source=self._config_source,
            local=self.bodies,
        )
        self.github.webhook_url = f"{self.stack.url}/webhook"
        return self

    def serve(self, **extra: str) -> None:
        """Start the orchestrator and wait until it answers. Raises: RuntimeError with its log if it does not."""
        assert self.stack is not None
        with (self.root / "orchestrator.log").open("ab") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "serve"], env={**self.stack.environment, **extra}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd=self.root,
            )  # fmt: skip
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s and self.server.poll() is None:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the orchestrator did not come up:\n{(self.root / 'orchestrator.log').read_text(encoding='utf-8')}")

    def stop_serving(self) -> None:
        """SIGTERM, as an operator would."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()

    def stop(self) -> None:
        """Everything, machines first."""
        self.stop_serving()
        self.cloud.stop()
        self.github.stop()

    def kill(self) -> None:
        """The orchestrator dies as under kill -9, and is started again."""
        self._restarting = True
        try:
            if self.server is not None:
                self.server.kill()
                self.server.wait()
            self.serve()
        finally:
            self._restarting = False

    def ended_by_itself(self) -> str:
        """How the orchestrator ended that nobody has stopped; empty: it has not."""
        status = None if self._restarting or self.server is None else self.server.poll()
        return "" if status is None else f"the orchestrator has ended by itself, with status {status}"

    def rescuing(self) -> bool:
        """Whether a reclaimed job is still to be run again."""
        return any(rerun.state is RerunState.WAITING for rerun in records(self.cloud, STACK).reruns())

    def has_heard(self, run: RunRecord) -> bool:
        """Whether the orchestrator knows how each job ended that our machines ran: what a delivery told that was lost comes late."""
        known = records(self.cloud, STACK)
        ours = [job for job in run.jobs if job.runner_name.startswith(f"{STACK}-")]
        return all((told := known.job(str(job.id))) is not None and told.conclusion == job.conclusion for job in ours)

    def sessions(self) -> list[Session]:
        """The orchestrator's own records, read from outside."""
        return list(records(self.cloud, STACK).sessions())

    def leftovers(self) -> Leftovers:
        """Count what still exists, as the cloud tells it."""
        wanted = [
            {"Name": "tag:runs-fleet:stack", "Values": [STACK]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        found = self.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=wanted)
        instances = sum(len(reservation["Instances"]) for page in found for reservation in page["Reservations"])
        pages = self.cloud.client("ssm").get_paginator("describe_parameters").paginate()
        mine = [p for page in pages for p in page["Parameters"] if p["Name"].startswith("/runs-fleet/")]
        listed = self.cloud.client("s3").list_objects_v2(Bucket=f"{STACK}-config", Prefix=CONFIG_OBJECTS)
        configurations = len(mine) + int(listed["KeyCount"])
        if self.bodies is not None:
            nothing = LocalStrategy(LocalProcesses(self.bodies, (), {}), architecture="", stack_id=STACK, slots=0)
            instances += sum(1 for _ in nothing.list_sessions())
        return Leftovers(instances + len(self.cloud.instances.machines), len(self.github.state.runners), configurations)


class CloudClients(Clients):
    """The orchestrator's own adapter on the sandbox's clients."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def get(self, service: str, region: str | None = None) -> Any:
        """A client of the sandbox's cloud."""
        return self._cloud.client(service)


def records(cloud: Cloud, stack: str) -> JobRecords:
    """The records of one stack, read by the orchestrator's own adapter on the sandbox's clients."""
    return JobRecords(DynamoTables(CloudClients(cloud), {JOBS: f"{stack}-jobs", SESSIONS: f"{stack}-sessions"}))


@contextlib.contextmanager
def world(root: Path | None = None, **options: Any) -> Iterator[World]:
    """A world for as long as the block lasts; its directory goes with it unless it was given."""
    directory = root or Path(tempfile.mkdtemp(prefix="runs-fleet-"))
    up = World(directory, **options)
    try:
        yield up.start()
    finally:
        up.stop()
        if root is None:
            shutil.rmtree(directory, ignore_errors=True)


def play(up: World, workflow: Workflow, seen: Callable[[RunRecord], None] = lambda run: None) -> RunRecord:
    """Run the workflow to its end: every job completed, every session closed.

    Raises: TimeoutError with what is stuck, or as soon as the orchestrator has ended by itself.
    """
    run = up.github.state.dispatch(workflow)
    still: tuple[str, ...] = ()
    closing_s, still_since_s = None, time.monotonic()
    while True:
        seen(run)
        up.github.state.reap()
        now_s = time.monotonic()
        picture = tuple(job.status for job in run.jobs)
        if picture != still or "in_progress" in picture:
            still, still_since_s = picture, now_s
        if run.status != "completed":
            closing_s = None
        else:
            closing_s = closing_s or now_s + CLOSE_S
            sessions = up.sessions()
            closed = bool(sessions) and all(s.state is SessionState.CLOSED for s in sessions)
            settled = closed and not up.cloud.instances.machines and up.has_heard(run) and not up.rescuing()
            if settled and run.status == "completed":
                return run  # asked last: a re-run may have begun while we looked
            if not sessions and all(job.conclusion in ("skipped", "cancelled") or job.reason for job in run.jobs):
                return run
        ended = up.ended_by_itself()
        if ended or now_s > (closing_s or still_since_s + STALLED_S):
            stuck = ", ".join(f"{s.session_id} is {s.state.value}" for s in up.sessions() if s.state is not SessionState.CLOSED)
            log = (up.root / "orchestrator.log").read_text(encoding="utf-8")[-LOG_TAIL:]
            picture_now = ", ".join(f"{job.plan.name} {job.status}" for job in run.jobs)
            raise TimeoutError(f"{ended or stuck or NOT_BEGUN}; {picture_now}. The end of the orchestrator's log:\n{log}")
        time.sleep(0.1)
