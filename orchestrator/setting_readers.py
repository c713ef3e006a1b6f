"""How single settings are read from the environment, and described: each setting carries its own description."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from agent.contract.secret import Secret
from agent.contract.variables import PREFIX
from orchestrator.environment import Environment, plain_pem
from orchestrator.setting_values import Alias, App, Digests, Limits, Local, Policy, read_policy

Known = Mapping[str, Any]
"""The fields that were read before."""
Read = Callable[[Environment, str, Any, Known], Any]
"""Reads the variable of a name, given its default and what was read before; problems go to the environment."""
PASSED_ON = frozenset({"PATH", "LANG", "HTTPS_PROXY", "NO_PROXY"})
"""What a local agent gets of our environment, beside the way to AWS."""


@dataclass(frozen=True)
class Described:
    """One variable for the reference: its name without the prefix, its default in words, what it does."""

    name: str
    default: str
    text: str


@dataclass(frozen=True)
class Setting:
    """How a field of the settings is read, and the variables that it is read from."""

    read: Read
    name: str
    variables: tuple[Described, ...]


def setting(name: str, read: Read, text: str, *, default: Any = MISSING, shown: str | None = None) -> Any:
    """A field of the settings, read from one variable. `shown`: its default in words, where its value does not say it."""
    words = shown if shown is not None else "required" if default is MISSING else _shown(default)
    described = Setting(read, name, (Described(name, words, text),))
    return field(metadata={"setting": described}, **({} if default is MISSING else {"default": default}))


def composed(read: Read, variables: tuple[Described, ...], *, default: Any) -> Any:
    """A field of the settings that is read from several variables."""
    return field(metadata={"setting": Setting(read, variables[0].name, variables)}, default=default)


def text(environment: Environment, name: str, default: Any, known: Known) -> str:
    """Any text, as it stands."""
    return environment.text(name, default)


def url(environment: Environment, name: str, default: Any, known: Known) -> str:
    """A URL, without a slash at its end."""
    return environment.text(name, default).rstrip("/")


def listed(environment: Environment, name: str, default: Any, known: Known) -> tuple[str, ...]:
    """The words between commas."""
    return environment.listed(name)


def version(environment: Environment, name: str, default: Any, known: Known) -> str:
    """A release of the runner, such as 2.336.0."""
    raw = environment.text(name, default).removeprefix("v")
    if raw and not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", raw):
        environment.problems.append(f"{PREFIX}{name}: expected a release of actions/runner such as 2.336.0, found {raw!r}")
        return str(default)
    return raw


def digests(environment: Environment, name: str, default: Any, known: Known) -> Digests:
    """`amd64=…,arm64=…`, or one digest alone, which is amd64's; only beside a version."""
    parts = [part.partition("=") if "=" in part else ("amd64", "=", part) for part in environment.listed(name)]
    found = {architecture.strip(): digest.strip().lower() for architecture, _, digest in parts}
    usable = all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found.values())
    if not usable or len(found) < len(parts) or not found.keys() <= {"amd64", "arm64"}:
        told = environment.text(name, "")
        environment.problems.append(f"{PREFIX}{name}: expected 64 hex digits, or amd64=… and arm64=… of them, found {told!r}")
        return Digests()
    if found and not known["runner_version"]:
        environment.problems.append(f"{PREFIX}{name}: expected {PREFIX}RUNNER_VERSION beside it, found none: of which release?")
    return Digests(**found)


def switch(environment: Environment, name: str, default: Any, known: Known) -> bool:
    """A variable that says `true` or `false`."""
    return environment.switch(name, default=default)


def required(expected: str) -> Read:
    """Text that must be there."""
    return lambda environment, name, default, known: environment.required(name, expected)


def secret(expected: str) -> Read:
    """A secret that must be there."""
    return lambda environment, name, default, known: Secret(environment.required(name, expected))


def number(least: float = 1e-9, most: float = 999_999_999.0) -> Read:
    """A number within these bounds."""
    return lambda environment, name, default, known: environment.number(name, default, least=least, most=most)


def whole(least: float = 0.0, most: float = 999_999_999.0) -> Read:
    """A whole number within these bounds."""
    return lambda environment, name, default, known: int(environment.number(name, default, least=least, most=most, whole=True))


def one_of(*words: str) -> Read:
    """One of these words; the first is the default."""
    return lambda environment, name, default, known: environment.one_of(name, words)


def needed_for_s3(expected: str) -> Read:
    """Text that must be there where configurations lie in S3."""

    def read(environment: Environment, name: str, default: Any, known: Known) -> str:
        needed = known["config_source"] == "s3"
        return environment.required(name, expected) if needed else environment.text(name, default)

    return read


def optional_secret(environment: Environment, name: str, default: Any, known: Known) -> Secret | None:
    """A secret that may be there."""
    found = environment.text(name, "")
    return Secret(found) if found else None


def private_key(environment: Environment, name: str, default: Any, known: Known) -> Secret:
    """A private key, as base64 of a PEM file or plain."""
    return Secret(environment.pem(name))


def subnets(environment: Environment, name: str, default: Any, known: Known) -> tuple[str, ...]:
    """Subnets, needed where instances of EC2 are started."""
    return environment.listed(name, required="ec2" in known["strategies"])


def stack_id(environment: Environment, name: str, default: Any, known: Known) -> str:
    """Names and tags begin with it: two stacks that share what is kept of it would take each other's runners."""
    found = environment.text(name, default)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,35}", found):
        environment.problems.append(f"{PREFIX}{name}: expected up to 36 letters, digits, -, _ and ., found {found!r}")
    return found


def strategies(environment: Environment, name: str, default: Any, known: Known) -> tuple[str, ...]:
    """Names of strategies; whether there is one of each name is decided where they are built (`strategies.py`)."""
    old, new = environment.text("STRATEGY", "").strip(), environment.text(name, "")
    if old and new:
        environment.problems.append(f"{PREFIX}STRATEGY: expected nothing beside {PREFIX}{name}, which replaces it")
    elif "," in old:
        environment.problems.append(f"{PREFIX}STRATEGY: expected one name, found {old!r}: use {PREFIX}{name} for several")
    elif old:
        environment.warnings.append(f"{PREFIX}STRATEGY={old} is read as {PREFIX}{name}={old}: rename it, it will go away")
        return (old,)
    found = environment.listed(name) or tuple(default)
    if new and not environment.listed(name):
        environment.problems.append(f"{PREFIX}{name}: expected names of strategies, separated by commas, found {new!r}")
    if len(set(found)) != len(found):
        environment.problems.append(f"{PREFIX}{name}: expected each name once, found {', '.join(found)}")
    return tuple(dict.fromkeys(found))


def policy(environment: Environment, name: str, default: Any, known: Known) -> Policy:
    """The operator's policy as JSON."""
    try:
        return read_policy(environment.text(name, ""))
    except ValueError as error:
        environment.problems.append(f"{PREFIX}{name}: expected JSON as docs/configuration.md describes it: {error}")
        return Policy()


def apps(environment: Environment, name: str, default: Any, known: Known) -> tuple[App, ...]:
    """GitHub Apps beside the first, as JSON."""
    raw = environment.text(name, "")
    try:
        return tuple(App(str(one["id"]), Secret(plain_pem(str(one["private_key"])))) for one in json.loads(raw or "[]"))
    except (ValueError, KeyError, TypeError):
        example = '[{"id": "7", "private_key": "<base64 of the PEM file>"}]'
        environment.problems.append(f"{PREFIX}{name}: expected JSON like {example}")
        return ()


def aliases(environment: Environment, name: str, default: Any, known: Known) -> tuple[Alias, ...]:
    """Labels that count as ours, as JSON."""
    raw = environment.text(name, "")
    try:
        found = tuple(
            Alias(str(item["match"]), bool(item.get("regex")), str(item.get("spec", ""))) for item in json.loads(raw or "[]")
        )
        for alias in found:
            groups = re.compile(alias.match).groups if alias.regex else 0
            if any(int(number) > groups for number in re.findall(r"\$\{(\d+)\}", alias.spec)):
                raise ValueError(f"{alias.spec}: the expression has {groups} groups")
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        example = '[{"match": "ubuntu-.*", "regex": true}]'
        environment.problems.append(f"{PREFIX}{name}: expected JSON like {example}, found {raw!r} ({error})")
        return ()
    return found


def limits(
    suffix: str, usual: Limits, whose: str, *, usual_sessions: Callable[[Known], int] | None = None, shown: str = ""
) -> Any:
    """The field of the limits of each repository or label set, read from four variables.

    `usual_sessions`: the default number of machines, where it rests on what was read before; `shown`: that in words.
    """

    def read(environment: Environment, name: str, default: Any, known: Known) -> Limits:
        sessions = usual.sessions if usual_sessions is None else usual_sessions(known)
        return Limits(
            int(environment.number(f"MAX_SESSIONS{suffix}", sessions, least=0.0, whole=True)),
            int(environment.number(f"MAX_VCPUS{suffix}", usual.vcpus, least=0.0, whole=True)),
            environment.number(f"MAX_USD_PER_HOUR{suffix}", usual.usd_per_hour, least=0.0),
            environment.number(f"LAUNCHES_PER_MINUTE{suffix}", usual.launches_per_minute, least=0.0),
        )

    told = (
        Described(f"MAX_SESSIONS{suffix}", shown or _shown(usual.sessions), f"Machines of {whose} at one time; 0: no limit."),
        Described(f"MAX_VCPUS{suffix}", _shown(usual.vcpus), f"vCPUs of {whose} at one time; 0: no limit."),
        Described(
            f"MAX_USD_PER_HOUR{suffix}", _shown(usual.usd_per_hour),
            f"What {whose} may cost at one time, US dollars an hour at on-demand prices; 0: no limit.",
        ),
        Described(
            f"LAUNCHES_PER_MINUTE{suffix}", _shown(usual.launches_per_minute), f"Launches of {whose} a minute; 0: no limit."
        ),
    )  # fmt: skip
    return composed(read, told, default=usual)


def local() -> Any:
    """The field of how agents live on this machine, read from five variables where the strategy `local` is offered."""
    told = (
        Described("LOCAL_DIR", "/var/lib/runs-fleet/local", "Strategy `local`: where agents live, each in a directory."),
        Described("LOCAL_SLOTS", "1", "Strategy `local`: agents at one time."),
        Described("LOCAL_AGENT", "runs-fleet-agent", "Strategy `local`: the command that starts an agent."),
        Described("LOCAL_RUNNER_DIR", "none", "Strategy `local`: a runner of which each agent gets a copy."),
        Described("LOCAL_AGENT_ENVIRONMENT", "{}", "Strategy `local`: JSON of more variables for agents."),
    )
    return composed(_local, told, default=None)


def _local(environment: Environment, name: str, default: Any, known: Known) -> Local | None:
    if "local" not in known["strategies"]:
        return None
    alone = known["strategies"] == ("local",)
    hint = "expected nothing with the strategy local: processes have no role of their own"
    if environment.text("CONFIG_SOURCE", "") == "s3":
        environment.problems.append(f"{PREFIX}CONFIG_SOURCE: {hint}")
    if alone and environment.text("RUNNER_ROLE_ID", ""):
        environment.problems.append(f"{PREFIX}RUNNER_ROLE_ID: {hint}")
    for limit in ("MAX_USD_PER_HOUR", "MAX_USD_PER_HOUR_PER_REPOSITORY", "MAX_USD_PER_HOUR_PER_LABEL_SET"):
        if alone and environment.text(limit, "0").strip("0.") != "":
            why = "expected nothing with the strategy local alone: nobody bills for processes"
            environment.problems.append(f"{PREFIX}{limit}: {why}")
    kept = {name: value for name, value in environment.variables.items() if name.startswith("AWS_") or name in PASSED_ON}
    kept |= {f"{PREFIX}TERMINATION_QUEUE_URL": environment.text("TERMINATION_QUEUE_URL", "")}
    try:
        told = json.loads(environment.text("LOCAL_AGENT_ENVIRONMENT", "{}"))
        kept |= {str(name): str(value) for name, value in told.items()}
    except (ValueError, AttributeError):
        example = '{"RUNS_FLEET_LOG_GROUP": "/runs-fleet/agent"}'
        environment.problems.append(f"{PREFIX}LOCAL_AGENT_ENVIRONMENT: expected JSON like {example}")
    runner = environment.text("LOCAL_RUNNER_DIR", "")
    slots = int(environment.number("LOCAL_SLOTS", 1.0, least=1.0, whole=True))
    agent = tuple(shlex.split(environment.text("LOCAL_AGENT", "runs-fleet-agent")))
    directory = Path(environment.text("LOCAL_DIR", "/var/lib/runs-fleet/local"))
    return Local(directory, slots, agent, Path(runner) if runner else None, kept)


def _shown(default: Any) -> str:
    """A default as the documentation shows it."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float | int):
        return f"{default:g}"
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    if default == Digests():
        return "none"
    return str(default) if default not in (None, "") else "none"
