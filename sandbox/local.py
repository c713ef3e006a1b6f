"""`runs-fleet local`: a workflow file from webhook to machines that no longer exist, on this machine alone."""

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
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from agent.contract.names import CONFIG_OBJECTS
from orchestrator.adapters.aws import Clients
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.adapters.processes import LocalBodies
from orchestrator.marks import JOBS, SESSIONS
from orchestrator.model import Session
from orchestrator.records import Records
from orchestrator.states import RescueState, SessionState
from orchestrator.strategies.local import LocalStrategy
from sandbox.cloud import Bodies, Cloud
from sandbox.github.server import StandInGitHub
from sandbox.github.state import RunRecord
from sandbox.stack import STACK, Stack, deploy
from sandbox.storm import WORKFLOW, Storm, read_faults
from sandbox.workflow import Unsupported, Workflow, read_workflow

EXAMPLE = Path(__file__).parent / "example.yml"
READY_S = 30.0
CLOSE_S = 320.0
"""Seconds after the last job in which every machine must be gone and everything removed: a job may be expected back for three
minutes, and a surplus machine is kept for one or two."""
STALLED_S = 45.0
"""Seconds in which a waiting job must get its machine; a job that runs is bounded by its own timeout."""
EXPLAINED = (
    "times after the first job was queued; to exec, running: the agent's own; log lines: the runner's and the agent's in CloudWatch"
    " (what steps print goes to GitHub)"
)
LAST_WORDS = 6000
"""Characters of the orchestrator's log shown when something is stuck."""
GREEN, RED, DIM = "green", "red", "dim"
KEPT = "what was written is kept: {}"


@dataclass(frozen=True)
class Leftovers:
    """What still exists, counted by clients that had no part in the run."""

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
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        self.serve()

    def rescuing(self) -> bool:
        """Whether a reclaimed job is still to be run again."""
        return any(rescue.state is RescueState.WAITING for rescue in records(self.cloud, STACK).rescues())

    def has_heard(self, run: RunRecord) -> bool:
        """Whether the orchestrator knows how each job ended that our machines ran: what a delivery told that was lost comes late."""
        known = records(self.cloud, STACK)
        ours = [job for job in run.jobs if job.runner_name.startswith(f"{STACK}-")]
        return all((told := known.job(str(job.id))) is not None and told.conclusion == job.conclusion for job in ours)

    def sessions(self) -> list[Session]:
        """The orchestrator's own records, read from outside."""
        return list(records(self.cloud, STACK).sessions())

    def leftovers(self) -> Leftovers:
        """Count what still exists, with fresh clients."""
        wanted = [
            {"Name": "tag:runs-fleet:stack", "Values": [STACK]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        found = self.cloud.fresh_client("ec2").get_paginator("describe_instances").paginate(Filters=wanted)
        instances = sum(len(reservation["Instances"]) for page in found for reservation in page["Reservations"])
        pages = self.cloud.fresh_client("ssm").get_paginator("describe_parameters").paginate()
        mine = [p for page in pages for p in page["Parameters"] if p["Name"].startswith("/runs-fleet/")]
        listed = self.cloud.fresh_client("s3").list_objects_v2(Bucket=f"{STACK}-config", Prefix=CONFIG_OBJECTS)
        configurations = len(mine) + int(listed["KeyCount"])
        if self.bodies is not None:
            nothing = LocalStrategy(LocalBodies(self.bodies, (), {}), architecture="", stack_id=STACK, slots=0)
            instances += sum(1 for _ in nothing.list_sessions())
        return Leftovers(instances + len(self.cloud.instances.machines), len(self.github.state.runners), configurations)


class CloudClients(Clients):
    """The orchestrator's own adapter on the sandbox's clients."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def get(self, service: str, region: str | None = None) -> Any:
        return self._cloud.client(service)


def records(cloud: Cloud, stack: str) -> Records:
    """The records of one stack, read by the orchestrator's own adapter on the sandbox's clients."""
    return Records(DynamoTables(CloudClients(cloud), {JOBS: f"{stack}-jobs", SESSIONS: f"{stack}-sessions"}))


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
    """Run the workflow to its end: every job completed, every session closed. Raises: TimeoutError with what is stuck."""
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
            if not sessions and all(job.conclusion in ("skipped", "cancelled") for job in run.jobs):
                return run
        if now_s > (closing_s or still_since_s + STALLED_S):
            stuck = ", ".join(f"{s.session_id} is {s.state.value}" for s in up.sessions() if s.state is not SessionState.CLOSED)
            log = (up.root / "orchestrator.log").read_text(encoding="utf-8")[-LAST_WORDS:]
            picture_now = ", ".join(f"{job.plan.name} {job.status}" for job in run.jobs)
            raise TimeoutError(f"not everything came to its end: {stuck or 'jobs are still waiting'}; {picture_now}\n{log}")
        time.sleep(0.1)


def local(
    workflow: Annotated[Path | None, typer.Argument(help="A workflow file; default: an example of three jobs.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and print where.")] = False,
    faults: Annotated[
        str,
        typer.Option("--faults", help="What goes wrong, joined by commas; `storm`: everything, in measure; `?`: what there is."),
    ] = "",
    config_source: Annotated[str, typer.Option(help="Where configurations are laid down: `ssm` or `s3`.")] = "ssm",
) -> None:
    """Show the whole fleet on this machine: the jobs of WORKFLOW from webhook to machines that no longer exist."""
    try:
        wrong = read_faults(faults)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if config_source not in ("ssm", "s3"):
        raise SystemExit(f"--config-source: expected ssm or s3, found {config_source!r}")
    path = workflow or (WORKFLOW if wrong else EXAMPLE)
    raise SystemExit(show(path, keep=keep, faults=wrong, config_source=config_source))


def show(
    path: Path, *, keep: bool = False, faults: frozenset[str] = frozenset(), config_source: str = "ssm",
    before_proof: Callable[[World], None] = lambda up: None,
) -> int:  # fmt: skip
    """What `local` does; returns the exit code: 0 only if every job came to an end and nothing is left."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 132))
    try:
        workflow = read_workflow(path)
    except Unsupported as error:
        console.print(Text(str(error), style=RED), highlight=False)
        return 2
    root = Path(tempfile.mkdtemp(prefix="runs-fleet-"))
    begun_s = time.monotonic()
    console.print(f"[bold]{escape(workflow.name)}[/]: {len(workflow.jobs)} jobs, from webhook to gone machine", highlight=False)
    with world(root, config_source=config_source) as up:
        up.serve()
        console.print(f"[{DIM}]cloud {up.cloud.url} · github {up.github.url} · orchestrator {up.stack.url if up.stack else ''} · {time.monotonic() - begun_s:.1f} s[/]", highlight=False)  # fmt: skip
        raging = Storm(up.cloud, up.github, up.kill, faults)
        if faults:
            raging.begin()
        try:
            with Live(console=console, refresh_per_second=8, transient=True) as live:
                run = play(up, workflow, lambda run: live.update(_progress(up, run)))
        except TimeoutError as error:
            console.print(Text(str(error), style=RED))
            console.print(KEPT.format(root), highlight=False, soft_wrap=True)
            return 1
        sessions = up.sessions()
        if keep:
            _wait_for_the_user(console, up)
        up.stop_serving()
        before_proof(up)
        raging.end()
        left = up.leftovers()
        console.print(_summary(run, sessions))
        if faults:
            _show_storm(console, raging, run, sessions, up.cloud.fleet_calls)
        _show_skipped_steps(console, run)
        _show_red_jobs(console, run)
    ends = left.none and all(session.status for session in sessions)
    ends = ends and (not faults or all(job.conclusion == "success" for job in run.jobs))
    word = f"[{GREEN}]nothing is left[/]" if left.none else f"[{RED}]something is left[/]"
    console.print(
        f"{word}: {left.instances} instances, {left.registrations} registrations, {left.configurations} configurations"
        f" · {time.monotonic() - begun_s:.1f} s",
        highlight=False,
    )
    if not ends:
        console.print(KEPT.format(root), highlight=False, soft_wrap=True)
        return 1
    shutil.rmtree(root, ignore_errors=True)
    return 0


def _progress(up: World, run: RunRecord) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("job", "state", "runner", "machines"):
        table.add_column(column)
    machines = list(up.cloud.instances.machines)
    for at, job in enumerate(run.jobs):
        colour = {"success": GREEN, "failure": RED}.get(job.conclusion or "", "yellow" if job.status == "in_progress" else DIM)
        state = job.conclusion or job.status
        table.add_row(escape(job.plan.name), f"[{colour}]{state}[/]", job.runner_name, machines[at] if at < len(machines) else "")
    return table


def _summary(run: RunRecord, sessions: list[Session]) -> Table:
    """One row a job. The machine shown is the one that ran it; times are seconds since the job was queued."""
    table = Table(caption=EXPLAINED, caption_justify="left")
    for column in (
        "job",
        "result",
        "queued",
        "launched",
        "started",
        "ended",
        "gone",
        "to exec",
        "running",
        "log lines",
        "machine",
    ):
        table.add_column(column, justify="left" if column in ("job", "result", "machine") else "right", no_wrap=True)
    by_runner = {session.runner_name: session for session in sessions}
    first_s = min(job.queued_at or job.completed_at or 0.0 for job in run.jobs)
    for job in run.jobs:
        session = by_runner.get(job.runner_name)
        colour = {"success": GREEN, "failure": RED}.get(job.conclusion or "", DIM)
        cells = [escape(job.plan.name), f"[{colour}]{job.conclusion}[/]", _after(job.queued_at or None, first_s)]
        cells += [_after(at, first_s) for at in (session.launched_at if session else None, job.started_at, job.completed_at)]
        cells.append(_after(session.closed_at if session else None, first_s))
        phases = session.phases_ms if session else {}
        cells += [f"{phases[name]} ms" if name in phases else "-" for name in ("to_exec", "running")]
        cells += [str(session.log_lines) if session else "-", session.instance_id if session else "-"]
        table.add_row(*cells)
    return table


def _show_skipped_steps(console: Console, run: RunRecord) -> None:
    """Steps that use an action are not run here; whoever looks at a green job must see it."""
    for job in run.jobs:
        used = [step.get("uses") for step in job.plan.steps if step.get("uses") and job.conclusion != "skipped"]
        if used:
            console.print(f"[{DIM}]{escape(job.plan.name)}: skipped here, actions are not run: {escape(', '.join(map(str, used)))}[/]", highlight=False)  # fmt: skip


def _show_storm(console: Console, raging: Storm, run: RunRecord, sessions: list[Session], fleet_calls: int) -> None:
    """What went wrong, and what it cost."""
    green = sum(job.conclusion == "success" for job in run.jobs)
    again = sum(job.attempt > 1 for job in run.jobs)
    idle = sum(not session.bound_job for session in sessions)
    console.print(f"[{DIM}]the storm: {raging.told()}[/]", highlight=False)
    console.print(
        f"{green} of {len(run.jobs)} jobs green, {again} of them run again; {len(sessions)} machines in {fleet_calls} fleet calls,"
        f" {idle} of them without a job",
        highlight=False,
    )


def _show_red_jobs(console: Console, run: RunRecord) -> None:
    for job in run.jobs:
        if job.conclusion == "failure":
            lines = [line for step in job.steps for line in step["lines"]][-6:]
            console.print(f"[{RED}]{escape(job.plan.name)}[/] ended red; its last lines:", highlight=False)
            for line in lines:
                console.print(f"  {line}", highlight=False, markup=False)


def _after(at: float | None, first_s: float) -> str:
    return "-" if at is None else f"{max(0.0, at - first_s):.1f} s"


def _wait_for_the_user(console: Console, up: World) -> None:
    environment = up.stack.environment if up.stack else {}
    console.print(
        f"left running: cloud {up.cloud.url}, github {up.github.url}, orchestrator {up.stack.url if up.stack else ''}",
        highlight=False,
    )
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    console.print(
        "to look inside:  " + " ".join(f"{name}={environment[name]}" for name in names), highlight=False, soft_wrap=True
    )
    console.print("Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
