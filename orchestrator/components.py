"""How the turns are put together from ports: the same on AWS, in the sandbox and in the simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.compute.dispatch import Strategies
from orchestrator.compute.notices import InstanceNotice
from orchestrator.fleet.admission import Admission
from orchestrator.fleet.garbage import GarbageCollector
from orchestrator.fleet.headroom import Headrooms
from orchestrator.fleet.launching import Launching
from orchestrator.fleet.reconciler import Reconciler
from orchestrator.fleet.session_events import SessionEvents
from orchestrator.fleet.session_watch import SessionWatch
from orchestrator.fleet.sessions import Sessions
from orchestrator.fleet.work import Sources, WorkSource
from orchestrator.jobs.backfill import Backfill
from orchestrator.jobs.github import GitHub
from orchestrator.jobs.inquiries import Inquiries
from orchestrator.jobs.intake import Intake
from orchestrator.jobs.jit import JitRegistrations
from orchestrator.jobs.notices import Notices
from orchestrator.jobs.records import JobRecords
from orchestrator.jobs.refusals import Refusals
from orchestrator.jobs.registrations import RegistrationCollector
from orchestrator.jobs.requests import JobRequests, LabelAliases
from orchestrator.jobs.reruns import Reruns
from orchestrator.jobs.runner_releases import RunnerReleases
from orchestrator.jobs.source import JobSource
from orchestrator.jobs.webhook import Acceptance
from orchestrator.ports import Clock, Configurations, Ids, Journal, Queue, Wakes, WorkerPool
from orchestrator.settings import ServerSettings
from orchestrator.turns import Turns


@dataclass(kw_only=True)
class Ports:
    """Everything the turns need that is not theirs."""

    records: JobRecords
    strategies: Strategies
    github: GitHub
    configurations: Configurations
    job_queue: Queue
    termination_queue: Queue
    clock: Clock
    ids: Ids
    journal: Journal
    wakes: Wakes
    workers: WorkerPool
    """For what may be done side by side."""
    configurers: WorkerPool
    """For configurations: whatever they wait for, launches do not."""
    sweepers: WorkerPool
    """For what is due: whatever it waits for, launches do not."""
    read_notice: Callable[[str, float], InstanceNotice | None]
    """Reads an event about an instance from the events queue; None: it is of no interest. Raises: ValueError."""
    events_queue: Queue | None = None
    more_sources: Callable[[Sourced], Sequence[WorkSource]] = field(default=lambda sourced: ())
    """Sources of work beside GitHub jobs."""


@dataclass(frozen=True, kw_only=True)
class Sourced:
    """What a source of work may be built from."""

    settings: ServerSettings
    ports: Ports
    sessions: Sessions


@dataclass(frozen=True, kw_only=True)
class _JobParts:
    source: JobSource
    intake: Intake
    backfill: Backfill


def _job_parts(
    settings: ServerSettings, ports: Ports, sessions: Sessions, requests: JobRequests, aliases: LabelAliases
) -> _JobParts:
    """GitHub jobs as a source of work."""
    records, clock, journal, github = ports.records, ports.clock, ports.journal, ports.github
    notices = Notices(records, github, clock, journal)
    reruns = Reruns(records, notices, github, clock, journal, settings.watch_s)
    refusals = Refusals(requests, records, github, clock, ports.workers)
    intake = Intake(
        settings=settings, records=records, sessions=sessions, reruns=reruns, notices=notices, refusals=refusals,
        github=github, clock=clock, journal=journal,
    )  # fmt: skip
    releases = RunnerReleases(settings, github, clock, journal)
    source = JobSource(
        records=records, github=github, registrations=JitRegistrations(settings, github, releases, clock),
        inquiries=Inquiries(records=records, github=github, intake=intake, aliases=aliases, clock=clock, journal=journal),
        notices=notices, reruns=reruns, collector=RegistrationCollector(settings, records, github, clock, journal),
        group_id=settings.runner_group_id, journal=journal,
    )  # fmt: skip
    backfill = Backfill(
        settings=settings, records=records, github=github, intake=intake, aliases=aliases, clock=clock, journal=journal
    )
    return _JobParts(source=source, intake=intake, backfill=backfill)


def assemble(settings: ServerSettings, ports: Ports) -> Turns:
    """The turns on ports that are handed in."""
    records, clock, journal = ports.records, ports.clock, ports.journal
    strategies, workers = ports.strategies, ports.workers
    aliases = LabelAliases(settings.aliases)
    requests = JobRequests(aliases, settings.policy, strategies)
    sources = Sources()
    sessions = Sessions(
        settings=settings, records=records, strategies=strategies, sources=sources, configurations=ports.configurations,
        clock=clock, journal=journal, wakes=ports.wakes,
    )  # fmt: skip
    jobs = _job_parts(settings, ports, sessions, requests, aliases)
    sources.add(jobs.source)
    for source in ports.more_sources(Sourced(settings=settings, ports=ports, sessions=sessions)):
        sources.add(source)
    launching = Launching(
        settings=settings, records=records, strategies=strategies, sources=sources, sessions=sessions, clock=clock,
        journal=journal, workers=workers, configurers=ports.configurers,
    )  # fmt: skip
    headrooms = Headrooms(
        settings=settings, records=records, strategies=strategies, sources=sources, clock=clock, journal=journal
    )
    admission = Admission(
        settings=settings, records=records, strategies=strategies, sources=sources, launching=launching, headrooms=headrooms,
        clock=clock, ids=ports.ids, journal=journal, wakes=ports.wakes,
    )  # fmt: skip
    queues = {"jobs": ports.job_queue, "terminations": ports.termination_queue}
    queues |= {"events": ports.events_queue} if ports.events_queue is not None else {}
    return Turns(
        settings=settings,
        records=records,
        strategies=strategies,
        sources=sources,
        acceptance=Acceptance(aliases.are_ours, ports.job_queue),
        requests=requests,
        clock=clock,
        journal=journal,
        intake=jobs.intake,
        reconciler=Reconciler(
            settings=settings, records=records, strategies=strategies, sources=sources, launching=launching, sessions=sessions,
            admission=admission, clock=clock, journal=journal, workers=workers,
        ),
        launching=launching,
        events=SessionEvents(
            settings=settings, records=records, strategies=strategies, sources=sources, configurations=ports.configurations,
            sessions=sessions, clock=clock, journal=journal, workers=workers,
        ),
        watch=SessionWatch(
            settings=settings, records=records, strategies=strategies, sources=sources, configurations=ports.configurations,
            sessions=sessions, clock=clock, journal=journal,
        ),
        sessions=sessions,
        garbage=GarbageCollector(
            records=records, strategies=strategies, sources=sources, sessions=sessions, configurations=ports.configurations,
            queues=queues, clock=clock, journal=journal,
        ),
        backfill=jobs.backfill,
        sweepers=ports.sweepers,
        read_notice=ports.read_notice,
    )  # fmt: skip
