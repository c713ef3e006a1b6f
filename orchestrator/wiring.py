"""The one place where the orchestrator is put together."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator import catalogue
from orchestrator.adapters.aws import Clients, Ec2Api, SqsQueue
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.configurations import S3Configurations, SsmConfigurations
from orchestrator.adapters.dynamodb import DynamoTables
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.market import Market
from orchestrator.adapters.processes import LocalBodies
from orchestrator.adapters.shards import GitHubApps
from orchestrator.adapters.system import Hands, SystemIds, TextJournal, Waker
from orchestrator.cleaning import Cleaning
from orchestrator.endings import Endings
from orchestrator.intake import Intake
from orchestrator.launching import Launching
from orchestrator.levels import Levels
from orchestrator.marks import JOBS, SESSIONS
from orchestrator.notes import Notes
from orchestrator.orders import Orders
from orchestrator.ports import Clock, Crew, Ids, Journal, Queue, Tables, Timepiece, Wakes
from orchestrator.records import Records
from orchestrator.recovery import Recovery
from orchestrator.rescues import Rescues
from orchestrator.services import Compute, Configurations, GitHub
from orchestrator.sessions import Sessions
from orchestrator.settings import App, ServerSettings
from orchestrator.strategies.ec2 import Ec2Strategy
from orchestrator.strategies.local import LocalStrategy
from orchestrator.turns import Turns

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The machine's word -> the labels'."""


@dataclass(frozen=True)
class World:
    """Everything the turns need that is not theirs."""

    tables: Tables
    compute: Compute
    github: GitHub
    configurations: Configurations
    job_queue: Queue
    termination_queue: Queue
    clock: Clock
    ids: Ids
    journal: Journal
    crew: Crew
    wakes: Wakes
    events_queue: Queue | None = None
    kinds: Callable[[], tuple[catalogue.Kind, ...]] | None = None
    """What EC2 offers today; None: the shipped catalogue is all there is."""
    configurers: Crew | None = None
    """Hands for configurations: whatever they wait for, launches do not. None: the same."""
    sweepers: Crew | None = None
    """Hands for what is due: whatever they wait for, those that launch do not. None: the same."""


@dataclass(frozen=True)
class Orchestrator:
    """The turns and what sets them off."""

    settings: ServerSettings
    turns: Turns
    job_queue: Queue
    termination_queue: Queue
    records: Records
    journal: Journal
    waker: Waker
    hands: tuple[Hands, ...]
    events_queue: Queue | None = None


def turns(settings: ServerSettings, world: World) -> Turns:
    """The turns on a world that is handed in."""
    records = Records(world.tables, settings.index_shards)
    sessions = Sessions(
        settings, records, world.compute, world.github, world.configurations, world.clock, world.journal, world.wakes
    )
    shipped = catalogue.snapshot(catalogue.SNAPSHOT.read_text(encoding="utf-8"))
    kinds = catalogue.Catalogue(shipped, world.kinds, at_once=settings.is_priced)
    notes = Notes(records, world.github, world.clock, world.journal)
    launching = Launching(
        settings, records, world.compute, sessions, notes, kinds, world.clock, world.journal, world.crew,
        world.configurers or world.crew,
    )  # fmt: skip
    rescues = Rescues(records, notes, world.github, world.clock, world.journal, settings.watch_s)
    intake = Intake(settings, records, sessions, rescues, notes, world.github, kinds, world.clock, world.journal, world.crew)
    orders = Orders(settings, records, launching, sessions, world.clock, world.ids, world.journal)
    levels = Levels(settings, records, launching, sessions, intake, orders, world.clock, world.journal, world.crew)
    endings = Endings(
        settings, records, world.compute, world.github, world.configurations, sessions, launching, rescues, world.clock,
        world.journal, world.crew,
    )  # fmt: skip
    recovery = Recovery(settings, records, world.github, intake, world.clock, world.journal)
    queues = {"jobs": world.job_queue, "terminations": world.termination_queue}
    queues |= {"events": world.events_queue} if world.events_queue is not None else {}
    cleaning = Cleaning(
        settings, records, world.compute, sessions, world.github, world.configurations, queues, world.clock, world.journal
    )
    return Turns(
        settings, records, world.compute, world.job_queue, world.clock, world.journal, intake, levels, launching, endings,
        sessions, rescues, cleaning, recovery, world.sweepers or world.crew,
    )  # fmt: skip


def orchestrator(settings: ServerSettings, clients: Clients | None = None) -> Orchestrator:
    """On AWS and GitHub, as the settings say."""
    clients, journal, clock = clients or Clients(), TextJournal(), SystemClock()
    hands, sweepers, configurers, waker = *(Hands(settings.crew) for _ in range(3)), Waker()
    compute = _compute(settings, clients, clock)
    world = World(
        tables=tables(settings, clients),
        compute=compute,
        github=GitHubApps(
            [
                GitHubApp(settings.github_api_url, app.app_id, app.private_key, clock=clock)
                for app in (App(settings.app_id, settings.app_private_key), *settings.more_apps)
            ],
            settings.launches_per_minute,
            settings.lease_s,
            clock,
        ),
        configurations=_configurations(settings, clients, clock),
        job_queue=SqsQueue(clients, settings.queue_url), termination_queue=SqsQueue(clients, settings.termination_queue_url),
        clock=clock, ids=SystemIds(), journal=journal, crew=hands, wakes=waker,
        events_queue=SqsQueue(clients, settings.events_queue_url) if settings.events_queue_url else None,
        kinds=None if settings.local else lambda: _market(settings, clients, compute),
        configurers=configurers, sweepers=sweepers,
    )  # fmt: skip
    made = turns(settings, world)
    return Orchestrator(
        settings,
        made,
        world.job_queue,
        world.termination_queue,
        made.records,
        journal,
        waker,
        (configurers, sweepers, hands),
        world.events_queue,
    )


def tables(settings: ServerSettings, clients: Clients) -> DynamoTables:
    """The tables of this stack."""
    return DynamoTables(clients, {JOBS: settings.jobs_table, SESSIONS: settings.sessions_table})


def _compute(settings: ServerSettings, clients: Clients, clock: Clock) -> Compute:
    local = settings.local
    if local is not None:
        bodies = LocalBodies(local.directory, local.agent, local.environment, local.runner)
        architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
        return LocalStrategy(bodies, architecture=architecture, stack_id=settings.stack_id, slots=local.slots)
    return Ec2Strategy(
        Ec2Api(clients), clock, stack_id=settings.stack_id, template=settings.launch_template, subnet_ids=settings.subnet_ids
    )


def _market(settings: ServerSettings, clients: Clients, compute: Compute) -> tuple[catalogue.Kind, ...]:
    return Market(clients, clients.region, compute.site().subnets, priced=settings.is_priced).kinds()


def _configurations(settings: ServerSettings, clients: Clients, clock: Timepiece) -> Configurations:
    if settings.config_source == "s3":
        return S3Configurations(clients, settings.stack_id, settings.config_bucket, settings.runner_role_id)
    return SsmConfigurations(clients, settings.stack_id, settings.config_writes_per_second, clock)
