"""The root of the webhook's part alone: what takes deliveries and queues them. It needs neither EC2 nor GitHub's API.

`python -X importtime -c "import orchestrator.webhook_wiring"` loads neither the EC2 strategy nor cryptography.
"""

from __future__ import annotations

from orchestrator.adapters.aws import Clients
from orchestrator.adapters.clock import SystemClock
from orchestrator.adapters.journal import TextJournal
from orchestrator.adapters.sqs import SqsQueue
from orchestrator.endpoints import Endpoints, Pace
from orchestrator.jobs.requests import LabelAliases
from orchestrator.jobs.webhook import Acceptance
from orchestrator.ports import Journal, Queue
from orchestrator.settings import ServerSettings
from orchestrator.structs import read_annotations


def acceptance_of(settings: ServerSettings, job_queue: Queue) -> Acceptance:
    """What takes deliveries that are ours into the job queue."""
    return Acceptance(LabelAliases(settings.aliases).are_ours, job_queue)


def endpoints_of(settings: ServerSettings, acceptance: Acceptance, journal: Journal) -> Endpoints:
    """The HTTP side on what is handed in."""
    read_annotations()
    previous = settings.webhook_secret_previous
    secrets = [settings.webhook_secret, *([previous] if previous is not None else [])]
    return Endpoints(secrets, acceptance.accept, journal, Pace(SystemClock()))


def webhook_endpoints(settings: ServerSettings, clients: Clients | None = None) -> Endpoints:
    """The HTTP side on AWS, as the settings say."""
    queue = SqsQueue(clients or Clients(), settings.queue_url)
    return endpoints_of(settings, acceptance_of(settings, queue), TextJournal())
