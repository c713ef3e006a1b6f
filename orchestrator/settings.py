"""The server's environment, parsed once; names as the reference system has them."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.contract.secret import Secret
from orchestrator.environment import PREFIX, Environment, plain_pem
from orchestrator.errors import SettingsInvalid
from orchestrator.labels import DEFAULT_ARCHITECTURE, Ask, is_ours, read_ask
from orchestrator.policy import Policy, bounded, read_policy

PASSED_ON = frozenset({"PATH", "LANG", "HTTPS_PROXY", "NO_PROXY"})
"""What a local agent gets of our environment, beside the way to AWS."""


@dataclass(frozen=True)
class Alias:
    """A label that counts as ours, compared without case: `match` literally, or as a regular expression of the whole label."""

    match: str
    regex: bool = False
    spec: str = ""
    """What the label asks for, as segments of a marker: `cpu=4/ram=16`; `${1}` stands for the expression's first group."""

    def spec_of(self, label: str) -> str | None:
        """What `label` asks for; None: it is not meant."""
        if not self.regex:
            return self.spec if self.match.lower() == label.lower() else None
        found = re.fullmatch(self.match, label, re.IGNORECASE)
        return found and re.sub(r"\$\{(\d+)\}", lambda group: found[int(group[1])] or "", self.spec)


@dataclass(frozen=True)
class App:
    """A GitHub App. `private_key` is PEM."""

    app_id: str
    private_key: Secret


@dataclass(frozen=True)
class Caps:
    """What each repository, or each label set, may have at one time, and get launched a minute. 0: no such limit."""

    sessions: int = 0
    cpus: int = 0
    usd_per_hour: float = 0.0
    """Counted on demand."""
    launches_per_minute: float = 0.0


@dataclass(frozen=True)
class Local:
    """How bodies live on this machine. `environment` is what an agent gets: how to reach AWS, and the operator's own."""

    directory: Path
    slots: int
    agent: tuple[str, ...]
    runner: Path | None
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class ServerSettings:
    """What the operator decided. Times carry their unit in their name."""

    webhook_secret: Secret
    app_id: str
    app_private_key: Secret
    """PEM."""
    queue_url: str
    termination_queue_url: str
    subnet_ids: tuple[str, ...]
    local: Local | None = None
    """Set: bodies are processes of this machine. None: instances of EC2."""
    more_apps: tuple[App, ...] = ()
    """GitHub Apps beside the first, which lend it their budgets."""
    webhook_secret_previous: Secret | None = None
    """Accepted as well, while the secret is changed on both sides."""
    github_api_url: str = "https://api.github.com"
    jobs_table: str = "runs-fleet-jobs"
    sessions_table: str = "runs-fleet-sessions"
    launch_template: str = "runs-fleet-runner"
    """Its architecture is appended: `-amd64`, `-arm64`."""
    instance_types: tuple[str, ...] = ()
    """Only these, in the size a job asks for; empty: whatever the catalogue has."""
    arm_instance_types: tuple[str, ...] = ()
    root_device: str = "/dev/xvda"
    """What `disk=` enlarges: the image's own name for it."""
    spot: bool = True
    stack_id: str = "runs-fleet"
    max_runtime_minutes: float = 360.0
    config_source: str = "ssm"
    """`ssm` or `s3`: where configurations are laid down. The agents must be told the same."""
    config_bucket: str = ""
    config_writes_per_second: float = 3.0
    """What SSM takes. Source: Systems Manager quotas, PutParameter: 3 a second, 10 with higher throughput."""
    runner_role_id: str = ""
    """The id (`AROA…`) of the role of our machines; empty: not known."""
    runner_group_id: int = 1
    runner_version: str = ""
    runner_sha256: str = ""
    log_group: str = ""
    aliases: tuple[Alias, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    events_queue_url: str = ""
    """Where EventBridge puts what it says of instances; empty: nobody tells us, and the sweep finds out."""
    sweep_s: float = 5.0
    """How often it is looked what is due."""
    tick_s: float = 60.0
    """How often what nobody owns is looked for."""
    lease_s: float = 60.0
    """For how long whoever began something is left alone with it before somebody else takes it up."""
    watch_s: float = 60.0
    """How often a living session is looked at though nothing was heard of it."""
    policy: Policy = field(default_factory=Policy)
    max_sessions: int = 1000
    """Machines of the stack at one time."""
    per_repository: Caps = Caps()
    per_label_set: Caps = Caps(sessions=500)
    max_cpus: int = 0
    """Of the stack at one time; 0: no such limit."""
    max_usd_per_hour: float = 0.0
    """What the stack may cost at one time, counted on demand; 0: no such limit."""
    recovery_s: float = 300.0
    """How often GitHub is asked for deliveries that failed and jobs that we never heard of."""
    launches_per_minute: float = 170.0
    """No more than can be registered and configured within the minute."""
    ec2_at_once: float = 1000.0
    ec2_per_second: float = 2.0
    """EC2's own bucket of instances: as many at once, then so many a second. Source: EC2 API throttling, RunInstances."""
    drain_s: float = 5.0
    """How long a server that was told to stop still answers: until a load balancer has heard that it is not ready."""
    index_shards: int = 16
    """Keys over which deadlines are spread; may grow, never shrink."""
    crew: int = 32
    """Launches and configurations done side by side."""
    poll_s: int = 10
    """Seconds of one long poll, at most 20; short enough that stopping does not take long."""

    @property
    def is_priced(self) -> bool:
        """Whether prices must be known: something is limited by money."""
        return any((self.max_usd_per_hour, self.per_repository.usd_per_hour, self.per_label_set.usd_per_hour))

    def ask_of(self, owner: str, repo: str, labels: tuple[str, ...]) -> Ask:
        """What labels ask for in this repository, held to what the policy allows it, and of one architecture."""
        ask = bounded(self.policy.rule_of(owner, repo), read_ask(labels, self.spec_of))
        return replace(ask, architecture=ask.architecture or DEFAULT_ARCHITECTURE)

    def are_ours(self, labels: tuple[str, ...]) -> bool:
        """Whether a job with these labels is for us: a marker or an alias among them."""
        return is_ours(labels, lambda label: self.spec_of(label) is not None)

    def spec_of(self, label: str) -> str | None:
        """What an aliased label asks for; None: it is no alias."""
        return next((spec for alias in self.aliases if (spec := alias.spec_of(label)) is not None), None)


def read_settings(environment: Mapping[str, str], *, records_only: bool = False) -> ServerSettings:
    """The settings in `environment`; an empty string counts as missing.

    `records_only`: for whoever looks at our records and calls nobody else; then only what that needs must be there.
    Raises: SettingsInvalid naming every wrong or missing variable at once; no value of a secret is quoted.
    """
    reader = _Reader(environment, records_only=records_only)
    apps, source = reader.apps("GITHUB_APPS"), reader.one_of("CONFIG_SOURCE", ("ssm", "s3"))
    writes = reader.number("CONFIG_WRITES_PER_SECOND", 3.0, least=0.1, most=1000.0)
    pace = reader.number("LAUNCHES_PER_MINUTE", usual_pace(1 + len(apps), source, writes), least=1.0)
    if pace > _written_a_minute(source, writes) + 1.0:
        most = f"expected at most {_written_a_minute(source, writes):.0f}, or {PREFIX}CONFIG_SOURCE=s3"
        why = f"cannot be configured by {writes:g} writes a second ({PREFIX}CONFIG_WRITES_PER_SECOND)"
        reader.problems.append(f"{PREFIX}LAUNCHES_PER_MINUTE: {pace:g} machines a minute {why}: {most}")
    local = reader.local() if reader.one_of("STRATEGY", ("ec2", "local")) == "local" else None
    settings = ServerSettings(
        local=local,
        webhook_secret=Secret(reader.required("GITHUB_WEBHOOK_SECRET", "the webhook's secret")),
        webhook_secret_previous=Secret(old) if (old := reader.text("GITHUB_WEBHOOK_SECRET_PREVIOUS", "")) else None,
        policy=reader.policy("POLICY"),
        max_sessions=int(reader.number("MAX_SESSIONS", 1000.0, least=0.0, whole=True)),
        per_label_set=reader.caps("_PER_LABEL_SET", Caps(sessions=500)),
        per_repository=reader.caps("_PER_REPOSITORY", Caps()),
        max_cpus=int(reader.number("MAX_VCPUS", 0.0, least=0.0, whole=True)),
        max_usd_per_hour=reader.number("MAX_USD_PER_HOUR", 0.0, least=0.0),
        recovery_s=reader.number("RECOVERY_SECONDS", 300.0),
        app_id=reader.required("GITHUB_APP_ID", "the GitHub App's id or client id"),
        app_private_key=Secret(reader.pem("GITHUB_APP_PRIVATE_KEY")),
        queue_url=reader.required("QUEUE_URL", "the URL of the job queue"),
        termination_queue_url=reader.required("TERMINATION_QUEUE_URL", "the URL of the termination queue"),
        subnet_ids=reader.listed("SUBNET_IDS", required=local is None),
        github_api_url=reader.text("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        jobs_table=reader.text("JOBS_TABLE", "runs-fleet-jobs"),
        sessions_table=reader.text("SESSIONS_TABLE", "runs-fleet-sessions"),
        launch_template=reader.text("LAUNCH_TEMPLATE_NAME", "runs-fleet-runner"),
        instance_types=reader.listed("INSTANCE_TYPES"),
        arm_instance_types=reader.listed("ARM_INSTANCE_TYPES"),
        root_device=reader.text("ROOT_DEVICE", "/dev/xvda"),
        spot=reader.switch("SPOT_ENABLED", default=True),
        stack_id=reader.stack_id("STACK_ID"),
        max_runtime_minutes=reader.number("MAX_RUNTIME_MINUTES", 360.0, most=14_400.0),
        config_source=source,
        config_writes_per_second=writes,
        config_bucket=reader.needed_if(source == "s3", "CONFIG_BUCKET", "the bucket of the configurations"),
        runner_role_id=reader.needed_if(source == "s3", "RUNNER_ROLE_ID", "the id of the machines' role, AROA…"),
        runner_group_id=int(reader.number("RUNNER_GROUP_ID", 1.0, least=1.0, whole=True)),
        runner_version=reader.text("RUNNER_VERSION", ""),
        runner_sha256=reader.text("RUNNER_SHA256", ""),
        log_group=reader.text("LOG_GROUP", ""),
        aliases=reader.aliases("LABEL_ALIASES"),
        host=reader.text("HOST", "127.0.0.1"),
        port=int(reader.number("PORT", 8080.0, least=0.0, most=65_535.0, whole=True)),
        events_queue_url=reader.text("EVENTS_QUEUE_URL", ""),
        sweep_s=reader.number("SWEEP_SECONDS", 5.0),
        tick_s=reader.number("TICK_SECONDS", 60.0),
        lease_s=reader.number("LEASE_SECONDS", 60.0),
        watch_s=reader.number("WATCH_SECONDS", 60.0),
        more_apps=apps,
        launches_per_minute=pace,
        ec2_at_once=reader.number("EC2_INSTANCES_AT_ONCE", 1000.0, least=1.0),
        ec2_per_second=reader.number("EC2_INSTANCES_PER_SECOND", 2.0),
        drain_s=reader.number("SHUTDOWN_DRAIN_DELAY_SECONDS", 5.0, least=0.0, most=15.0),
        index_shards=int(reader.number("INDEX_SHARDS", 16.0, least=1.0, most=256.0, whole=True)),
        crew=int(reader.number("CREW", 32.0, least=1.0, most=64.0, whole=True)),
        poll_s=int(reader.number("POLL_SECONDS", 10.0, least=1.0, most=20.0, whole=True)),
    )
    if reader.problems:
        raise SettingsInvalid(tuple(reader.problems))
    return settings


def usual_pace(apps: int, config_source: str, writes_per_second: float) -> float:
    """Launches a minute that can be registered and configured within it; EC2's own bucket is kept count of beside it.

    Source: some 180 JIT configurations a minute for each GitHub App; 3 PutParameter a second, unless the quota was raised.
    """
    return min(170.0 * apps, 1000.0, _written_a_minute(config_source, writes_per_second))


def _written_a_minute(config_source: str, writes_per_second: float) -> float:
    """Configurations, with a little left for those that are written twice."""
    return math.inf if config_source == "s3" else max(1.0, writes_per_second * 170.0 / 3.0)


class _Reader(Environment):
    """What we read in our own words."""

    def stack_id(self, name: str) -> str:
        """Runner names and tags begin with it: two stacks that share what is kept of it would take each other's runners."""
        found = self.text(name, "runs-fleet")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,35}", found):
            self.problems.append(f"{PREFIX}{name}: expected up to 36 letters, digits, -, _ and ., found {found!r}")
        return found

    def local(self) -> Local:
        """How bodies live on this machine; without AWS's identity of an instance, some of what EC2 offers cannot be had."""
        hint = f"expected nothing with {PREFIX}STRATEGY=local: processes have no role of their own"
        if self.text("CONFIG_SOURCE", "") == "s3":
            self.problems.append(f"{PREFIX}CONFIG_SOURCE: {hint}")
        for name in ("MAX_USD_PER_HOUR", "MAX_USD_PER_HOUR_PER_REPOSITORY", "MAX_USD_PER_HOUR_PER_LABEL_SET"):
            if self.text(name, "0") != "0":
                self.problems.append(f"{PREFIX}{name}: expected nothing with {PREFIX}STRATEGY=local: nobody bills for processes")
        if self.text("RUNNER_ROLE_ID", ""):
            self.problems.append(f"{PREFIX}RUNNER_ROLE_ID: {hint}")
        kept = {name: value for name, value in self.variables.items() if name.startswith("AWS_") or name in PASSED_ON}
        kept |= {f"{PREFIX}TERMINATION_QUEUE_URL": self.text("TERMINATION_QUEUE_URL", "")}
        try:
            told = json.loads(self.text("LOCAL_AGENT_ENVIRONMENT", "{}"))
            kept |= {str(name): str(value) for name, value in told.items()}
        except (ValueError, AttributeError):
            example = '{"RUNS_FLEET_LOG_GROUP": "/runs-fleet/agent"}'
            self.problems.append(f"{PREFIX}LOCAL_AGENT_ENVIRONMENT: expected JSON like {example}")
        runner = self.text("LOCAL_RUNNER_DIR", "")
        slots = int(self.number("LOCAL_SLOTS", 1.0, least=1.0, whole=True))
        agent = tuple(shlex.split(self.text("LOCAL_AGENT", "runs-fleet-agent")))
        directory = Path(self.text("LOCAL_DIR", "/var/lib/runs-fleet/local"))
        return Local(directory, slots, agent, Path(runner) if runner else None, kept)

    def caps(self, suffix: str, usual: Caps) -> Caps:
        """The limits of each repository or label set."""
        return Caps(
            int(self.number(f"MAX_SESSIONS{suffix}", usual.sessions, least=0.0, whole=True)),
            int(self.number(f"MAX_VCPUS{suffix}", usual.cpus, least=0.0, whole=True)),
            self.number(f"MAX_USD_PER_HOUR{suffix}", usual.usd_per_hour, least=0.0),
            self.number(f"LAUNCHES_PER_MINUTE{suffix}", usual.launches_per_minute, least=0.0),
        )

    def apps(self, name: str) -> tuple[App, ...]:
        """GitHub Apps beside the first."""
        raw = self.text(name, "")
        try:
            found = tuple(App(str(one["id"]), Secret(plain_pem(str(one["private_key"])))) for one in json.loads(raw or "[]"))
        except (ValueError, KeyError, TypeError):
            self.problems.append(f'{PREFIX}{name}: expected JSON like [{{"id": "7", "private_key": "<base64 of the PEM file>"}}]')
            return ()
        return found

    def policy(self, name: str) -> Policy:
        """Who may ask for what."""
        raw = self.text(name, "")
        try:
            return read_policy(raw)
        except ValueError as error:
            self.problems.append(f"{PREFIX}{name}: expected JSON as docs/orchestrator.md describes it: {error}")
            return Policy()

    def aliases(self, name: str) -> tuple[Alias, ...]:
        """Labels that count as ours."""
        raw = self.text(name, "")
        try:
            aliases = tuple(
                Alias(str(item["match"]), bool(item.get("regex")), str(item.get("spec", ""))) for item in json.loads(raw or "[]")
            )
            for alias in aliases:
                groups = re.compile(alias.match).groups if alias.regex else 0
                if any(int(number) > groups for number in re.findall(r"\$\{(\d+)\}", alias.spec)):
                    raise ValueError(f"{alias.spec}: the expression has {groups} groups")
        except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
            self.problems.append(
                f'{PREFIX}{name}: expected JSON like [{{"match": "ubuntu-.*", "regex": true}}], found {raw!r} ({error})'
            )
            return ()
        return aliases
