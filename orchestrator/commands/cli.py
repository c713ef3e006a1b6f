"""The `runs-fleet` command. Further words are found by entry point (group `runs_fleet.commands`)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Annotated, TypeVar

from agent.contract.shown import as_line
from orchestrator.adapters.journal import TextJournal
from orchestrator.commands.listing import job_row, session_of, session_row, web_url
from orchestrator.commands.terminal import Json, argument, counted, moment, option, say, show, show_document
from orchestrator.errors import NotServed, OrchestratorError, SettingsInvalid
from orchestrator.readiness import CREDENTIALS_HINT, NOT_LET_IN

if TYPE_CHECKING:
    import typer

    from orchestrator.wiring import Orchestrator

Made = TypeVar("Made")
ABSENT = frozenset({"ResourceNotFoundException", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
"""What AWS says of a table, a log group or a queue that is not there."""


NONE_OPEN = "none that is open: --all lists those that are over"
WORDS = "runs-fleet: runners on EC2 that live for one job. Settings are RUNS_FLEET_… variables: docs/configuration.md."
MISSING = {"dynamodb": "the table", "sqs": "the queue"}
"""Of what a service answers that it is not there."""


def main() -> None:
    """Build the command and run it."""
    try:
        import typer  # noqa: F401 - looked for before anything is built on it
    except ImportError:
        sys.exit("runs-fleet is not installed whole: pip install 'runs-fleet[orchestrator]' (or [sandbox] for `local`)")
    try:
        command()()
    except OrchestratorError as error:
        sys.exit(as_line(f"runs-fleet: {_hinted(error)}"))
    except Exception as error:
        if not type(error).__module__.startswith("botocore."):
            raise
        sys.exit(as_line(f"runs-fleet: {error} ({CREDENTIALS_HINT})"))


def _hinted(error: OrchestratorError) -> str:
    """The error, and what to do about those that a new user meets first."""
    code, action = getattr(error, "code", ""), getattr(error, "action", "")
    if code in NOT_LET_IN:
        return f"{error} ({CREDENTIALS_HINT})"
    if code in ABSENT and action.startswith("logs:"):
        return f"{error} (no machine of this stack has written there yet, or the setting names another log group)"
    if code in ABSENT:
        thing = MISSING.get(action.partition(":")[0], "it")
        return f"{error} ({thing} is not there: `runs-fleet doctor` says what is missing, and how it is made)"
    return str(error)


def command() -> typer.Typer:
    """The command with every word that is installed."""
    import typer

    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=WORDS)
    app.callback()(_options)
    for word in (serve, doctor, jobs, sessions, explain, logs, launch, terminate, pause, resume, drain, audit):
        app.command()(word)
    for point in entry_points(group="runs_fleet.commands"):
        try:
            app.command(point.name)(point.load())
        except ImportError as error:
            app.command(point.name, context_settings=ANY_WORDS)(_missing(point.name, str(error)))
    return app


ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


def _missing(name: str, why: str) -> Callable[[], None]:
    """A word whose packages are not installed: it says so when it is called, and not before."""

    def absent() -> None:
        sys.exit(f"runs-fleet {name} is not installed ({why}): pip install 'runs-fleet[sandbox]'")

    absent.__doc__ = "Not installed: pip install 'runs-fleet[sandbox]'."
    return absent


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"runs-fleet {version('runs-fleet')}\n")
        raise SystemExit(0)


def _options(
    version: Annotated[bool, option("--version", "Print the version, and end.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Options that every word has before it."""


def serve() -> None:
    """Run the orchestrator until SIGTERM: webhooks, launches, agents' messages. Settings: docs/configuration.md."""
    from orchestrator import serve as server
    from orchestrator.wiring import insist_on_keys

    made = _orchestrator(serving=True)
    _settled(lambda: insist_on_keys(made.settings), serving=True)
    _settled(lambda: server.serve(made), serving=True)


def doctor(json: Json = False) -> None:
    """Look at everything that `serve` needs, and say what is missing and how to correct it. Exit 1: it would not be ready."""
    from orchestrator.commands import doctor as report
    from orchestrator.wiring import insist_on_keys

    made = _orchestrator()
    _settled(lambda: insist_on_keys(made.settings))
    findings = made.readiness.examined()
    if json:
        show_document(report.rows(findings))
    else:
        for line in report.lines(findings):
            say(line)
    if not report.is_passed(findings):
        sys.exit(1)


def jobs(
    everything: Annotated[bool, option("--all", "Also those that are over; reads the whole table.")] = False, json: Json = False
) -> None:
    """List the jobs that wait or run: how long they have waited, why, and their machines."""
    made = _orchestrator(records_only=True)
    records, now = made.records, made.turns.clock.now()
    found = sorted(records.jobs() if everything else records.open_jobs(), key=lambda job: job.queued_at)
    pages = web_url(made.settings.github_api_url)
    stack_id, paused = made.settings.stack_id, records.stack().paused
    rows = [job_row(job, session_of(records.sessions_of(job, stack_id), job), pages, now, paused=paused) for job in found]
    show(rows, json=json, none="nothing" if everything else NONE_OPEN)


def sessions(
    everything: Annotated[bool, option("--all", "Also those that are over; reads the whole table.")] = False, json: Json = False
) -> None:
    """List sessions: one runner on one machine each, with its age and the end of its machine."""
    made = _orchestrator(records_only=True)
    records, now = made.records, made.turns.clock.now()
    found = sorted(records.sessions() if everything else records.open_sessions(), key=lambda session: session.launched_at or 0.0)
    rows = [{**session_row(one, now), **({"console": one.console} if json else {})} for one in found]
    show(rows, json=json, none="nothing" if everything else NONE_OPEN)


def explain(job: Annotated[str, argument("A job's id, or its URL on GitHub.")], json: Json = False) -> None:
    """Say what happened to JOB, in order, and what it waits for."""
    from orchestrator.commands.explain import Explainer, gather, job_id_of

    made = _orchestrator(records_only=True)
    identity = job_id_of(job) or sys.exit(f"{job!r} is no job: expected its id, or a URL like …/runs/1/job/2")
    known = made.records.job(identity) or sys.exit(
        f"no job {identity} is known: either GitHub's delivery never came (Recent deliveries, in the App's settings),"
        " or its labels are not ours"
    )
    now = made.turns.clock.now()
    explainer = Explainer(made.settings, made.turns.requests, made.turns.strategies)
    told = explainer.explain(gather(made.records, known, made.settings.stack_id, now), now)
    if json:
        show_document(told)
        return
    say(f"job {known.job_id} {known.name!r} of {known.owner}/{known.repo}, run {known.run_id}: {known.state.value}")
    for line in told.lines:
        say(f"  {moment(line.at)}  {line.what}")
    if told.waits_for:
        say(f"  now: waits for {told.waits_for}")


def launch(
    repository: Annotated[str, argument("owner/repo")],
    label: Annotated[str, argument("As in runs-on.")],
    count: Annotated[int, option("--count", "How many machines.")] = 1,
    minutes: Annotated[float, option("--minutes", "Minutes for which they are kept without a job, at most 1440.")] = 10.0,
    json: Json = False,
) -> None:
    """Launch machines for LABEL before jobs ask for them; those still idle after MINUTES are terminated."""
    from orchestrator.commands.preflight import Asked, why_not
    from orchestrator.wiring import insist_on_keys

    found = re.fullmatch(r"([\w.-]+)/([\w.-]+)", repository)
    if found is None or not 0 < count <= 100 or not 0 < minutes <= 1440:
        wanted = "owner/repo, a count from 1 to 100 and minutes up to 1440"
        sys.exit(f"expected {wanted}, found {repository!r}, {count} and {minutes:g}")
    made = _orchestrator(records_only=True)
    try:
        asked = Asked(settings=made.settings, requests=made.turns.requests, strategies=made.turns.strategies, github=made.github)
        if made.settings.app_private_key.reveal():
            _settled(lambda: insist_on_keys(made.settings))
        if why := why_not(asked, found[1], found[2], label):
            raise NotServed(f"{label} for {found[1]}/{found[2]}: {why}")
        key = made.turns.prepare(found[1], found[2], (label,), count, minutes * 60.0)
    except NotServed as error:
        sys.exit(f"nothing is launched for {error}")
    paused = made.records.stack().paused
    until = moment(made.turns.clock.now() + minutes * 60.0)
    row = {"repository": repository, "label": label, "wanted": count, "until": until, "paused": paused}
    show([row | ({"label_set": key} if json else {})], json=json)
    if not json:
        follow = "the stack is paused: nothing is launched before `runs-fleet resume`" if paused else FOLLOW
        sys.stderr.write(f"{follow}\n")


FOLLOW = "`runs-fleet sessions` shows them; one that is terminated is launched again until then"


def terminate(session: Annotated[str, argument("A session's id.")], json: Json = False) -> None:
    """End SESSION and its machine now, whatever it does."""
    made = _orchestrator(records_only=True)
    ended = made.turns.dismiss(session) or sys.exit(f"no session {session} is open: `runs-fleet sessions` lists them")
    show([{"session": ended.session_id, "instance": ended.instance_id, "status": f"{ended.status} {ended.reason}"}], json=json)


def pause(json: Json = False) -> None:
    """Launch nothing more until `resume`; what runs goes on."""
    show([{"paused": _orchestrator(records_only=True).turns.pause(paused=True)}], json=json)


def resume(json: Json = False) -> None:
    """Launch machines again, after `pause` or `drain`."""
    show([{"paused": _orchestrator(records_only=True).turns.pause(paused=False)}], json=json)


def drain(json: Json = False) -> None:
    """Launch nothing more, and take every idle machine back; lists what is left: jobs that run, and what failed (then exit 1)."""
    made = _orchestrator()
    made.turns.pause(paused=True)
    failed = made.turns.drain()
    left = list(made.records.open_sessions())
    rows = [
        {"session": s.session_id, "state": s.state.value, "job": s.bound_job, "error": failed.pop(s.session_id, "")} for s in left
    ]
    rows += [{"session": name, "state": "ended", "job": "", "error": why} for name, why in failed.items()]
    failed = {row["session"]: row["error"] for row in rows if row["error"]}
    show(rows, json=json, none="no session is left: every idle machine was taken back, and no job runs")
    if not json:
        sys.stderr.write("the stack is paused: nothing is launched before `runs-fleet resume`\n")
    if failed:
        sys.exit(f"{counted(len(failed), 'session')} could not be taken back: call it again")


def audit() -> None:
    """Terminate instances 15 minutes past the expiry in their tags. Needs AWS credentials, AWS_REGION and RUNS_FLEET_STACK_ID."""
    from orchestrator.commands.audit import audited

    found = audited(os.environ)
    say(str(found))
    if found.failed:
        sys.exit(1)


def logs(job: Annotated[str, argument("A job's id, or its URL on GitHub.")]) -> None:
    """Print the log stream of the machine that ran (or was launched for) JOB."""
    from agent.contract.names import log_stream_name
    from orchestrator.commands.explain import job_id_of
    from orchestrator.commands.log_lines import lines_of

    made = _orchestrator(records_only=True)
    group = made.settings.log_group or sys.exit("RUNS_FLEET_LOG_GROUP is not set: expected the agents' log group")
    identity = job_id_of(job) or sys.exit(f"{job!r} is no job: expected its id, or a URL like …/runs/1/job/2")
    known = made.records.job(identity) or sys.exit(f"no job {identity} is known: `runs-fleet jobs --all` lists them")
    ran = session_of(made.records.sessions_of(known, made.settings.stack_id), known)
    if ran is None or not ran.instance_id:
        sys.exit(f"no machine has run job {job} yet")
    stream = log_stream_name(ran.instance_id, ran.launched_for)
    for line in lines_of(made.clients.get("logs"), group, stream):
        say(line)


def _orchestrator(*, records_only: bool = False, serving: bool = False) -> Orchestrator:
    from orchestrator.settings import read_settings
    from orchestrator.wiring import orchestrator

    made = _settled(lambda: orchestrator(read_settings(os.environ, records_only=records_only)), serving)
    for warning in made.settings.warnings if not serving else ():
        sys.stderr.write(f"runs-fleet: {warning}\n")
    return made


def _settled(made: Callable[[], Made], serving: bool = False) -> Made:
    """What is made of the settings; where these are wrong, the process ends and says so, a line for each."""
    try:
        return made()
    except SettingsInvalid as error:
        if serving and os.environ.get("RUNS_FLEET_LOG_FORMAT") == "json":
            journal = TextJournal(as_json=True)
            for problem in error.problems:
                journal.event("settings.invalid", problem=problem)
            sys.exit(1)
        sys.exit("\n".join(["runs-fleet cannot start:", *(f"  {problem}" for problem in error.problems)]))
