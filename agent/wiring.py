"""The one place where a life is put together: rooms from ports, ports from the real world."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from agent import diagnostics
from agent.adapters.aws.clients import Clients
from agent.adapters.aws.ec2 import SelfTermination
from agent.adapters.aws.objects import S3Configurations
from agent.adapters.aws.signing import CredentialChain, Region, SignedCalls
from agent.adapters.aws.ssm import SsmParameters
from agent.adapters.http import MetadataService
from agent.adapters.machine import PosixMeters, homes, is_amazon_ec2
from agent.adapters.output import DiskSpool, Output
from agent.adapters.posix import PosixProcesses, listen_for_signals
from agent.adapters.system import QueueInbox, SystemClock, TextJournal, ThreadCrew, goes_to_the_journal, hide_environment
from agent.cache import ReleaseCache, Upload
from agent.configuration import Configuration
from agent.contract.config import RunnerConfig
from agent.desk import Desk
from agent.errors import ServiceError
from agent.executor import Executor
from agent.farewell import Facts, Farewell
from agent.hosts.ec2 import Ec2Machine
from agent.letters import Letters
from agent.lifecycle import Life, Rooms
from agent.logs import CloudTranscript, LogService, SilentTranscript, Spool
from agent.phases import Stopwatch
from agent.ports import (
    Clock,
    Crew,
    Inbox,
    Journal,
    Machine,
    Meters,
    Objects,
    Parameters,
    Processes,
    Queue,
    Transcript,
    TranscriptReport,
    Web,
)
from agent.preparation import Preparation
from agent.registration import Registration
from agent.release import Releases
from agent.settings import Settings
from agent.telemetry import Telemetry
from agent.termination import Termination

ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
"""The machine's word -> the runner's. Source: the asset names of actions/runner releases."""


@dataclass
class World:
    """Every port a life needs. Factories are called when the thing is first needed, not before."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Clock
    inbox: Inbox
    crew: Crew
    journal: Journal
    machine: Machine
    meters: Meters
    processes: Processes
    parameters: Parameters
    transcript: Callable[[str], Transcript]
    """Makes the transcript of this instance id."""
    queue: Callable[[str], Queue]
    """Makes the termination queue for this sender."""
    objects: Callable[[str], Objects]
    """Makes the bucket of that name."""
    web: Callable[[], Web]
    architecture: str
    homes: frozenset[Path]
    born_s: float


def assemble(world: World) -> Life:
    """The rooms of one life."""
    settings, clock, journal = world.settings, world.clock, world.journal
    desk = Desk(world.inbox, world.crew, clock)
    stopwatch = Stopwatch()
    facts = Facts(clock.now(), clock.monotonic_s(), settings.instance_id)

    def own_id() -> str:
        return facts.instance_id or settings.instance_id or "unknown"

    def release_cache() -> ReleaseCache | None:
        bucket = settings.config_bucket
        return ReleaseCache(world.objects(bucket), world.architecture) if bucket else None

    def diagnose(config: RunnerConfig, directory: Path) -> str:
        bucket = config.logs_bucket or settings.logs_bucket or ""
        return diagnostics.ship(world.objects(bucket), directory, config, own_id(), journal) if bucket else "disabled"

    facts.degraded += _absent(settings)
    transcript = _LateTranscript(lambda: world.transcript(own_id()))
    letters = Letters(settings.state_dir)
    telemetry = Telemetry(lambda: world.queue(own_id()), desk, clock, journal)
    termination = Termination(world.machine, settings.power_off, desk, clock, journal)
    configuration = _LateConfiguration(world, own_id)
    preparation = Preparation(configuration, _releases(world, release_cache), transcript, desk, clock, stopwatch)
    farewell = Farewell(
        facts,
        transcript,
        telemetry,
        termination,
        desk,
        clock,
        journal,
        stopwatch,
        diagnose,
        settings.work_dir,
        world.homes,
        letters,
    )
    return Life(
        Rooms(
            settings=settings,
            clock=clock,
            desk=desk,
            journal=journal,
            processes=world.processes,
            machine=world.machine,
            meters=world.meters,
            stopwatch=stopwatch,
            transcript=transcript,
            telemetry=telemetry,
            preparation=preparation,
            registration=Registration(settings, world.environment, world.processes, clock, journal),
            executor=Executor(world.processes, desk, clock, journal),
            farewell=farewell,
            letters=letters,
            upload=Upload(release_cache, clock),
            born_s=world.born_s,
        )
    )


def real_world(settings: Settings, environment: Mapping[str, str], born_s: float) -> World:
    """The machine we run on. Nothing is connected to, and boto3 is not imported, before it is needed."""
    clock, inbox, journal = SystemClock(), QueueInbox(), TextJournal(beacons=goes_to_the_journal(environment))
    hide_environment(journal, environment)
    listen_for_signals(inbox)
    crew = ThreadCrew(inbox)
    metadata = MetadataService(environment)
    credentials, region = CredentialChain(environment, metadata), Region(environment, metadata)
    clients = Clients(region, credentials.current if settings.strict_metadata else None)
    spool = _spool(settings)
    processes = _processes(settings, inbox, spool)
    ending = SelfTermination(SignedCalls("ec2", environment, credentials, region, clock.now), credentials)

    def transcript(instance_id: str) -> Transcript:
        if spool is None or settings.log_group is None:
            return SilentTranscript()
        return CloudTranscript(
            settings.log_group, instance_id, spool, cache(partial(_log_service, clients)), crew, clock, journal,
            journal.cleaned_bytes, journal.longest_secret,
        )  # fmt: skip

    return World(
        settings=settings,
        environment=environment,
        clock=clock,
        inbox=inbox,
        crew=crew,
        journal=journal,
        machine=Ec2Machine(metadata, ending, processes, inbox, crew, clock, is_amazon_ec2, environment.get("PATH") or os.defpath),
        meters=PosixMeters(),
        processes=processes,
        parameters=_parameters(settings, lambda service: SignedCalls(service, environment, credentials, region, clock.now)),
        transcript=transcript,
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
        crew=world.crew,
        clock=world.clock,
        journal=world.journal,
    )


class _LateTranscript:
    """Made when the instance id is known; what happens before is not in it."""

    def __init__(self, make: Callable[[], Transcript]) -> None:
        self._make: Callable[[], Transcript] = cache(make)

    def open(self, job_id: str) -> None:
        self._make().open(job_id)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        self._make().event(name, fields)

    def finish(self, within_s: float) -> TranscriptReport:
        return self._make().finish(within_s)


class _LateConfiguration(Configuration):
    """Reads the parameter of the instance id that was found meanwhile."""

    def __init__(self, world: World, own_id: Callable[[], str]) -> None:
        super().__init__(world.parameters, "", world.settings.config_timeout_s, world.clock, world.journal)
        self._world, self._own_id = world, own_id

    def now(self) -> RunnerConfig | None:
        self._name = self._world.settings.parameter(self._own_id())
        return super().now()


def _absent(settings: Settings) -> list[str]:
    """What the operator left off, for the final word."""
    off = {"RUNS_FLEET_LOG_GROUP": settings.log_group, "RUNS_FLEET_CONFIG_BUCKET": settings.config_bucket}
    return [f"{name}: not set, so that part is off" for name, value in off.items() if value is None]


def _parameters(settings: Settings, calls: Callable[[str], SignedCalls]) -> Parameters:
    if settings.config_source == "s3":
        return S3Configurations(calls("s3"), calls("sts"))
    return SsmParameters(calls("ssm"))


def _processes(settings: Settings, inbox: Inbox, spool: DiskSpool | None) -> Processes:
    children = PosixProcesses(inbox, Output(spool).attach)
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


class _NoQueue:
    """The queue of a machine whose operator named none: nothing can be said, and trying again does not help."""

    def send(self, body: str) -> None:
        raise ServiceError("sqs:SendMessage", "NoQueue", "RUNS_FLEET_TERMINATION_QUEUE_URL is not set")


def _queue(clients: Clients, url: str, sender: str) -> Queue:
    if not url:
        return _NoQueue()
    from agent.adapters.aws.sqs import SqsQueue

    return SqsQueue(clients, url, sender)


def _objects(clients: Clients, bucket: str) -> Objects:
    from agent.adapters.aws.s3 import S3Objects

    return S3Objects(clients, bucket)


def _web() -> Web:
    from agent.adapters.http import RequestsWeb

    return RequestsWeb()


__all__ = ["Spool", "World", "assemble", "real_world"]
