"""The one place where the orchestrator is put together."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.adapters.aws import Clients, DynamoRecords, Ec2Api, SqsQueue, SsmParameters
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.system import SystemClock, TextJournal
from orchestrator.ports import Journal, Queue, Records
from orchestrator.settings import ServerSettings
from orchestrator.strategies.ec2 import Ec2Strategy
from orchestrator.turns import Turns


@dataclass(frozen=True)
class Orchestrator:
    """The turns and the queues that set them off."""

    settings: ServerSettings
    turns: Turns
    job_queue: Queue
    termination_queue: Queue
    records: Records
    journal: Journal


def orchestrator(settings: ServerSettings, clients: Clients | None = None) -> Orchestrator:
    """On AWS and GitHub, as the settings say."""
    clients, journal = clients or Clients(), TextJournal()
    job_queue = SqsQueue(clients, settings.queue_url)
    records = DynamoRecords(clients, settings.jobs_table, settings.sessions_table)
    turns = Turns(
        settings=settings,
        records=records,
        compute=Ec2Strategy(Ec2Api(clients)),
        github=GitHubApp(settings.github_api_url, settings.app_id, settings.app_private_key),
        parameters=SsmParameters(clients),
        job_queue=job_queue,
        clock=SystemClock(),
        journal=journal,
    )
    return Orchestrator(settings, turns, job_queue, SqsQueue(clients, settings.termination_queue_url), records, journal)
