"""The server's environment, parsed once; names as the reference system has them. Each field says how it is read and what it does.

docs/configuration.md is generated from these descriptions (`python docs/generate_settings.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from agent.contract.secret import Secret
from agent.contract.variables import PREFIX, unknown_names
from orchestrator import setting_readers as read
from orchestrator.environment import Environment
from orchestrator.errors import SettingsInvalid
from orchestrator.setting_readers import Described, Setting, setting
from orchestrator.setting_values import Alias, App, Digests, Limits, Local, Policy


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the operator decided. Times carry their unit in their name; the order is that in which they are read."""

    webhook_secret: Secret = setting(
        "GITHUB_WEBHOOK_SECRET", read.secret("the webhook's secret"), "The secret of the App's webhook."
    )
    webhook_secret_previous: Secret | None = setting(
        "GITHUB_WEBHOOK_SECRET_PREVIOUS", read.optional_secret,
        "Accepted as well, while the secret is changed on both sides.", default=None,
    )  # fmt: skip
    app_id: str = setting("GITHUB_APP_ID", read.required("the GitHub App's id or client id"), "The GitHub App's id or client id.")
    app_private_key: Secret = setting(
        "GITHUB_APP_PRIVATE_KEY", read.private_key, "The App's private key: base64 of the PEM file."
    )
    more_apps: tuple[App, ...] = setting(
        "GITHUB_APPS", read.apps,
        "JSON of more Apps (`id`, `private_key`) that lend their rate limits; each installed for the same repositories.",
        default=(),
    )  # fmt: skip
    github_api_url: str = setting("GITHUB_API_URL", read.url, "GitHub's API.", default="https://api.github.com")
    runner_group_id: int = setting(
        "RUNNER_GROUP_ID", read.whole(1.0), "The runner group that runners are registered in.", default=1
    )
    queue_url: str = setting("QUEUE_URL", read.required("the URL of the job queue"), "The FIFO queue of deliveries.")
    termination_queue_url: str = setting(
        "TERMINATION_QUEUE_URL", read.required("the URL of the termination queue"), "The queue of agents' messages."
    )
    events_queue_url: str = setting(
        "EVENTS_QUEUE_URL", read.text, "The queue of EventBridge's events of EC2; none: the sweep finds out.", default=""
    )
    jobs_table: str = setting("JOBS_TABLE", read.text, "The DynamoDB table of jobs.", default="runs-fleet-jobs")
    sessions_table: str = setting(
        "SESSIONS_TABLE", read.text, "The DynamoDB table of everything else.", default="runs-fleet-sessions"
    )
    index_shards: int = setting(
        "INDEX_SHARDS", read.whole(1.0, 256.0), "Keys over which deadlines are spread; may grow, never shrink.", default=16
    )
    stack_id: str = setting("STACK_ID", read.stack_id, "The stack's name, in every tag and runner name.", default="runs-fleet")
    strategies: tuple[str, ...] = setting(
        "STRATEGIES", read.strategies,
        "Strategies that start machines, by name (`ec2`, `local`), comma-separated; the first serves jobs that name none.",
        default=("ec2",),
    )  # fmt: skip
    subnet_ids: tuple[str, ...] = setting(
        "SUBNET_IDS",
        read.subnets,
        "Strategy `ec2`: subnets that instances are started in.",
        default=(),
        shown="required with ec2",
    )
    launch_template: str = setting(
        "LAUNCH_TEMPLATE_NAME", read.text,
        "Strategy `ec2`: the launch template; its architecture is appended (`-amd64`, `-arm64`).", default="runs-fleet-runner",
    )  # fmt: skip
    instance_types: tuple[str, ...] = setting(
        "INSTANCE_TYPES", read.listed, "Strategy `ec2`: only these types for amd64; none: whatever fits the request.", default=()
    )
    arm_instance_types: tuple[str, ...] = setting(
        "ARM_INSTANCE_TYPES",
        read.listed,
        "Strategy `ec2`: only these types for arm64; none: whatever fits the request.",
        default=(),
    )
    root_device: str = setting(
        "ROOT_DEVICE",
        read.text,
        "Strategy `ec2`: what `disk=` enlarges; unset, each image is asked.",
        default="",
    )
    spot: bool = setting("SPOT_ENABLED", read.switch, "Strategy `ec2`: whether spot instances are used.", default=True)
    ec2_at_once: float = setting(
        "EC2_INSTANCES_AT_ONCE", read.number(1.0), "Strategy `ec2`: the size of EC2's own bucket of instances.", default=1000.0
    )
    ec2_per_second: float = setting(
        "EC2_INSTANCES_PER_SECOND", read.number(), "Strategy `ec2`: instances a second that refill EC2's own bucket.", default=2.0
    )
    config_source: str = setting(
        "CONFIG_SOURCE", read.one_of("ssm", "s3"),
        "`ssm` or `s3`: where configurations are written. Agents must be told the same.", default="ssm",
    )  # fmt: skip
    config_bucket: str = setting(
        "CONFIG_BUCKET", read.needed_for_s3("the bucket of the configurations"),
        "The bucket of the configurations, required with `s3`.", default="",
    )  # fmt: skip
    runner_role_id: str = setting(
        "RUNNER_ROLE_ID", read.needed_for_s3("the id of the machines' role, AROA…"),
        "The id (`AROA…`) of the machines' role, required with `s3`; with it, messages of other roles are dropped.", default="",
    )  # fmt: skip
    config_writes_per_second: float = setting(
        "CONFIG_WRITES_PER_SECOND", read.number(0.1, 1000.0),
        "Configurations a second that SSM takes: 3, or 10 with higher throughput (Systems Manager quotas).", default=3.0,
    )  # fmt: skip
    local: Local | None = read.local()
    runner_version: str = setting(
        "RUNNER_VERSION", read.version,
        "The runner's version on every machine; none: the image's own, else the newest that GitHub names (asked once an hour).",
        default="",
    )  # fmt: skip
    runner_sha256: Digests = setting(
        "RUNNER_SHA256", read.digests,
        "The SHA-256 of that release's archives, `amd64=…,arm64=…`; one alone is amd64's. None: GitHub's word.",
        default=Digests(),
    )  # fmt: skip
    max_runtime_minutes: float = setting(
        "MAX_RUNTIME_MINUTES", read.number(most=14_400.0), "Minutes after which an agent stops its job.", default=360.0
    )
    boot_timeout_minutes: float = setting(
        "BOOT_TIMEOUT_MINUTES", read.number(2.0, 60.0),
        "Minutes that a machine gets from its launch, and again from its configuration, until its agent says that it is ready;"
        " then it is ended and another one launched. The default is what the agent's own bounds add up to (five minutes for its"
        " configuration, the rest for a runner that is fetched); with an image that has the runner 5 is plenty.", default=15.0,
    )  # fmt: skip
    log_group: str = setting("LOG_GROUP", read.text, "The agents' log group, for `runs-fleet logs`.", default="")
    log_format: str = setting(
        "LOG_FORMAT", read.one_of("text", "json"), "`text` or `json`: how `serve` writes its log, a line for each event.",
        default="text",
    )  # fmt: skip
    own_log_group: str = setting(
        "ORCHESTRATOR_LOG_GROUP", read.text, "The log group that `serve` writes its log to, beside standard error.",
        default="",
    )  # fmt: skip
    aliases: tuple[Alias, ...] = setting(
        "LABEL_ALIASES", read.aliases, "JSON of labels that count as ours (see [labels](#labels)).", default=()
    )
    policy: Policy = setting(
        "POLICY",
        read.policy,
        "JSON of who may ask for what (see [policy](#policy)).",
        default=Policy(),
        shown="private repositories",
    )
    max_sessions: int = setting("MAX_SESSIONS", read.whole(), "Machines of the stack at one time.", default=100)
    max_cpus: int = setting("MAX_VCPUS", read.whole(), "vCPUs of the stack at one time; 0: no limit.", default=512)
    max_usd_per_hour: float = setting(
        "MAX_USD_PER_HOUR", read.number(0.0),
        "What the stack may cost at one time, US dollars an hour at on-demand prices; 0: no limit.", default=0.0,
    )  # fmt: skip
    launches_per_minute: float = setting(
        "LAUNCHES_PER_MINUTE", lambda environment, name, default, known: _pace(environment, name, known),
        "Launches of the stack a minute: no more than can be registered and configured within it.", default=170.0,
        shown="170 for each App, at most 170 for each 3 configurations a second with `ssm`, at most 1000",
    )  # fmt: skip
    per_repository: Limits = read.limits(
        "_PER_REPOSITORY", Limits(), "each repository",
        usual_sessions=lambda known: share_of(known["max_sessions"]), shown="half of `RUNS_FLEET_MAX_SESSIONS`",
    )  # fmt: skip
    per_label_set: Limits = read.limits("_PER_LABEL_SET", Limits(sessions=500), "each label set")
    host: str = setting("HOST", read.text, "The address that the HTTP server binds.", default="127.0.0.1")
    port: int = setting("PORT", read.whole(0.0, 65_535.0), "The port that the HTTP server binds; 0: any free one.", default=8080)
    sweep_s: float = setting("SWEEP_SECONDS", read.number(), "Seconds between two looks at what is due.", default=5.0)
    tick_s: float = setting("TICK_SECONDS", read.number(), "Seconds between two garbage collections.", default=60.0)
    backfill_s: float = setting(
        "RECOVERY_SECONDS", read.number(),
        "Seconds between two rounds that ask GitHub for deliveries that failed and jobs that were never heard of.", default=300.0,
    )  # fmt: skip
    lease_s: float = setting(
        "LEASE_SECONDS",
        read.number(),
        "Seconds for which begun work is left to the process that began it; afterwards any process may take it over.",
        default=60.0,
    )
    watch_s: float = setting(
        "WATCH_SECONDS", read.number(), "Seconds between two looks at a session of which nothing is heard.", default=60.0
    )
    drain_s: float = setting(
        "SHUTDOWN_DRAIN_DELAY_SECONDS", read.number(0.0, 15.0),
        "Seconds for which a server that was told to stop still answers, until a load balancer knows.", default=5.0,
    )  # fmt: skip
    workers: int = setting(
        "CREW", read.whole(1.0, 64.0), "Threads of each worker pool: launches and configurations done side by side.", default=32
    )
    poll_s: int = setting(
        "POLL_SECONDS", read.whole(1.0, 20.0), "Seconds of one long poll of a queue; stopping takes as long.", default=10
    )
    warnings: tuple[str, ...] = ()
    """What was accepted though it will go away; logged at the start."""

    @property
    def is_priced(self) -> bool:
        """Whether prices must be known: something is limited by money."""
        return any((self.max_usd_per_hour, self.per_repository.usd_per_hour, self.per_label_set.usd_per_hour))


def read_settings(environment: Mapping[str, str], *, records_only: bool = False) -> ServerSettings:
    """The settings in `environment`; an empty string counts as missing.

    `records_only`: for whoever looks at our records and calls nobody else; then only what that needs must be there.
    Raises: SettingsInvalid naming every wrong or missing variable at once; no value of a secret is quoted.
    """
    reader = Environment(environment, records_only=records_only)
    known: dict[str, Any] = {}
    for field in fields(ServerSettings):
        told: Setting | None = field.metadata.get("setting")
        if told is not None:
            known[field.name] = told.read(reader, told.name, field.default, known)
    reader.warnings += unknown_names(
        environment, [*(told.name for told in described()), *OLD_NAMES], "orchestrator", "docs/configuration.md"
    )
    if reader.problems:
        raise SettingsInvalid(tuple(reader.problems))
    return ServerSettings(**known, warnings=tuple(reader.warnings))


OLD_NAMES = ("STRATEGY",)
"""Accepted, and warned of by whoever reads them."""


def described() -> Iterator[Described]:
    """Every variable of the settings, in the order of the fields."""
    for field in fields(ServerSettings):
        if (told := field.metadata.get("setting")) is not None:
            yield from told.variables


def share_of(max_sessions: int) -> int:
    """Machines that one repository may have of the stack's, where nobody says otherwise: half of them; others get some."""
    return (max_sessions + 1) // 2


def usual_pace(apps: int, config_source: str, writes_per_second: float) -> float:
    """Launches a minute that can be registered and configured within it; a strategy's own start rate is counted beside it.

    Source: some 180 JIT configurations a minute for each GitHub App; 3 PutParameter a second, unless the quota was raised.
    """
    return min(170.0 * apps, 1000.0, _written_a_minute(config_source, writes_per_second))


def _pace(environment: Environment, name: str, known: Mapping[str, Any]) -> float:
    """The pace of launches; one that could not be configured within the minute is a problem."""
    source, writes = known["config_source"], known["config_writes_per_second"]
    pace = environment.number(name, usual_pace(1 + len(known["more_apps"]), source, writes), least=1.0)
    if pace > _written_a_minute(source, writes) + 1.0:
        most = f"expected at most {_written_a_minute(source, writes):.0f}, or {PREFIX}CONFIG_SOURCE=s3"
        why = f"cannot be configured by {writes:g} writes a second ({PREFIX}CONFIG_WRITES_PER_SECOND)"
        environment.problems.append(f"{PREFIX}{name}: {pace:g} machines a minute {why}: {most}")
    return pace


def _written_a_minute(config_source: str, writes_per_second: float) -> float:
    """Configurations, with a little left for those that are written twice."""
    return math.inf if config_source == "s3" else max(1.0, writes_per_second * 170.0 / 3.0)
