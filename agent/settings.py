"""The RUNS_FLEET_* environment, parsed once: a mapping goes in, settings or every complaint at once come out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from agent.contract.names import parameter_name
from agent.contract.variables import PREFIX, unknown_names
from agent.errors import SettingsError

Value = TypeVar("Value")

DESCRIBED: dict[str, tuple[str, str]] = {
    "TERMINATION_QUEUE_URL": ("required", "The URL of the termination queue: where messages go."),
    "INSTANCE_ID": ("asked of the metadata service", "This instance's id."),
    "SSM_PARAMETER": ("`/runs-fleet/runners/{id}/config`", "The SSM parameter that holds the configuration."),
    "CONFIG_SOURCE": (
        "`ssm`",
        "`ssm`, or `s3`: the object `configs/{role id}:{instance id}/config` of the configuration bucket.",
    ),
    "LOG_GROUP": ("off", "The CloudWatch log group; off: nothing is shipped, and the final message says so."),
    "LOG_LIMIT_MB": (
        "`100`",
        "Megabytes of the runner's output that are shipped in one life; what comes after is counted, not kept.",
    ),
    "CONFIG_BUCKET": ("off", "The bucket of cached runner releases and, with `CONFIG_SOURCE=s3`, of configurations."),
    "LOGS_BUCKET": ("off", "The bucket of the runner's diagnostic logs."),
    "MAX_RUNTIME": ("`360`", "Minutes, fractions allowed, from the runner's start; a configuration may say less or more."),
    "S3_CACHE_ENDPOINT": ("none", "A URL handed to the job under this name and as `ACTIONS_CACHE_URL`."),
    "RUNNER_DIR": ("`/opt/actions-runner`", "Where an image has the runner's release."),
    "RUNNER_VERSION": ("none", "The only version of the runner to use."),
    "NEWEST_IN_BUCKET": (
        "`no`",
        "`yes`: where nobody names a version, the highest in the configuration bucket is used, if GitHub vouches for it.",
    ),
    "GITHUB_API_URL": ("`https://api.github.com`", "The API that names releases."),
    "GITHUB_URL": ("`https://github.com`", "Where `config.sh` registers a runner that has a registration token."),
    "RUNNER_MIRROR_URL": ("none", "Replaces `https://github.com/actions/runner/releases/download` for downloads."),
    "WORK_DIR": ("`/opt/runs-fleet/work`", "The directory of the spool, downloads and hooks."),
    "RUNNER_USER": ("the agent's own", "The user that the job runs as."),
    "GRACE_SECONDS": ("`90`", "Seconds between SIGINT and SIGTERM."),
    "CONFIG_TIMEOUT_SECONDS": ("`300`", "Seconds to wait for the configuration."),
    "IDLE_TIMEOUT_SECONDS": ("`240`", "Seconds to wait for a job."),
    "POWER_OFF": ("`systemctl poweroff` on EC2, else nothing", "The command to run where EC2 did not accept the termination."),
    "JOB_UNIT": ("none; the unit sets `runs-fleet-job`", "The transient systemd unit of the job; none: a child of the agent."),
    "STATE_DIR": ("none; the unit sets `/var/lib/runs-fleet`", "Where the last will and the hard deadline's limit are left."),
    "STRICT_METADATA": ("`no`", "`yes`: the metadata service is switched off before the runner starts; no spot notices then."),
}
"""Every variable without its prefix: its default in words, and what it does. The reference is generated from this."""
BOOT_SCRIPT_NAMES = ("JOB_SUDO", "AGENT_BUNDLE", "AGENT_SHA256", "START", "ENVIRONMENT_FILE")
"""Variables that only the boot script reads; it hands all of ours on to the agent."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator decided for this machine. Every name is the variable's, in lower case and with its unit."""

    instance_id: str | None
    """None: to be asked of the metadata service."""
    termination_queue_url: str
    ssm_parameter: str | None
    """None: derived from the instance id."""
    log_group: str | None
    """None: log shipping is off."""
    log_limit_bytes: int
    """Of the runner's output that is shipped in one life."""
    config_bucket: str | None
    """None: no cached releases, neither read nor written."""
    max_runtime_minutes: float
    s3_cache_endpoint: str | None
    runner_dir: Path
    runner_version: str | None
    """None: not pinned."""
    newest_in_bucket: bool
    """Whether the bucket's highest version is the one that is wanted where nobody names one."""
    github_api_url: str
    github_url: str
    runner_mirror_url: str | None
    """None: releases come from where the releases API says."""
    work_dir: Path
    runner_user: str | None
    """None: the job runs as the agent's own user."""
    grace_s: float
    config_timeout_s: float
    idle_timeout_s: float
    logs_bucket: str | None
    """None: the runner's diagnostic logs are not kept."""
    power_off: tuple[str, ...] | None
    """The command as an argument vector; None: decided by the machine."""
    job_unit: str | None = None
    """The transient systemd unit the job runs in; None: the job is a child of ours."""
    state_dir: Path | None = None
    """Where the last will is left for those who outlive the agent; None: nowhere."""
    config_source: str = "ssm"
    """`ssm` or `s3`: where the configuration is waited for."""
    strict_metadata: bool = False
    """Switch the instance's metadata service off before the runner starts."""
    complaints: tuple[str, ...] = ()
    """Every wrong or missing variable: its name, what was expected, what came."""
    warnings: tuple[str, ...] = ()
    """Every variable with our prefix that nothing reads, and which one it may have been meant for."""

    def insist(self) -> None:
        """Raises: SettingsError with every complaint at once."""
        if self.complaints:
            raise SettingsError(self.complaints)

    def parameter(self, instance_id: str) -> str:
        """The SSM parameter this instance reads, or the bucket in which its object lies."""
        if self.config_source == "s3":
            return self.config_bucket or ""
        return self.ssm_parameter or parameter_name(instance_id)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`; an empty string counts as missing.

    Never raises: what is wrong stands in `complaints`, and its field has the default, so that even a machine whose settings
    are unusable can still be told of and switched off. Call `insist` before running a job.
    """
    reader = _Reader(environment)
    source = reader.source("CONFIG_SOURCE", "CONFIG_BUCKET", "SSM_PARAMETER")
    return Settings(
        instance_id=reader.text("INSTANCE_ID"),
        termination_queue_url=reader.url("TERMINATION_QUEUE_URL", required=True) or "",
        ssm_parameter=reader.parsed("SSM_PARAMETER", _parameter),
        log_group=reader.text("LOG_GROUP"),
        log_limit_bytes=int(reader.number("LOG_LIMIT_MB", 100.0, "megabytes", least=0.0, most=1_000_000.0) * 1_000_000),
        config_bucket=reader.text("CONFIG_BUCKET"),
        config_source=source,
        max_runtime_minutes=reader.number("MAX_RUNTIME", 360.0, "minutes", least=0.0, most=14_400.0),
        s3_cache_endpoint=reader.url("S3_CACHE_ENDPOINT"),
        runner_dir=reader.path("RUNNER_DIR", "/opt/actions-runner"),
        runner_version=reader.parsed("RUNNER_VERSION", _version),
        newest_in_bucket=reader.parsed("NEWEST_IN_BUCKET", _yes) or False,
        github_api_url=reader.url("GITHUB_API_URL") or "https://api.github.com",
        github_url=reader.url("GITHUB_URL") or "https://github.com",
        runner_mirror_url=reader.url("RUNNER_MIRROR_URL"),
        work_dir=reader.path("WORK_DIR", "/opt/runs-fleet/work"),
        runner_user=reader.text("RUNNER_USER"),
        grace_s=reader.number("GRACE_SECONDS", 90.0, "seconds", least=-1.0, most=3_600.0),
        config_timeout_s=reader.number("CONFIG_TIMEOUT_SECONDS", 300.0, "seconds", least=0.0, most=86_400.0),
        idle_timeout_s=reader.number("IDLE_TIMEOUT_SECONDS", 240.0, "seconds", least=0.0, most=864_000.0),
        logs_bucket=reader.text("LOGS_BUCKET"),
        power_off=reader.command("POWER_OFF"),
        job_unit=reader.parsed("JOB_UNIT", _unit),
        state_dir=reader.parsed("STATE_DIR", _path),
        strict_metadata=reader.parsed("STRICT_METADATA", _yes) or False,
        complaints=tuple(reader.complaints),
        warnings=tuple(unknown_names(environment, (*DESCRIBED, *BOOT_SCRIPT_NAMES), "agent", "docs/operations.md")),
    )


class _Reader:
    """Reads one variable after the other and collects the complaints."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.complaints: list[str] = []

    def text(self, name: str) -> str | None:
        return self._environment.get(PREFIX + name, "").strip() or None

    def parsed(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        raw = self.text(name)
        if raw is None:
            return None
        try:
            return parse(raw)
        except ValueError as error:
            self._complain(name, str(error), raw)
            return None

    def url(self, name: str, *, required: bool = False) -> str | None:
        raw = self.text(name)
        if raw is None and required:
            self.complaints.append(f"{PREFIX}{name} is missing: expected the URL of the termination queue")
        return self.parsed(name, _url)

    def number(self, name: str, default: float, unit: str, *, least: float, most: float) -> float:
        def parse(raw: str) -> float:
            expected = f"a number of {unit} {'of at least 0' if least < 0 else 'above 0'} and at most {most:g}"
            try:
                value = float(raw)
            except ValueError:
                raise ValueError(expected) from None
            if not (math.isfinite(value) and least < value <= most and (value >= 0)):
                raise ValueError(expected)
            return value

        value = self.parsed(name, parse)
        return default if value is None else value

    def source(self, name: str, bucket: str, parameter: str) -> str:
        found = self.parsed(name, _source) or "ssm"
        if found == "s3" and self.text(bucket) is None:
            self.complaints.append(
                f"{PREFIX}{bucket} is missing: with {PREFIX}{name}=s3 it names the bucket of the configurations"
            )
        if found == "s3" and self.text(parameter) is not None:
            self._complain(parameter, f"nothing with {PREFIX}{name}=s3", self.text(parameter))
        return found

    def path(self, name: str, default: str) -> Path:
        return self.parsed(name, _path) or Path(default)

    def command(self, name: str) -> tuple[str, ...] | None:
        return self.parsed(name, _command)

    def _complain(self, name: str, expected: str, found: Any) -> None:
        self.complaints.append(f"{PREFIX}{name}: expected {expected}, found {found!r}")


def _yes(raw: str) -> bool:
    if raw not in ("yes", "no"):
        raise ValueError("yes or no")
    return raw == "yes"


def _source(raw: str) -> str:
    if raw not in ("ssm", "s3"):
        raise ValueError("ssm or s3")
    return raw


def _unit(raw: str) -> str:
    if not raw.replace("-", "").isalnum():
        raise ValueError("a unit's name of letters, digits and hyphens, without .service")
    return raw


def _url(raw: str) -> str:
    try:
        parts = urlsplit(raw)
    except ValueError:
        raise ValueError("an http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an http or https URL")
    return raw.rstrip("/")


def _path(raw: str) -> Path:
    if not raw.startswith("/"):
        raise ValueError("an absolute path")
    return Path(raw)


def _parameter(raw: str) -> str:
    if not raw.startswith("/"):
        raise ValueError("the full name of an SSM parameter, beginning with /")
    return raw


def _version(raw: str) -> str:
    version = raw.removeprefix("v")
    if not all(part.isdigit() for part in version.split(".")) or version.count(".") != 2:
        raise ValueError("a version such as 2.336.0")
    return version


def _command(raw: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(raw))
    except ValueError as error:
        raise ValueError(f"a command as a shell would split it ({error})") from None
    return words
