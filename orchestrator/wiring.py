"""The one place where the orchestrator is put together on its ports, and these on AWS and GitHub."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from agent.contract.variables import PREFIX
from orchestrator.adapters.aws import Clients
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.configurations import S3Configurations, SsmConfigurations
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.github_apps import GitHubApps
from orchestrator.adapters.journal import SystemIds, TextJournal
from orchestrator.adapters.loops import WakeQueue
from orchestrator.adapters.sqs import SqsQueue
from orchestrator.adapters.threads import ThreadWorkerPool
from orchestrator.checks_wiring import Checked, checks_of
from orchestrator.components import Ports, assemble
from orchestrator.compute.ec2.events import origin_of, read_event
from orchestrator.errors import SettingsInvalid
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.records import JobRecords
from orchestrator.ports import Configurations, Queue, Timepiece
from orchestrator.readiness import Readiness
from orchestrator.setting_values import App
from orchestrator.settings import ServerSettings
from orchestrator.store.tables import JOBS, SESSIONS
from orchestrator.strategies import StrategyParts, build_strategies
from orchestrator.turns import Turns

LOOKERS = 8
"""Checks made side by side: together they take as long as the slowest."""


@dataclass(frozen=True, kw_only=True)
class Orchestrator:
    """The turns, and what sets them off."""

    settings: ServerSettings
    turns: Turns
    job_queue: Queue
    termination_queue: Queue
    records: JobRecords
    journal: TextJournal
    clients: Clients
    github: GitHub
    wake_queue: WakeQueue
    pools: tuple[ThreadWorkerPool, ...]
    readiness: Readiness
    events_queue: Queue | None = None


def orchestrator(settings: ServerSettings, clients: Clients | None = None) -> Orchestrator:
    """The orchestrator on AWS and GitHub, as the settings say. Raises: SettingsInvalid."""
    clients, clock = clients or Clients(), SystemClock()
    journal = TextJournal(as_json=settings.log_format == "json")
    workers, sweepers, configurers = (ThreadWorkerPool(settings.workers) for _ in range(3))
    wake_queue = WakeQueue()
    records = JobRecords(known := tables(settings, clients), settings.index_shards)
    apps = _apps(settings, clock)
    queues = {"QUEUE_URL": SqsQueue(clients, settings.queue_url)}
    queues["TERMINATION_QUEUE_URL"] = SqsQueue(clients, settings.termination_queue_url)
    if settings.events_queue_url:
        queues["EVENTS_QUEUE_URL"] = SqsQueue(clients, settings.events_queue_url)
    parts = StrategyParts(settings=settings, clients=clients, records=records, clock=clock, journal=journal)
    ports = Ports(
        records=records,
        strategies=build_strategies(parts),
        github=GitHubApps(apps, settings.launches_per_minute, settings.lease_s, clock),
        configurations=_configurations(settings, clients, clock),
        job_queue=queues["QUEUE_URL"],
        termination_queue=queues["TERMINATION_QUEUE_URL"],
        events_queue=queues.get("EVENTS_QUEUE_URL"),
        clock=clock,
        ids=SystemIds(),
        journal=journal,
        wakes=wake_queue,
        workers=workers,
        configurers=configurers,
        sweepers=sweepers,
        read_notice=partial(read_event, origin=origin_of(settings.events_queue_url)),
    )
    checked = Checked(
        settings=settings, clients=clients, tables=known, queues=queues, configurations=ports.configurations,
        strategies=ports.strategies, apps=apps,
    )  # fmt: skip
    lookers = ThreadWorkerPool(LOOKERS)
    return Orchestrator(
        settings=settings,
        turns=assemble(settings, ports),
        job_queue=ports.job_queue,
        termination_queue=ports.termination_queue,
        records=records,
        journal=journal,
        clients=clients,
        github=ports.github,
        wake_queue=wake_queue,
        pools=(configurers, sweepers, workers, lookers),
        readiness=Readiness(checks_of(checked), journal, lookers),
        events_queue=ports.events_queue,
    )


def tables(settings: ServerSettings, clients: Clients) -> DynamoTables:
    """The tables of this stack."""
    return DynamoTables(clients, {JOBS: settings.jobs_table, SESSIONS: settings.sessions_table})


def insist_on_keys(settings: ServerSettings) -> None:
    """Each App's key signs once, before anything rests on it. Raises: SettingsInvalid."""
    problems = []
    for number, app in enumerate(_apps(settings, SystemClock())):
        try:
            app.signed()
        except Exception as error:  # noqa: BLE001 - cryptography and PyJWT raise a dozen kinds for a key that is none
            name = f"{PREFIX}GITHUB_APPS" if number else f"{PREFIX}GITHUB_APP_PRIVATE_KEY"
            problems.append(f"{name}: expected the App's RSA private key, found one that cannot sign ({type(error).__name__})")
    if problems:
        raise SettingsInvalid(tuple(problems))


def _apps(settings: ServerSettings, clock: Timepiece) -> list[GitHubApp]:
    return [
        GitHubApp(settings.github_api_url, app.app_id, app.private_key, clock=clock)
        for app in (App(settings.app_id, settings.app_private_key), *settings.more_apps)
    ]


def _configurations(settings: ServerSettings, clients: Clients, clock: Timepiece) -> Configurations:
    if settings.config_source == "s3":
        return S3Configurations(clients, settings.stack_id, settings.config_bucket, settings.runner_role_id)
    return SsmConfigurations(clients, settings.stack_id, settings.config_writes_per_second, clock)
