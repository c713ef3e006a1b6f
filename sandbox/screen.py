"""What `runs-fleet local` does and shows: a workflow from webhook to machines that no longer exist, on this machine alone."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.commands.terminal import counted
from orchestrator.store.model import Session
from sandbox.chaos import Chaos
from sandbox.github.records import JobRecord, RunRecord
from sandbox.plan import Workflow
from sandbox.proof import cost_of, drained, faults_of
from sandbox.workflow import Unsupported, read_workflow
from sandbox.workflow.labels import of_other_runners
from sandbox.world import STALLED_BY_FAULTS_S, STALLED_S, Leftovers, World, play, world

EXPLAINED = (
    "times after the first job was queued; to exec, running: the agent's own; lines: the runner's and the agent's in CloudWatch"
    " (what steps print goes to GitHub)"
)
EXPLAINED_SHORT = "times after the first job was queued; a wider terminal shows more"
GREEN, RED, DIM = "green", "red", "dim"
KEPT = "what was written is kept: {}"


def show(
    path: Path, *, variables: Mapping[str, str] | None = None, keep: bool = False, faults: frozenset[str] = frozenset(), seed: int = 5,
    config_source: str = "ssm", before_proof: Callable[[World], None] = lambda up: None,
) -> int:  # fmt: skip
    """What `local` does; returns the exit code: 0 only if every job came to an end and nothing is left."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 132))
    try:
        workflow = read_workflow(path, variables)
    except Unsupported as error:
        console.print(Text(str(error), style=RED), highlight=False, soft_wrap=True)
        return 2
    root = Path(tempfile.mkdtemp(prefix="runs-fleet-"))
    begun_s = time.monotonic()
    show_plan(console, workflow)
    console.print(f"[{DIM}]starting an AWS, a GitHub and the orchestrator on this machine[/]", highlight=False)
    with world(root, config_source=config_source) as up:
        up.serve()
        console.print(f"[{DIM}]cloud {up.cloud.url} · github {up.github.url} · orchestrator {up.stack.url if up.stack else ''} · {time.monotonic() - begun_s:.1f} s[/]", highlight=False)  # fmt: skip
        raging = Chaos(up, faults, seed)
        if faults:
            console.print(f"[{DIM}]faults: {', '.join(sorted(faults))} · seed {seed}[/]", highlight=False)
            raging.begin()
        try:
            with Live(console=console, refresh_per_second=8, transient=True) as live:
                stalled_s = STALLED_BY_FAULTS_S if faults else STALLED_S
                run = play(up, workflow, lambda run: live.update(_progress(up, run)), raging.is_over, stalled_s=stalled_s)
        except TimeoutError as error:
            console.print(Text(str(error), style=RED))
            console.print(KEPT.format(root), highlight=False, soft_wrap=True)
            return 1
        finally:
            raging.settle()
        if keep:
            _show_and_wait(console, up, run)
        sessions = up.sessions()
        drained(up)
        up.stop_serving()
        before_proof(up)
        raging.end()
        left, wrong = up.leftovers(), faults_of(up, [run, *(one.run for one in raging.asides)])
        console.print(_summary(run, sessions, console.width))
        if faults:
            _show_storm(console, raging, run, sessions, up.cloud.fleet_calls)
        show_what_was_left_out(console, run)
        show_red_jobs(console, run)
    ends = left.none and not wrong and all(session.status for session in sessions)
    ends = ends and (not faults or all(job.conclusion == "success" for job in run.jobs))
    _show_proof(console, wrong, left, time.monotonic() - begun_s)
    if not ends:
        console.print(KEPT.format(root), highlight=False, soft_wrap=True)
        return 1
    shutil.rmtree(root, ignore_errors=True)
    return 0


def _show_proof(console: Console, wrong: list[str], left: Leftovers, took_s: float) -> None:
    for fault in wrong:
        console.print(f"[{RED}]wrong:[/] {escape(fault)}", highlight=False, soft_wrap=True)
    word = f"[{GREEN}]nothing is left[/]" if left.none else f"[{RED}]something is left[/]"
    console.print(
        f"{word}: {counted(left.instances, 'instance')}, {counted(left.registrations, 'registration')},"
        f" {counted(left.configurations, 'configuration')}"
        f" · {took_s:.1f} s",
        highlight=False,
    )


def show_plan(console: Console, workflow: Workflow) -> None:
    """What will run, and which of it a real fleet would leave to other runners."""
    jobs = list(workflow.every_job())
    more = " or more" if any(job.matrix_source is not None for job in jobs) else ""
    console.print(
        f"[bold]{escape(workflow.name)}[/]: {counted(len(jobs), 'job')}{more}, from webhook to gone machine",
        highlight=False,
    )
    _show_labels_of_others(console, of_other_runners(job.labels for job in jobs))


def _show_labels_of_others(console: Console, label_sets: list[tuple[str, ...]]) -> None:
    for labels in label_sets:
        told = f"labels {', '.join(labels)} are not this fleet's: run here all the same (GitHub would wait for another runner)"
        console.print(f"[{DIM}]{escape(told)}[/]", highlight=False)


def _progress(up: World, run: RunRecord) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("job", "state", "runner", "machine"):
        table.add_column(column)
    machines = {up.cloud.instances.runner_name(one): one for one in list(up.cloud.instances.machines)}
    for job in run.jobs:
        colour = {"success": GREEN, "failure": RED}.get(job.conclusion or "", "yellow" if job.status == "in_progress" else DIM)
        state = job.conclusion or job.status
        table.add_row(escape(job.plan.name), f"[{colour}]{state}[/]", job.runner_name, machines.get(job.runner_name or "-", ""))
    return table


WIDE = 126
"""Columns of a terminal that shows all of the table; a narrower one gets what matters most."""
SHORT = ("job", "try", "result", "ended", "gone", "machine")


def _summary(run: RunRecord, sessions: list[Session], width: int) -> Table:
    """One row an attempt. The machine shown is the one that ran it; times are seconds since the first job was queued."""
    rows = _rows(run, sessions)
    names = [name for name in rows[0] if (width >= WIDE or name in SHORT) and (name != "try" or run.past)] if rows else []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), caption_justify="left", header_style="bold")
    table.caption = EXPLAINED if width >= WIDE else EXPLAINED_SHORT
    for name in names:
        justify: Literal["left", "right"] = "left" if name in ("job", "result", "machine") else "right"
        table.add_column(name, justify=justify, no_wrap=name != "job", overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table


def _rows(run: RunRecord, sessions: list[Session]) -> list[dict[str, str]]:
    by_runner = {session.registration_name: session for session in sessions}
    first_s = min((job.queued_at or job.completed_at or 0.0 for job in (*run.past, *run.jobs)), default=0.0)
    rows = []
    for job in _in_attempts(run):
        session = by_runner.get(job.runner_name)
        phases, colour = session.phases_ms if session else {}, {"success": GREEN, "failure": RED}.get(job.conclusion or "", DIM)
        rows.append(
            {
                "job": escape(job.plan.name), "try": str(job.attempt), "result": f"[{colour}]{job.conclusion}[/]",
                "queued": _after(job.queued_at or None, first_s), "launched": _after(session.launched_at if session else None, first_s),
                "started": _after(job.started_at, first_s), "ended": _after(job.completed_at, first_s),
                "gone": _after(session.closed_at if session else None, first_s),
                "to exec": f"{phases['to_exec']} ms" if "to_exec" in phases else "-",
                "running": f"{phases['running']} ms" if "running" in phases else "-",
                "lines": str(session.log_lines) if session else "-", "machine": session.instance_id if session else "-",
            }
        )  # fmt: skip
    return rows


def _in_attempts(run: RunRecord) -> list[JobRecord]:
    """Every attempt of every job, those of one job together."""
    order = {job.plan.name: at for at, job in reversed(list(enumerate(run.jobs)))}
    return sorted([*run.past, *run.jobs], key=lambda job: (order.get(job.plan.name, len(order)), job.attempt))


def show_what_was_left_out(console: Console, run: RunRecord) -> None:
    """Actions, containers and workflows of other repositories are not run here; whoever looks at a green job must see it."""
    _show_labels_of_others(console, of_other_runners(job.labels for job in run.jobs if not job.plan.labels))
    lines: dict[str, list[str]] = {}
    for job in run.jobs:
        told = []
        if used := [str(step["uses"]) for step in job.plan.steps if step.get("uses")]:
            told.append(f"actions are not run: {', '.join(used)}")
        if job.plan.left_out:
            told.append(f"no containers, services or environments are made: {', '.join(job.plan.left_out)}")
        if job.plan.remote:
            told.append(f"what needs it runs without its outputs: {job.plan.remote} is another repository's")
        for line in told if job.conclusion != "skipped" or job.is_tolerated else []:
            lines.setdefault(line, []).append(job.plan.name)
    for line, names in lines.items():
        told_of = ", ".join(names)
        console.print(f"[{DIM}]{escape(f'{told_of}: skipped here, {line}')}[/]", highlight=False)


def _show_storm(console: Console, raging: Chaos, run: RunRecord, sessions: list[Session], fleet_calls: int) -> None:
    """What went wrong, and what it cost."""
    green = sum(job.conclusion == "success" for job in run.jobs)
    again = sum(job.attempt > 1 for job in run.jobs)
    idle = sum(not session.bound_job for session in sessions)
    cost = cost_of([run, *(one.run for one in raging.asides)], sessions)
    console.print(f"[{DIM}]the storm: {raging.told()}[/]", highlight=False)
    console.print(
        f"{green} of {counted(len(run.jobs), 'job')} green, {again} of them run again; {counted(len(sessions), 'machine')} in"
        f" {counted(fleet_calls, 'fleet call')},"
        f" {idle} of them without a job; {cost.machine_s / 60:.1f} machine-minutes for {cost.jobs_s / 60:.1f} minutes of jobs"
        f" (at most {cost.allowed_s / 60:.1f})",
        highlight=False,
    )


def show_red_jobs(console: Console, run: RunRecord) -> None:
    """The last lines of what failed, and the reason of what was ended from outside."""
    for job in run.everything:
        if job.reason and job.conclusion != "success":
            console.print(f"[{RED}]{escape(job.plan.name)}[/] {job.conclusion}: {escape(job.reason)}", highlight=False)
        elif job.conclusion == "failure" and job.plan.calls is None:
            lines = [line for step in job.steps for line in step["lines"]][-6:]
            tolerated = ", and by continue-on-error stops nothing" if job.is_tolerated else ""
            console.print(f"[{RED}]{escape(job.plan.name)}[/] ended red{tolerated}; its last lines:", highlight=False)
            for line in lines:
                console.print(f"  {line}", highlight=False, markup=False)


def _after(at: float | None, first_s: float) -> str:
    return "-" if at is None else f"{max(0.0, at - first_s):.1f} s"


def _show_and_wait(console: Console, up: World, run: RunRecord) -> None:
    """The result so far, and the way inside; until Ctrl-C."""
    console.print(_summary(run, up.sessions(), console.width))
    show_red_jobs(console, run)
    environment = up.stack.environment if up.stack else {}
    console.print(
        f"left running: cloud {up.cloud.url}, github {up.github.url}, orchestrator {up.stack.url if up.stack else ''}",
        highlight=False,
    )
    file = up.root / "environment"
    file.touch(0o600)
    named = {name: value for name, value in environment.items() if name.startswith(("AWS_", "RUNS_FLEET_"))}
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in named.items()), "utf-8")
    console.print(f"to look inside with runs-fleet or aws:  . {file}", highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
