"""The one place where a life is put together: components from ports, ports from the real world."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from agent.adapters.aws import lazy
from agent.adapters.aws.clients import Clients
from agent.adapters.aws.ec2 import SelfTermination
from agent.adapters.aws.objects import S3Configurations
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.sqs import QueueProbe
from agent.adapters.aws.ssm import SsmParameters
from agent.adapters.http import MetadataService
from agent.adapters.late import LateConfiguration, LateLogStream
from agent.adapters.machine import CGROUPS, PosixMeters, homes, is_amazon_ec2, shared_places
from agent.adapters.network import Network
from agent.adapters.output import DiskSpool, Output
from agent.adapters.posix import PosixProcesses, listen_for_signals
from agent.adapters.system import QueueInbox, SystemClock, TextJournal, ThreadWorkers, goes_to_the_journal, hide_environment
from agent.components import Components
from agent.contract.config import RunnerConfig
from agent.contract.secret import Secret
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
from agent.reports.log_stream import CloudWatchLogStream, DisabledLogStream, Spool
from agent.reports.telemetry import Telemetry
from agent.runner import announcements, diagnostics
from agent.runner.cache import ReleaseCache, Upload
from agent.runner.github_runner import GitHubRunner
from agent.runner.publisher import Publisher
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
    queue_probe: Callable[[], None]
    """Asks whether the termination queue can be reached. Raises: ServiceError."""
    objects: Callable[[str], Objects]
    """Makes the bucket of that name."""
    web: Callable[[], Web]
    architecture: str
    homes: frozenset[Path]
    born_s: float
    shared_places: tuple[Path, ...] = ()


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
    telemetry = Telemetry(
        queue=lambda: world.queue(own_id()), probe=world.queue_probe, mailbox=mailbox, clock=clock, journal=journal
    )
    termination = Termination(world.machine, settings.power_off, mailbox, clock, journal)
    work = _github_runner(world, mailbox, stopwatch)
    shutdown = Shutdown(
        report=report, log_stream=log_stream, telemetry=telemetry, termination=termination, mailbox=mailbox, clock=clock,
        journal=journal, stopwatch=stopwatch, work=work, last_will=last_will,
    )  # fmt: skip
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
        shared_places=world.shared_places,
    )


def real_world(settings: Settings, environment: Mapping[str, str], born_s: float) -> World:
    """The machine we run on. Nothing is connected to, and boto3 is not imported, before it is needed."""
    clock, inbox, journal = SystemClock(), QueueInbox(), TextJournal(beacons=goes_to_the_journal(environment))
    network = Network(environment)
    settings = replace(settings, complaints=(*settings.complaints, *network.complaints()))
    hide_environment(journal, environment)
    journal.hide(*map(Secret, network.secrets()))
    listen_for_signals(inbox)
    workers = ThreadWorkers(inbox)
    metadata = MetadataService(environment)
    credentials, region = CredentialChain(environment, metadata), Region(environment, metadata)
    clients = Clients(region, credentials, network)

    def signed_calls(service: str) -> SignedCalls:
        return SignedCalls(service, environment, credentials, region, clock.now, network)

    spool = _spool(settings)
    processes = _processes(settings, inbox, spool)
    ending = SelfTermination(signed_calls("ec2"), credentials)
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
        meters=PosixMeters(job_group=CGROUPS / f"{settings.job_unit}.service" if settings.job_unit else None),
        processes=processes,
        parameters=_parameters(settings, signed_calls),
        log_stream=_log_streams(settings, spool, clients, workers, clock, journal),
        queue=cache(partial(lazy.queue, clients, settings.termination_queue_url)),
        queue_probe=QueueProbe(signed_calls("sqs"), settings.termination_queue_url).check,
        objects=cache(partial(lazy.objects, clients)),
        web=cache(partial(lazy.web, network)),
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        homes=homes(),
        shared_places=shared_places(settings.runner_user),
        born_s=born_s,
    )


def _log_streams(
    settings: Settings, spool: DiskSpool | None, clients: Clients, workers: Workers, clock: Clock, journal: TextJournal
) -> Callable[[str], LogStream]:
    """Makes the log stream of an instance id."""

    def log_stream(instance_id: str) -> LogStream:
        if spool is None or settings.log_group is None:
            return DisabledLogStream()
        return CloudWatchLogStream(
            group=settings.log_group,
            instance_id=instance_id,
            spool=spool,
            service=cache(partial(lazy.log_service, clients)),
            workers=workers,
            clock=clock,
            journal=journal,
            cleaned=journal.cleaned_bytes,
            hold_back=journal.longest_secret,
        )

    return log_stream


def _releases(world: World, release_cache: Callable[[], ReleaseCache | None]) -> Releases:
    settings = world.settings
    return Releases(
        baked=settings.runner_dir,
        pin=settings.runner_version,
        bucket_decides=settings.newest_in_bucket,
        work_dir=settings.work_dir,
        publisher=Publisher(
            api_url=settings.github_api_url,
            mirror_url=settings.runner_mirror_url,
            architecture=world.architecture,
            web=world.web,
            clock=world.clock,
        ),
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
        return DiskSpool(settings.work_dir / "spool", limit_bytes=settings.log_limit_bytes)
    except OSError:
        return None


__all__ = ["Spool", "World", "assemble", "real_world"]
