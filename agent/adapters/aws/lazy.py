"""The ports that boto3 or requests carry: each imports its library when it is made, which is when it is first needed."""

from __future__ import annotations

from agent.adapters.aws.clients import Clients
from agent.adapters.late import NoQueue
from agent.adapters.network import Network
from agent.ports import Objects, Queue, Web
from agent.reports.log_stream import LogService


def log_service(clients: Clients) -> LogService:
    """CloudWatch Logs."""
    from agent.adapters.aws.cloudwatch import CloudWatchLogs

    return CloudWatchLogs(clients)


def queue(clients: Clients, url: str, sender: str) -> Queue:
    """The termination queue; where no URL is set, one that refuses."""
    if not url:
        return NoQueue()
    from agent.adapters.aws.sqs import SqsQueue

    return SqsQueue(clients, url, sender)


def objects(clients: Clients, bucket: str) -> Objects:
    """One S3 bucket."""
    from agent.adapters.aws.s3 import S3Objects

    return S3Objects(clients, bucket)


def web(network: Network) -> Web:
    """Releases over plain HTTP."""
    from agent.adapters.http import RequestsWeb

    return RequestsWeb(network)
