"""The list of what is checked before the orchestrator is ready, on real AWS and GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from agent.contract.variables import PREFIX
from orchestrator.adapters.aws import Clients, caller
from orchestrator.adapters.configurations import S3Configurations
from orchestrator.adapters.dynamodb import DynamoTables, table_definition
from orchestrator.adapters.github import GitHubApp
from orchestrator.adapters.sqs import SqsQueue
from orchestrator.checks.github_app import faults_of_app, unknown_app
from orchestrator.checks.queue_kind import faults_of_names, faults_of_queue
from orchestrator.checks.table_shape import faults_of_expiry, faults_of_table
from orchestrator.compute.dispatch import Strategies
from orchestrator.errors import ServiceFailed
from orchestrator.ports import Configurations
from orchestrator.readiness import Check, Fault
from orchestrator.settings import ServerSettings
from orchestrator.store.tables import JOBS, SESSIONS

WRONG_BUCKET = frozenset(
    {"ParamValidation", "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidBucketName", "301"}
)  # fmt: skip
"""Codes of a name that is none, and of a bucket in another region. Source: "Error responses", S3 API reference."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is looked at."""

    settings: ServerSettings
    clients: Clients
    tables: DynamoTables
    queues: Mapping[str, SqsQueue]
    """By the setting that names each, without its prefix."""
    configurations: Configurations
    strategies: Strategies
    apps: Sequence[GitHubApp]


def checks_of(parts: Checked) -> tuple[Check, ...]:
    """Every check of this stack. Making the list makes no call."""
    settings = parts.settings
    urls = {"QUEUE_URL": settings.queue_url, "TERMINATION_QUEUE_URL": settings.termination_queue_url}
    urls |= {"EVENTS_QUEUE_URL": settings.events_queue_url} if settings.events_queue_url else {}
    tables = {JOBS: "JOBS_TABLE", SESSIONS: "SESSIONS_TABLE"}
    found = [Check(name="aws-credentials", look=partial(_credentials, parts.clients), needs="nothing", is_optional=True)]
    for table, setting in tables.items():
        look = partial(_table, parts.tables, table, setting)
        found.append(Check(name=f"table-{table}", look=look, needs="dynamodb:DescribeTable", is_first=True))
        expiry = partial(_expiry, parts.tables, table, setting)
        found.append(Check(name=f"table-{table}-expiry", look=expiry, needs="dynamodb:DescribeTimeToLive"))
    for setting, queue in parts.queues.items():
        look = partial(_queue, queue, setting, urls[setting])
        name = "queue-" + setting.removesuffix("_QUEUE_URL").removesuffix("QUEUE_URL").lower()
        name = "queue-jobs" if setting == "QUEUE_URL" else name
        found.append(Check(name=name, look=look, needs="sqs:GetQueueAttributes", is_first=True))
    names = {"JOBS_TABLE": settings.jobs_table, "SESSIONS_TABLE": settings.sessions_table, **urls}
    found.append(Check(name="names", look=partial(faults_of_names, names), is_first=True))
    if isinstance(parts.configurations, S3Configurations):
        look = partial(_bucket, parts.configurations, settings.config_bucket)
        found.append(Check(name="config-bucket", look=look, needs="s3:ListBucket"))
    for number, app in enumerate(parts.apps):
        look = partial(_app, app, hears=not number, api_url=settings.github_api_url)
        found.append(Check(name="github-app" if not number else f"github-app-{number + 1}", look=look, needs="a key of the App"))
    for strategy in parts.strategies:
        found += strategy.checks()
    return tuple(found)


def _credentials(clients: Clients) -> Iterator[Fault]:
    caller(clients)
    return iter(())


def _table(tables: DynamoTables, table: str, setting: str) -> Iterator[Fault]:
    return faults_of_table(setting, table_definition(tables.name_of(table)), tables.describe(table))


def _expiry(tables: DynamoTables, table: str, setting: str) -> Iterator[Fault]:
    return faults_of_expiry(setting, tables.name_of(table), tables.time_to_live(table))


def _queue(queue: SqsQueue, setting: str, url: str) -> Iterator[Fault]:
    return faults_of_queue(setting, url, queue.attributes(), fifo=setting == "QUEUE_URL")


def _bucket(configurations: S3Configurations, bucket: str) -> Iterator[Fault]:
    words = "" if bucket else "no name of a bucket"
    try:
        words = words or ("" if configurations.has_bucket() else f"no bucket {bucket}")
    except ServiceFailed as error:
        if error.code not in WRONG_BUCKET:
            raise
        words = f"{bucket} cannot be used: {error}"
    if words:
        yield Fault(
            setting=f"{PREFIX}CONFIG_BUCKET", found=words, expected="a bucket of this account, in this region",
            remedy=f"aws s3 mb s3://{bucket or 'NAME'} (in the region of the machines), and block public access to it",
        )  # fmt: skip


def _app(app: GitHubApp, *, hears: bool, api_url: str) -> Iterator[Fault]:
    setting = f"{PREFIX}GITHUB_APP_ID" if hears else f"{PREFIX}GITHUB_APPS"
    try:
        facts = app.facts(hears=hears)
    except ServiceFailed as error:
        if error.code not in ("401", "403", "404"):
            raise
        yield unknown_app(setting, error.code, api_url, str(error))
        return
    yield from faults_of_app(setting, facts)
