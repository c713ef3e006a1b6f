"""The `runs-fleet` command. Further words are found by entry point (group `runs_fleet.commands`)."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

    from orchestrator.wiring import Orchestrator


def main() -> None:
    """Build the command and run it."""
    try:
        import typer  # noqa: F401 - looked for before anything is built on it
    except ImportError:
        sys.exit("runs-fleet is not installed whole: pip install 'runs-fleet[orchestrator]' (or [sandbox] for `local`)")
    command()()


def command() -> typer.Typer:
    """The command with every word that is installed."""
    import typer

    app = typer.Typer(add_completion=False, no_args_is_help=True, help="Runners on EC2 that live for one job.")
    app.command()(serve)
    app.command()(jobs)
    app.command()(logs)
    for point in entry_points(group="runs_fleet.commands"):
        try:
            app.command(point.name)(point.load())
        except ImportError as error:
            sys.stderr.write(f"runs-fleet {point.name} is not available: {error}; pip install 'runs-fleet[sandbox]'\n")
    return app


def serve() -> None:
    """Take webhooks, launch machines, hear how they end (until SIGTERM)."""
    from orchestrator import serve as server

    server.serve(_orchestrator())


def jobs() -> None:
    """List the jobs we know and the sessions launched for them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    records = _orchestrator().records
    sessions = {session.bound_job or session.launched_for: session for session in records.sessions()}
    table = Table("job", "name", "repository", "state", "conclusion", "runner", "session", "instance", "status")
    for job in sorted(records.jobs(), key=lambda job: job.queued_at):
        session = sessions.get(job.job_id)
        place = (
            [session.state.value, session.instance_id, f"{session.status} {session.reason}".strip()]
            if session
            else ["-", "-", "-"]
        )
        table.add_row(
            job.job_id, escape(job.name), f"{job.owner}/{job.repo}", job.state.value, job.conclusion, job.runner_name, *place
        )
    Console().print(table)


def logs(job: str) -> None:
    """Print the log stream of the machine that ran (or was launched for) JOB."""
    import boto3

    from agent.contract.names import log_stream_name

    orchestrator = _orchestrator()
    group = orchestrator.settings.log_group or sys.exit("RUNS_FLEET_LOG_GROUP is not set: expected the agents' log group")
    known = orchestrator.records.job(job) or sys.exit(f"no job {job} is known: `runs-fleet jobs` lists them")
    ran = [s for s in orchestrator.records.sessions() if s.runner_name == known.runner_name or s.launched_for == job]
    ran.sort(key=lambda s: s.runner_name != known.runner_name)
    if not ran or not ran[0].instance_id:
        sys.exit(f"no machine has run job {job} yet")
    stream = log_stream_name(ran[0].instance_id, ran[0].launched_for)
    client = boto3.client("logs")
    token: dict[str, str] = {}
    while True:
        page = client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True, **token)
        for event in page["events"]:
            stamp = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
            sys.stdout.write(f"{stamp} {event['message']}\n")
        if token.get("nextToken") == page["nextForwardToken"]:
            return
        token = {"nextToken": page["nextForwardToken"]}


def _orchestrator() -> Orchestrator:
    from orchestrator.errors import SettingsInvalid
    from orchestrator.settings import read_settings
    from orchestrator.wiring import orchestrator

    try:
        return orchestrator(read_settings(os.environ))
    except SettingsInvalid as error:
        sys.exit("\n".join(["runs-fleet cannot start:", *(f"  {problem}" for problem in error.problems)]))
