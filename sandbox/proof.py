"""What must be true after a run, whatever went wrong in it; told from the records, AWS and GitHub, not from what we believe.

Nothing is open, no queue holds a message, nobody waits, each runner did one job at most and each job had one runner at a time,
machines cost no more than a stated multiple of what the jobs and a stated number of idle machines need, and no secret lies anywhere but where it belongs.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.commands.explain import Explainer, gather
from orchestrator.jobs.records import JobRecords
from orchestrator.settings import read_settings
from orchestrator.store.model import Session
from orchestrator.store.naming import OPEN_LAUNCHES
from orchestrator.wiring import orchestrator
from sandbox.cloud import CREDENTIALS
from sandbox.github.records import JobRecord, RunRecord
from sandbox.github.server import StandInGitHub
from sandbox.stack import LOG_GROUP, STACK
from sandbox.world import CloudClients, World, records

DRAINED_S = 30.0
"""Seconds for what is in queues to be worked off: a message that somebody had in hand when he was killed comes again after the
visibility timeout."""
BESIDE_S = 12.0
"""Seconds that a machine may take for each attempt of a job beside it: to boot, to be taken from GitHub's queue, to go."""
IDLE_S = 130.0
"""Seconds for which a machine without work is kept at most: a surplus is taken back after one to two minutes."""
IDLE_AT_LEAST, IDLE_SHARE = 4, 0.25
"""Machines that may get no job: so many, and so many for each attempt of a job."""
FACTOR = 2.0
"""Machine-seconds are at most so many times what the attempts of all jobs and the machines without work may take."""


@dataclass(frozen=True)
class Cost:
    """Machine-seconds: what there were, and what may be."""

    machine_s: float
    allowed_s: float
    jobs_s: float


def faults_of(up: World, runs: list[RunRecord]) -> list[str]:
    """Everything that is not as it must be, in words."""
    known = records(up.cloud, STACK)
    sessions = list(known.sessions())
    return [
        *_open(known, sessions),
        *_queued(up),
        *_bound_twice(runs, sessions),
        *_too_dear(cost_of(runs, sessions)),
        *_too_many(runs, sessions),
        *_secrets(up, known),
    ]


def drained(up: World) -> None:
    """Wait until no queue holds a message, for a while."""
    until_s = time.monotonic() + DRAINED_S
    while any(_queued(up)) and time.monotonic() < until_s:
        time.sleep(0.5)


def cost_of(runs: list[RunRecord], sessions: list[Session]) -> Cost:
    """By the records' own times."""
    attempts = [job for run in runs for job in (*run.jobs, *run.past) if job.started_at is not None and job.runner_name]
    jobs_s = sum((job.completed_at or 0.0) - (job.started_at or 0.0) for job in attempts)
    machine_s = sum((s.closed_at or s.ended_at or 0.0) - (s.launched_at or 0.0) for s in sessions if s.launched_at)
    idle = sum(not session.bound_job for session in sessions)
    return Cost(machine_s, FACTOR * (jobs_s + BESIDE_S * len(attempts) + IDLE_S * idle), jobs_s)


def _open(known: JobRecords, sessions: list[Session]) -> Iterator[str]:
    for job in known.jobs():
        if job.KIND.is_over(job) is False:
            yield f"job {job.job_id} is still {job.state.value}"
    for session in sessions:
        if session.state.value != "closed":
            yield f"session {session.session_id} is still {session.state.value}"
    for key in {session.set_key for session in sessions} | {OPEN_LAUNCHES}:
        for item in known.view(key).items:
            yield f"{key} still has an open item: {item.kind} {item.identity}"
    for entry in known.waitlist.entries(time.time()):
        yield f"{entry.set_key} still waits for a limit"
    for rerun in known.reruns():
        if rerun.state.value == "waiting":
            yield f"a re-run still waits: {rerun}"


def _queued(up: World) -> Iterator[str]:
    stack = up.stack
    assert stack is not None
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    for url in (stack.queue_url, stack.termination_queue_url, up.cloud.events_queue_url):
        told = up.cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        if number := sum(int(told[name]) for name in names):
            yield f"{url.rpartition('/')[2]} still holds {number} messages"


def _bound_twice(runs: list[RunRecord], sessions: list[Session]) -> Iterator[str]:
    """By GitHub's word and by ours."""
    ran: list[JobRecord] = [job for run in runs for job in (*run.jobs, *run.past) if job.runner_name and job.started_at]
    for runner, number in Counter(job.runner_name for job in ran).items():
        if number > 1:
            yield f"runner {runner} did {number} jobs"
    for job, number in Counter(session.bound_job for session in sessions if session.bound_job).items():
        if number > 1:
            yield f"job {job} is bound to {number} sessions"
    for instance, number in Counter(session.instance_id for session in sessions if session.instance_id).items():
        if number > 1:
            yield f"machine {instance} belongs to {number} sessions"


def _too_dear(cost: Cost) -> Iterator[str]:
    if cost.machine_s > cost.allowed_s:
        yield f"machines ran for {cost.machine_s:.0f} s, expected at most {cost.allowed_s:.0f} s for {cost.jobs_s:.0f} s of jobs"


def _too_many(runs: list[RunRecord], sessions: list[Session]) -> Iterator[str]:
    """Machines without work: some are right, where answers are lost, and work goes away or is done by another's machine."""
    attempts = len([job for run in runs for job in (*run.jobs, *run.past)])
    idle, most = sum(not session.bound_job for session in sessions), IDLE_AT_LEAST + int(IDLE_SHARE * attempts)
    if idle > most:
        yield f"{idle} machines got no job, expected at most {most} for {attempts} attempts of jobs"


def _secrets(up: World, known: JobRecords) -> Iterator[str]:
    """A secret in any place where none belongs. The secret itself is not told."""
    secrets = planted_secrets(up.github)
    for sink, text in _sinks(up, known):
        for name, secret in secrets.items():
            if secret in text:
                yield f"{name} lies in {sink}"


def planted_secrets(github: StandInGitHub) -> dict[str, str]:
    """Every secret of this world, by what it is."""
    lines = github.app_private_key.splitlines()
    found = {"the webhook's secret": github.webhook_secret, "the App's key": lines[2]}
    found |= {"AWS's secret key": CREDENTIALS["aws_secret_access_key"]}
    found |= {f"token {number}": token for number, token in enumerate(list(github.state.tokens))}
    for number, blob in enumerate(list(github.minted)):
        found[f"JIT configuration {number}"] = blob[200:280]
    return found


def _sinks(up: World, known: JobRecords) -> Iterator[tuple[str, str]]:
    """Every place that somebody may read: its name, and what lies there."""
    for log in sorted(up.root.glob("orchestrator*.log")):
        yield f"the log {log.name}", log.read_text("utf-8", "replace")
    for console in sorted(up.root.glob("instances/*/console.log")):
        yield f"the console of {console.parent.name}", console.read_text("utf-8", "replace")
    for table in (f"{STACK}-jobs", f"{STACK}-sessions"):
        for page in up.cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table):
            for item in page["Items"]:
                yield f"table {table}", json.dumps(item)
    for number, message in enumerate(list(up.cloud.messages)):
        yield f"message {number}", message
    for check in list(up.github.state.checks):
        yield "a notice", f"{check.title} {check.summary}"
    yield from _log_streams(up)
    yield from _explanations(up, known)


def _log_streams(up: World) -> Iterator[tuple[str, str]]:
    logs = up.cloud.client("logs")
    groups = logs.describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]
    for group in groups:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            for event in page["events"]:
                yield f"log stream {event['logStreamName']}", str(event["message"])


def _explanations(up: World, known: JobRecords) -> Iterator[tuple[str, str]]:
    """What `runs-fleet explain --json` prints of each job."""
    assert up.stack is not None
    made = orchestrator(read_settings(up.stack.environment), CloudClients(up.cloud))
    explainer, now = Explainer(made.settings, made.turns.requests, made.turns.strategies), time.time()
    for job in list(known.jobs()):
        told: Any = explainer.explain(gather(known, job, STACK, now), now)
        yield f"the explanation of job {job.job_id}", msgspec.json.encode(told).decode()
    for pool in made.pools:
        pool.stop()


def kept(root: Path, faults: list[str], told: Mapping[str, object]) -> None:
    """Write what was found beside the logs."""
    (root / "proof.json").write_text(json.dumps({"faults": faults, **told}, indent=1, default=str), "utf-8")
