"""The one place where a life is put together: components from ports, ports from the real world."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from agent.adapters.aws.clients import Clients
from agent.adapters.aws.ec2 import SelfTermination
from agent.adapters.aws.objects import S3Configurations
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.ssm import SsmParameters
from agent.adapters.http import MetadataService
from agent.adapters.late import LateConfiguration, LateLogStream, NoQueue
from agent.adapters.machine import PosixMeters, homes, is_amazon_ec2
from agent.adapters.output import DiskSpool, Output
from agent.adapters.posix import PosixProcesses, listen_for_signals
from agent.adapters.system import QueueInbox, SystemClock, TextJournal, ThreadWorkers, goes_to_the_journal, hide_environment
from agent.components import Components
from agent.contract.config import RunnerConfig
from agent.executor import Executor
from agent.hosts import HOSTS
from agent.lifecycle import Life
from agent.mailbox import Mailbox
from agent.phases import Stopwatch
from agent.ports import (
    Clock,
    Inbox,
    Journal,
    LogStream,
    Machine,
    Meters,
    Objects,
    Parameters,
    Processes,
    Queue,
    Web,
    Workers,
)
from agent.reports.last_will import LastWill
from agent.reports.log_stream import CloudWatchLogStream, DisabledLogStream, LogService, Spool
from agent.reports.telemetry import Telemetry
from agent.runner import announcements, diagnostics
from agent.runner.cache import ReleaseCache, Upload
from agent.runner.github_runner import GitHubRunner
from agent.runner.registration import Registration
from agent.runner.release import Releases
from agent.settings import Settings
from agent.shutdown import LifeReport, Shutdown
from agent.termination import Termination

ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""The machine's word -> the runner's. Source: the asset names of actions/runner releases."""


@dataclass(kw_only=True)
class World:
    """Every port a life needs. Factories are called when the thing is first needed, not before."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Clock
    inbox: Inbox
    workers: Workers
    journal: Journal
    machine: Machine
    meters: Meters
    processes: Processes
    parameters: Parameters
    log_stream: Callable[[str], LogStream]
    """Makes the log_stream of this instance id."""
    queue: Callable[[str], Queue]
    """Makes the termination queue for this sender."""
    objects: Callable[[str], Objects]
    """Makes the bucket of that name."""
    web: Callable[[], Web]
    architecture: str
    homes: frozenset[Path]
    born_s: float


def assemble(world: World) -> Life:
    """The components of one life."""
    settings, clock, journal = world.settings, world.clock, world.journal
    mailbox = Mailbox(world.inbox, world.workers, clock)
    stopwatch = Stopwatch()
    report = LifeReport(started_at=clock.now(), started_s=clock.monotonic_s(), instance_id=settings.instance_id)

    def own_id() -> str:
        return report.instance_id or settings.instance_id or "unknown"

    report.degraded += _absent(settings)
    log_stream = LateLogStream(lambda: world.log_stream(own_id()))
    last_will = LastWill(settings.state_dir)
    telemetry = Telemetry(lambda: world.queue(own_id()), mailbox, clock, journal)
    termination = Termination(world.machine, settings.power_off, mailbox, clock, journal)
    work = _github_runner(world, mailbox, stopwatch)
    shutdown = Shutdown(
        report=report,
        log_stream=log_stream,
        telemetry=telemetry,
        termination=termination,
        mailbox=mailbox,
        clock=clock,
        journal=journal,
        stopwatch=stopwatch,
        work=work,
        last_will=last_will,
    )
    return Life(
        Components(
            settings=settings,
            clock=clock,
            mailbox=mailbox,
            journal=journal,
            processes=world.processes,
            machine=world.machine,
            meters=world.meters,
            stopwatch=stopwatch,
            log_stream=log_stream,
            telemetry=telemetry,
            configuration=LateConfiguration(
                world.parameters, lambda: settings.parameter(own_id()), settings.config_timeout_s, clock=clock, journal=journal
            ),
            work=work,
            executor=Executor(world.processes, mailbox, clock, journal),
            shutdown=shutdown,
            last_will=last_will,
            born_s=world.born_s,
        )
    )


def _github_runner(world: World, mailbox: Mailbox, stopwatch: Stopwatch) -> GitHubRunner:
    """The work that is a GitHub job."""
    settings, clock, journal = world.settings, world.clock, world.journal

    def release_cache() -> ReleaseCache | None:
        bucket = settings.config_bucket
        return ReleaseCache(world.objects(bucket), world.architecture) if bucket else None

    def diagnose(config: RunnerConfig, directory: Path, instance_id: str) -> str:
        bucket = config.logs_bucket or settings.logs_bucket or ""
        return diagnostics.ship(world.objects(bucket), directory, config, instance_id, journal) if bucket else "disabled"

    return GitHubRunner(
        releases=_releases(world, release_cache),
        registration=Registration(settings, world.environment, world.processes, clock, journal),
        upload=Upload(release_cache, clock),
        diagnose=diagnose,
        processes=world.processes,
        mailbox=mailbox,
        clock=clock,
        stopwatch=stopwatch,
        work_dir=settings.work_dir,
        homes=world.homes,
    )


def real_world(settings: Settings, environment: Mapping[str, str], born_s: float) -> World:
    """The machine we run on. Nothing is connected to, and boto3 is not imported, before it is needed."""
    clock, inbox, journal = SystemClock(), QueueInbox(), TextJournal(beacons=goes_to_the_journal(environment))
    hide_environment(journal, environment)
    listen_for_signals(inbox)
    workers = ThreadWorkers(inbox)
    metadata = MetadataService(environment)
    credentials, region = CredentialChain(environment, metadata), Region(environment, metadata)
    clients = Clients(region, credentials.current if settings.strict_metadata else None)
    spool = _spool(settings)
    processes = _processes(settings, inbox, spool)
    ending = SelfTermination(SignedCalls("ec2", environment, credentials, region, clock.now), credentials)

    def log_stream(instance_id: str) -> LogStream:
        if spool is None or settings.log_group is None:
            return DisabledLogStream()
        return CloudWatchLogStream(
            group=settings.log_group,
            instance_id=instance_id,
            spool=spool,
            service=cache(partial(_log_service, clients)),
            workers=workers,
            clock=clock,
            journal=journal,
            cleaned=journal.cleaned_bytes,
            hold_back=journal.longest_secret,
        )

    return World(
        settings=settings,
        environment=environment,
        clock=clock,
        inbox=inbox,
        workers=workers,
        journal=journal,
        machine=HOSTS["ec2"](
            metadata=metadata,
            ending=ending,
            processes=processes,
            inbox=inbox,
            workers=workers,
            clock=clock,
            certainly_ec2=is_amazon_ec2,
            path=environment.get("PATH") or os.defpath,
        ),
        meters=PosixMeters(),
        processes=processes,
        parameters=_parameters(settings, lambda service: SignedCalls(service, environment, credentials, region, clock.now)),
        log_stream=log_stream,
        queue=cache(partial(_queue, clients, settings.termination_queue_url)),
        objects=cache(partial(_objects, clients)),
        web=cache(_web),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        homes=homes(),
        born_s=born_s,
    )


def _releases(world: World, release_cache: Callable[[], ReleaseCache | None]) -> Releases:
    settings = world.settings
    return Releases(
        baked=settings.runner_dir,
        pin=settings.runner_version,
        work_dir=settings.work_dir,
        architecture=world.architecture,
        api_url=settings.github_api_url,
        mirror_url=settings.runner_mirror_url,
        cache=release_cache,
        web=world.web,
        processes=world.processes,
        workers=world.workers,
        clock=world.clock,
        journal=world.journal,
    )


def _absent(settings: Settings) -> list[str]:
    """What the operator left off, for the final word."""
    off = {"RUNS_FLEET_LOG_GROUP": settings.log_group, "RUNS_FLEET_CONFIG_BUCKET": settings.config_bucket}
    return [f"{name}: not set, so that part is off" for name, value in off.items() if value is None]


def _parameters(settings: Settings, calls: Callable[[str], SignedCalls]) -> Parameters:
    if settings.config_source == "s3":
        return S3Configurations(calls("s3"), calls("sts"))
    return SsmParameters(calls("ssm"))


def _processes(settings: Settings, inbox: Inbox, spool: DiskSpool | None) -> Processes:
    children = PosixProcesses(inbox, Output(spool, announcements).attach)
    if settings.job_unit is None:
        return children
    from agent.adapters.systemd import JobUnits, machine_memory_bytes

    return JobUnits(children, settings.job_unit, machine_memory_bytes())


def _spool(settings: Settings) -> DiskSpool | None:
    if settings.log_group is None:
        return None
    try:
        return DiskSpool(settings.work_dir / "spool")
    except OSError:
        return None


def _log_service(clients: Clients) -> LogService:
    from agent.adapters.aws.cloudwatch import CloudWatchLogs

    return CloudWatchLogs(clients)


def _queue(clients: Clients, url: str, sender: str) -> Queue:
    if not url:
        return NoQueue()
    from agent.adapters.aws.sqs import SqsQueue

    return SqsQueue(clients, url, sender)


def _objects(clients: Clients, bucket: str) -> Objects:
    from agent.adapters.aws.s3 import S3Objects

    return S3Objects(clients, bucket)


def _web() -> Web:
    from agent.adapters.http import RequestsWeb

    return RequestsWeb()


__all__ = ["Spool", "World", "assemble", "real_world"]
