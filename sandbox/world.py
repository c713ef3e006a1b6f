"""The sandbox's world: a cloud, a GitHub and an orchestrator on this machine, and a workflow played in it to the end."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
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
from sandbox.runner import release
from sandbox.stack import STACK, Stack, deploy, free_port

READY_S = 120.0
CLOSE_S = 900.0
"""Seconds after the last job in which every machine must be gone and everything removed: a job may be expected back for three
minutes, a surplus machine is kept for one or two, and whether a job is wanted is asked every five while GitHub does not answer."""
STALLED_S = 180.0
"""Seconds in which a waiting job must get its machine; a job that runs is bounded by its own timeout."""
STALLED_BY_FAULTS_S = 600.0
"""The same under faults: GitHub may refuse to be asked for 60, 120 and 240 s in a row, and the machine may die while it boots."""
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
        self.cloud, self.github = Cloud(root, instances), StandInGitHub(archive=release.archive())
        self._agent, self._visibility_s = agent, visibility_s
        self.replicas: list[subprocess.Popen[bytes]] = []
        """Orchestrators beside the first."""
        self._ports: list[int] = []
        self.stack: Stack | None = None
        self.server: subprocess.Popen[bytes] | None = None
        self._restarting: set[int] = set()
        self._killing = threading.Lock()

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
        self.server = self._served(0, self.stack.port, extra)

    def serve_also(self) -> None:
        """Start one more beside it; deliveries go to any of them from now on."""
        assert self.stack is not None
        port = free_port()
        self.replicas.append(self._served(len(self.replicas) + 1, port, {}))
        self._ports.append(port)
        self.github.deliveries.more_urls.append(f"http://127.0.0.1:{port}/webhook")

    def _served(self, number: int, port: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
        """The orchestrator of this number, once it answers."""
        assert self.stack is not None
        log_file = self._log(number)
        environment = {**self.stack.environment, "RUNS_FLEET_PORT": str(port), **extra}
        with log_file.open("ab") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self.root,
            )  # fmt: skip
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s and server.poll() is None:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return server
            time.sleep(0.02)
        raise RuntimeError(f"the orchestrator did not come up:\n{log_file.read_text(encoding='utf-8')}")

    def _log(self, number: int) -> Path:
        return self.root / (f"orchestrator-{number}.log" if number else "orchestrator.log")

    def stop_serving(self) -> None:
        """SIGTERM, as an operator would."""
        running = [one for one in (self.server, *self.replicas) if one is not None and one.poll() is None]
        for server in running:
            server.send_signal(signal.SIGTERM)
        for server in running:
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def stop(self) -> None:
        """Everything, machines first."""
        self.stop_serving()
        self.cloud.stop()
        self.github.stop()

    def kill(self, number: int = 0, down_s: float = 0.0) -> None:
        """An orchestrator dies as under kill -9, and is started again, after a while."""
        assert self.stack is not None
        with self._killing:
            self._restarting.add(number)
            try:
                server = self.replicas[number - 1] if number else self.server
                if server is not None:
                    server.kill()
                    server.wait()
                time.sleep(down_s)
                if number:
                    self.replicas[number - 1] = self._served(number, self._ports[number - 1], {})
                else:
                    self.serve()
            finally:
                self._restarting.discard(number)

    def ended_by_itself(self) -> str:
        """How an orchestrator ended that nobody has stopped; empty: none has."""
        for number, server in enumerate((self.server, *self.replicas)):
            status = None if number in self._restarting or server is None else server.poll()
            if status is not None:
                return f"the orchestrator{f' {number}' if number else ''} has ended by itself, with status {status}"
        return ""

    def rescuing(self) -> bool:
        """Whether a reclaimed job is still to be run again."""
        return any(rerun.state is RerunState.WAITING for rerun in records(self.cloud, STACK).reruns())

    def has_heard(self, run: RunRecord) -> bool:
        """Whether the orchestrator knows how each job ended that our machines ran: what a delivery told that was lost comes late."""
        known = records(self.cloud, STACK)
        ours = [job for job in run.jobs if job.runner_name.startswith(f"{STACK}-")]
        return all((told := known.job(str(job.id))) is not None and told.conclusion == job.conclusion for job in ours)

    def open_jobs(self) -> int:
        """Jobs that the orchestrator does not know to be over."""
        return sum(1 for _ in records(self.cloud, STACK).open_jobs())

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


def play(
    up: World, workflow: Workflow, seen: Callable[[RunRecord], None] = lambda run: None, others_over: Callable[[], bool] = lambda: True,
    *, stalled_s: float = STALLED_S,
) -> RunRecord:  # fmt: skip
    """Run the workflow to its end: every job completed, every session closed. `stalled_s`: how long no job may change its state.

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
            settled = (
                closed
                and not up.cloud.instances.machines
                and up.has_heard(run)
                and not up.rescuing()
                and others_over()
                and not up.open_jobs()
            )
            if settled and run.status == "completed":
                return run  # asked last: a re-run may have begun while we looked
            if not sessions and all(job.conclusion in ("skipped", "cancelled") or job.reason for job in run.jobs):
                return run
        ended = up.ended_by_itself()
        if ended or now_s > (closing_s or still_since_s + stalled_s):
            stuck = ", ".join(f"{s.session_id} is {s.state.value}" for s in up.sessions() if s.state is not SessionState.CLOSED)
            log = (up.root / "orchestrator.log").read_text(encoding="utf-8")[-LOG_TAIL:]
            picture_now = ", ".join(f"{job.plan.name} {job.status}" for job in run.jobs)
            raise TimeoutError(
                f"{ended or stuck or f'no job changed its state for {stalled_s:.0f} s'}; {picture_now}. The end of the orchestrator's log:\n{log}"
            )
        time.sleep(0.1)
